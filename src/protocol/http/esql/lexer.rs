//! The words of ES|QL. Which characters are one word depends on where they stand: behind `FROM` a name reaches further
//! than in an expression. So a text is read on demand, by who knows what must come next.
//!
//! It is read more strictly than the cluster reads it: what several versions take differently is refused.
//!
//! <https://www.elastic.co/docs/reference/query-languages/esql/esql-syntax>

use super::super::Wrong;

/// One word of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A command, a keyword, a function or a field: what it is, its place says.
    Word(String),
    /// A field in back quotes, without them.
    Quoted(String),
    Text,
    Number,
    /// What a parameter of the request stands in for.
    Parameter,
    Sign(char),
}

/// What stands where indices are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Without its quotes; several names, with commas between them, may stand in those.
    pub text: String,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

const STRANGE: Wrong = Wrong::Bad("a character of the query is none that the proxy knows outside of quotes");
const OPEN: Wrong =
    Wrong::Bad("a quote or a comment of the query is not closed, or could be closed in two places");
const UNQUOTED: Wrong = Wrong::Bad(
    "the name of an index in the query is not plain: put it into quotes, with a blank or a comma behind it",
);

/// What may be part of the name of a field, a function or a command.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@')
}

/// What may be part of a name of an index, in every version and without quotes.
fn is_source(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'*' | b'+' | b':' | b'@')
}

const SIGNS: &[u8] = b"=!<>~+-*/%()[]{},.:|;";

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte behind blanks and comments.
    pub fn peek(&mut self) -> Result<Option<u8>, Wrong> {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(b'/') if self.rest().starts_with("//") => {
                    // A carriage return alone ends it too.
                    let length = self.rest().find(['\r', '\n']);
                    self.at = length.map_or(self.text.len(), |length| self.at + length);
                }
                Some(b'/') if self.rest().starts_with("/*") => self.comment()?,
                byte => return Ok(byte),
            }
        }
    }

    /// Comments nest, but where one ends that another begins in is not for us to say.
    fn comment(&mut self) -> Result<(), Wrong> {
        let inner = self.rest().get(2..).unwrap_or_default();
        let length = inner.find("*/").ok_or(OPEN)?;
        // One that begins on the last character is one that begins.
        if inner.get(..length + 1).is_none_or(|inner| inner.contains("/*")) {
            return Err(OPEN);
        }
        self.at += 2 + length + 2;
        Ok(())
    }

    /// The next byte, if it is this one.
    pub fn takes(&mut self, wanted: u8) -> Result<bool, Wrong> {
        let is_it = self.peek()? == Some(wanted);
        self.at += usize::from(is_it);
        Ok(is_it)
    }

    /// The word that comes next, in small letters. `None`: what comes next is none; nothing is taken then.
    pub fn word(&mut self) -> Result<Option<String>, Wrong> {
        self.peek()?;
        let length = self.rest().bytes().take_while(|byte| is_word(*byte)).count();
        let word = self.rest().get(..length).unwrap_or_default();
        self.at += length;
        Ok((!word.is_empty()).then(|| word.to_ascii_lowercase()))
    }

    /// The word that comes next, without taking it.
    pub fn peek_word(&mut self) -> Result<Option<String>, Wrong> {
        self.peek()?;
        let at = self.at;
        let word = self.word();
        self.at = at;
        word
    }

    /// What stands where an index is named.
    pub fn source(&mut self) -> Result<Source, Wrong> {
        let quoted = self.peek()? == Some(b'"');
        let start = self.at;
        let text = match quoted {
            true => self.quoted()?,
            false => {
                let length = self.rest().bytes().take_while(|byte| is_source(*byte)).count();
                self.at += length;
                self.text.get(start..self.at).unwrap_or_default().to_owned()
            }
        };
        let end = self.at;
        // To an older version quotes are part of a name, and these are its end all the same.
        if text.is_empty() || text.contains(['`', '=', '[', ']', '(', ')', '|', '"', '\\']) {
            return Err(UNQUOTED);
        }
        match self.byte() {
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | b'|' | b')') => {}
            Some(b'/') if self.rest().starts_with("//") || self.rest().starts_with("/*") => {}
            Some(_) => return Err(UNQUOTED),
        }
        Ok(Source { text, start, end })
    }

    /// A word of an expression. `None`: the text is over.
    pub fn token(&mut self) -> Result<Option<Token>, Wrong> {
        let Some(byte) = self.peek()? else { return Ok(None) };
        Ok(Some(match byte {
            b'"' => {
                self.quoted()?;
                Token::Text
            }
            b'`' => Token::Quoted(self.back_quoted()?),
            b'?' => self.parameter(),
            b'0'..=b'9' => self.number(),
            byte if is_word(byte) => Token::Word(self.word()?.unwrap_or_default()),
            byte if SIGNS.contains(&byte) => {
                self.at += 1;
                Token::Sign(char::from(byte))
            }
            _ => return Err(STRANGE),
        }))
    }

    /// `?`, `?1`, `?name`, and the same with two of them.
    fn parameter(&mut self) -> Token {
        let marks = self.rest().bytes().take_while(|byte| *byte == b'?').count();
        self.at += marks;
        self.at += self.rest().bytes().take_while(|byte| is_word(*byte)).count();
        Token::Parameter
    }

    /// Digits, with what may follow them: a fraction, an exponent. What is no number is none to the cluster.
    fn number(&mut self) -> Token {
        let is_part = |byte: &u8| is_word(*byte) || *byte == b'.';
        self.at += self.rest().bytes().take_while(is_part).count();
        Token::Number
    }

    /// `"…"` with escapes, or `"""…"""` without.
    fn quoted(&mut self) -> Result<String, Wrong> {
        if let Some(inner) = self.rest().strip_prefix("\"\"\"") {
            let length = inner.find("\"\"\"").ok_or(OPEN)?;
            let (text, after) = (inner.get(..length), inner.get(length + 3..));
            let text = text.filter(|text| !text.contains(['\r', '\n'])).ok_or(OPEN)?;
            // Up to two more would still be part of it.
            if after.is_none_or(|after| after.starts_with('"')) {
                return Err(OPEN);
            }
            self.at += length + 6;
            return Ok(text.to_owned());
        }
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((place, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += place + 1;
                    return Ok(text);
                }
                '\\' => text.push(match chars.next() {
                    Some((_, 't')) => '\t',
                    Some((_, 'n')) => '\n',
                    Some((_, 'r')) => '\r',
                    Some((_, c @ ('"' | '\\'))) => c,
                    _ => return Err(OPEN),
                }),
                '\r' | '\n' => return Err(OPEN),
                c => text.push(c),
            }
        }
        Err(OPEN)
    }

    /// `` `…` ``, in which two of them are one.
    fn back_quoted(&mut self) -> Result<String, Wrong> {
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((place, c)) = chars.next() {
            match c {
                '`' if chars.next_if(|(_, next)| *next == '`').is_some() => text.push('`'),
                '`' if text.is_empty() => return Err(OPEN),
                '`' => {
                    self.at += place + 1;
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err(OPEN)
    }
}
