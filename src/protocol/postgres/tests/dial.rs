//! Servers that do not behave.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::super::{Goal, PostgresDial};
use super::{message, packet};
use crate::credential::Secret;
use crate::credential::scram::Exchange;
use crate::model::{AuthMethod, ChannelBinding, Name, Upstream, limits};
use crate::protocol::kit::{self, Outcome};
use crate::protocol::session::{DialTls, DialTlsFacts, DialWay, Facts, Findings, Interruption};

static SECRET: LazyLock<Secret> =
    LazyLock::new(|| Secret::new("connector".into(), Zeroizing::new("right".into()), 1));

fn login() -> Goal {
    Goal::Login { database: "shop".into(), plain: false }
}

fn dial(goal: Goal, tls: DialTls, turns: &[Vec<u8>]) -> Outcome {
    let turns: Vec<&[u8]> = turns.iter().map(Vec::as_slice).collect();
    let mut machine = PostgresDial::towards(goal, kit::postgres::lenient(tls), &SECRET);
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
    assert!(plus.contains("SCRAM-SHA-256-PLUS only, which needs TLS"), "{plus}");
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
        ("28000", "NotAdmitted"),
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
    facts.apply(&Findings { parameters, ..Findings::default() });
    let pair = |name: &str, value: &str| (name.into(), value.into());
    assert_eq!(*facts.parameters, [pair("TimeZone", "Asia/Tokyo"), pair("new", "1")]);
    assert_eq!(*facts.dialled, [pair("TimeZone", "UTC")]);
    facts.apply(&Findings { restored: true, ..Findings::default() });
    assert_eq!(facts.parameters, facts.dialled);
}

/// A login under these rules, with what TLS shows of the server.
fn ruled(rules: &Upstream, tls: Option<&DialTlsFacts>, turns: &[Vec<u8>]) -> Outcome {
    let mut way = DialWay::from(if tls.is_some() { DialTls::Demand } else { DialTls::Without });
    way.rules = rules.clone();
    let yes = tls.is_some().then(|| b"S".to_vec());
    let turns: Vec<&[u8]> = yes.iter().chain(turns).map(Vec::as_slice).collect();
    let mut machine = PostgresDial::towards(login(), way, &SECRET);
    machine.fix_nonce("client");
    let facts = tls.cloned().unwrap_or_default();
    kit::dial_inside(&mut machine, &mut kit::script(&turns), &mut kit::whole, &facts).0
}

fn tls(verified: bool) -> DialTlsFacts {
    DialTlsFacts { verified, end_point: Some(vec![0xab; 32]) }
}

/// Whoever stands in for the server chooses what it asks for: a stranger gets no hash and no password, and
/// is not believed when it asks for nothing.
#[test]
fn a_stranger_is_shown_nothing_that_a_password_is_guessed_from() {
    let (stranger, known) = (tls(false), tls(true));
    let clear = authentication(3, b"");
    let md5 = authentication(5, b"salt");
    for ask in [&clear, &md5, &welcome()] {
        for tls in [None, Some(&stranger)] {
            let outcome = ruled(&Upstream::default(), tls, &[ask.clone(), welcome()]);
            assert!(
                outcome.end.starts_with("error: authentication request: the server asks for"),
                "{}",
                outcome.end
            );
            assert!(!outcome.said.contains(&b'p') || !outcome.said.ends_with(b"right\0"));
        }
        assert_eq!(
            ruled(&Upstream::default(), Some(&known), &[ask.clone(), welcome()]).end.as_str(),
            "ready"
        );
    }
    // The operator may accept it; the password in clear outside TLS is beyond that.
    let all = Upstream {
        require_auth: Some(AuthMethod::ALL.map(|(_, method)| method).into()),
        ..Upstream::default()
    };
    assert_eq!(ruled(&all, None, &[md5.clone(), welcome()]).end, "ready");
    assert_eq!(ruled(&all, Some(&stranger), &[clear.clone(), welcome()]).end, "ready");
    assert!(ruled(&all, None, &[clear.clone(), welcome()]).end.contains("only sent inside TLS"));
    // Over a unix socket the server is known.
    let way = DialWay { local: true, ..DialWay::from(DialTls::Without) };
    for ask in [&clear, &md5] {
        let turns = [ask.as_slice(), &welcome()];
        let mut machine = PostgresDial::towards(login(), way.clone(), &SECRET);
        assert_eq!(kit::dial(&mut machine, &mut kit::script(&turns), &mut kit::whole).0.end, "ready");
    }
    let scram = Upstream { require_auth: Some([AuthMethod::ScramSha256].into()), ..Upstream::default() };
    for ask in [clear, md5, welcome()] {
        assert!(ruled(&scram, Some(&known), &[ask]).end.starts_with("error: authentication request"));
    }
    let none = Upstream { require_auth: Some([AuthMethod::None].into()), ..Upstream::default() };
    let refused = ruled(&none, Some(&known), &[authentication(10, b"SCRAM-SHA-256\0\0")]).end;
    assert!(refused.contains("which require_auth leaves out"), "{refused}");
}

