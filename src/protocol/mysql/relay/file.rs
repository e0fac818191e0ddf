//! What the trail says of a file that a client sends (`LOAD DATA LOCAL INFILE`).

use sha2::{Digest, Sha256};

use super::cut_text;
use crate::model::{Note, Notes};

/// A file under way to the server.
pub(super) struct File {
    /// The statement's number.
    number: u64,
    /// As the server asked for it, up to what an audit line keeps.
    name: Box<[u8]>,
    bytes: u64,
    hash: Sha256,
}

impl File {
    pub fn new(number: u64, name: &[u8]) -> Self {
        Self { number, name: cut_text(name).into(), bytes: 0, hash: Sha256::new() }
    }

    /// These bytes of it are about to go to the server.
    pub fn see(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// `whole`: the client has said that this is all.
    pub fn note(self, whole: bool, notes: &mut Notes<'_>) {
        let sha256: [u8; 32] = self.hash.finalize().into();
        let (number, name, bytes) = (self.number, &self.name[..], self.bytes);
        notes.push(&Note::File { number, name, bytes, sha256: &sha256, whole });
    }
}
