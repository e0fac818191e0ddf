//! Secrets of connectors, from files below one directory or from the environment, and the
//! installation's own key. Nothing here puts a secret's content in an error.

mod content;
mod file;
mod key;
mod reference;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use self::content::Pem;
use crate::credential::{ClientCertificate, Secret};
use crate::model::limits::SECRET_BYTES_MAX;

pub use key::installation_key;
pub use reference::{ENVIRONMENT_PREFIX, Reference};

/// Why a secret cannot be had. Names the reference, never the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret {reference}: {what}")]
pub struct SecretError {
    /// `file:NAME`, `env:NAME` or a path; a text that is no reference is not repeated.
    pub reference: String,
    pub what: String,
}

/// Reads connectors' logins.
#[derive(Debug)]
pub struct Secrets {
    directory: PathBuf,
    known: Mutex<Known>,
}

/// The secrets as they were when last read.
#[derive(Debug, Default)]
struct Known {
    /// Given out so far. One count for all references, so that a reference that moves to another file
    /// never meets an epoch that it had.
    epochs: u64,
    secrets: HashMap<Reference, ([u8; 32], Secret)>,
}

impl Secrets {
    /// `directory` is `[secret] directory` of the node file. It is not looked at yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, known: Mutex::default() }
    }

    /// Reads the secret anew; blocks for one small file. While the content stays the same, so does the
    /// secret that is given, with what was derived from it; a changed content has another epoch.
    pub fn read(&self, reference: &str) -> Result<Secret, SecretError> {
        let parsed = Reference::parse(reference)
            .map_err(|what| SecretError { reference: "(not shown)".to_owned(), what })?;
        let failed = |what| SecretError { reference: reference.to_owned(), what };
        let content = match &parsed {
            Reference::File(path) => file::read(&self.directory, path).map_err(failed)?,
            Reference::Environment(name) => environment(name).map_err(failed)?,
        };
        let mut hash = Sha256::new_with_prefix(&content);
        let login = content::parse(&content).map_err(failed)?;
        // What stands in files of its own changes the secret as well.
        let certificate = login.certificate.map(|(chain, key)| {
            let (chain, key) = (self.pem(chain)?, self.pem(key)?);
            hash.update(Sha256::digest(&chain));
            hash.update(Sha256::digest(&key));
            Ok(ClientCertificate { chain: chain.to_vec(), key })
        });
        let certificate = certificate.transpose().map_err(failed)?;
        let fingerprint: [u8; 32] = hash.finalize().into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, secret)) = known.secrets.get(&parsed)
            && *before == fingerprint
        {
            return Ok(secret.clone());
        }
        known.epochs += 1;
        let epoch = known.epochs;
        let secret = Secret::with_certificate(login.username, login.password, certificate, epoch);
        known.secrets.insert(parsed, (fingerprint, secret.clone()));
        Ok(secret)
    }
}

impl Secrets {
    fn pem(&self, pem: Pem) -> Result<Zeroizing<Vec<u8>>, String> {
        match pem {
            Pem::Here(text) => Ok(text),
            Pem::File(reference) => match Reference::parse(&reference)? {
                Reference::File(path) => {
                    file::read(&self.directory, &path).map_err(|what| format!("{reference}: {what}"))
                }
                Reference::Environment(_) => Err("a certificate and its key stand in files".to_owned()),
            },
        }
    }
}

