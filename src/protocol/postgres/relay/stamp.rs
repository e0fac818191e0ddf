//! What a connection must keep saying while a client changes its settings: who is there (the stamp at
//! the head of `application_name`), and the client's own start-up settings after a reset.
//!
//! The server tells each change of `application_name` (ParameterStatus), and three values can be told
//! apart: the stamped one, one that the client set itself, and the one we dialled with, which only a
//! reset brings back. The client is shown its own part only.
//!
//! Words of ours are `SET` statements, never `SELECT set_config(…)`: a SELECT takes a snapshot, after which
//! `SET TRANSACTION ISOLATION LEVEL` fails in the client's transaction. They go through the extended
//! protocol under a name of ours, so that the client's unnamed statement survives.

use bytes::BytesMut;

use super::super::facts::Settings;
use super::super::lexer::{SettingChange, setting_changes};
use super::words::{OWN_NAME, put_own_close, put_own_run, put_parse};
use crate::model::limits::{APPLICATION_NAME_BYTES_MAX, PUT_BACK_TRIES_MAX, SETTINGS_MAX};
use crate::protocol::session::WireError;

/// `application_name` as we dial with it. What a reset goes back to.
pub(crate) const DIAL_APPLICATION_NAME: &str = "tidegate";

const NAME: &str = "application_name";

/// `application_name` for a connection that a client is lent: the stamp, then the client's own name
/// as far as there is room. ASCII only: what else a server would turn into `?` itself.
pub(crate) fn stamped_name(stamp: &str, name: &str) -> String {
    let printable = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let mut text: String = stamp.chars().map(printable).collect();
    if !name.is_empty() {
        text.push(' ');
        text.extend(name.chars().map(printable));
    }
    text.truncate(APPLICATION_NAME_BYTES_MAX);
    text
}

/// Which start-up settings a text undoes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Resets {
    /// A bit per setting in the order of the start-up packet.
    settings: u64,
    /// `application_name` too.
    name: bool,
    /// Everything at once, so the name must have changed if it held.
    all: bool,
}

impl Resets {
    pub fn is_none(self) -> bool {
        self.settings == 0 && !self.name
    }
}

/// What the server's `application_name` is, as last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerName {
    Stamped,
    /// A value of the client's, without the stamp.
    Foreign,
    /// The one we dialled with.
    Dialled,
}

/// What the client is told of a new `application_name`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    Nothing,
    AsIs,
    Instead(&'a [u8]),
}

pub(super) struct Stamp {
    stamp: Box<str>,
    settings: Box<[(String, String)]>,
    /// The client's name at start-up, perhaps empty.
    first: Box<str>,
    /// The client's name now.
    wanted: Box<str>,
    /// What the client was last told.
    shown: Box<[u8]>,
    server: ServerName,
    /// Settings to put back.
    due: Resets,
    /// What the one Query in flight undoes if it succeeds; the client's next statement is held.
    awaited: Option<(u64, Resets)>,
    in_flight: Option<Resets>,
    /// The server told a name since our last words to it.
    told: bool,
    tries: u8,
}

impl Stamp {
    pub fn new(stamp: &str, settings: Settings) -> Self {
        let first: Box<str> = settings.application_name.unwrap_or_default().into();
        let mut parameters = settings.parameters;
        parameters.retain(|(name, _)| name != NAME);
        parameters.truncate(SETTINGS_MAX);
        Self {
            stamp: stamped_name(stamp, "").into(),
            settings: parameters.into(),
            wanted: first.clone(),
            shown: first.clone().into(),
            first,
            server: ServerName::Stamped,
            due: Resets::default(),
            awaited: None,
            in_flight: None,
            told: false,
            tries: 0,
        }
    }

    /// The client's own name, as it was last told.
    pub fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// What running this text undoes.
    pub fn resets(&self, text: &[u8], conforming: bool) -> Resets {
        let mut resets = Resets::default();
        for change in setting_changes(text, conforming) {
            match change {
                SettingChange::ResetAll => {
                    resets = Resets { settings: self.every_setting(), name: true, all: true };
                }
                SettingChange::Reset(name) if name == NAME => resets.name = true,
                SettingChange::Set(name) if name == NAME => resets.name = false,
                SettingChange::Reset(name) => resets.settings |= self.bit(&name),
                SettingChange::Set(name) => resets.settings &= !self.bit(&name),
            }
        }
        resets
    }

