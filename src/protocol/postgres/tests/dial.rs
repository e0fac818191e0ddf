//! Servers that do not behave.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::super::{Goal, PostgresDial};
use super::{message, packet};
use crate::credential::Secret;
use crate::credential::scram::Exchange;
use crate::model::{Name, limits};
use crate::protocol::kit::{self, Outcome};
use crate::protocol::session::{DialTls, Facts, Findings, Interruption};

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("connector".into(), Zeroizing::new("right".into()), 1));

fn login() -> Goal {
    Goal::Login { database: "shop".into(), plain: false }
}

fn dial(goal: Goal, tls: DialTls, turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let mut machine = PostgresDial::towards(goal, tls, &SECRET);
    kit::dial(&mut machine, &mut kit::script(&turns), &mut kit::whole).0
}

fn end(tls: DialTls, turns: &[Vec<u8>]) -> String {
    dial(login(), tls, turns).end
}

fn authentication(kind: u32, body: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes()[..], body].concat())
}

/// What a server says once it is content.
fn welcome() -> Vec<u8> {
    [
        authentication(0, b""),
        message(b'S', b"server_version\x0018.1\0"),
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'K', b"\0\0\0\x07\x01\x02\x03\x04"),
        message(b'Z', b"I"),
    ]
    .concat()
}

#[test]
fn the_answer_to_ssl_request_decides() {
    let yes = b"S".to_vec();
    let no = b"N".to_vec();
    assert_eq!(end(DialTls::Demand, &[yes.clone(), welcome()]), "ready");
    assert_eq!(end(DialTls::Try, &[yes, welcome()]), "ready");
    assert_eq!(end(DialTls::Try, &[no.clone(), welcome()]), "ready");
    assert_eq!(end(DialTls::Without, &[welcome()]), "ready");
    assert_eq!(
        end(DialTls::Demand, &[no.clone(), welcome()]),
        "error: answer to SSLRequest: the server has no TLS, and the target demands it"
    );
    let outcome = dial(login(), DialTls::Demand, &[no]);
    assert_eq!(outcome.said, packet(0x04d2_162f, b""), "nothing but the request in clear");
    for other in [b"H", b"R", b"\0"] {
        assert!(end(DialTls::Try, &[other.to_vec()]).ends_with("this is no PostgreSQL server"));
    }
}

/// CVE-2021-23222: what came before TLS is not believed.
#[test]
fn cve_2021_23222_bytes_behind_the_answer_to_ssl_request_are_an_error() {
    for answer in [b'S', b'N'] {
        let early = [&[answer][..], &welcome()].concat();
        for tls in [DialTls::Try, DialTls::Demand] {
            assert_eq!(
                end(tls, std::slice::from_ref(&early)),
                "error: answer to SSLRequest: bytes behind it that are not inside TLS"
            );
        }
    }
}

#[test]
fn an_error_in_place_of_the_answer_to_ssl_request_is_a_refusal() {
    let full = message(b'E', b"SFATAL\0C53300\0Mtoo many clients\0\0");
    assert_eq!(end(DialTls::Demand, &[full]), "refused Full 53300: too many clients");
    assert_eq!(
        end(DialTls::Demand, &[b"E\x7f\xff\xff\xff".to_vec()]),
        "error: message header: a length that cannot be"
    );
}

#[test]
fn the_password_in_clear_goes_inside_tls_only() {
    let ask = [authentication(3, b"")].concat();
    let outcome = dial(login(), DialTls::Try, &[b"N".to_vec(), ask.clone(), welcome()]);
    assert!(outcome.end.contains("in clear, which is only sent inside TLS"), "{}", outcome.end);
    assert!(!outcome.said.windows(5).any(|window| window == b"right"));
    let outcome = dial(login(), DialTls::Demand, &[b"S".to_vec(), ask, welcome()]);
    assert_eq!(outcome.end, "ready");
    assert!(outcome.said.ends_with(&message(b'p', b"right\0")));
}

