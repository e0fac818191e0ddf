//! The first packets of a client: they have no type byte, only a length and a code
//! (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>).

use bytes::{Buf, BytesMut};

use super::facts::Settings;
use super::frame;
use crate::model::{LoginName, limits};
use crate::protocol::session::{CancelKey, WireError};

/// Protocol 3.0: major in the upper half, minor in the lower.
pub(super) const VERSION_3_0: u32 = 0x0003_0000;
/// Protocol 3.2 of PostgreSQL 18: longer cancel keys, nothing else.
pub(super) const VERSION_3_2: u32 = 0x0003_0002;
/// The type of the record that a TLS ClientHello comes in.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;
/// Codes of a "version" 1234 are requests of their own.
pub(super) const CANCEL_REQUEST: u32 = 0x04d2_162e;
pub(super) const SSL_REQUEST: u32 = 0x04d2_162f;
pub(super) const GSSENC_REQUEST: u32 = 0x04d2_1630;

/// Settings that a client may not put on the connection it is lent, in lower case:
const RESERVED: [&str; 10] = [
    // who it is there, which every check of ours relies on;
    "role",
    "session_authorization",
    "is_superuser",
    // what ends its statements when we are gone;
    "client_connection_check_interval",
    // of one transaction only, so at start-up they can only be a mistake for `default_transaction_…`;
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    // the random numbers of whoever gets the connection next: no reset clears it;
    "seed",
    // code that is loaded into the server process for good.
    "session_preload_libraries",
    "local_preload_libraries",
];

/// The first packet, or one of the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Ssl,
    GssEnc,
    Cancel(CancelKey),
    Startup(Box<Startup>),
    /// A version of the protocol that is not ours.
    OtherMajor,
}

/// A `StartupMessage` of protocol 3. A claim: nothing of it is used before the login is proven.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Startup {
    pub minor: u16,
    /// The login name as sent.
    pub user: String,
    /// `None`: not a login name of ours.
    pub login: Option<LoginName>,
    /// `None` where the client names none: libpq and JDBC then send the login name.
    pub database: Option<String>,
    pub replication: bool,
    pub settings: Settings,
    /// Protocol options (`_pq_.…`), all of them unknown to us.
    pub unrecognised: Vec<String>,
    /// The first start-up setting that cannot be, for a refusal once the login is proven.
    pub complaint: Option<String>,
}

impl Packet {
    /// Takes one packet off the front of what a client sent; never a byte more. `None`: not whole yet.
    pub fn take(input: &mut BytesMut) -> Result<Option<Self>, WireError> {
        const PLACE: &str = "start-up packet";
        let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(8..=limits::STARTUP_BYTES_MAX).contains(&length) {
            return Err(WireError::new(PLACE, "a length that cannot be"));
        }
        if input.len() < length {
            return Ok(None);
        }
        let mut packet = input.split_to(length);
        packet.advance(4);
        let code = packet.get_u32();
        match code {
            SSL_REQUEST | GSSENC_REQUEST if !packet.is_empty() => {
                Err(WireError::new(PLACE, "an encryption request of a wrong length"))
            }
            SSL_REQUEST => Ok(Some(Self::Ssl)),
            GSSENC_REQUEST => Ok(Some(Self::GssEnc)),
            CANCEL_REQUEST => Ok(Some(Self::Cancel(cancel_key(&packet)))),
            _ if code >> 16 != VERSION_3_0 >> 16 => Ok(Some(Self::OtherMajor)),
            _ => Ok(Some(Self::Startup(Box::new(Startup::parse(code as u16, &packet)?)))),
        }
    }
}

/// A cancel request is never answered, so one with a key of a wrong length is taken for one with a
/// wrong key: no session has an empty one.
fn cancel_key(mut body: &[u8]) -> CancelKey {
    let process = super::message::take(&mut body).map(u32::from_be_bytes);
    match (process, body.len()) {
        (Some(process), 4..=limits::CANCEL_KEY_BYTES_MAX) => CancelKey { process, secret: body.to_vec() },
        _ => CancelKey { process: 0, secret: Vec::new() },
    }
}

impl Startup {
    /// The version as asked for.
    pub fn asked(&self) -> u32 {
        VERSION_3_0 | u32::from(self.minor)
    }

    /// The version in which the conversation goes on: the highest that both speak. There never was a 3.1, and
    /// clients refuse to be led to it, so who asks for it gets 3.0.
    pub fn spoken(&self) -> u32 {
        if self.asked() >= VERSION_3_2 { VERSION_3_2 } else { VERSION_3_0 }
    }

