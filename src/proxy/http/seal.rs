//! Ids of what a target keeps open, sealed for the one who may use them: what is given out is nobody else's, and
//! nothing that a target gave can be used without having been sealed.

use std::collections::BTreeSet;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::model::{GrantId, Name, limits};
use crate::protocol::http::{IdKind, Opened};

/// What is sealed, and for whom: part of every seal, so that a key of ours for something else opens none.
const DOMAIN: &[u8] = b"tidegate/http-id/v1";

/// Whose an id is: who may use it, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub user: Name,
    pub target: Name,
}

/// The key of this installation. A nonce is random; should one come twice under this cipher, nothing but the equality
/// of two ids shows (RFC 8452).
pub(super) struct Seal(RandomizedNonceKey);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    grant: GrantId,
    kind: IdKind,
    /// `None`: everything.
    names: Option<BTreeSet<String>>,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
}

impl Owner {
    /// No name holds a zero byte, so two owners never give the same.
    fn bound(&self) -> Aad<Vec<u8>> {
        Aad::from([DOMAIN, self.user.as_str().as_bytes(), self.target.as_str().as_bytes()].join(&0))
    }
}

impl Seal {
    /// `None`: the cipher is not to be had.
    pub fn new(key: &[u8; 32]) -> Option<Self> {
        RandomizedNonceKey::new(&AES_256_GCM_SIV, key).ok().map(Self)
    }

    pub fn close(&self, owner: &Owner, opened: &Opened) -> Option<String> {
        let Opened { grant, kind, names, raw, mark } = opened.clone();
        let sealed = Sealed { grant, kind, names, id: raw, mark };
        let mut bytes = serde_json::to_vec(&sealed).ok()?;
        let nonce = self.0.seal_in_place_append_tag(owner.bound(), &mut bytes).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    /// `None`: it is not one that this owner was given.
    pub fn open(&self, owner: &Owner, sealed: &str) -> Option<Opened> {
        // With names of indices beside it, in base 64.
        if sealed.len() > 4 * limits::HTTP_ID_BYTES_MAX {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let text = self.0.open_in_place(nonce, owner.bound(), text).ok()?;
        let Sealed { grant, kind, names, id, mark } = serde_json::from_slice(text).ok()?;
        Some(Opened { grant, kind, names, raw: id, mark })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &str, target: &str) -> Owner {
        Owner { user: Name::parse(user).unwrap(), target: Name::parse(target).unwrap() }
    }

    #[test]
    fn an_id_is_opened_for_its_owner_and_nobody_else() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let opened = Opened {
            grant: GrantId::from_u64(7),
            kind: IdKind::Scroll,
            names: Some(BTreeSet::from(["logs-1".to_owned()])),
            raw: "FGluY2x1ZGVfY29udGV4dF91dWlk==".into(),
            mark: Some("alice/s-1/1".into()),
        };
        let alice = owner("alice", "logs");
        let sealed = seal.close(&alice, &opened).unwrap();
        assert!(!sealed.contains("FGlu"));
        assert_eq!(seal.open(&alice, &sealed), Some(opened.clone()));
        assert_ne!(seal.close(&alice, &opened).unwrap(), sealed, "no two are the same");
        for other in [owner("bob", "logs"), owner("alice", "metrics"), owner("alicel", "ogs")] {
            assert_eq!(seal.open(&other, &sealed), None, "{other:?}");
        }
        assert_eq!(Seal::new(&[2; 32]).unwrap().open(&alice, &sealed), None);
        for place in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            // The last digit has bits that mean nothing; what is read as the same bytes is the same id.
            let forged = String::from_utf8(forged).unwrap();
            assert!(
                seal.open(&alice, &forged).is_none_or(|same| same == opened && place + 1 == sealed.len())
            );
        }
        for bad in ["", "_all", "a", &opened.raw, &sealed[1..], &"A".repeat(200), &"A".repeat(1 << 20)] {
            assert_eq!(seal.open(&alice, bad), None);
        }
        let everything = Opened { names: None, ..opened };
        let sealed = seal.close(&alice, &everything).unwrap();
        assert_eq!(seal.open(&alice, &sealed), Some(everything));
    }
}