    fn every_setting(&self) -> u64 {
        (0..self.settings.len()).fold(0, |bits, at| bits | 1 << at)
    }

    fn bit(&self, name: &str) -> u64 {
        self.settings.iter().position(|(known, _)| known == name).map_or(0, |at| 1 << at)
    }

    /// The simple statement of this number, with resets, has been passed; [`Self::statement_ended`] says
    /// what came of it.
    pub fn await_resets(&mut self, number: u64, resets: Resets) {
        self.awaited = Some((number, resets));
    }

    /// A simple statement is through; true: it was the one awaited.
    pub fn statement_ended(&mut self, number: u64, failed: bool) -> bool {
        let Some((_, resets)) = self.awaited.take_if(|(awaited, _)| *awaited == number) else { return false };
        // A failed one was rolled back, as far as it was one transaction; where it was not, the name tells.
        if failed {
            return true;
        }
        // A reset of everything that the name does not show was rolled back within the same text.
        if !resets.all || self.server != ServerName::Stamped {
            self.due.settings |= resets.settings;
            self.due.name |= resets.name;
        }
        true
    }

    /// The server is ready and no statement of the client's explains a reset any more: one that a
    /// function did. Everything is put back.
    pub fn ready(&mut self) {
        if self.server == ServerName::Dialled && !self.due.name {
            self.due = Resets { settings: self.every_setting(), name: true, all: true };
        }
    }

    pub fn wants_words(&self) -> bool {
        self.in_flight.is_none() && (!self.due.is_none() || self.server != ServerName::Stamped)
    }

    /// The server told its `application_name`.
    pub fn told(&mut self, value: &[u8]) -> Shown<'_> {
        self.told = true;
        if value == DIAL_APPLICATION_NAME.as_bytes() {
            self.server = ServerName::Dialled;
            self.wanted.clone_from(&self.first);
            // The client will be told when its name is back.
            return Shown::Nothing;
        }
        let part = self.client_part(value);
        self.server = if part.is_some() { ServerName::Stamped } else { ServerName::Foreign };
        self.wanted = part.unwrap_or_else(|| String::from_utf8_lossy(value).into());
        if self.server == ServerName::Foreign {
            if *self.shown == *value {
                return Shown::Nothing;
            }
            self.shown = value.into();
            return Shown::AsIs;
        }
        if *self.shown == *self.wanted.as_bytes() {
            return Shown::Nothing;
        }
        self.shown = self.wanted.clone().into();
        Shown::Instead(&self.shown)
    }

    /// What of a stamped name is the client's. A cut name is known again by what it was cut from.
    fn client_part(&self, value: &[u8]) -> Option<Box<str>> {
        for name in [&self.wanted, &self.first] {
            if value == stamped_name(&self.stamp, name).as_bytes() {
                return Some(name.clone());
            }
        }
        let rest = value.strip_prefix(self.stamp.as_bytes())?;
        match rest {
            [] => Some(Box::default()),
            [b' ', name @ ..] => Some(String::from_utf8_lossy(name).into()),
            _ => None,
        }
    }

    /// After a move to another connection: it was dressed with the start-up settings.
    pub fn moved(&mut self) {
        let wanted = stamped_name(&self.stamp, &self.wanted);
        let dressed = stamped_name(&self.stamp, &self.first);
        self.server = if wanted == dressed { ServerName::Stamped } else { ServerName::Foreign };
        (self.due, self.awaited, self.in_flight) = (Resets::default(), None, None);
    }

    /// Writes what is due, without the Sync. Gives the number of answers that it will have.
    ///
    /// In a transaction a changed name is stamped with SET LOCAL: whether the client had used SET or SET
    /// LOCAL, the end of the transaction then leaves what the client meant, and is looked at again.
    pub fn write_due(&mut self, in_transaction: bool, out: &mut BytesMut) -> u32 {
        let local = in_transaction && self.due.is_none();
        let name = self.due.name || self.server != ServerName::Stamped;
        let resets = Resets { name, ..self.due };
        self.in_flight = Some(resets);
        self.told = false;
        self.write(resets, local, &self.wanted, out)
    }

    /// Writes what puts these back, for the place right behind the statement that undoes them.
    pub fn write_inline(&mut self, resets: Resets, out: &mut BytesMut) -> u32 {
        self.write(resets, false, &self.first, out)
    }

    fn write(&self, resets: Resets, local: bool, name: &str, out: &mut BytesMut) -> u32 {
        put_own_close(out);
        let mut answers = 1;
        let mut set = |text: String| {
            put_parse(out, OWN_NAME.as_bytes(), text.as_bytes(), &[]);
            put_own_run(out);
            put_own_close(out);
            // ParseComplete, BindComplete, CommandComplete, CloseComplete twice.
            answers += 5;
        };
        for (at, (name, value)) in self.settings.iter().enumerate() {
            if resets.settings >> at & 1 == 1 {
                set(set_statement(name, value));
            }
        }
        if resets.name {
            let text = set_statement(NAME, &stamped_name(&self.stamp, name));
            set(if local { text.replacen("SET ", "SET LOCAL ", 1) } else { text });
        }
        answers
    }

    /// Our words are through. An error means that the server will not have it; it is not asked forever.
    pub fn words_ended(&mut self, failed: bool) -> Result<(), WireError> {
        let sent = self.in_flight.take().unwrap_or_default();
        if !failed {
            self.due.settings &= !sent.settings;
            self.due.name = false;
            if !self.told {
                self.server = ServerName::Stamped;
            }
        }
        if self.wants_words() {
            self.tries += 1;
            if self.tries >= PUT_BACK_TRIES_MAX {
                return Err(WireError::new("SET", "the server does not take back a start-up setting"));
            }
        } else {
            self.tries = 0;
        }
        Ok(())
    }
}

