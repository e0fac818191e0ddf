//! Servers that cannot be had to run: what is published of the bytes that they send. Each file says where it is from.

use bytes::BytesMut;

use super::super::capability::Capabilities;
use super::super::dial::{Goal, MySqlDial};
use super::super::greeting::{Greeting, Opening};
use super::super::packet;
use super::golden::transcripts;
use crate::credential::Secret;
use crate::protocol::kit::{self, mysql::packets, postgres::lenient};
use crate::protocol::session::DialTls;

/// What a server sends first, as one packet.
fn greeting(release: &str) -> Vec<u8> {
    let name = format!("greeting-mysql-{release}");
    let (_, transcript) = transcripts(&name).remove(0);
    transcript.server.concat()
}

/// What we say to a server that says these.
fn said(password: &str, flavour: &str, turns: &[&[u8]]) -> kit::Outcome {
    let secret = Secret::new("root".into(), zeroize::Zeroizing::new(password.into()), 1);
    let goal = Goal { database: "shop".into(), flavour: flavour.into() };
    let mut machine = MySqlDial::towards(goal, lenient(DialTls::Without), &secret);
    kit::dial(&mut machine, &mut kit::script(turns), &mut kit::whole).0
}

#[test]
fn greetings_are_read_and_answered() {
    const OPTIONAL: Capabilities = Capabilities::OPTIONAL_RESULTSET_METADATA;
    const ATTRIBUTES: Capabilities = Capabilities::QUERY_ATTRIBUTES;
    let known = Capabilities::ALWAYS | Capabilities::DEPRECATE_EOF | Capabilities::SESSION_TRACK;
    for (release, version, thread, plugin, has, lacks) in [
        ("5.7", "5.7.27-0ubuntu0.19.04.1", 2, "mysql_native_password", known, OPTIONAL | ATTRIBUTES),
        ("8.0", "8.0.20", 1009, "caching_sha2_password", known | OPTIONAL | Capabilities::ZSTD, ATTRIBUTES),
        (
            "8.4",
            "8.4.0",
            81,
            "caching_sha2_password",
            known | OPTIONAL | ATTRIBUTES | Capabilities::ZSTD,
            Capabilities::NONE,
        ),
    ] {
        let bytes = greeting(release);
        let read = Greeting::parse(&bytes[packet::HEADER_BYTES..]).unwrap();
        assert_eq!((&*read.version, read.thread, &*read.plugin), (version, thread, plugin));
        assert!(read.capabilities.has(has), "{release}: {:?}", read.capabilities);
        assert!((read.capabilities & lacks).is_empty(), "{release}: {:?}", read.capabilities);
        assert!((read.capabilities & Capabilities::MARIADB).is_empty());
        // Written again it is the same, to the byte.
        let mut again = BytesMut::new();
        read.put(&mut again);
        assert_eq!(again.escape_ascii().to_string(), bytes[4..].escape_ascii().to_string());
        // We answer with what it has, by the method that it names.
        let outcome = said("secret", &(has & Capabilities::CONVERSATION).flavour(), &[&bytes]);
        let said = packets(&outcome.said);
        let Ok(Opening::Response(response)) = Opening::parse(said[0].1, read.capabilities) else {
            panic!("{release}: {outcome:?}")
        };
        assert_eq!((said.len(), said[0].0), (1, 1));
        assert_eq!((&*response.user, &*response.plugin), (&b"root"[..], plugin.as_bytes()));
        assert!(response.request.capabilities.has(has & Capabilities::CONVERSATION));
        // What was promised to a client, and this server has not, is refused.
        if !lacks.is_empty() {
            let outcome = self::said("secret", &ATTRIBUTES.flavour(), &[&bytes]);
            assert!(outcome.end.contains("lacks a capability"), "{release}: {}", outcome.end);
        }
    }
}

#[test]
fn a_switch_of_methods_is_answered_with_the_published_bytes() {
    for (name, release, end) in [
        ("switch-mysql-native", "8.0", "ready"),
        ("switch-mysql-native", "8.4", "ready"),
        ("switch-mysql-caching", "5.7", "ready"),
        // The password goes nowhere in clear: the server's key is asked for, which ends what is published.
        ("switch-mysql-caching-full", "5.7", "gone"),
    ] {
        let (_, transcript) = transcripts(name).into_iter().find(|(found, _)| found == name).unwrap();
        let mut turns: Vec<&[u8]> = transcript.server.iter().map(Vec::as_slice).collect();
        let greeting = greeting(release);
        turns.insert(0, &greeting);
        let outcome = said("secret", "", &turns);
        assert!(outcome.end.starts_with(end), "{name}: {}", outcome.end);
        let answers = packets(&outcome.said);
        let published = transcript.client.concat();
        let published = packets(&published);
        assert_eq!(answers[1..], published, "{name} {release}");
    }
}
