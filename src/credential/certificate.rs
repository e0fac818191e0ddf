//! A client's certificate as a proof of who it is. TLS has verified the chain and that the client has the key;
//! here it is decided whom that makes it.

use std::sync::Arc;

use super::{Identity, Proof};
use crate::model::{ClientCertificate, Name, Time};

/// Whether a certificate proves its owner to be this user now; the error says why not, for the trail.
pub fn by_certificate(
    certificate: &Arc<ClientCertificate>,
    user: &Name,
    now: Time,
) -> Result<Identity, &'static str> {
    match &certificate.name {
        None => Err("the client certificate does not name exactly one user"),
        Some(name) if name != user => Err("the client certificate names somebody else"),
        // TLS looked at this too, but a session that is resumed was verified when it began.
        Some(_) if !certificate.window.contains(now) => Err("the client certificate is not of this time"),
        Some(_) => {
            let proof = Proof::Certificate(certificate.clone());
            Ok(Identity::proven(user.clone(), proof, certificate.window.end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Window;

    #[test]
    fn a_certificate_proves_its_own_name_in_its_own_time() {
        let name = |text: &str| Name::parse(text).unwrap();
        let second = |second| Time::from_second(second).unwrap();
        let of = |named: Option<&str>| {
            Arc::new(ClientCertificate {
                name: named.map(name),
                window: Window { start: second(10), end: second(20) },
                serial: "01".into(),
                issuer: "CN=us".into(),
                sha256: "00".into(),
            })
        };
        let certificate = of(Some("alice"));
        let identity = by_certificate(&certificate, &name("alice"), second(10)).unwrap();
        assert_eq!(
            (identity.user(), identity.until(), identity.credential()),
            (&name("alice"), second(20), None)
        );
        assert_eq!(identity.proof().certificate(), Some(&certificate));
        for (named, user, now) in [
            (Some("alice"), "bob", 15),
            (None, "alice", 15),
            (Some("alice"), "alice", 20),
            (Some("alice"), "alice", 9),
        ] {
            assert!(by_certificate(&of(named), &name(user), second(now)).is_err(), "{named:?} {user} {now}");
        }
    }
}