/// Settings whose values are lists of identifiers: `SET x TO 'a, b'` would make one identifier of it
/// (`GUC_LIST_QUOTE` in the server's sources, a closed list).
const LISTS: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// `SET "name" TO E'value'`, right under every `standard_conforming_strings` and client encoding.
pub(crate) fn set_statement(name: &str, value: &str) -> String {
    let mut text = String::from("SET ");
    for (at, part) in name.split('.').enumerate() {
        text.push_str(if at == 0 { "\"" } else { ".\"" });
        text.push_str(&part.replace('"', "\"\""));
        text.push('"');
    }
    text.push_str(" TO ");
    let elements = if LISTS.contains(&name) { list_elements(value) } else { None };
    match elements {
        Some(elements) if !elements.is_empty() => {
            for (at, element) in elements.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { ", " });
                push_literal(&mut text, element);
            }
        }
        _ => push_literal(&mut text, value),
    }
    text
}

/// An escape string: its backslashes mean the same whatever `standard_conforming_strings` says. What is
/// not ASCII is escaped too, so the bytes mean the same in every client encoding, also in those where
/// a backslash can be half of a character.
fn push_literal(text: &mut String, value: &str) {
    text.push_str("E'");
    for c in value.chars() {
        match c {
            '\'' => text.push_str("''"),
            '\\' => text.push_str("\\\\"),
            ' '..='~' => text.push(c),
            _ if (c as u32) < 0x1_0000 => text.push_str(&format!("\\u{:04X}", c as u32)),
            _ => text.push_str(&format!("\\U{:08X}", c as u32)),
        }
    }
    text.push('\'');
}

/// Splits as the server does (`SplitIdentifierString`): elements with quotes are as they are, others in
/// lower case. `None`: not such a list.
fn list_elements(value: &str) -> Option<Vec<String>> {
    let mut elements = Vec::new();
    let mut rest = value.trim_start();
    if rest.is_empty() {
        return Some(elements);
    }
    loop {
        let element;
        (element, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_element(quoted)?,
            None => {
                let end = rest.find(|c: char| c == ',' || c.is_ascii_whitespace()).unwrap_or(rest.len());
                (rest[..end].to_ascii_lowercase(), &rest[end..])
            }
        };
        elements.push(element);
        rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Some(elements),
            None => return None,
        }
    }
}

