//! Changes, as one transaction. The rules that only the store can keep are here: what a change names is
//! there, names are given once, and what has ended stays ended.

use sqlx::{Connection, SqliteConnection, SqlitePool};

use super::failure::Trouble;
use super::rows::{Reader, cause, json, time};
use crate::model::conditions::conditions;
use crate::model::limits::CREDENTIALS_PER_USER_MAX;
use crate::model::{
    AccessLevel, Change, Connector, Credential, CredentialId, EndCause, Ended, Grant, GrantId, Name, Subject,
    Target, Time, User,
};

pub(super) async fn apply(writer: &SqlitePool, changes: &[Change], at: Time) -> Result<(), Trouble> {
    let mut connection = writer.acquire().await?;
    let applied = apply_on(&mut connection, changes, at).await;
    if matches!(applied, Err(Trouble::Sql(_))) {
        // SQLite may have rolled back by itself (a full disk does that), and then the connection's idea of
        // where it is and ours part. Closing it rolls back whatever is left.
        let _ = connection.close().await;
    }
    applied
}

async fn apply_on(connection: &mut SqliteConnection, changes: &[Change], at: Time) -> Result<(), Trouble> {
    // Immediate: a transaction that reads first and writes later could lose its turn in between.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut step = Step { to: &mut transaction, at };
    for change in changes {
        step.change(change).await?;
    }
    transaction.commit().await?;
    Ok(())
}

struct Step<'s> {
    to: &'s mut SqliteConnection,
    at: Time,
}

