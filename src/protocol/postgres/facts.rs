//! What the two ends of a conversation said at its start.

use std::sync::Arc;

use super::lexer;
use crate::model::limits::{PARAMETERS_MAX, SETTINGS_MAX, SHOWN_SETTING_BYTES_MAX};
use crate::protocol::session::{Facts, Findings, Interruption, Termination};

/// The start-up settings of a client, applied to each connection that it is lent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names in lower case and values, in the order in which they are set; each name once.
    pub parameters: Vec<(String, String)>,
    /// The client's own `application_name`; the server is shown it behind the person's name.
    pub application_name: Option<String>,
}

/// Parts of names whose values have no place in a trail.
const SECRET_NAMES: [&str; 5] = ["passw", "secret", "token", "credential", "api_key"];

impl Settings {
    /// For the trail: what looks like a secret, by its name or in its value, is masked.
    pub fn shown(&self) -> Vec<(String, String)> {
        let name = self.application_name.iter().map(|value| ("application_name", value));
        let others = self.parameters.iter().map(|(name, value)| (name.as_str(), value));
        let shown = |(name, value): (&str, &String)| {
            let is_secret = SECRET_NAMES.iter().any(|part| name.contains(part));
            let value = match is_secret || lexer::signs(value.as_bytes()).secret {
                true => "***",
                false => &value[..value.floor_char_boundary(SHOWN_SETTING_BYTES_MAX)],
            };
            (name.to_owned(), value.to_owned())
        };
        name.chain(others).take(SETTINGS_MAX).map(shown).collect()
    }

    /// With others on top, which count where both say something.
    pub fn with(&self, others: &[(String, String)]) -> Self {
        let mut settings = self.clone();
        for (name, value) in others {
            put_parameter(&mut settings.parameters, name, value);
        }
        settings
    }
}

/// What a server reports of itself, by name: a session takes up a few and shares the others.
pub type Parameters = Arc<[(Arc<str>, Arc<str>)]>;

/// What a server told us while we logged in, and what it reported since.
#[derive(Clone)]
pub struct PostgresFacts {
    /// What `ParameterStatus` says now.
    pub parameters: Parameters,
    /// What it said when the login was done; a reset brings it back.
    pub dialled: Parameters,
    /// The role that we logged in as.
    pub user: Arc<str>,
    pub process_id: u32,
    /// With the process id, what stops a statement there.
    pub secret_key: Arc<[u8]>,
    /// The backend's own process id and start, as it says when asked: what `process_id` means is between us and
    /// whoever answered the login, which may be a pooler.
    pub termination: Option<Termination>,
    pub version: Arc<str>,
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

    fn process(&self) -> Option<u32> {
        Some(self.process_id)
    }

    fn server_version(&self) -> &str {
        &self.version
    }

    fn interruption(&self) -> Interruption {
        Interruption([&self.process_id.to_be_bytes()[..], &self.secret_key].concat())
    }

    fn termination(&self) -> Option<Termination> {
        self.termination.clone()
    }

    fn login(&self) -> &str {
        &self.user
    }

    fn share(&mut self, other: &Self) {
        for (one, other) in [(&mut self.dialled, &other.dialled), (&mut self.parameters, &other.parameters)] {
            if one == other {
                one.clone_from(other);
            }
        }
        for (one, other) in [(&mut self.user, &other.user), (&mut self.version, &other.version)] {
            if one == other {
                one.clone_from(other);
            }
        }
    }

    fn apply(&mut self, findings: &Findings) {
        if findings.termination.is_some() {
            self.termination.clone_from(&findings.termination);
        }
        if findings.restored {
            self.parameters = self.dialled.clone();
        }
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
pub(super) fn put_parameter<T>(parameters: &mut Vec<(T, T)>, name: &str, value: &str)
where
    T: AsRef<str> + for<'a> From<&'a str>,
{
    if let Some((_, old)) = parameters.iter_mut().find(|(known, _)| known.as_ref() == name) {
        *old = value.into();
    } else if parameters.len() < PARAMETERS_MAX {
        parameters.push((name.into(), value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_without_secrets_and_not_endlessly() {
        let parameters = [
            ("search_path", "shop,\"Public\""),
            ("my.api_token", "s3cret"),
            ("my.options", "host=h password=s3cret"),
            ("my.long", &"é".repeat(400)),
        ];
        let settings = Settings {
            parameters: parameters.map(|(name, value)| (name.into(), value.into())).into(),
            application_name: Some("psql".into()),
        };
        let shown = settings.shown();
        let shown: Vec<_> = shown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let long = "é".repeat(SHOWN_SETTING_BYTES_MAX / 2);
        assert_eq!(
            shown,
            [
                ("application_name", "psql"),
                ("search_path", "shop,\"Public\""),
                ("my.api_token", "***"),
                ("my.options", "***"),
                ("my.long", &long),
            ]
        );
    }
}
