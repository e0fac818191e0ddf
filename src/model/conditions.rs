//! What the conditions of a grant must be, wherever it comes from: a file, the admin API, the store.

use super::limits::{DATABASE_CHARS_MAX, REASON_CHARS_MAX};
use super::{Databases, Window};

/// The conditions of a grant. The error names the key of a resource file.
pub fn conditions(
    window: &Window,
    databases: &Databases,
    sessions_max: Option<u32>,
    why: Option<&str>,
) -> Result<(), (&'static str, String)> {
    if window.start >= window.end {
        return Err(("until", format!("must be later than from, which is {}", window.start)));
    }
    if let Databases::Listed(names) = databases {
        if names.is_empty() {
            return Err(("databases", "empty; leave it out for the target's default database".to_owned()));
        }
        names.iter().try_for_each(|name| database(name)).map_err(|what| ("databases", what))?;
    }
    if sessions_max == Some(0) {
        return Err(("sessions", "must be at least 1; leave it out for no limit".to_owned()));
    }
    why.map_or(Ok(()), reason).map_err(|what| ("reason", what))
}

/// The name of one database.
pub fn database(text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().count() > DATABASE_CHARS_MAX || text.contains(char::is_control) {
        return Err(format!(
            "a database name has 1 to {DATABASE_CHARS_MAX} characters, none of them a control character"
        ));
    }
    if text == "*" {
        return Err(
            "'*' is not a database; in a grant, databases = [\"*\"] alone means all of them".to_owned()
        );
    }
    Ok(())
}

pub fn reason(text: &str) -> Result<(), String> {
    free_text(text, REASON_CHARS_MAX)
}

/// Text that is shown on terminals and in error messages: no control characters but line ends.
pub fn free_text(text: &str, chars_max: usize) -> Result<(), String> {
    let count = text.chars().count();
    if count > chars_max {
        return Err(format!("has {count} characters; at most {chars_max} are shown"));
    }
    match text.chars().find(|c| c.is_control() && *c != '\n') {
        Some(bad) => Err(format!("has the control character {bad:?}; plain text and line ends only")),
        None => Ok(()),
    }
}
