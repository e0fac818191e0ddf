use std::sync::{Arc, Mutex};

use zeroize::Zeroizing;

/// A connector's login on its target. Zeroed after use, never printed.
#[derive(Clone)]
pub struct Secret {
    inner: Arc<Inner>,
}

struct Inner {
    username: String,
    /// Empty where there is none.
    password: Zeroizing<String>,
    certificate: Option<ClientCertificate>,
    /// Changes when the secret does; connections made under an older one are retired.
    epoch: u64,
    salted: Mutex<Option<Salted>>,
}

/// A client certificate and its key, in PEM form.
pub struct ClientCertificate {
    /// The certificate itself first, then those between it and the authority.
    pub chain: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

/// The costly part of SCRAM, kept per salt and rounds so that it is paid once and not per connection.
struct Salted {
    salt: Vec<u8>,
    rounds: u32,
    key: Zeroizing<[u8; 32]>,
}

impl Secret {
    pub fn new(username: String, password: Zeroizing<String>, epoch: u64) -> Self {
        Self::with_certificate(username, password, None, epoch)
    }

    /// The password may be empty: a certificate, or the server's own trust, proves the rest then.
    pub fn with_certificate(
        username: String,
        password: Zeroizing<String>,
        certificate: Option<ClientCertificate>,
        epoch: u64,
    ) -> Self {
        Self { inner: Arc::new(Inner { username, password, certificate, epoch, salted: Mutex::new(None) }) }
    }

    pub fn username(&self) -> &str {
        &self.inner.username
    }

    pub fn password(&self) -> &str {
        &self.inner.password
    }

    pub fn has_password(&self) -> bool {
        !self.inner.password.is_empty()
    }

    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.inner.certificate.as_ref()
    }

    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// SaltedPassword of RFC 5802 for this salt; `derive` makes it where it is not known yet.
    pub fn salted_password(
        &self,
        salt: &[u8],
        rounds: u32,
        derive: impl FnOnce(&str) -> Zeroizing<[u8; 32]>,
    ) -> Zeroizing<[u8; 32]> {
        let mut kept = self.inner.salted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*kept {
            Some(known) if known.salt == salt && known.rounds == rounds => known.key.clone(),
            _ => {
                let key = derive(&self.inner.password);
                *kept = Some(Salted { salt: salt.to_vec(), rounds, key: key.clone() });
                key
            }
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}, ..)", self.inner.username)
    }
}
