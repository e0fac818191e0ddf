//! The first word of each statement of a text, which is as much as can be said of one that is too long
//! to be read, or that the parser does not know.

use super::{Kind, Lexer};

/// No keyword of PostgreSQL is longer.
const WORD_BYTES_MAX: usize = 24;

/// In capitals, in order, each once, at most `words_max`.
pub(crate) fn first_words(text: &[u8], words_max: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut depth, mut at_start) = (0usize, true);
    for token in Lexer::new(text, true) {
        match token.kind {
            Kind::Space | Kind::Comment => continue,
            Kind::Symbol(b';') if depth == 0 => at_start = true,
            Kind::Symbol(symbol) => {
                depth = match symbol {
                    b'(' => depth + 1,
                    b')' => depth.saturating_sub(1),
                    _ => depth,
                };
                // `(SELECT …) UNION …` begins with its first word too.
                at_start &= symbol == b'(';
            }
            Kind::Word if at_start => {
                at_start = false;
                let word = &text[token.all];
                if word.len() <= WORD_BYTES_MAX && word.iter().all(u8::is_ascii_alphabetic) {
                    let word = String::from_utf8_lossy(word).to_ascii_uppercase();
                    if !words.contains(&word) && words.len() < words_max {
                        words.push(word);
                    }
                }
            }
            _ => at_start = false,
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_each_statement_is_found() {
        let words = |text: &str| first_words(text.as_bytes(), 3).join(" ");
        assert_eq!(words("refresh materialized view v"), "REFRESH");
        assert_eq!(
            words("/* a; */ ((select 1)) ; 'delete'; \"drop\"; update t set a = (1; b)"),
            "SELECT UPDATE"
        );
        assert_eq!(words("select 1; select 2; Delete from t"), "SELECT DELETE");
        assert_eq!(
            words("do $$ begin; delete from t; end $$; -- x; y\nvacuum; listen a; notify b"),
            "DO VACUUM LISTEN"
        );
        assert_eq!(words(""), "");
    }
}