    /// Pairs of zero-terminated texts, then one more zero byte. Of a name that comes twice the last
    /// value counts, as in PostgreSQL.
    fn parse(minor: u16, mut body: &[u8]) -> Result<Self, WireError> {
        let mut startup = Self { minor, ..Self::default() };
        let mut pairs = Vec::new();
        let mut options = String::new();
        loop {
            let name = take_text(&mut body)?;
            if name.is_empty() {
                break;
            }
            let value = take_text(&mut body)?;
            match name {
                "user" => startup.user = value.to_owned(),
                "database" => startup.database = Some(value.to_owned()),
                "options" => options = value.to_owned(),
                "replication" => startup.replication = !is_false(value),
                _ if name.starts_with("_pq_.") => startup.unrecognised.push(name.to_owned()),
                _ => pairs.push((name.to_owned(), value.to_owned())),
            }
            if pairs.len() + startup.unrecognised.len() > limits::SETTINGS_MAX {
                return Err(too_many());
            }
        }
        if !body.is_empty() {
            return Err(WireError::new("StartupMessage", "bytes after its terminator"));
        }
        if startup.user.is_empty() {
            return Err(WireError::new("StartupMessage", "no user"));
        }
        startup.login = LoginName::parse(&startup.user).ok();
        startup.database.take_if(|database| database.is_empty() || *database == startup.user);
        // The server sets what `options` says first, so what the packet says itself wins.
        let mut all = match split_options(&options) {
            Ok(all) => all,
            Err(name) => {
                startup.complaint = Some(name);
                Vec::new()
            }
        };
        all.append(&mut pairs);
        if all.len() > limits::SETTINGS_MAX {
            return Err(too_many());
        }
        for (name, value) in all {
            startup.add(name, value);
        }
        Ok(startup)
    }

    fn add(&mut self, name: String, value: String) {
        let lower = name.to_ascii_lowercase();
        if !is_setting_name(&lower) || RESERVED.contains(&lower.as_str()) {
            self.complaint.get_or_insert(name);
        } else if lower == "application_name" {
            self.settings.application_name = Some(value);
        } else {
            self.settings.parameters.retain(|(known, _)| *known != lower);
            self.settings.parameters.push((lower, value));
        }
    }
}

fn too_many() -> WireError {
    WireError::new("StartupMessage", "too many settings")
}

fn take_text<'a>(body: &mut &'a [u8]) -> Result<&'a str, WireError> {
    let text =
        frame::take_string(body).ok_or(WireError::new("StartupMessage", "a text without its terminator"))?;
    std::str::from_utf8(text).map_err(|_| WireError::new("StartupMessage", "a text that is not UTF-8"))
}

/// `parse_bool` of the server, its false half: anything else asks for replication, or is a mistake
/// that the server would refuse too.
fn is_false(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match value.as_str() {
        "" => false,
        "o" => false,
        "0" => true,
        _ => ["false", "off", "no"].iter().any(|word| word.starts_with(&value)),
    }
}

/// What a setting may be called; one with a dot belongs to an extension.
pub(super) fn is_setting_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'))
}

