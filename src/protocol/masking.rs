//! Passwords in text that is not SQL, or not SQL any more: inside literals and comments of any protocol's statements.

use std::borrow::Cow;
use std::ops::Range;

/// What stands for a password; its length says nothing about it.
pub(crate) const MASK: &[u8] = b"***";

/// Case is ignored; `word` is in lower case.
fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

pub(crate) fn contains_password(text: &[u8]) -> bool {
    (0..text.len()).any(|at| begins_with(&text[at..], b"passw"))
}

/// Where the password of an address that begins with `://` is: `mysql://user:password@host/database`. libpq and others
/// let it have a `?` and a `#`.
pub(crate) fn password_in_address(text: &[u8]) -> Option<Range<usize>> {
    let rest = text.strip_prefix(b"://")?;
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'\'' | b'"' | b'`');
    let login = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
    let login = &login[..login.iter().rposition(|byte| *byte == b'@')?];
    let begin = login.iter().position(|byte| *byte == b':')? + 1;
    (begin < login.len()).then_some(begin + 3..login.len() + 3)
}

/// The passwords of addresses, wherever they stand: in a literal, a comment, a body, a value that was bound.
pub(crate) fn mask_addresses(text: &[u8]) -> Cow<'_, [u8]> {
    let (mut out, mut from, mut at) = (Vec::new(), 0, 0);
    while let Some(found) = memchr::memchr(b':', &text[at..]) {
        at += found;
        match password_in_address(&text[at..]) {
            Some(password) => {
                out.extend_from_slice(&text[from..at + password.start]);
                out.extend_from_slice(MASK);
                at += password.end;
                from = at;
            }
            None => at += 1,
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[from..]);
    Cow::Owned(out)
}

/// Masks the values behind `password` in something that is not SQL: a connection string, JSON, a
/// comment, or SQL with its quotes doubled. Addresses are masked before, in the whole text: [`mask_addresses`].
pub(crate) fn mask_inside(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        if !begins_with(&text[at..], b"passw") && !begins_with(&text[at..], b"identified") {
            out.push(text[at]);
            at += 1;
            continue;
        }
        let (word_end, value) = value_start(text, at);
        out.extend_from_slice(&text[at..value.unwrap_or(word_end)]);
        at = match value {
            Some(value) => {
                out.extend_from_slice(MASK);
                value_end(text, value)
            }
            None => word_end,
        };
    }
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"')
}

/// Where the password word at `at` ends, and where its value begins, if one follows: behind the word,
/// then blanks, then at least one of `=`, `:`, `(` or a quote; or behind `BY` or another word that names how.
fn value_start(text: &[u8], at: usize) -> (usize, Option<usize>) {
    let skip = |mut at: usize, what: fn(u8) -> bool| {
        while at < text.len() && what(text[at]) {
            at += 1;
        }
        at
    };
    let blank = |byte: u8| byte.is_ascii_whitespace();
    let word_end = skip(at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // A quote around the key itself, as in JSON; a backslash before it inside E'…'.
    let key_end = skip(word_end, |byte| is_quote(byte) || byte == b'\\');
    let mut next = skip(key_end, blank);
    let mut found = key_end > word_end && next > key_end;
    if begins_with(&text[next..], b"by") && next > word_end {
        (next, found) = (skip(next + 2, blank), true);
        if begins_with(&text[next..], b"password") {
            // `BY PASSWORD '…'`: a hash.
            next = skip(next + 8, blank);
        }
    }
    // `IDENTIFIED WITH plugin AS '…'`, `VIA plugin USING '…' OR plugin …`: all that follows.
    if begins_with(&text[at..], b"identified")
        && next > word_end
        && (begins_with(&text[next..], b"with ") || begins_with(&text[next..], b"via "))
    {
        return (word_end, Some(next));
    }
    let sign_end = skip(next, |byte| matches!(byte, b'=' | b':' | b'>' | b'('));
    found |= sign_end > next || (next < text.len() && is_quote(text[next]));
    let value = skip(sign_end, blank);
    (word_end, (found && value < text.len()).then_some(value))
}

/// A quoted value goes to its closing quote, a bare one to the next blank; where the way of proving it is named, to
/// the end. In doubt it is longer.
fn value_end(text: &[u8], start: usize) -> usize {
    if begins_with(&text[start..], b"with ") || begins_with(&text[start..], b"via ") {
        return text.len();
    }
    let escaped = |at: usize| at > 0 && text[at - 1] == b'\\';
    let open = start + usize::from(text[start] == b'\\');
    let Some(quote) = text.get(open).copied().filter(|byte| is_quote(*byte)) else {
        return (start..text.len())
            .find(|at| text[*at].is_ascii_whitespace() && !escaped(*at))
            .unwrap_or(text.len());
    };
    let run = |from: usize| text[from..].iter().take_while(|byte| **byte == quote).count();
    let opening = run(open);
    let mut at = open + opening;
    while at < text.len() {
        let closing = run(at);
        if closing == 0 {
            at += 1;
            continue;
        }
        // A quote inside the value is written twice as long as the one around it.
        let doubled = closing % (2 * opening) == 0;
        let escape = escaped(at) && open == start;
        at += closing;
        if !doubled && !escape {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_masked_wherever_they_stand() {
        for (text, result) in [
            ("postgres://u:s3cret@h:5432/d", "postgres://u:***@h:5432/d"),
            ("'redis://:s3cret@h' 'amqp://u:s3@cret@h'", "'redis://:***@h' 'amqp://u:***@h'"),
            ("postgres://u:s3?#cret@h", "postgres://u:***@h"),
            ("a://u:s3cret@h,b://u:s4cret@h", "a://u:***@h,b://u:***@h"),
        ] {
            assert_eq!(String::from_utf8_lossy(&mask_addresses(text.as_bytes())), result);
        }
        for text in ["", "a::text", "https://h:80/a@b:c@", "http://h:80", "u://a:b", "://", "x://u@h"] {
            assert_eq!(mask_addresses(text.as_bytes()), text.as_bytes());
        }
    }
}
