//! What the two ends of a conversation said at its start.

use std::sync::Arc;

use crate::protocol::session::{Facts, Interruption};

/// A client's start-up settings, for every connection it is lent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub application_name: Option<String>,
    /// The other ones in the order they were given, names in lower case; at most
    /// [`crate::model::limits::SETTINGS_MAX`].
    pub parameters: Vec<(String, String)>,
}

/// What a server said while we logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresFacts {
    /// The values of ParameterStatus, as they are once a connection has been prepared.
    pub parameters: Arc<[(String, String)]>,
    pub process_id: u32,
    /// 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret_key: Vec<u8>,
    pub version: String,
}

/// The key is what cancels a statement: it is not for logs.
impl std::fmt::Debug for PostgresFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresFacts(process {}, version {})", self.process_id, self.version)
    }
}

impl Facts for PostgresFacts {
    fn upstream_name(&self) -> String {
        self.process_id.to_string()
    }

    fn server_version(&self) -> &str {
        &self.version
    }

    /// The body of CancelRequest behind its code: process id, then the key.
    fn interruption(&self) -> Interruption {
        let mut words = self.process_id.to_be_bytes().to_vec();
        words.extend_from_slice(&self.secret_key);
        Interruption(words)
    }
}
