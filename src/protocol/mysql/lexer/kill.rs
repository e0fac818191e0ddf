//! A client that stops another session, in SQL (<https://dev.mysql.com/doc/refman/8.4/en/kill.html>,
//! <https://mariadb.com/docs/server/reference/sql-statements/administrative-sql-statements/kill>).

use super::{Kind, Mode, meaningful, readings, signs};

/// What a text has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kill {
    /// Nothing that can be seen. A text that is put together at the server is not seen.
    None,
    /// It is nothing else: the number, and whether the whole session is meant or only what runs there.
    Plain { id: u64, ends: bool },
    /// In a form that cannot be done for the client.
    Other,
}

/// Looks for the statement. KILL is a reserved word: without quotes, and not behind a dot or an at sign, it is never
/// a name. `backslash`: whether one escapes, where that is known; a text that may change it is read either way.
pub(crate) fn kill(text: &[u8], backslash: Option<bool>) -> Kill {
    if !signs(text).kill {
        return Kill::None;
    }
    let changes = || text.windows(8).any(|word| word.eq_ignore_ascii_case(b"sql_mode"));
    let known = backslash.filter(|_| text.contains(&b'\\') && !changes());
    let may_be = |mode: &Mode| known.is_none_or(|known| mode.backslash == known);
    if !readings(text).filter(may_be).any(|mode| has_kill(text, mode)) {
        return Kill::None;
    }
    plain(text).unwrap_or(Kill::Other)
}

fn has_kill(text: &[u8], mode: Mode) -> bool {
    meaningful(text, mode).any(|(token, free)| {
        free && token.kind == Kind::Word && text[token.all].eq_ignore_ascii_case(b"kill")
    })
}

/// The whole text: `KILL [HARD | SOFT] [CONNECTION | QUERY] number`.
fn plain(text: &[u8]) -> Option<Kill> {
    let mut words = Vec::with_capacity(4);
    for (token, _) in meaningful(text, Mode::DEFAULT) {
        match token.kind {
            Kind::Word if words.len() < 4 => words.push(&text[token.all]),
            Kind::Symbol(b';') if !words.is_empty() => words.push(b";"),
            _ => return None,
        }
    }
    while words.last() == Some(&&b";"[..]) {
        words.pop();
    }
    let mut words = words.into_iter().peekable();
    let mut take = |word: &[u8]| words.next_if(|next| next.eq_ignore_ascii_case(word)).is_some();
    if !take(b"kill") {
        return None;
    }
    let _ = take(b"hard") || take(b"soft");
    let ends = !take(b"query");
    let _ = ends && take(b"connection");
    let number = words.next().filter(|number| number.iter().all(u8::is_ascii_digit))?;
    let id = std::str::from_utf8(number).ok()?.parse().ok()?;
    words.next().is_none().then_some(Kill::Plain { id, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_statement_is_read_in_every_spelling() {
        for (text, id, ends) in [
            ("KILL 5", 5, true),
            ("kill query 18446744073709551615;", u64::MAX, false),
            (" /* x */ KILL /* y */ connection\n7 -- z", 7, true),
            ("kill hard query 7 ; ;", 7, false),
            ("KILL SOFT CONNECTION 7", 7, true),
            ("KILL soft 7", 7, true),
        ] {
            assert_eq!(kill(text.as_bytes(), None), Kill::Plain { id, ends }, "{text}");
        }
    }

    #[test]
    fn other_forms_are_seen_and_not_taken_for_it() {
        for text in [
            "select 1; kill 5",
            "kill 5; select 1",
            "kill user alice",
            "kill query id 5",
            "kill connection_id()",
            "kill @x",
            "kill ?",
            "kill 0x5",
            "kill 99999999999999999999999",
            "kill query connection 5",
            "/*!50000 kill 5 */",
            "/*!99999 ' */ kill 5 -- '",
            "begin not atomic kill 5; end",
            "create procedure p() kill 5",
            r"select 'a\'; kill 5 -- '",
            r#"select "a\"; kill 5 -- ""#,
            "kill",
        ] {
            assert_eq!(kill(text.as_bytes(), None), Kill::Other, "{text}");
        }
    }

    #[test]
    fn what_a_backslash_does_is_known_or_looked_at_either_way() {
        let text = br"insert into t values ('don\'t kill it')";
        assert_eq!(kill(text, Some(true)), Kill::None);
        assert_eq!((kill(text, Some(false)), kill(text, None)), (Kill::Other, Kill::Other));
        let text = br"set sql_mode = 'no_backslash_escapes'; select 'a\'; kill 5 -- '";
        assert_eq!(kill(text, Some(true)), Kill::Other);
        assert_eq!(kill(b"select 1; kill 5", Some(false)), Kill::Other, "there is none");
    }

    #[test]
    fn what_only_looks_like_it_is_nothing() {
        for text in [
            "select 'kill 5'",
            "select `kill` from t",
            "select t.kill, t . kill from t",
            "set @kill = 5",
            "-- kill 5\nselect 1",
            "select skill, killed from t",
            "# kill 5",
        ] {
            assert_eq!(kill(text.as_bytes(), None), Kill::None, "{text}");
        }
    }
}