#[test]
fn a_secret_without_a_password_proves_none() {
    let secret = Secret::new("connector".into(), Zeroizing::default(), 1);
    let end = |turn: Vec<u8>| {
        let mut machine = PostgresDial::towards(login(), kit::postgres::lenient(DialTls::Demand), &secret);
        let turns = [b"S".as_slice(), &turn, &welcome()];
        kit::dial(&mut machine, &mut kit::script(&turns), &mut kit::whole).0.end
    };
    for ask in [authentication(3, b""), authentication(5, b"salt"), authentication(10, b"SCRAM-SHA-256\0\0")]
    {
        assert!(end(ask).ends_with("the server asks for a password, and the secret has none"));
    }
    assert_eq!(end(welcome()), "ready");
    let mut machine = PostgresDial::towards(login(), DialTls::Without, &secret);
    let outcome = kit::dial(&mut machine, &mut kit::script(&[&welcome()]), &mut kit::whole).0;
    assert_eq!(outcome.end, "ready", "there is nothing to prove");
}

#[test]
fn a_proof_is_bound_to_the_connection_wherever_both_can() {
    let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let plain = b"SCRAM-SHA-256\0\0";
    let said = |binding, tls: Option<&DialTlsFacts>, offer: &[u8]| {
        let rules = Upstream { channel_binding: binding, ..Upstream::default() };
        let outcome = ruled(&rules, tls, &[authentication(10, offer)]);
        let answer = outcome.said.windows(14).position(|window| window.starts_with(b"SCRAM-SHA-256"));
        match answer {
            None => outcome.end,
            Some(at) => outcome.said[at..].escape_ascii().to_string(),
        }
    };
    let inside = tls(false);
    let unknown = DialTlsFacts { end_point: None, ..tls(true) };
    let (disable, prefer, require) =
        (ChannelBinding::Disable, ChannelBinding::Prefer, ChannelBinding::Require);
    let bound = r"SCRAM-SHA-256-PLUS\x00\x00\x00\x00#p=tls-server-end-point,,n=,r=client";
    assert_eq!(said(prefer, Some(&inside), both), bound);
    assert_eq!(said(require, Some(&inside), both), bound);
    // Said to be possible: a server that had offered it notices that its offer was taken out.
    assert_eq!(said(prefer, Some(&inside), plain), r"SCRAM-SHA-256\x00\x00\x00\x00\x0ey,,n=,r=client");
    let without = r"SCRAM-SHA-256\x00\x00\x00\x00\x0en,,n=,r=client";
    assert_eq!(said(disable, Some(&inside), both), without);
    assert_eq!(said(prefer, Some(&unknown), both), without);
    assert_eq!(said(prefer, None, plain), without);
    for (tls, offer) in [(Some(&inside), &plain[..]), (Some(&unknown), both), (None, both)] {
        assert!(said(require, tls, offer).contains("channel_binding = \"require\""));
    }
    // Nor does another proof, or none, pass for it.
    let rules = Upstream { channel_binding: require, ..Upstream::default() };
    for ask in [authentication(3, b""), authentication(5, b"salt"), welcome()] {
        let end = ruled(&rules, Some(&tls(true)), &[ask]).end;
        assert!(end.contains("channel_binding = \"require\""), "{end}");
    }
}

#[test]
fn direct_tls_begins_without_a_word() {
    let outcome = dial(login(), DialTls::Direct, &[welcome()]);
    assert_eq!(outcome.end, "ready");
    assert_eq!(outcome.said[4..8], [0, 3, 0, 2], "the first bytes are the start-up message");
}

#[test]
fn an_older_version_is_accepted_once_and_options_never() {
    let negotiated = |version: u32, options: u32, more: &[u8]| {
        message(b'v', &[&version.to_be_bytes()[..], &options.to_be_bytes(), more].concat())
    };
    let whole = negotiated(0x0003_0000, 0, b"");
    let end = |turns: &[Vec<u8>]| end(DialTls::Without, &[turns.concat()]);
    assert_eq!(end(&[whole.clone(), welcome()]), "ready");
    assert_eq!(end(&[negotiated(0, 0, b""), welcome()]), "ready", "as the documents have it");
    assert_eq!(end(&[whole.clone(), whole]), "error: NegotiateProtocolVersion: a second one");
    for (version, options, more) in [
        (0x0003_0003, 0, &b""[..]),
        (0x0004_0000, 0, b""),
        (0x0003_0000, 1, b"_pq_.x\0"),
        (0x0003_0000, 0, b"x"),
    ] {
        let end = end(&[negotiated(version, options, more), welcome()]);
        assert!(end.starts_with("error: NegotiateProtocolVersion"), "{end}");
    }
    assert_eq!(end(&[message(b'v', b"\0\x03")]), "error: NegotiateProtocolVersion: too short");
    // A key as long as 3.2 allows.
    let key = message(b'K', &[0; 4 + 256]);
    assert_eq!(end(&[authentication(0, b""), key, message(b'Z', b"I")]), "ready");
}