#[test]
fn what_we_cannot_prove_is_named() {
    for (kind, name) in [(2, "Kerberos V5"), (6, "SCM"), (7, "GSSAPI"), (9, "SSPI"), (99, "a proof")] {
        let end = end(DialTls::Without, &[authentication(kind, b"")]);
        assert!(end.starts_with("error: authentication request") && end.contains(name), "{end}");
    }
    let plus = end(DialTls::Without, &[authentication(10, b"SCRAM-SHA-256-PLUS\0\0")]);
    assert!(plus.contains("channel binding is not supported yet"), "{plus}");
    let other = end(DialTls::Without, &[authentication(10, b"OAUTHBEARER\0\0")]);
    assert!(other.contains("SCRAM-SHA-256 is"), "{other}");
    for list in [&b""[..], b"SCRAM-SHA-256", b"\0SCRAM-SHA-256\0"] {
        assert!(end_of_sasl(list).starts_with("error: AuthenticationSASL"), "{list:?}");
    }
    assert_eq!(end_of_sasl(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"), "gone");
}

fn end_of_sasl(list: &[u8]) -> String {
    end(DialTls::Without, &[authentication(10, list)])
}

#[test]
fn success_in_the_middle_of_scram_is_a_fault() {
    let offer = authentication(10, b"SCRAM-SHA-256\0\0");
    let early = end(DialTls::Without, &[offer.clone(), welcome()]);
    assert_eq!(early, "error: authentication request: success before the server has proven itself");
    // Nor does asking for another proof, or for the same once more, help.
    for kind in [3, 5, 10, 12] {
        let again = end(DialTls::Demand, &[b"S".to_vec(), offer.clone(), authentication(kind, b"salt")]);
        assert_eq!(again, "error: authentication request: one that is not due", "{kind}");
    }
    let parameters = end(DialTls::Without, &[offer, message(b'Z', b"I")]);
    assert!(parameters.starts_with("error: login"), "{parameters}");
}

#[test]
fn a_server_is_believed_after_its_signature_only() {
    let candidate = kit::postgres::candidate("right", [3; 16], 4_096);
    let attempt = |spoil: fn(&mut Vec<u8>)| {
        let mut server =
            Exchange::new(Name::parse("connector").ok(), vec![candidate.clone()], [3; 16], 4_096);
        let mut step = 0;
        let mut peer = |said: &[u8]| {
            step += 1;
            Some(match step {
                1 => authentication(10, b"SCRAM-SHA-256\0\0"),
                2 => authentication(11, &server.client_first(&said[23..], "server").unwrap()),
                3 => {
                    let mut signature = server.client_final(&said[5..]).unwrap().1;
                    spoil(&mut signature);
                    authentication(12, &signature)
                }
                _ => welcome(),
            })
        };
        let mut machine = PostgresDial::towards(login(), DialTls::Without, &SECRET);
        kit::dial(&mut machine, &mut peer, &mut kit::whole).0.end
    };
    assert_eq!(attempt(|_| ()), "ready");
    assert_eq!(
        // Another letter of base 64: still well formed.
        attempt(|signature| signature[2] = if signature[2] == b'A' { b'B' } else { b'A' }),
        "error: SCRAM: the server did not prove that it knows the password"
    );
    assert!(attempt(Vec::clear).starts_with("error: SCRAM"));
    assert_eq!(attempt(|signature| *signature = b"e=unknown-user".to_vec()), "error: SCRAM: unknown-user");
}

/// A hostile server wastes its own allowance only; `cve` has more of them.
#[test]
fn a_server_cannot_send_without_end() {
    let notice = message(b'N', b"\0");
    let endless = end(DialTls::Without, &[notice.repeat(limits::LOGIN_MESSAGES_MAX + 1)]);
    assert_eq!(endless, "error: message header: more messages than we asked for");
    let huge = end(DialTls::Without, &[b"R\0\x20\0\0".to_vec()]);
    assert_eq!(huge, "error: message header: longer than any message we asked for");
    let big = message(b'N', &vec![0; limits::SCRIPT_MESSAGE_BYTES_MAX - 100]);
    let much = end(DialTls::Without, &[big.repeat(5)]);
    assert_eq!(much, "error: message header: more messages than we asked for");
    let rounds = b"r=clientserver,s=AAAA,i=2000000000";
    let mut machine = PostgresDial::towards(login(), DialTls::Without, &SECRET);
    machine.fix_nonce("client");
    let turns = [authentication(10, b"SCRAM-SHA-256\0\0"), authentication(11, rounds)];
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let outcome = kit::dial(&mut machine, &mut kit::script(&turns), &mut kit::whole).0;
    assert_eq!(outcome.end, "error: SCRAM: the server asks for more rounds than we compute, or for too few");
}

#[test]
fn a_malformed_greeting_is_an_error() {
    for (broken, place) in [
        (message(b'K', b"\0\0\0\x07\x01\x02\x03"), "BackendKeyData"),
        (message(b'K', &[0; 4 + 257]), "BackendKeyData"),
        (message(b'S', b"TimeZone\0UTC"), "ParameterStatus"),
        (message(b'Z', b""), "ReadyForQuery"),
        (message(b'Z', b"T"), "ReadyForQuery"),
        (message(b'Z', b"I"), "login: no BackendKeyData"),
        (message(b'T', b"\0\0"), "login"),
        (message(b'R', &[0; 4]), "login"),
    ] {
        let end = end(DialTls::Without, &[authentication(0, b""), broken]);
        assert!(end.starts_with(&format!("error: {place}")), "{place}: {end}");
    }
    assert!(end(DialTls::Without, &[message(b'R', b"\0\0")]).starts_with("error: authentication request"));
    assert!(end(DialTls::Without, &[authentication(5, b"abc")]).starts_with("error: authentication request"));
}

#[test]
fn an_old_server_is_told_apart_so_that_it_is_tried_again_without_options() {
    let unknown = |body: &[u8]| message(b'E', body);
    for error in [
        &b"SFATAL\0VFATAL\0C42704\0Munrecognized configuration parameter \"client_connection_check_interval\"\0\0"[..],
        b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0",
        b"SFATAL\0C08P01\0Munsupported startup parameter in options: client_connection_check_interval\0\0",
    ] {
        let error = [authentication(0, b""), unknown(error)].concat();
        let first = end(DialTls::Without, std::slice::from_ref(&error));
        assert!(first.starts_with("refused UnknownOption"), "{first}");
        // Once it was left out it is no excuse.
        let plain = Goal::Login { database: "shop".into(), plain: true };
        let second = dial(plain, DialTls::Without, &[error]);
        assert!(second.end.starts_with("refused Other"), "{}", second.end);
        assert!(!second.said.windows(7).any(|window| window == b"options"));
    }
}

#[test]
fn refusals_keep_what_the_pool_needs() {
    for (code, kind) in [
        ("28P01", "BadSecret"),
        ("28000", "BadSecret"),
        ("3D000", "NoDatabase"),
        ("42501", "NoDatabase"),
        ("53300", "Full"),
        ("57P03", "Unready"),
        ("XX000", "Other"),
    ] {
        let error = message(b'E', format!("SFATAL\0C{code}\0Mwhy\0\0").as_bytes());
        assert_eq!(end(DialTls::Without, &[error]), format!("refused {kind} {code}: why"));
    }
    // CVE-2026-6666: an error without a SQLSTATE, or with nothing at all.
    assert_eq!(end(DialTls::Without, &[message(b'E', b"Mwhy\0\0")]), "refused Other XX000: why");
    assert_eq!(end(DialTls::Without, &[message(b'E', b"")]), "refused Other XX000: ");
}

#[test]
fn an_interruption_is_one_packet() {
    let key = [0, 0, 0, 7, 1, 2, 3, 4];
    let goal = || Goal::Interrupt(Interruption(key.to_vec()));
    let plain = dial(goal(), DialTls::Without, &[]);
    assert_eq!((plain.said, plain.end.as_str()), (packet(0x04d2_162e, &key), "sent"));
    let inside = dial(goal(), DialTls::Demand, &[b"S".to_vec()]);
    assert_eq!(inside.said, [packet(0x04d2_162f, b""), packet(0x04d2_162e, &key)].concat());
    assert!(dial(goal(), DialTls::Demand, &[b"N".to_vec()]).end.starts_with("error"));
}

#[test]
fn facts_follow_what_scripts_learn() {
    let mut facts = kit::postgres::facts();
    assert_eq!(facts.interruption(), Interruption(vec![0, 0, 0, 1, 1, 1, 1, 1]));
    assert!(!format!("{facts:?}").contains("1, 1"));
    let parameters = vec![("TimeZone".into(), "Asia/Tokyo".into()), ("new".into(), "1".into())];
    facts.apply(&Findings { parameters: parameters.clone(), ..Findings::default() });
    assert_eq!(facts.parameters.to_vec(), parameters);
    assert_eq!(facts.dialled.to_vec(), [("TimeZone".to_owned(), "UTC".to_owned())]);
}
