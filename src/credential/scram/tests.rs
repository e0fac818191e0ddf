//! Both sides of SCRAM against the RFC's example, another implementation, and each other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::sasl::{ChannelBinding as Theirs, ScramSha256};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::message::is_nonce;
use super::*;
use crate::credential::{Identity, Secret};
use crate::model::limits::{CREDENTIALS_PER_USER_MAX, SASL_BYTES_MAX, SCRAM_ROUNDS};
use crate::model::{CredentialId, Name, Time};

const SALT: [u8; 16] = [0x5b; 16];

fn until() -> Time {
    "2026-11-22T18:00:00Z".parse().unwrap()
}

fn alice() -> Option<Name> {
    Some(Name::parse("alice").unwrap())
}

fn candidate(id: u64, password: &str, salt: &[u8]) -> Candidate {
    let keys = ProofKeys::derive(&salt_password(password.as_bytes(), salt, SCRAM_ROUNDS));
    Candidate {
        credential: CredentialId::from_u64(id),
        until: until(),
        stored_key: keys.stored_key,
        server_key: *keys.server_key,
    }
}

fn secret(password: &str) -> Secret {
    Secret::new("connector".into(), Zeroizing::new(password.into()), 1)
}

/// A whole exchange between our two sides.
fn meet(client: &mut Client, server: &mut Exchange) -> Result<Identity, ScramError> {
    let challenge = server.client_first(&client.client_first(), "ours")?;
    let proof = client.server_first(&challenge)?;
    let (identity, signature) = server.client_final(&proof)?;
    client.server_final(&signature)?;
    Ok(identity)
}

const RFC_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const RFC_CHALLENGE: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const RFC_SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn rfc_exchange(user: Option<Name>) -> Exchange {
    let salt: [u8; 16] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
    Exchange::new(user, vec![candidate(7, "pencil", &salt)], salt, 4096)
}

