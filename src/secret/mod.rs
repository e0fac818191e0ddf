//! (being written)
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::credential::Secret;

/// Why a secret cannot be had. Names the reference, never the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret {reference:?}: {what}")]
pub struct SecretError {
    pub reference: String,
    pub what: String,
}

/// Reads connectors' logins.
#[derive(Debug)]
pub struct Secrets {}

impl Secrets {
    pub fn new(_directory: PathBuf) -> Self {
        todo!()
    }
    /// Reads the secret anew. Its epoch is another one when the content changed.
    pub fn read(&self, _reference: &str) -> Result<Secret, SecretError> {
        todo!()
    }
}

/// Reads the installation's key, or makes it at the first start.
pub fn installation_key(_path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    todo!()
}
