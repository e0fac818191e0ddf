//! Values of the model as columns, and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SessionRow;
use super::failure::Trouble;
use crate::model::{Credential, EndCause, Ended, Grant, Subject, Target, Time, User, Verifiers, Window};

/// Nine digits always: as text these times sort as they do as times.
pub(super) fn time(at: Time) -> String {
    format!("{at:.9}")
}

/// `null` where the value cannot be JSON, which ours all can: it would then not read back.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// The name of an end's cause, as serde has it.
pub(super) fn cause(cause: EndCause) -> String {
    json(&cause).trim_matches('"').to_owned()
}

/// One row and how it is called in errors.
pub(super) struct Reader<'r> {
    row: &'r SqliteRow,
    kind: &'static str,
}

impl<'r> Reader<'r> {
    pub fn new(row: &'r SqliteRow, kind: &'static str) -> Self {
        Self { row, kind }
    }

    fn get<T>(&self, column: &'static str) -> Result<T, Trouble>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|_| self.wrong(column))
    }

    /// Columns hold no secret, but their values have no place in an error either.
    fn wrong(&self, column: &str) -> Trouble {
        Trouble::Row(format!("{}.{column}", self.kind))
    }

    pub fn parsed<T: std::str::FromStr>(&self, column: &'static str) -> Result<T, Trouble> {
        self.get::<&str>(column)?.parse().map_err(|_| self.wrong(column))
    }

    fn parsed_option<T: std::str::FromStr>(&self, column: &'static str) -> Result<Option<T>, Trouble> {
        let text = self.get::<Option<&str>>(column)?;
        text.map(|text| text.parse().map_err(|_| self.wrong(column))).transpose()
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, Trouble> {
        serde_json::from_str(self.get(column)?).map_err(|_| self.wrong(column))
    }

    fn count(&self, column: &'static str) -> Result<u64, Trouble> {
        Ok(self.get::<i64>(column)?.unsigned_abs())
    }

    fn window(&self) -> Result<Window, Trouble> {
        Ok(Window { start: self.parsed("starts_at")?, end: self.parsed("ends_at")? })
    }

    fn ended(&self) -> Result<Option<Ended>, Trouble> {
        let Some(at) = self.parsed_option("ended_at")? else { return Ok(None) };
        let name = self.get::<&str>("end_cause")?;
        let cause = EndCause::ALL.into_iter().find(|known| cause(*known) == name);
        let cause = cause.ok_or_else(|| self.wrong("end_cause"))?;
        Ok(Some(Ended { at, cause, reason: self.get("end_reason")? }))
    }

    pub fn user(&self) -> Result<User, Trouble> {
        Ok(User { name: self.parsed("name")?, groups: self.json("groups")? })
    }

    pub fn target(&self) -> Result<Target, Trouble> {
        self.json("body")
    }

    pub fn grant(&self) -> Result<Grant, Trouble> {
        let subject = match self.parsed_option("user_name")? {
            Some(user) => Subject::User(user),
            None => Subject::Group(self.parsed("group_name")?),
        };
        let sessions_max: Option<i64> = self.get("sessions_max")?;
        let sessions_max = sessions_max.map(u32::try_from).transpose();
        Ok(Grant {
            id: self.parsed("id")?,
            name: self.parsed_option("name")?,
            subject,
            target: self.parsed("target")?,
            level: self.parsed("level")?,
            databases: self.json("databases")?,
            window: self.window()?,
            cidrs: self.json("cidrs")?,
            sessions_max: sessions_max.map_err(|_| self.wrong("sessions_max"))?,
            reason: self.get("reason")?,
            created_at: self.parsed("created_at")?,
            created_by: self.get("created_by")?,
            ended: self.ended()?,
        })
    }

    pub fn credential(&self) -> Result<Credential, Trouble> {
        Ok(Credential {
            id: self.parsed("id")?,
            user: self.parsed("user_name")?,
            window: self.window()?,
            verifiers: Verifiers {
                scram_stored_key: self.get("scram_stored_key")?,
                scram_server_key: self.get("scram_server_key")?,
                caching_sha2: self.get("caching_sha2")?,
                ed25519: self.get("ed25519")?,
                parsec: self.get("parsec")?,
                check: self.get("check_value")?,
                mysql_native: self.get("mysql_native")?,
            },
            created_by: self.get("created_by")?,
            ended: self.ended()?,
        })
    }

    pub fn session(&self) -> Result<SessionRow, Trouble> {
        Ok(SessionRow {
            session: self.parsed("id")?,
            user: self.parsed("user_name")?,
            target: self.parsed("target")?,
            level: self.parsed("level")?,
            grant: self.parsed("grant_id")?,
            database: self.get("database")?,
            peer: self.get("peer")?,
            protocol: self.get("protocol")?,
            started_at: self.parsed("started_at")?,
            ended_at: self.parsed_option("ended_at")?,
            how: self.get("how")?,
            code: self.get("code")?,
            statements: self.count("statements")?,
            bytes_up: self.count("bytes_up")?,
            bytes_down: self.count("bytes_down")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_text() {
        let times = [
            "1970-01-01T00:00:00Z",
            "2026-11-22T08:00:00Z",
            "2026-11-22T08:00:00.000000001Z",
            "2026-11-22T08:00:00.5Z",
            "9999-12-30T22:00:00.9Z",
        ];
        let times = times.map(|text| text.parse::<Time>().unwrap());
        for (a, b) in times.iter().zip(&times[1..]) {
            assert!(a < b && time(*a) < time(*b), "{a} {b}");
        }
        for at in times {
            assert_eq!(time(at).parse::<Time>().unwrap(), at);
            assert_eq!(time(at).len(), 30);
        }
    }

    #[test]
    fn causes_have_the_names_that_serde_gives_them() {
        for known in EndCause::ALL {
            assert_eq!(serde_json::from_str::<EndCause>(&format!("\"{}\"", cause(known))).unwrap(), known);
        }
        assert_eq!(cause(EndCause::UserRemoved), "user_removed");
    }
}