/// An exchange with the RFC's challenge given out, ready for the final message.
fn rfc_challenged() -> Exchange {
    let mut exchange = rfc_exchange(alice());
    let challenge = exchange.client_first(RFC_FIRST.as_bytes(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    assert_eq!(String::from_utf8(challenge).unwrap(), RFC_CHALLENGE);
    exchange
}

/// RFC 7677 section 3.
#[test]
fn the_server_plays_the_example_of_the_rfc() {
    let (identity, signature) = rfc_challenged().client_final(RFC_FINAL.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(signature).unwrap(), RFC_SIGNATURE);
    assert_eq!(identity.user().as_str(), "alice");
    assert_eq!(identity.credential(), Some(CredentialId::from_u64(7)));
    assert_eq!(identity.until(), until());
}

#[test]
fn the_client_plays_the_example_of_the_rfc() {
    let mut client = Client::named(&secret("pencil"), "user", "rOprNGfwEbeRWgbNEkqO", Binding::None);
    assert_eq!(client.client_first(), RFC_FIRST.as_bytes());
    let proof = client.server_first(RFC_CHALLENGE.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(proof).unwrap(), RFC_FINAL);
    assert_eq!(client.server_final(RFC_SIGNATURE.as_bytes()), Ok(()));
}

/// A client that is not ours, with both ways of saying that it does not bind the channel.
#[test]
fn the_client_of_another_implementation_logs_in_and_believes_us() {
    for binding in [Theirs::unrequested(), Theirs::unsupported()] {
        let mut client = ScramSha256::new(b"second", binding);
        let candidates = ["first", "second", "third"].iter().zip(1..);
        let candidates = candidates.map(|(password, id)| candidate(id, password, &SALT)).collect();
        let mut server = Exchange::new(alice(), candidates, SALT, SCRAM_ROUNDS);
        let challenge = server.client_first(client.message(), &nonce().unwrap()).unwrap();
        client.update(&challenge).unwrap();
        let (identity, signature) = server.client_final(client.message()).unwrap();
        client.finish(&signature).unwrap();
        assert_eq!(identity.credential(), Some(CredentialId::from_u64(2)));
    }
}

/// SCRAM-SHA-256-PLUS: a proof is good for the one TLS connection that it was made on.
#[test]
fn a_bound_proof_is_good_for_its_own_channel() {
    let meet = |theirs: Theirs, ours: ChannelBinding| {
        let mut client = ScramSha256::new(b"second", theirs);
        let mut server = Exchange::new(alice(), vec![candidate(2, "second", &SALT)], SALT, SCRAM_ROUNDS);
        server.channel(ours);
        let challenge = server.client_first(client.message(), "ours")?;
        client.update(&challenge).unwrap();
        let (identity, signature) = server.client_final(client.message())?;
        client.finish(&signature).unwrap();
        Ok(identity.user().to_string())
    };
    let bound = || Theirs::tls_server_end_point(vec![7; 32]);
    let channel = |byte| ChannelBinding::EndPoint([byte; 32].into());
    assert_eq!(meet(bound(), channel(7)), Ok("alice".to_owned()));
    assert_eq!(meet(bound(), channel(8)), Err(ScramError::OtherChannel));
    // Offered: who could have used it and did not see the offer is told so; who cannot goes on without.
    assert_eq!(meet(Theirs::unrequested(), ChannelBinding::Declined), Err(ScramError::Downgrade));
    assert_eq!(meet(Theirs::unsupported(), ChannelBinding::Declined), Ok("alice".to_owned()));
    assert_eq!(meet(Theirs::unrequested(), ChannelBinding::NotOffered), Ok("alice".to_owned()));
    for (theirs, ours) in [
        (bound(), ChannelBinding::NotOffered),
        (bound(), ChannelBinding::Declined),
        (Theirs::unrequested(), channel(7)),
        (Theirs::unsupported(), channel(7)),
    ] {
        assert!(matches!(meet(theirs, ours), Err(ScramError::Malformed(_))));
    }
    let mut server = rfc_exchange(alice());
    server.channel(channel(7));
    for other in ["p=tls-unique,,n=,r=x", "p=,,n=,r=x", "p=tls-server-end-point,a=bob,n=,r=x"] {
        let mut server = rfc_exchange(alice());
        server.channel(channel(7));
        assert!(
            matches!(server.client_first(other.as_bytes(), "ours"), Err(ScramError::Malformed(_))),
            "{other}"
        );
    }
    // The header alone, without the channel's data.
    server.client_first(b"p=tls-server-end-point,,n=,r=x", "ours").unwrap();
    let bare = format!("c={},r=xours,p=", STANDARD.encode("p=tls-server-end-point,,"));
    assert_eq!(server.client_final(bare.as_bytes()), Err(ScramError::OtherChannel));
}

#[test]
fn each_live_credential_logs_in_as_itself_and_no_other_does() {
    let passwords: Vec<String> = (0..CREDENTIALS_PER_USER_MAX).map(|i| format!("secret {i}")).collect();
    let candidates: Vec<_> =
        passwords.iter().zip(0..).map(|(password, id)| candidate(id, password, &SALT)).collect();
    for (password, id) in passwords.iter().zip(0..) {
        let mut server = Exchange::new(alice(), candidates.clone(), SALT, SCRAM_ROUNDS);
        let identity = meet(&mut Client::new(&secret(password), "theirs"), &mut server).unwrap();
        assert_eq!(identity.credential(), Some(CredentialId::from_u64(id)));
    }
    let mut server = Exchange::new(alice(), candidates, SALT, SCRAM_ROUNDS);
    let outcome = meet(&mut Client::new(&secret("secret 8"), "theirs"), &mut server);
    assert_eq!(outcome, Err(ScramError::WrongProof));
}

#[test]
fn nobody_logs_in_without_a_user_or_a_candidate() {
    // The right password of a candidate is of no use to a name that is not ours.
    let mut unknown = Exchange::new(None, vec![candidate(1, "right", &SALT)], SALT, SCRAM_ROUNDS);
    let outcome = meet(&mut Client::new(&secret("right"), "theirs"), &mut unknown);
    assert_eq!(outcome, Err(ScramError::WrongProof));
    let mut empty = Exchange::new(alice(), vec![], SALT, SCRAM_ROUNDS);
    let outcome = meet(&mut Client::new(&secret("right"), "theirs"), &mut empty);
    assert_eq!(outcome, Err(ScramError::WrongProof));
    // More candidates than a user may have: those beyond the limit are not looked at.
    let many: Vec<_> = (0..9).map(|id| candidate(id, &format!("secret {id}"), &SALT)).collect();
    let mut server = Exchange::new(alice(), many, SALT, SCRAM_ROUNDS);
    let outcome = meet(&mut Client::new(&secret("secret 8"), "theirs"), &mut server);
    assert_eq!(outcome, Err(ScramError::WrongProof));
}

#[test]
fn the_first_message_is_parsed_strictly() {
    let long = format!("n,,n=,r={}", "x".repeat(SASL_BYTES_MAX));
    let bad: &[&[u8]] = &[
        b"",
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=",
        b"n,,n=,",
        b"n,,n=,r=",
        b"n,,r=x",
        b"n,,n=,r=x,",
        b"x,,n=,r=x",
        b"N,,n=,r=x",
        b"nn,,n=,r=x",
        b"p=tls-server-end-point,,n=,r=x",
        b"p=,,n=,r=x",
        b"n,a=bob,n=,r=x",
        b"n,a=,n=,r=x",
        b"n,bob,n=,r=x",
        b"n,,m=ext,n=,r=x",
        b"n,,n=,r=x,m=ext",
        b"n,,n=,r=x\x7f",
        b"n,,n=,r=x y",
        b"n,,n=,r=\xc3\xa9",
        b"n,,n=,r=x\0",
        b"n,,n=\xff,r=x",
        b"n,,n=,r=x,1=x",
        b"n,,n=,r=x,z",
        b"n,,n=,r=x,z=",
        b"n,,n=,x=1,r=x",
        b" n,,n=,r=x",
        long.as_bytes(),
    ];
    for message in bad {
        let mut exchange = rfc_exchange(alice());
        let outcome = exchange.client_first(message, "ours");
        assert!(matches!(outcome, Err(ScramError::Malformed(_))), "{:?}", message.escape_ascii().to_string());
        // One use only, also of a step that failed.
        assert_eq!(exchange.client_first(RFC_FIRST.as_bytes(), "ours"), Err(ScramError::OutOfOrder));
        assert_eq!(exchange.client_final(RFC_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    }
    let binding = rfc_exchange(alice()).client_first(b"p=tls-unique,,n=,r=x", "ours").unwrap_err();
    assert!(binding.to_string().contains("channel binding was not offered"), "{binding}");
    for nonce in ["", "a,b", "a b", "\u{e9}"] {
        assert!(rfc_exchange(alice()).client_first(b"n,,n=,r=x", nonce).is_err(), "{nonce}");
    }
    // What real clients send, and extensions that may be ignored.
    for message in ["n,,n=,r=x", "y,,n=*,r=x", "n,,n=a=2Cb,r=x", "n,,n=\u{e9},r=x", "n,,n=,r=x,e=1,f=="] {
        let outcome = rfc_exchange(alice()).client_first(message.as_bytes(), "ours");
        assert!(outcome.is_ok(), "{message}: {outcome:?}");
    }
}

#[test]
fn the_final_message_is_parsed_strictly() {
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    for bad in [
        String::new(),
        format!("r={nonce},p={proof}"),
        format!("c=biws,p={proof}"),
        format!("c=biws,r={nonce}"),
        format!("c=biws,r={nonce},"),
        // The flag was n: y (eSws), a binding of data, no header at all, another spelling of base64.
        format!("c=eSws,r={nonce},p={proof}"),
        format!("c=biwsAAAA,r={nonce},p={proof}"),
        format!("c=,r={nonce},p={proof}"),
        format!("c=biws=,r={nonce},p={proof}"),
        // The client's half only, more than the whole, another one.
        format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={proof}"),
        format!("c=biws,r={nonce}0,p={proof}"),
        format!("c=biws,r=,p={proof}"),
        format!("c=biws,r={nonce},p="),
        format!("c=biws,r={nonce},p={}", &proof[..43]),
        format!("c=biws,r={nonce},p={proof}="),
        format!("c=biws,r={nonce},p={proof},"),
        format!("c=biws,r={nonce},p={proof},x=1"),
        format!("c=biws,r={nonce},p={proof},p={proof}"),
        format!("c=biws,r={nonce},m=x,p={proof}"),
        format!("c=biws,r={nonce},x,p={proof}"),
        format!("m=x,c=biws,r={nonce},p={proof}"),
        format!("c=biws,r={nonce},p={proof}\0"),
        // 31 and 33 bytes; the last digit's unused bits set.
        format!("c=biws,r={nonce},p={}", STANDARD.encode([1u8; 31])),
        format!("c=biws,r={nonce},p={}", STANDARD.encode([1u8; 33])),
        format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR="),
    ] {
        let mut exchange = rfc_challenged();
        let outcome = exchange.client_final(bad.as_bytes());
        assert!(matches!(outcome, Err(ScramError::Malformed(_))), "{bad}: {outcome:?}");
        assert_eq!(exchange.client_final(RFC_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    }
    // Tolerated, but part of what is signed: this proof was made without it.
    let extended = format!("c=biws,r={nonce},x=1,p={proof}");
    assert_eq!(rfc_challenged().client_final(extended.as_bytes()), Err(ScramError::WrongProof));
}

#[test]
fn extensions_before_the_proof_are_signed_and_ignored() {
    let keys = ProofKeys::derive(&salt_password(b"pencil", &SALT, SCRAM_ROUNDS));
    let mut server = Exchange::new(alice(), vec![candidate(1, "pencil", &SALT)], SALT, SCRAM_ROUNDS);
    let challenge = server.client_first(b"y,,n=,r=theirs,x=1", "ours").unwrap();
    let without_proof = "c=eSws,r=theirsours,x=1,y=a=b";
    let auth_message =
        format!("n=,r=theirs,x=1,{},{without_proof}", std::str::from_utf8(&challenge).unwrap());
    let signature = hmac_sha256(&keys.stored_key, &[auth_message.as_bytes()]);
    let proof = STANDARD.encode(*crate::credential::digest::xor(&keys.client_key, &signature));
    assert!(server.client_final(format!("{without_proof},p={proof}").as_bytes()).is_ok());
}

#[test]
fn steps_have_an_order_and_happen_once() {
    assert_eq!(rfc_exchange(alice()).client_final(RFC_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    let mut exchange = rfc_challenged();
    assert!(exchange.client_final(RFC_FINAL.as_bytes()).is_ok());
    assert_eq!(exchange.client_final(RFC_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    assert_eq!(exchange.client_first(RFC_FIRST.as_bytes(), "ours"), Err(ScramError::OutOfOrder));

    let mut client = Client::named(&secret("pencil"), "user", "rOprNGfwEbeRWgbNEkqO", Binding::None);
    assert_eq!(client.server_final(RFC_SIGNATURE.as_bytes()), Err(ScramError::OutOfOrder));
    assert_eq!(client.server_first(RFC_CHALLENGE.as_bytes()), Err(ScramError::OutOfOrder));
}

#[test]
fn the_client_refuses_a_server_that_does_not_play_by_the_rules() {
    let salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
    for bad in [
        String::new(),
        format!("r=minex,s={salt}"),
        format!("s={salt},i=4096"),
        format!("r=minex,i=4096,s={salt}"),
        format!("r=mine,s={salt},i=4096"),
        format!("r=min,s={salt},i=4096"),
        format!("r=xmine,s={salt},i=4096"),
        format!("r=mine y,s={salt},i=4096"),
        "r=minex,s=,i=4096".into(),
        "r=minex,s=!,i=4096".into(),
        format!("r=minex,s={salt},i="),
        format!("r=minex,s={salt},i=+4096"),
        format!("r=minex,s={salt},i=04096"),
        format!("r=minex,s={salt},i=-1"),
        format!("r=minex,s={salt},i=4096,"),
        format!("r=minex,s={salt},i=4096,m=x"),
        format!("m=x,r=minex,s={salt},i=4096"),
    ] {
        let outcome = Client::new(&secret("pencil"), "mine").server_first(bad.as_bytes());
        assert!(matches!(outcome, Err(ScramError::Malformed(_))), "{bad}: {outcome:?}");
    }
    for (rounds, seen) in [("1", 1), ("4095", 4095), ("200001", 200_001), ("99999999999999999999", u32::MAX)]
    {
        let challenge = format!("r=minex,s={salt},i={rounds}");
        let outcome = Client::new(&secret("pencil"), "mine").server_first(challenge.as_bytes());
        assert_eq!(outcome, Err(ScramError::Rounds(seen)));
    }
    let outcome = Client::new(&secret("pencil"), "a,b").server_first(b"r=a,bx,s=aaaa,i=4096");
    assert!(outcome.is_err());
    let outcome = Client::new(&secret("pencil"), "mine").server_first(b"e=no-resources");
    assert_eq!(outcome, Err(ScramError::Refused("no-resources")));
}

#[test]
fn the_client_wants_the_servers_proof() {
    let proven = || {
        let mut client = Client::named(&secret("pencil"), "user", "rOprNGfwEbeRWgbNEkqO", Binding::None);
        client.server_first(RFC_CHALLENGE.as_bytes()).unwrap();
        client
    };
    let forged = format!("v={}", STANDARD.encode([0u8; 32]));
    assert_eq!(proven().server_final(forged.as_bytes()), Err(ScramError::ServerNotProven));
    assert_eq!(proven().server_final(b"e=invalid-proof"), Err(ScramError::Refused("invalid-proof")));
    assert_eq!(proven().server_final(b"e=secret words"), Err(ScramError::Refused("other-error")));
    for bad in ["", "v=", "v=AAAA", "x=1", &RFC_SIGNATURE[..45], &format!("{RFC_SIGNATURE},m=x")] {
        let outcome = proven().server_final(bad.as_bytes());
        assert!(matches!(outcome, Err(ScramError::Malformed(_))), "{bad}");
    }
    let mut client = proven();
    assert!(client.server_final(forged.as_bytes()).is_err());
    assert_eq!(client.server_final(RFC_SIGNATURE.as_bytes()), Err(ScramError::OutOfOrder));
    assert_eq!(proven().server_final(format!("{RFC_SIGNATURE},x=1").as_bytes()), Ok(()));
}

/// Compatibility forms, soft hyphens and no-break spaces are mapped; what is prohibited (a control
/// character, mixed directions), or would be nothing, is used as it is. The other implementation agrees.
#[test]
fn the_clients_password_is_prepared_as_postgresql_prepares_it() {
    for (sent, kept) in [
        ("\u{2168}", "IX"),
        ("I\u{ad}X", "IX"),
        ("a\u{a0}b", "a b"),
        ("pe\u{301}", "p\u{e9}"),
        ("\u{7}bell", "\u{7}bell"),
        ("\u{627}1", "\u{627}1"),
    ] {
        let server = || Exchange::new(alice(), vec![candidate(1, kept, &SALT)], SALT, SCRAM_ROUNDS);
        let outcome = meet(&mut Client::new(&secret(sent), "theirs"), &mut server());
        assert!(outcome.is_ok(), "{sent:?}: {outcome:?}");
        let (mut server, mut other) = (server(), ScramSha256::new(sent.as_bytes(), Theirs::unsupported()));
        other.update(&server.client_first(other.message(), "ours").unwrap()).unwrap();
        assert!(server.client_final(other.message()).is_ok(), "{sent:?}");
    }
    // libpq's rule, which the other implementation does not have.
    let candidates = vec![candidate(1, "\u{ad}", &SALT)];
    let mut server = Exchange::new(alice(), candidates, SALT, SCRAM_ROUNDS);
    assert!(meet(&mut Client::new(&secret("\u{ad}"), "theirs"), &mut server).is_ok());
}

#[test]
fn the_costly_part_is_paid_once_for_a_salt() {
    let secret = secret("pencil");
    let mut client = Client::named(&secret, "user", "rOprNGfwEbeRWgbNEkqO", Binding::None);
    client.server_first(RFC_CHALLENGE.as_bytes()).unwrap();
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let expected = salt_password(b"pencil", &salt, 4096);
    let kept = secret.salted_password(&salt, 4096, |_| panic!("it is known already"));
    assert_eq!(kept, expected);
}

#[test]
fn nonces_are_printable_and_differ() {
    let (one, other) = (nonce().unwrap(), nonce().unwrap());
    assert_ne!(one, other);
    assert_eq!(one.len(), 24);
    assert!(is_nonce(&one));
}

/// Bytes that look like SCRAM more often than chance would.
fn scramish() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[nyp,=a-zA-Z0-9+/]{0,120}".prop_map(String::into_bytes),
        "([a-zA-Z0-9]=[a-zA-Z0-9+/=]{0,50},?){0,6}".prop_map(String::into_bytes),
        "n,,n=[a-z]{0,4},r=[!-~]{0,40}".prop_map(String::into_bytes),
        "r=rOprNGfwEbeRWgbNEkqO[!-~]{0,10},s=[A-Za-z0-9]{0,8},i=[0-9]{0,4}".prop_map(String::into_bytes),
        "c=biws,r=[!-~]{0,40},p=[A-Za-z0-9+/]{0,43}=?".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_log_in(first in scramish(), other in scramish()) {
        let mut exchange = rfc_exchange_cheap();
        let _ = exchange.client_first(&first, "ours");
        prop_assert!(exchange.client_final(&other).is_err());
        let mut exchange = rfc_exchange_cheap();
        exchange.client_first(RFC_FIRST.as_bytes(), "ours").unwrap();
        prop_assert!(exchange.client_final(&other).is_err());

        let mut client = Client::named(&secret("pencil"), "user", "rOprNGfwEbeRWgbNEkqO", Binding::None);
        let _ = client.server_first(&first);
        prop_assert!(client.server_final(&other).is_err());
    }

    #[test]
    fn any_changed_byte_of_the_final_message_fails(at in 0..RFC_FINAL.len(), to: u8) {
        let mut message = RFC_FINAL.as_bytes().to_vec();
        prop_assume!(message[at] != to);
        message[at] = to;
        let mut exchange = rfc_exchange_cheap();
        exchange.client_first(RFC_FIRST.as_bytes(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
        prop_assert!(exchange.client_final(&message).is_err());
    }
}

/// Every other byte at every place of the proof, not a sample.
#[test]
fn no_other_proof_fits() {
    let start = RFC_FINAL.len() - 44;
    for at in start..RFC_FINAL.len() {
        for to in (0..=255u8).filter(|to| *to != RFC_FINAL.as_bytes()[at]) {
            let mut message = RFC_FINAL.as_bytes().to_vec();
            message[at] = to;
            let mut exchange = rfc_exchange_cheap();
            exchange.client_first(RFC_FIRST.as_bytes(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
            assert!(exchange.client_final(&message).is_err(), "{at} {to}");
        }
    }
    // The same loop's set-up does log in with the right bytes.
    let mut exchange = rfc_exchange_cheap();
    exchange.client_first(RFC_FIRST.as_bytes(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    assert!(exchange.client_final(RFC_FINAL.as_bytes()).is_ok());
}

/// [`rfc_exchange`] with its keys derived once for all cases of a property.
fn rfc_exchange_cheap() -> Exchange {
    static KEPT: std::sync::OnceLock<Candidate> = std::sync::OnceLock::new();
    let salt: [u8; 16] = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
    let kept = KEPT.get_or_init(|| candidate(7, "pencil", &salt));
    Exchange::new(alice(), vec![kept.clone()], salt, 4096)
}