fn environment(name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os(name).ok_or_else(|| {
        format!("the environment has no variable {name}; set it for the process that serves")
    })?;
    let value = Zeroizing::new(value.into_vec());
    if value.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("longer than {SECRET_BYTES_MAX} bytes; a login is not"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn put(path: &Path, content: &str) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    const LOGIN: &str = r#"{"username": "orders_read", "password": "s3cr\"et"}"#;

    #[test]
    fn a_secret_is_read_and_its_epoch_follows_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path().to_owned());
        put(&folder.path().join("a.json"), LOGIN);
        put(&folder.path().join("b.json"), LOGIN);
        let first = secrets.read("file:a.json").unwrap();
        assert_eq!((first.username(), first.password()), ("orders_read", "s3cr\"et"));
        assert_eq!(secrets.read("file:a.json").unwrap().epoch(), first.epoch());
        assert_ne!(secrets.read("file:b.json").unwrap().epoch(), first.epoch());
        put(&folder.path().join("a.json"), r#"{"username": "orders_read", "password": "new"}"#);
        let second = secrets.read("file:a.json").unwrap();
        assert_ne!(second.epoch(), first.epoch());
        assert_eq!(second.password(), "new");
        put(&folder.path().join("a.json"), LOGIN);
        assert!(secrets.read("file:a.json").unwrap().epoch() > second.epoch(), "an epoch never comes back");
    }

    #[test]
    fn a_certificate_and_its_key_are_part_of_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path().to_owned());
        let pem = |word: &str| format!("-----BEGIN {word}-----\nAAAA\n-----END {word}-----\n");
        put(&folder.path().join("c.pem"), &pem("CERTIFICATE"));
        put(&folder.path().join("k.pem"), &pem("PRIVATE KEY"));
        let files = r#"{"username": "u", "certificate": "file:c.pem", "key": "file:k.pem"}"#;
        put(&folder.path().join("a.json"), files);
        let first = secrets.read("file:a.json").unwrap();
        assert!(!first.has_password());
        assert_eq!(first.certificate().unwrap().chain, pem("CERTIFICATE").as_bytes());
        assert_eq!(secrets.read("file:a.json").unwrap().epoch(), first.epoch());
        put(&folder.path().join("k.pem"), &pem("EC PRIVATE KEY"));
        assert_ne!(secrets.read("file:a.json").unwrap().epoch(), first.epoch(), "a new key is a new secret");
        let inline = serde_json::json!({
            "username": "u", "password": "p", "certificate": pem("CERTIFICATE"), "key": pem("PRIVATE KEY"),
        });
        put(&folder.path().join("b.json"), &inline.to_string());
        let inline = secrets.read("file:b.json").unwrap();
        assert!(inline.has_password() && inline.certificate().is_some());
        assert!(!format!("{inline:?}").contains("BEGIN"));
        put(&folder.path().join("c.json"), &files.replace("k.pem", "../k.pem"));
        assert!(secrets.read("file:c.json").unwrap_err().to_string().contains("below the secret directory"));
    }

    #[test]
    fn what_was_derived_is_kept_while_the_content_stays() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path().to_owned());
        put(&folder.path().join("a.json"), LOGIN);
        let derive =
            |secret: &Secret, byte| secret.salted_password(b"salt", 4_096, |_| Zeroizing::new([byte; 32]))[0];
        assert_eq!(derive(&secrets.read("file:a.json").unwrap(), 1), 1);
        assert_eq!(derive(&secrets.read("file:a.json").unwrap(), 2), 1);
    }

    #[test]
    fn errors_name_the_reference_and_never_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path().to_owned());
        put(&folder.path().join("list.json"), r#"["hunter2"]"#);
        put(&folder.path().join("number.json"), r#"{"username": "u", "password": "hunter2" x"#);
        put(&folder.path().join("key.json"), r#"{"username": "u", "password": "p", "hunter2": 1}"#);
        for name in ["list", "number", "key"] {
            let said = secrets.read(&format!("file:{name}.json")).unwrap_err().to_string();
            assert!(said.contains(name) && !said.contains("hunter2"), "{said}");
        }
        let said = secrets.read("hunter2").unwrap_err().to_string();
        assert!(!said.contains("hunter2"), "{said}");
        let said = secrets.read("env:TIDEGATE_SECRET_NOT_THERE").unwrap_err().to_string();
        assert!(said.contains("the environment has no variable TIDEGATE_SECRET_NOT_THERE"), "{said}");
    }

    #[test]
    fn the_environment_gives_only_what_is_meant_for_it() {
        // Cargo sets it for tests; it must not be readable through a reference.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let secrets = Secrets::new(PathBuf::from("/"));
        assert!(secrets.read("env:CARGO_MANIFEST_DIR").is_err());
    }
}
