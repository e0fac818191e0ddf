//! Passwords inside statements do not belong in a trail.

use std::borrow::Cow;

use super::{Kind, Lexer, Token, signs};
use crate::protocol::masking::{MASK, contains_password, mask_addresses, mask_inside};

/// Bodies within bodies (`DO $a$ … $b$ … $b$ $a$`) are looked into this deep, deeper ones are masked whole.
const DEPTH_MAX: usize = 8;

/// The text with every password in it replaced: literals behind `PASSWORD` or any name like it (with
/// `=`, `:=`, `TO`, a function call between), behind `IDENTIFIED BY`, and `password=…` inside other
/// literals and comments (connection strings, dynamic SQL, JSON); and those of addresses anywhere.
pub(crate) fn mask(text: &[u8], conforming: bool) -> Cow<'_, [u8]> {
    if !signs(text).secret {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    mask_into(&mask_addresses(text), conforming, 0, &mut out);
    Cow::Owned(out)
}

/// What the tokens so far say about the next literal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    /// A password word was read, and since then only what may stand between it and its value.
    Value {
        /// The last token was a symbol, so one more word (a function's name) may follow.
        symbol: bool,
        /// Behind `IDENTIFIED`, where any words may stand between.
        identified: bool,
    },
    /// A password has been masked; a literal that goes on with it (`'a' 'b'`) is masked too.
    More,
}

fn mask_into(text: &[u8], conforming: bool, depth: usize, out: &mut Vec<u8>) {
    let mut expect = Expect::Nothing;
    for token in Lexer::new(text, conforming) {
        let all = &text[token.all.clone()];
        match token.kind {
            Kind::Space => out.extend_from_slice(all),
            Kind::Comment => mask_inside(all, out),
            Kind::Literal | Kind::Dollar if expect != Expect::Nothing => {
                around(text, &token, out, |_, out| out.extend_from_slice(MASK));
                expect = Expect::More;
            }
            Kind::Literal => around(text, &token, out, mask_inside),
            Kind::Dollar => around(text, &token, out, |body, out| match depth {
                DEPTH_MAX.. if signs(body).secret => out.extend_from_slice(MASK),
                _ => mask_into(body, conforming, depth + 1, out),
            }),
            Kind::Word | Kind::Quoted => {
                out.extend_from_slice(all);
                expect = after_word(all, expect);
            }
            Kind::Symbol(symbol) => {
                out.extend_from_slice(all);
                expect = match expect {
                    Expect::Value { identified, .. } if matches!(symbol, b'=' | b':' | b'>' | b'(') => {
                        Expect::Value { symbol: true, identified }
                    }
                    _ => Expect::Nothing,
                };
            }
        }
    }
}

fn after_word(word: &[u8], before: Expect) -> Expect {
    if word.eq_ignore_ascii_case(b"identified") {
        return Expect::Value { symbol: false, identified: true };
    }
    if contains_password(word) {
        let identified = matches!(before, Expect::Value { identified: true, .. });
        return Expect::Value { symbol: false, identified };
    }
    match before {
        Expect::Value { identified: true, .. } => before,
        Expect::Value { symbol: true, .. } => Expect::Value { symbol: false, identified: false },
        Expect::Value { .. } if word.eq_ignore_ascii_case(b"to") => {
            Expect::Value { symbol: true, identified: false }
        }
        _ => Expect::Nothing,
    }
}

/// The quotes of a token as they are, and between them what `inside` makes of it.
fn around(text: &[u8], token: &Token, out: &mut Vec<u8>, inside: impl Fn(&[u8], &mut Vec<u8>)) {
    out.extend_from_slice(&text[token.all.start..token.inner.start]);
    inside(&text[token.inner.clone()], out);
    out.extend_from_slice(&text[token.inner.end..token.all.end]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str) -> String {
        String::from_utf8(mask(text.as_bytes(), true).into_owned()).unwrap()
    }

    #[test]
    fn passwords_are_masked_in_every_spelling() {
        for (text, result) in [
            (
                "alter role a password 's3cret' valid until '2030'",
                "alter role a password '***' valid until '2030'",
            ),
            ("CREATE USER a ENCRYPTED PASSWORD E's3\\'cret';x", "CREATE USER a ENCRYPTED PASSWORD E'***';x"),
            ("alter role a password U&'s3cret'", "alter role a password U&'***'"),
            ("alter role a password $x$s3'cret$x$ login", "alter role a password $x$***$x$ login"),
            ("alter role a password 's3'\n'cret'", "alter role a password '***'\n'***'"),
            ("alter role a password/* x */'s3cret'", "alter role a password/* x */'***'"),
            ("alter role a password 's3cret not closed", "alter role a password '***"),
            ("create user a identified by 's3cret'", "create user a identified by '***'"),
            ("create user a identified with x by 's3cret'", "create user a identified with x by '***'"),
            (
                "create user mapping for a server b options (user 'a', password 's3cret')",
                "create user mapping for a server b options (user 'a', password '***')",
            ),
            (
                "select dblink_connect('c', 'host=h password=s3cret dbname=d')",
                "select dblink_connect('c', 'host=h password=*** dbname=d')",
            ),
            (
                "create subscription s connection 'host=h password=''s3 cret'' dbname=d' publication p",
                "create subscription s connection 'host=h password=*** dbname=d' publication p",
            ),
            ("select dblink_connect('password = s3cret')", "select dblink_connect('password = ***')"),
            (
                "do $$begin alter role a password 's3cret'; end$$",
                "do $$begin alter role a password '***'; end$$",
            ),
            (
                "do $$begin execute 'alter role a password ''s3cret'''; end$$",
                "do $$begin execute 'alter role a password ***'; end$$",
            ),
            ("update u set password = crypt('s3cret', 'x')", "update u set password = crypt('***', 'x')"),
            ("set my.password to 's3cret'", "set my.password to '***'"),
            ("select '{\"password\": \"s3cret\", \"a\": 1}'", "select '{\"password\": ***, \"a\": 1}'"),
            ("select 1 -- password=s3cret", "select 1 -- password=***"),
            ("select dblink('postgres://u:s3cret@h/d', 'x')", "select dblink('postgres://u:***@h/d', 'x')"),
            ("do $$ postgresql://u:s3cret@h/d $$", "do $$ postgresql://u:***@h/d $$"),
            ("select 1 /* http://u:s3cret@h */", "select 1 /* http://u:***@h */"),
            ("copy t from program 'curl ftp://u:s3cret@h/x'", "copy t from program 'curl ftp://u:***@h/x'"),
        ] {
            assert_eq!(masked(text), result);
            assert!(!result.contains("cret"), "{result}");
        }
    }

    #[test]
    fn what_is_no_password_stays() {
        for text in [
            "select password from u where name = 'alice'",
            "select 'forgot your password'",
            "alter role a password null",
            "select 1",
            "select 'x' as password, 'y'",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"'\"$ae;/*-\\ =".to_vec())], 0..60
        ), conforming: bool, tail in "[a-z'\"$= ]{0,20}") {
            let mut whole = text;
            whole.extend_from_slice(b" password='");
            whole.extend_from_slice(tail.as_bytes());
            mask(&whole, conforming);
        }

        #[test]
        fn a_literal_behind_password_never_shows(secret in "[a-z0-9 '\\\\]{1,20}") {
            prop_assume!(secret.len() > 3);
            let text = format!("alter role a password '{}'", secret.replace('\'', "''"));
            prop_assert_eq!(masked(&text), "alter role a password '***'");
        }
    }
}
