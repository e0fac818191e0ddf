//! What the two ends of a conversation said at its start.

use std::sync::Arc;

use crate::model::limits::PARAMETERS_MAX;
use crate::protocol::session::{Facts, Findings, Interruption};

/// The start-up settings of a client, applied to each connection that it is lent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names in lower case and values, in the order in which they are set; each name once.
    pub parameters: Vec<(String, String)>,
    /// The client's own `application_name`; the server is shown it behind the person's name.
    pub application_name: Option<String>,
}

impl Settings {
    /// With others on top, which count where both say something.
    pub fn with(&self, others: &[(String, String)]) -> Self {
        let mut settings = self.clone();
        for (name, value) in others {
            put_parameter(&mut settings.parameters, name, value);
        }
        settings
    }
}

/// What a server told us while we logged in, and what it reported since.
#[derive(Clone)]
pub struct PostgresFacts {
    /// What `ParameterStatus` says now.
    pub parameters: Arc<[(String, String)]>,
    /// What it said when the login was done; a reset brings it back.
    pub dialled: Arc<[(String, String)]>,
    /// The role that we logged in as.
    pub user: Arc<str>,
    pub process_id: u32,
    /// With the process id, what stops a statement there.
    pub secret_key: Vec<u8>,
    pub version: String,
}

impl std::fmt::Debug for PostgresFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresFacts({} {} {}, ..)", self.user, self.process_id, self.version)
    }
}

impl Facts for PostgresFacts {
    fn upstream_name(&self) -> String {
        self.process_id.to_string()
    }

    fn server_version(&self) -> &str {
        &self.version
    }

    fn interruption(&self) -> Interruption {
        Interruption([&self.process_id.to_be_bytes()[..], &self.secret_key].concat())
    }

    fn apply(&mut self, findings: &Findings) {
        if !findings.parameters.is_empty() {
            let mut parameters = self.parameters.to_vec();
            for (name, value) in &findings.parameters {
                put_parameter(&mut parameters, name, value);
            }
            self.parameters = parameters.into();
        }
    }
}

/// The last value of a name counts; names beyond [`PARAMETERS_MAX`] do not.
pub(super) fn put_parameter(parameters: &mut Vec<(String, String)>, name: &str, value: &str) {
    if let Some((_, old)) = parameters.iter_mut().find(|(known, _)| known == name) {
        *old = value.to_owned();
    } else if parameters.len() < PARAMETERS_MAX {
        parameters.push((name.to_owned(), value.to_owned()));
    }
}