/// Reads `options` as the server does: words apart by white space, a backslash takes the next
/// character as it is; `-c name=value`, `-cname=value` and `--name=value`. All else a server takes
/// there is for its administrator. The error is what to complain about.
fn split_options(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    let mut words = Words(text);
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(long), _) => long.to_owned(),
            (_, Some("")) => words.next().ok_or("options")?,
            (_, Some(short)) => short.to_owned(),
            _ => return Err("options".into()),
        };
        let (name, value) = match setting.split_once('=') {
            Some(("", _)) => return Err("options".into()),
            Some(pair) => pair,
            None => return Err(if setting.is_empty() { "options".into() } else { setting }),
        };
        if settings.len() == limits::SETTINGS_MAX {
            return Err("options".into());
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// The words of an `options` text (`pg_split_opts`). Each step takes at least one character.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        // What C's isspace() takes for white space.
        let is_space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
        self.0 = self.0.trim_start_matches(is_space);
        if self.0.is_empty() {
            return None;
        }
        let mut word = String::new();
        let mut characters = self.0.chars();
        while let Some(c) = characters.clone().next().filter(|c| !is_space(*c)) {
            characters.next();
            match c {
                '\\' => word.extend(characters.next()),
                c => word.push(c),
            }
        }
        self.0 = characters.as_str();
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::prelude::*;

    use super::*;

    fn packet(code: u32, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u32(8 + body.len() as u32);
        out.put_u32(code);
        out.put_slice(body);
        out
    }

    fn parse(body: &[u8]) -> Result<Startup, WireError> {
        match Packet::take(&mut packet(VERSION_3_0, body)) {
            Ok(Some(Packet::Startup(startup))) => Ok(*startup),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    }

    fn what(body: &[u8]) -> &'static str {
        parse(body).unwrap_err().what
    }

    #[test]
    fn what_psql_sends_is_understood() {
        let startup = parse(
            b"user\0alice+read@orders\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0\0",
        )
        .unwrap();
        assert_eq!(startup.user, "alice+read@orders");
        assert_eq!(startup.login.unwrap().user.as_str(), "alice");
        assert_eq!(startup.database.as_deref(), Some("shop"));
        assert_eq!(startup.settings.application_name.as_deref(), Some("psql"));
        assert_eq!(startup.settings.parameters, [("client_encoding".into(), "UTF8".into())]);
        assert!(!startup.replication && startup.complaint.is_none() && startup.unrecognised.is_empty());
    }

    #[test]
    fn a_database_that_repeats_the_login_name_is_none() {
        for body in [
            &b"user\0alice@orders\0database\0alice@orders\0\0"[..],
            b"database\0alice@orders\0user\0alice@orders\0\0",
            b"user\0alice@orders\0database\0\0\0",
            b"user\0alice@orders\0\0",
        ] {
            assert_eq!(parse(body).unwrap().database, None);
        }
        let other = parse(b"user\0alice@orders\0database\0alice\0\0").unwrap();
        assert_eq!(other.database.as_deref(), Some("alice"));
    }

    #[test]
    fn malformed_packets_are_refused() {
        assert_eq!(what(b""), "a text without its terminator");
        assert_eq!(what(b"user"), "a text without its terminator");
        assert_eq!(what(b"user\0"), "a text without its terminator");
        assert_eq!(what(b"user\0alice"), "a text without its terminator");
        assert_eq!(what(b"user\0alice\0"), "a text without its terminator");
        assert_eq!(what(b"user\0alice\0\0x"), "bytes after its terminator");
        assert_eq!(what(b"user\0alice\0\0user\0root\0\0"), "bytes after its terminator");
        assert_eq!(what(b"user\0al\xffice\0\0"), "a text that is not UTF-8");
        assert_eq!(what(b"\0"), "no user");
        assert_eq!(what(b"database\0x\0\0"), "no user");
        assert_eq!(what(b"user\0\0\0"), "no user");
        let many: Vec<u8> = [&b"user\0a\0"[..], &b"a\0b\0".repeat(limits::SETTINGS_MAX + 1), b"\0"].concat();
        assert_eq!(what(&many), "too many settings");
        for length in [0u32, 4, 7, limits::STARTUP_BYTES_MAX as u32 + 1, 0x7fff_ffff, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            assert!(Packet::take(&mut input).is_err(), "{length}");
        }
        // A browser, and TLS where none is due.
        assert!(Packet::take(&mut BytesMut::from(&b"GET / HTTP/1.1\r\n"[..])).is_err());
        assert!(Packet::take(&mut BytesMut::from(&b"\x16\x03\x01\x00"[..])).is_err());
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_value_counts() {
        let startup = parse(
            b"user\0alice\0user\0bob\0options\0-c a=1 -c b=2\0TimeZone\0UTC\0timezone\0Asia/Tokyo\0A\x003\0\0",
        )
        .unwrap();
        assert_eq!(startup.login.unwrap().user.as_str(), "bob");
        let expected = [("b", "2"), ("timezone", "Asia/Tokyo"), ("a", "3")];
        assert_eq!(startup.settings.parameters, expected.map(|(n, v)| (n.into(), v.into())));
    }

    #[test]
    fn only_the_requests_own_bytes_are_taken() {
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            let mut input = packet(code, b"");
            input.put_slice(b"more");
            assert!(matches!(Packet::take(&mut input), Ok(Some(Packet::Ssl | Packet::GssEnc))));
            assert_eq!(&input[..], b"more");
            assert!(Packet::take(&mut packet(code, b"x")).is_err());
        }
        assert_eq!(Packet::take(&mut packet(0x0002_0000, b"")).unwrap(), Some(Packet::OtherMajor));
        assert_eq!(Packet::take(&mut packet(0x04d2_1631, b"")).unwrap(), Some(Packet::OtherMajor));
    }

    #[test]
    fn cancel_keys_have_4_to_256_bytes() {
        for length in [4usize, 32, 256] {
            let body = [&7u32.to_be_bytes()[..], &vec![9; length]].concat();
            let expected = CancelKey { process: 7, secret: vec![9; length] };
            assert_eq!(
                Packet::take(&mut packet(CANCEL_REQUEST, &body)).unwrap(),
                Some(Packet::Cancel(expected))
            );
        }
        // No session has this key, so it is turned away as a wrong one is: without an answer.
        let nobodys = CancelKey { process: 0, secret: Vec::new() };
        for length in [0usize, 3, 4, 7, 261, 5_000] {
            assert_eq!(
                Packet::take(&mut packet(CANCEL_REQUEST, &vec![9; length])).unwrap(),
                Some(Packet::Cancel(nobodys.clone())),
                "{length}"
            );
        }
    }

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let pairs = |text: &str| split_options(text);
        let expected = |list: &[(&str, &str)]| {
            Ok(list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(pairs(""), expected(&[]));
        assert_eq!(pairs(" \t\n "), expected(&[]));
        assert_eq!(pairs("-c a=1  -cb=2 --c-d=3"), expected(&[("a", "1"), ("b", "2"), ("c_d", "3")]));
        assert_eq!(pairs(r"-c search_path=a,\ b\\c"), expected(&[("search_path", r"a, b\c")]));
        assert_eq!(pairs("-c a="), expected(&[("a", "")]));
        assert_eq!(pairs("-c a=b=c"), expected(&[("a", "b=c")]));
        assert_eq!(pairs("-c a=\\"), expected(&[("a", "")]));
        assert_eq!(pairs("-c a=ä\\ö"), expected(&[("a", "äö")]));
        for bad in ["-c", "-c=", "-c =", "-c =x", "--", "--=1", "-", "x", "-d 5", "-c a=1 stray", "\\"] {
            assert_eq!(pairs(bad), Err("options".into()), "{bad}");
        }
        assert_eq!(pairs("-c geqo"), Err("geqo".into()));
        assert_eq!(pairs("--geqo"), Err("geqo".into()));
    }

    #[test]
    fn what_may_not_be_set_is_complained_about_later() {
        let complaint = |options: &str| {
            parse(format!("user\0alice\0options\0{options}\0\0").as_bytes()).unwrap().complaint
        };
        assert_eq!(complaint("-c ROLE=postgres").as_deref(), Some("ROLE"));
        assert_eq!(
            complaint("-c session-authorization=postgres").as_deref(),
            Some("session-authorization").map(|_| "session_authorization")
        );
        assert_eq!(
            complaint("-c client_connection_check_interval=0").as_deref(),
            Some("client_connection_check_interval")
        );
        assert_eq!(complaint("-c =").as_deref(), Some("options"));
        assert_eq!(complaint("-c 1a=2").as_deref(), Some("1a"));
        assert_eq!(complaint("-c my.own=2"), None);
        let startup = parse(b"user\0alice\0search path\0x\0\0").unwrap();
        assert_eq!(startup.complaint.as_deref(), Some("search path"));
    }

    #[test]
    fn replication_is_anything_that_is_not_false() {
        for (value, replication) in [
            ("false", false),
            ("OFF", false),
            ("0", false),
            ("n", false),
            ("of", false),
            ("true", true),
            ("database", true),
            ("1", true),
            ("", true),
            ("o", true),
            ("nope", true),
        ] {
            let body = format!("user\0alice\0replication\0{value}\0\0");
            assert_eq!(parse(body.as_bytes()).unwrap().replication, replication, "{value:?}");
        }
    }

    #[test]
    fn protocol_options_are_listed_and_are_no_settings() {
        let mut input = packet(0x0003_270f, b"user\0alice\0_pq_.test_protocol_negotiation\0\0\0");
        let Ok(Some(Packet::Startup(startup))) = Packet::take(&mut input) else { panic!() };
        assert_eq!(startup.minor, 9999);
        assert_eq!(startup.unrecognised, ["_pq_.test_protocol_negotiation"]);
        assert!(startup.settings.parameters.is_empty());
    }

    proptest! {
        #[test]
        fn no_options_hang_or_panic(text in "[-c=\\\\ a\t]{0,60}") {
            for (name, _) in split_options(&text).unwrap_or_default() {
                prop_assert!(!name.is_empty());
            }
        }

        #[test]
        fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), code in 0u8..6) {
            let code = [VERSION_3_0, VERSION_3_0 + 2, CANCEL_REQUEST, SSL_REQUEST, GSSENC_REQUEST, 7][code as usize];
            let _ = Packet::take(&mut packet(code, &bytes));
            let _ = Packet::take(&mut BytesMut::from(&bytes[..]));
        }
    }
}
