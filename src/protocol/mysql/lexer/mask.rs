//! Passwords inside statements do not belong in a trail.

use std::borrow::Cow;

use super::{Kind, Lexer, Mode, Token, signs};
use crate::protocol::masking::{MASK, contains_password, mask_addresses, mask_inside};

/// The text with every password in it replaced: literals behind `IDENTIFIED …`, behind `PASSWORD` or any name like it
/// (`MASTER_PASSWORD = …`, `PASSWORD('…')`, `SET PASSWORD FOR … = …`), behind the `REPLACE` that names an old one, and
/// `password=…` inside other literals and comments, and those of addresses anywhere.
pub(crate) fn mask(text: &[u8], mode: Mode) -> Cow<'_, [u8]> {
    if !signs(text).secret {
        return Cow::Borrowed(text);
    }
    let text = mask_addresses(text);
    let text = &*text;
    let mut out = Vec::with_capacity(text.len());
    let mut expect = Expect::Nothing;
    for token in Lexer::new(text, mode) {
        let all = &text[token.all.clone()];
        match token.kind {
            Kind::Space | Kind::Runs => out.extend_from_slice(all),
            Kind::Comment => mask_inside(all, &mut out),
            Kind::Literal | Kind::Quoted if expect.masks(token.kind) => {
                around(text, &token, &mut out, |_, out| out.extend_from_slice(MASK));
                if expect != Expect::Identified {
                    expect = Expect::More;
                }
            }
            Kind::Literal => {
                around(text, &token, &mut out, mask_inside);
                expect = expect.after_value();
            }
            Kind::Quoted => {
                out.extend_from_slice(all);
                expect = if contains_password(all) {
                    Expect::Value { symbol: false }
                } else {
                    expect.after_value()
                };
            }
            // A hash may be written as a number: `AS 0x…`.
            Kind::Word if expect == Expect::Identified && begins_with_hex(all) => out.extend_from_slice(MASK),
            Kind::Word => {
                out.extend_from_slice(all);
                expect = expect.after_word(all);
            }
            Kind::Symbol(symbol) => {
                out.extend_from_slice(all);
                expect = expect.after_symbol(symbol);
            }
        }
    }
    Cow::Owned(out)
}

fn begins_with_hex(word: &[u8]) -> bool {
    word.len() > 2 && super::begins_with(word, b"0x")
}

/// What the tokens so far say about the next literal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Nothing,
    /// A password word was read, and since then only what may stand between it and its value.
    Value {
        /// The last token was a symbol, so one more word (a function's name) may follow.
        symbol: bool,
    },
    /// Behind `IDENTIFIED`: every literal up to what begins another part of the statement.
    Identified,
    /// Behind `PASSWORD FOR`: an account, and then its password.
    Account,
    /// A password has been masked; a literal that goes on with it (`'a' 'b'`) is masked too.
    More,
}

impl Expect {
    fn masks(self, kind: Kind) -> bool {
        // In the mode ANSI_QUOTES nothing in double quotes is a password; read as a literal it is masked for nothing.
        kind == Kind::Literal && matches!(self, Self::Value { .. } | Self::Identified | Self::More)
    }

    /// A literal or a name was left as it is.
    fn after_value(self) -> Self {
        match self {
            Self::Account | Self::Identified => self,
            _ => Self::Nothing,
        }
    }

    fn after_word(self, word: &[u8]) -> Self {
        let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
        if is(b"identified") {
            return Self::Identified;
        }
        match self {
            Self::Identified if is(b"require") || is(b"comment") || is(b"attribute") || is(b"default") => {
                Self::Nothing
            }
            Self::Identified => self,
            _ if contains_password(word) => Self::Value { symbol: false },
            Self::Account => self,
            Self::Value { symbol: false } if is(b"for") => Self::Account,
            Self::Value { symbol: false } if is(b"to") || is(b"by") => Self::Value { symbol: true },
            Self::Value { symbol: true } => Self::Value { symbol: false },
            // `SET PASSWORD = 'new' REPLACE 'old'`.
            Self::More if is(b"replace") => Self::Value { symbol: false },
            _ => Self::Nothing,
        }
    }

    fn after_symbol(self, symbol: u8) -> Self {
        match (self, symbol) {
            (Self::Account, b'=') => Self::Value { symbol: true },
            (_, b';') => Self::Nothing,
            // The next account of a list.
            (Self::Identified, b',') => Self::Nothing,
            (Self::Account | Self::Identified, _) => self,
            (Self::Value { .. }, b'=' | b':' | b'(' | b',' | b'@') if symbol != b',' => {
                Self::Value { symbol: true }
            }
            (Self::More, b')') => self,
            _ => Self::Nothing,
        }
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
        String::from_utf8(mask(text.as_bytes(), Mode::DEFAULT).into_owned()).unwrap()
    }