fn quoted_element(text: &str) -> Option<(String, &str)> {
    let mut element = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"')?;
        element.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                element.push('"');
                rest = more;
            }
            None => return Some((element, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp::new(
            "alice/s-1",
            Settings {
                application_name: Some("psql".into()),
                parameters: vec![
                    ("search_path".into(), "a, \"B c\"".into()),
                    ("datestyle".into(), "iso, mdy".into()),
                ],
            },
        )
    }

    #[test]
    fn values_are_quoted_for_every_server_state() {
        assert_eq!(set_statement("a.b\"c", "x"), r#"SET "a"."b""c" TO E'x'"#);
        assert_eq!(set_statement("x", r"it's \ é 😀"), r#"SET "x" TO E'it''s \\ \u00E9 \U0001F600'"#);
        assert_eq!(set_statement("datestyle", "iso, mdy"), r#"SET "datestyle" TO E'iso, mdy'"#);
        assert_eq!(
            set_statement("search_path", r#""$user", Public ,"a""b""#),
            r#"SET "search_path" TO E'$user', E'public', E'a"b'"#
        );
        assert_eq!(set_statement("search_path", ""), r#"SET "search_path" TO E''"#);
        assert_eq!(set_statement("search_path", "\"a"), r#"SET "search_path" TO E'"a'"#);
    }

    #[test]
    fn a_stamped_name_has_63_bytes_at_most() {
        assert_eq!(stamped_name("alice/s-1", ""), "alice/s-1");
        assert_eq!(stamped_name("alice/s-1", "psql é"), "alice/s-1 psql ?");
        assert_eq!(stamped_name("alice/s-1", &"x".repeat(99)).len(), 63);
    }

    #[test]
    fn the_client_sees_its_own_name_only() {
        let mut stamp = stamp();
        assert_eq!(stamp.told(b"alice/s-1 psql"), Shown::Nothing);
        assert!(!stamp.wants_words());
        assert_eq!(stamp.told(b"x"), Shown::AsIs);
        assert!(stamp.wants_words());
        let mut out = BytesMut::new();
        assert_eq!(stamp.write_due(true, &mut out), 6);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.contains("SET LOCAL \"application_name\" TO E'alice/s-1 x'\0"), "{text:?}");
        assert!(!stamp.wants_words());
        assert_eq!(stamp.told(b"alice/s-1 x"), Shown::Nothing);
        stamp.words_ended(false).unwrap();
        assert!(!stamp.wants_words());
        // A rollback brings the old one back.
        assert_eq!(stamp.told(b"alice/s-1 psql"), Shown::Instead(b"psql"));
        // A client that sets what it read back from the server.
        assert_eq!(stamp.told(b"alice/s-1 other"), Shown::Instead(b"other"));
        assert_eq!(stamp.told(b"alice/s-12"), Shown::AsIs);
    }

    #[test]
    fn a_reset_puts_back_what_it_undid() {
        let mut stamp = stamp();
        let one = stamp.resets(b"reset search_path", true);
        assert_eq!(one, Resets { settings: 1, name: false, all: false });
        assert!(stamp.resets(b"reset work_mem", true).is_none());
        let most = stamp.resets(b"reset all; set datestyle to 'german'", true);
        assert_eq!(most, Resets { settings: 1, name: true, all: true });
        stamp.await_resets(7, most);
        stamp.statement_ended(7, true);
        assert!(!stamp.wants_words(), "it failed");
        stamp.await_resets(7, most);
        stamp.statement_ended(7, false);
        assert!(!stamp.wants_words(), "the name did not change, so it was rolled back");
        stamp.await_resets(7, most);
        assert_eq!(stamp.told(b"tidegate"), Shown::Nothing);
        stamp.statement_ended(7, false);
        stamp.ready();
        let mut out = BytesMut::new();
        assert_eq!(stamp.write_due(false, &mut out), 11);
        stamp.words_ended(false).unwrap();
        assert!(!stamp.wants_words());
        // Nothing of the client explains it: everything is put back.
        stamp.told(b"tidegate");
        stamp.ready();
        assert_eq!(stamp.write_due(false, &mut out), 16);
    }

    #[test]
    fn a_server_that_does_not_take_it_is_not_asked_forever() {
        let mut stamp = stamp();
        stamp.told(b"x");
        let mut out = BytesMut::new();
        for _ in 0..2 {
            stamp.write_due(false, &mut out);
            stamp.words_ended(true).unwrap();
        }
        stamp.write_due(false, &mut out);
        assert!(stamp.words_ended(true).is_err());
    }
}