impl Step<'_> {
    async fn change(&mut self, change: &Change) -> Result<(), Trouble> {
        match change {
            Change::PutTarget { target } => self.put_target(target).await,
            Change::RemoveTarget { name } => self.remove_target(name).await,
            Change::SuspendTarget { name, reason } => {
                self.alter_target(name, |target| target.suspended = Some(reason.clone())).await
            }
            Change::ResumeTarget { name } => self.alter_target(name, |target| target.suspended = None).await,
            Change::SuspendLevel { target, level, reason } => {
                self.alter_level(target, level, |connector| connector.suspended = Some(reason.clone())).await
            }
            Change::ResumeLevel { target, level } => {
                self.alter_level(target, level, |connector| {
                    (connector.suspended, connector.baseline) = (None, None);
                })
                .await
            }
            Change::SetBaseline { target, level, fingerprint } => {
                self.alter_level(target, level, |connector| connector.baseline = Some(fingerprint.clone()))
                    .await
            }
            Change::PutUser { user } => self.put_user(user).await,
            Change::RemoveUser { name } => self.remove_user(name).await,
            Change::PutGrant { grant } => self.put_grant(grant).await,
            Change::EndGrant { id, ended } => self.end_grant(*id, ended).await,
            Change::ExtendGrant { id, end } => self.extend_grant(*id, *end).await,
            Change::AddCredential { credential } => self.add_credential(credential).await,
            Change::EndCredential { id, ended } => self.end_credential(*id, ended).await,
        }
    }

    async fn put_target(&mut self, target: &Target) -> Result<(), Trouble> {
        sqlx::query(
            "INSERT INTO targets (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = ?2",
        )
        .bind(target.name.as_str())
        .bind(json(target))
        .execute(&mut *self.to)
        .await?;
        Ok(())
    }

    /// Ends the target's open grants too.
    async fn remove_target(&mut self, name: &Name) -> Result<(), Trouble> {
        let removed = sqlx::query("DELETE FROM targets WHERE name = ?")
            .bind(name.as_str())
            .execute(&mut *self.to)
            .await?;
        if removed.rows_affected() == 0 {
            return refused(format!("there is no target {name}"));
        }
        sqlx::query(
            "UPDATE grants SET ended_at = ?, end_cause = ?, end_reason = 'the target was removed' \
             WHERE target = ? AND ended_at IS NULL",
        )
        .bind(time(self.at))
        .bind(cause(EndCause::NoLongerMatches))
        .bind(name.as_str())
        .execute(&mut *self.to)
        .await?;
        Ok(())
    }

    async fn target(&mut self, name: &Name) -> Result<Target, Trouble> {
        let row = sqlx::query("SELECT * FROM targets WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&mut *self.to)
            .await?;
        match row {
            Some(row) => Reader::new(&row, "targets").target(),
            None => refused(format!("there is no target {name}")),
        }
    }

    async fn alter_target(&mut self, name: &Name, alter: impl FnOnce(&mut Target)) -> Result<(), Trouble> {
        let mut target = self.target(name).await?;
        alter(&mut target);
        self.put_target(&target).await
    }

    async fn alter_level(
        &mut self,
        name: &Name,
        level: &AccessLevel,
        alter: impl FnOnce(&mut Connector),
    ) -> Result<(), Trouble> {
        let mut target = self.target(name).await?;
        let Some(connector) = target.connectors.get_mut(level) else {
            return refused(format!("target {name} has no connector for {level}"));
        };
        alter(connector);
        self.put_target(&target).await
    }

    async fn put_user(&mut self, user: &User) -> Result<(), Trouble> {
        sqlx::query(
            "INSERT INTO users (name, groups) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET groups = ?2",
        )
        .bind(user.name.as_str())
        .bind(json(&user.groups))
        .execute(&mut *self.to)
        .await?;
        Ok(())
    }

    /// Ends the user's open grants and credentials too. Memberships are the user's own and go along.
    async fn remove_user(&mut self, name: &Name) -> Result<(), Trouble> {
        let removed = sqlx::query("DELETE FROM users WHERE name = ?")
            .bind(name.as_str())
            .execute(&mut *self.to)
            .await?;
        if removed.rows_affected() == 0 {
            return refused(format!("there is no user {name}"));
        }
        for end in [
            "UPDATE grants SET ended_at = ?, end_cause = ? WHERE user_name = ? AND ended_at IS NULL",
            "UPDATE credentials SET ended_at = ?, end_cause = ? WHERE user_name = ? AND ended_at IS NULL",
        ] {
            sqlx::query(end)
                .bind(time(self.at))
                .bind(cause(EndCause::UserRemoved))
                .bind(name.as_str())
                .execute(&mut *self.to)
                .await?;
        }
        Ok(())
    }

    async fn user_exists(&mut self, name: &Name) -> Result<bool, Trouble> {
        let row = sqlx::query("SELECT 1 FROM users WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&mut *self.to)
            .await?;
        Ok(row.is_some())
    }

    /// A group is there when somebody is in it.
    async fn group_exists(&mut self, name: &Name) -> Result<bool, Trouble> {
        let row =
            sqlx::query("SELECT 1 FROM users, json_each(users.groups) WHERE json_each.value = ? LIMIT 1")
                .bind(name.as_str())
                .fetch_optional(&mut *self.to)
                .await?;
        Ok(row.is_some())
    }

    async fn grant(&mut self, id: GrantId) -> Result<Option<Grant>, Trouble> {
        let row = sqlx::query("SELECT * FROM grants WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *self.to)
            .await?;
        row.map(|row| Reader::new(&row, "grants").grant()).transpose()
    }

    /// The grant, which must be open still. Its window counts too: its end may not be stored yet.
    async fn open_grant(&mut self, id: GrantId) -> Result<Grant, Trouble> {
        let Some(grant) = self.grant(id).await? else { return refused(format!("there is no grant {id}")) };
        still_open(&grant, self.at)?;
        Ok(grant)
    }

    async fn put_grant(&mut self, grant: &Grant) -> Result<(), Trouble> {
        let called = called(grant);
        if grant.ended.is_some() {
            return refused(format!("{called} cannot be put as one that has ended; end it instead"));
        }
        if let Err((key, what)) =
            conditions(&grant.window, &grant.databases, grant.sessions_max, grant.reason.as_deref())
        {
            return refused(format!("{called}: {key}: {what}"));
        }
        if let Some(before) = self.grant(grant.id).await? {
            still_open(&before, self.at)?;
            if before.name != grant.name || before.created_at != grant.created_at {
                return refused(format!("{called} has the id of another grant; make it again with a new id"));
            }
        } else if let Some(name) = &grant.name {
            self.refuse_taken(name).await?;
        }
        match &grant.subject {
            Subject::User(name) if !self.user_exists(name).await? => {
                return refused(format!("{called}: there is no user {name}; add the user first"));
            }
            Subject::Group(name) if !self.group_exists(name).await? => {
                return refused(format!("{called}: no user is in a group {name}; add one first"));
            }
            _ => {}
        }
        let target = self.target(&grant.target).await?;
        if !target.connectors.contains_key(&grant.level) {
            let there: Vec<_> = target.connectors.keys().map(AccessLevel::as_str).collect();
            return refused(format!(
                "{called}: target {} has no connector for {}; it has {}",
                target.name,
                grant.level,
                there.join(", ")
            ));
        }
        self.write_grant(grant).await
    }

    /// Names are given once: a file that is applied again must never open what has ended.
    async fn refuse_taken(&mut self, name: &Name) -> Result<(), Trouble> {
        let row = sqlx::query("SELECT * FROM grants WHERE name = ?")
            .bind(name.as_str())
            .fetch_optional(&mut *self.to)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let grant = Reader::new(&row, "grants").grant()?;
        match grant.ended {
            Some(ended) => refused(format!(
                "the name {name} belongs to grant {}, which ended at {} ({}); what has ended stays ended, so choose a new \
                 name",
                grant.id,
                ended.at,
                ended.cause.sentence()
            )),
            None => refused(format!("the name {name} belongs to grant {}; choose another", grant.id)),
        }
    }

    async fn write_grant(&mut self, grant: &Grant) -> Result<(), Trouble> {
        let (user, group) = match &grant.subject {
            Subject::User(name) => (Some(name.as_str()), None),
            Subject::Group(name) => (None, Some(name.as_str())),
        };
        sqlx::query(
            "INSERT INTO grants (id, name, user_name, group_name, target, level, databases, starts_at, ends_at, cidrs, \
             sessions_max, reason, created_at, created_by) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET user_name = excluded.user_name, group_name = excluded.group_name, \
             target = excluded.target, level = excluded.level, databases = excluded.databases, \
             starts_at = excluded.starts_at, ends_at = excluded.ends_at, cidrs = excluded.cidrs, \
             sessions_max = excluded.sessions_max, reason = excluded.reason, created_by = excluded.created_by",
        )
        .bind(grant.id.to_string())
        .bind(grant.name.as_ref().map(Name::as_str))
        .bind(user)
        .bind(group)
        .bind(grant.target.as_str())
        .bind(grant.level.as_str())
        .bind(json(&grant.databases))
        .bind(time(grant.window.start))
        .bind(time(grant.window.end))
        .bind(json(&grant.cidrs))
        .bind(grant.sessions_max)
        .bind(&grant.reason)
        .bind(time(grant.created_at))
        .bind(&grant.created_by)
        .execute(&mut *self.to)
        .await?;
        Ok(())
    }

    /// Also where the window is over: that is how an expiry is stored.
    async fn end_grant(&mut self, id: GrantId, ended: &Ended) -> Result<(), Trouble> {
        match self.grant(id).await? {
            None => refused(format!("there is no grant {id}")),
            Some(grant) => match &grant.ended {
                Some(before) => refused(has_ended(&called(&grant), before)),
                None => {
                    self.end(
                        "UPDATE grants SET ended_at = ?, end_cause = ?, end_reason = ? WHERE id = ?",
                        id.to_string(),
                        ended,
                    )
                    .await
                }
            },
        }
    }

    async fn extend_grant(&mut self, id: GrantId, end: Time) -> Result<(), Trouble> {
        let grant = self.open_grant(id).await?;
        if end <= grant.window.end {
            return refused(format!(
                "{} ends at {} already, which is not before {end}; revoke it to end it earlier",
                called(&grant),
                grant.window.end
            ));
        }
        sqlx::query("UPDATE grants SET ends_at = ? WHERE id = ?")
            .bind(time(end))
            .bind(id.to_string())
            .execute(&mut *self.to)
            .await?;
        Ok(())
    }

    async fn add_credential(&mut self, credential: &Credential) -> Result<(), Trouble> {
        let (id, user) = (credential.id, &credential.user);
        if credential.ended.is_some() || credential.window.start >= credential.window.end {
            return refused(format!(
                "credential {id} would never be good; its end must be later than its start"
            ));
        }
        if !self.user_exists(user).await? {
            return refused(format!("there is no user {user}; add the user first"));
        }
        if self.credential(id).await?.is_some() {
            return refused(format!("credential {id} is there already; make a new one"));
        }
        let live: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM credentials WHERE user_name = ? AND ended_at IS NULL AND ends_at > ?",
        )
        .bind(user.as_str())
        .bind(time(self.at))
        .fetch_one(&mut *self.to)
        .await?;
        if live >= CREDENTIALS_PER_USER_MAX as i64 {
            return refused(format!(
                "user {user} has {live} live credentials, and {CREDENTIALS_PER_USER_MAX} is the most; revoke one first"
            ));
        }
        let verifiers = &credential.verifiers;
        sqlx::query(
            "INSERT INTO credentials (id, user_name, starts_at, ends_at, scram_stored_key, scram_server_key, caching_sha2, \
             ed25519, parsec, check_value, mysql_native, created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.to_string())
        .bind(user.as_str())
        .bind(time(credential.window.start))
        .bind(time(credential.window.end))
        .bind(&verifiers.scram_stored_key)
        .bind(&verifiers.scram_server_key)
        .bind(&verifiers.caching_sha2)
        .bind(&verifiers.ed25519)
        .bind(&verifiers.parsec)
        .bind(&verifiers.check)
        .bind(&verifiers.mysql_native)
        .bind(&credential.created_by)
        .execute(&mut *self.to)
        .await?;
        Ok(())
    }

    async fn credential(&mut self, id: CredentialId) -> Result<Option<Credential>, Trouble> {
        let row = sqlx::query("SELECT * FROM credentials WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *self.to)
            .await?;
        row.map(|row| Reader::new(&row, "credentials").credential()).transpose()
    }

    async fn end_credential(&mut self, id: CredentialId, ended: &Ended) -> Result<(), Trouble> {
        match self.credential(id).await? {
            None => refused(format!("there is no credential {id}")),
            Some(Credential { ended: Some(before), .. }) => {
                refused(format!("credential {id} ended at {} already", before.at))
            }
            Some(_) => {
                self.end(
                    "UPDATE credentials SET ended_at = ?, end_cause = ?, end_reason = ? WHERE id = ?",
                    id.to_string(),
                    ended,
                )
                .await
            }
        }
    }

    async fn end(&mut self, update: &'static str, id: String, ended: &Ended) -> Result<(), Trouble> {
        sqlx::query(update)
            .bind(time(ended.at))
            .bind(cause(ended.cause))
            .bind(&ended.reason)
            .bind(id)
            .execute(&mut *self.to)
            .await?;
        Ok(())
    }
}

fn still_open(grant: &Grant, at: Time) -> Result<(), Trouble> {
    match &grant.ended {
        Some(ended) => refused(has_ended(&called(grant), ended)),
        None if grant.window.end <= at => refused(format!(
            "{} expired at {}; what has ended stays ended, so make a new grant",
            called(grant),
            grant.window.end
        )),
        None => Ok(()),
    }
}

fn has_ended(called: &str, ended: &Ended) -> String {
    format!(
        "{called} ended at {} already ({}); what has ended stays ended, so make a new grant",
        ended.at,
        ended.cause.sentence()
    )
}

fn called(grant: &Grant) -> String {
    match &grant.name {
        Some(name) => format!("grant {name} ({})", grant.id),
        None => format!("grant {}", grant.id),
    }
}

fn refused<T>(sentence: String) -> Result<T, Trouble> {
    Err(Trouble::Refused(sentence))
}