    #[test]
    fn passwords_are_masked_in_every_spelling() {
        for (text, result) in [
            ("create user a@'%' identified by 's3cret'", "create user a@'%' identified by '***'"),
            (
                "CREATE USER a IDENTIFIED WITH caching_sha2_password BY 's3cret' REQUIRE SUBJECT '/CN=a'",
                "CREATE USER a IDENTIFIED WITH caching_sha2_password BY '***' REQUIRE SUBJECT '/CN=a'",
            ),
            (
                "alter user a identified by \"s3cret\" replace 'old-s3cret' retain current password",
                "alter user a identified by \"***\" replace '***' retain current password",
            ),
            (
                "create user a identified by 's3cret', b@'h' identified by 's4cret'",
                "create user a identified by '***', b@'h' identified by '***'",
            ),
            (
                "create user a identified via ed25519 using password('s3cret') or unix_socket",
                "create user a identified via ed25519 using password('***') or unix_socket",
            ),
            (
                "create user a identified with mysql_native_password as '*s3cret'",
                "create user a identified with mysql_native_password as '***'",
            ),
            ("alter user a identified with x as 0x24413030s3cret", "alter user a identified with x as ***"),
            ("grant all on *.* to a identified by 's3cret'", "grant all on *.* to a identified by '***'"),
            ("set password = 's3cret'", "set password = '***'"),
            ("set password for 'bob'@'%' = 's3cret'", "set password for 'bob'@'%' = '***'"),
            ("set password for bob = password('s3cret')", "set password for bob = password('***')"),
            ("set password = 's3cret' replace 'olds3cret'", "set password = '***' replace '***'"),
            (
                "change master to master_user='u', MASTER_PASSWORD = 's3cret', master_host='h'",
                "change master to master_user='u', MASTER_PASSWORD = '***', master_host='h'",
            ),
            ("start replica user='u' password='s3cret'", "start replica user='u' password='***'"),
            (
                "create server s foreign data wrapper mysql options (user 'u', password 's3cret')",
                "create server s foreign data wrapper mysql options (user 'u', password '***')",
            ),
            ("select password('s3cret')", "select password('***')"),
            ("set @password := 's3cret'", "set @password := '***'"),
            ("select 's3'  -- password=s3cret", "select 's3'  -- password=***"),
            (
                "create table f (a int) engine=federated connection='mysql://u:p@h/d?password=s3cret'",
                "create table f (a int) engine=federated connection='mysql://u:***@h/d?password=***'",
            ),
            ("update u set password = sha2('s3cret', 256)", "update u set password = sha2('***', 256)"),
            (r"set password = 's3\'cret'", "set password = '***'"),
            ("set password = 's3cret not closed", "set password = '***"),
            (
                "create table f (a int) engine=federated connection='mysql://u:s3cret@h:3306/d/t'",
                "create table f (a int) engine=federated connection='mysql://u:***@h:3306/d/t'",
            ),
            (
                "prepare s from 'alter user a identified by \"s3cret\"'",
                "prepare s from 'alter user a identified by ***'",
            ),
            (
                "execute immediate 'grant usage on *.* to a identified by password \"*s3cret\"'",
                "execute immediate 'grant usage on *.* to a identified by password ***'",
            ),
            (
                "execute immediate 'create user a identified via ed25519 using password(\"s3cret\")'",
                "execute immediate 'create user a identified ***'",
            ),
            (
                "prepare s from 'create user a identified with auth_x as \"s3cret\"'",
                "prepare s from 'create user a identified ***'",
            ),
            (
                "execute immediate 'set password = password(\"s3cret\")'",
                "execute immediate 'set password = ***'",
            ),
            ("prepare s from 'select password(\"s3cret\")'", "prepare s from 'select password(***)'"),
        ] {
            assert_eq!(masked(text), result);
        }
    }

    #[test]
    fn what_is_no_password_stays() {
        for text in [
            "select password from u where name = 'alice'",
            "select 'forgot your password'",
            "alter user a password expire interval 90 day",
            "select 1",
            "select 'x' as password, 'y'",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    proptest! {
        #[test]
        fn a_literal_behind_identified_never_shows(secret in "[a-z0-9 '\\\\]{4,20}") {
            let text = format!("alter user a identified by '{}'", secret.replace('\\', "\\\\").replace('\'', "''"));
            prop_assert_eq!(masked(&text), "alter user a identified by '***'");
        }
    }
}
