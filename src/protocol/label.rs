//! What the text of a statement says that it does: its verbs, the tables it reads and writes, the
//! functions it calls. For the readers of the trail and never for a decision: a view, a function, a
//! trigger or a setting of the session can make a statement do what its text does not say.
//!
//! Whatever the text: no panic, no deep recursion, bounded time. The parser (`sqlparser`) is only shown
//! texts within [`LABEL_TEXT_BYTES_MAX`], [`LABEL_TOKENS_MAX`] and [`LABEL_DEPTH_MAX`]; of others the
//! label names the first words, and says that it is no more than that.

mod find;

use sqlparser::dialect::{Dialect, MySqlDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::model::limits::{
    LABEL_DEPTH_MAX, LABEL_NAME_BYTES_MAX, LABEL_NAMES_MAX, LABEL_TEXT_BYTES_MAX, LABEL_TOKENS_MAX,
};
use find::Find;

/// The verb of a text that the parser does not understand; those after it are first words.
pub const UNPARSED: &str = "unparsed";
/// The verb of a text that was not read, and [`Label::why`] says why not; those after it are first words.
pub const SKIPPED: &str = "skipped";

/// What a text does, as far as it says so. Each list names each thing once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// In capitals, those of statements within statements behind their own: `WITH … DELETE` and
    /// `EXPLAIN ANALYZE DELETE` have two. [`UNPARSED`] or [`SKIPPED`] comes first.
    pub verbs: Vec<String>,
    /// Tables that are read, as the text names them: `orders`, `public.orders`.
    pub reads: Vec<String>,
    /// Tables that are changed, made, altered or dropped.
    pub writes: Vec<String>,
    /// Functions, by name.
    pub calls: Vec<String>,
    /// Why the label is less than it could be.
    pub why: Option<&'static str>,
}

impl Label {
    /// A text that was not looked at.
    pub fn skipped(why: &'static str) -> Self {
        Self { verbs: vec![SKIPPED.to_owned()], why: Some(why), ..Self::default() }
    }

    /// A call by number of what would be a function in a text.
    pub fn call() -> Self {
        Self { verbs: vec!["CALL".to_owned()], ..Self::default() }
    }

    fn add(&mut self, list: fn(&mut Self) -> &mut Vec<String>, mut name: String) {
        if name.len() > LABEL_NAME_BYTES_MAX {
            name.truncate(name.floor_char_boundary(LABEL_NAME_BYTES_MAX));
        }
        let names = list(self);
        if names.contains(&name) {
            return;
        }
        if names.len() < LABEL_NAMES_MAX {
            names.push(name);
        } else {
            self.why = Some("more names than a label holds");
        }
    }

    fn verb(&mut self, verb: &str) {
        self.add(|label| &mut label.verbs, verb.to_owned());
    }
}

/// Why a text has no full label.
enum Stop {
    Unparsed,
    Skipped(&'static str),
}

/// The label of a text. `is_whole`: no limit has cut it. `first_words` finds the first words of its
/// statements, in capitals, at most so many, without failing.
pub fn of(
    dialect: &dyn Dialect,
    text: &[u8],
    is_whole: bool,
    first_words: impl FnOnce(&[u8], usize) -> Vec<String>,
) -> Label {
    let mut label = Label::default();
    let read = match () {
        () if !is_whole || text.len() > LABEL_TEXT_BYTES_MAX => Err(Stop::Skipped("too long")),
        () => parse(dialect, &String::from_utf8_lossy(text), &mut label),
    };
    let first = match read {
        Ok(()) => return label,
        Err(Stop::Unparsed) => UNPARSED,
        Err(Stop::Skipped(why)) => {
            label.why = Some(why);
            SKIPPED
        }
    };
    // What was understood before stays; it is not all there is.
    let understood = std::mem::replace(&mut label.verbs, vec![first.to_owned()]);
    for word in understood.into_iter().chain(first_words(text, LABEL_NAMES_MAX)) {
        label.verb(&word);
    }
    label
}

fn parse(dialect: &dyn Dialect, text: &str, label: &mut Label) -> Result<(), Stop> {
    let mut tokens = Tokenizer::new(dialect, text).tokenize_with_location().map_err(|_| Stop::Unparsed)?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
    let mut before_table = false;
    tokens.retain(|token| {
        let word = keyword(&token.token);
        // The parser takes ONLY for the name of a table, and the table's name for an alias.
        let is_noise = before_table && word == Keyword::ONLY;
        before_table = token.token == Token::Comma
            || matches!(word, Keyword::FROM | Keyword::UPDATE | Keyword::JOIN | Keyword::USING);
        !is_noise
    });
    if tokens.len() > LABEL_TOKENS_MAX {
        return Err(Stop::Skipped("too long"));
    }
    if is_deep(&tokens) {
        return Err(Stop::Skipped("too deep"));
    }
    // One after the other: to the parser what follows `COPY … FROM STDIN;` is the data.
    let mut rest = tokens;
    while !rest.is_empty() {
        let end = rest.iter().position(|token| token.token == Token::SemiColon);
        let behind = end.map_or_else(Vec::new, |end| rest.split_off(end + 1));
        statement(dialect, std::mem::replace(&mut rest, behind), label)?;
    }
    Ok(())
}

/// One statement, with or without its semicolon.
fn statement(dialect: &dyn Dialect, mut tokens: Vec<TokenWithSpan>, label: &mut Label) -> Result<(), Stop> {
    let Some(first) =
        tokens.first().map(|token| token.token.clone()).filter(|token| *token != Token::SemiColon)
    else {
        return Ok(());
    };
    if keyword(&first) == Keyword::TABLE {
        // `TABLE orders` in its long form; the parser knows the short one only behind a WITH.
        let long = ["SELECT", "*", "FROM"].map(|word| match word {
            "*" => Token::Mul,
            word => Token::make_keyword(word),
        });
        tokens.splice(..1, long.map(TokenWithSpan::wrap));
    }
    if tokens.last().is_some_and(|token| token.token != Token::SemiColon) {
        tokens.push(TokenWithSpan::wrap(Token::SemiColon));
    }
    let mut parser =
        Parser::new(dialect).with_recursion_limit(LABEL_DEPTH_MAX).with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(|error| match error {
        ParserError::RecursionLimitExceeded => Stop::Skipped("too deep"),
        ParserError::TokenizerError(_) | ParserError::ParserError(_) => Stop::Unparsed,
    })?;
    if !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
        return Err(Stop::Unparsed);
    }
    // MySQL's names are files of its own, which differ by case on most systems.
    Find::new(label, !dialect.is::<MySqlDialect>()).statement(&first, &statement);
    Ok(())
}

fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// Whether brackets are nested deeper than the parser may go. It would find out by itself, but only
/// after it has tried every meaning that each of them may have.
fn is_deep(tokens: &[TokenWithSpan]) -> bool {
    let mut depth = 0usize;
    for token in tokens {
        match token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > LABEL_DEPTH_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
