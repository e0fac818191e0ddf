use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::*;
use crate::model::User;
use crate::observe::TrailSettings;

/// A ledger with nothing in it, in a folder of its own.
pub(crate) async fn scratch() -> (tempfile::TempDir, Trail, Arc<Ledger>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open("sqlite:tidegate.db", folder.path()).await.unwrap();
    let trail = Trail::open(TrailSettings {
        directory: folder.path().join("audit"),
        sync: Duration::from_millis(5),
        lag_bytes_max: 8 << 20,
        segment_bytes: 1 << 20,
        shards: 1,
        continue_on_failure: false,
    })
    .unwrap();
    let ledger = Ledger::open(store, trail.clone(), Arc::new(Keys::new(&[7; 32]))).await.unwrap();
    (folder, trail, ledger)
}

async fn add(ledger: &Ledger, name: &str) -> Result<Vec<Change>, ChangeError> {
    let user = User { name: name.parse().unwrap(), groups: Default::default() };
    ledger.change(&Actor::Proxy, "user.add", None, |_| Ok(vec![Change::PutUser { user }])).await
}

#[tokio::test]
async fn what_could_not_be_read_back_is_read_again() {
    let (folder, _trail, ledger) = scratch().await;
    add(&ledger, "alice").await.unwrap();
    assert!(!ledger.tick());
    let file = folder.path().join("tidegate.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("ALTER TABLE credentials RENAME TO elsewhere").execute(&mut other).await.unwrap();
    add(&ledger, "bob").await.unwrap_err();
    assert!(ledger.book().user("alice").is_none(), "an old book stays in force");
    assert!(ledger.tick(), "reading it back is not tried again");
    ledger.store_ends().await.unwrap_err();
    let plan = |_: &Snapshot| panic!("planned from an empty book");
    ledger.change(&Actor::Proxy, "apply", None, plan).await.unwrap_err();
    sqlx::query("ALTER TABLE elsewhere RENAME TO credentials").execute(&mut other).await.unwrap();
    let mut changed = ledger.changed();
    ledger.store_ends().await.unwrap();
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert!(["alice", "bob"].iter().all(|name| ledger.book().user(name).is_some()));
    assert!(!ledger.tick());
}

/// Makes every change of a grant fail, or lets it through again. Reading goes on.
async fn set_full(store: &mut sqlx::SqliteConnection, full: bool) {
    sqlx::query(match full {
        true => "CREATE TRIGGER full BEFORE UPDATE ON grants BEGIN SELECT RAISE(ABORT, 'no room'); END",
        false => "DROP TRIGGER full",
    })
    .execute(store)
    .await
    .unwrap();
}

fn end(id: GrantId) -> Vec<Change> {
    vec![Change::EndGrant { id, ended: Ended { at: Time::now(), cause: EndCause::Revoked, reason: None } }]
}

async fn with_grant() -> (tempfile::TempDir, Trail, Arc<Ledger>, GrantId, sqlx::SqliteConnection) {
    let (folder, trail, ledger) = scratch().await;
    add(&ledger, "alice").await.unwrap();
    let target: crate::model::Target = serde_json::from_value(serde_json::json!({
        "name": "orders", "protocol": "postgres", "address": "a:1", "database": "shop",
        "connectors": {"read": {"secret": "file:a"}},
    }))
    .unwrap();
    let now = Time::now();
    let grant: crate::model::Grant = serde_json::from_value(serde_json::json!({
        "id": "g-0000000000001", "subject": {"user": "alice"}, "target": "orders", "level": "read",
        "window": {"start": now, "end": now + Duration::from_secs(3_600)}, "created_at": now, "created_by": "root",
    }))
    .unwrap();
    let id = grant.id;
    let changes =
        vec![Change::PutTarget { target: Box::new(target) }, Change::PutGrant { grant: Box::new(grant) }];
    ledger.change(&Actor::Proxy, "apply", None, |_| Ok(changes)).await.unwrap();
    let file = folder.path().join("tidegate.db");
    let other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    (folder, trail, ledger, id, other)
}

fn is_open(ledger: &Ledger, id: GrantId) -> bool {
    ledger.book().snapshot().grants.iter().any(|grant| grant.id == id && grant.ended.is_none())
}

async fn is_stored(store: &mut sqlx::SqliteConnection) -> bool {
    let ended = sqlx::query_scalar("SELECT count(*) FROM grants WHERE end_cause = 'revoked'");
    ended.fetch_one(store).await.map(|count: i64| count == 1).unwrap()
}

fn actions(folder: &std::path::Path) -> Vec<String> {
    let mut actions = Vec::new();
    crate::observe::search(&folder.join("audit"), &Default::default(), &mut |line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        actions.extend(line["action"].as_str().map(str::to_owned));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    actions
}

#[tokio::test]
async fn what_cannot_be_stored_is_revoked_all_the_same_and_stored_later() {
    let (folder, trail, ledger, id, mut other) = with_grant().await;
    set_full(&mut other, true).await;
    let mut changed = ledger.changed();
    changed.mark_unchanged();
    let revoked = ledger.take_away(&Actor::Proxy, "grant.revoke", None, |_| Ok(end(id))).await;
    let Err(error @ ChangeError::Unstored(_)) = revoked else { panic!("{revoked:?}") };
    assert!(error.to_string().contains("no room") && error.to_string().contains("in force"), "{error}");
    assert!(changed.has_changed().unwrap() && !is_open(&ledger, id) && !is_stored(&mut other).await);
    assert_eq!(ledger.unstored(), 1);
    // Nothing brings it back, and what comes later waits its turn.
    assert!(ledger.tick());
    ledger.store_ends().await.unwrap_err();
    let bob = add(&ledger, "bob").await;
    assert!(bob.unwrap_err().to_string().contains("must be stored first"));
    ledger.publish().await.unwrap();
    assert!(!is_open(&ledger, id));
    set_full(&mut other, false).await;
    ledger.store_ends().await.unwrap();
    assert!(is_stored(&mut other).await && !is_open(&ledger, id) && ledger.unstored() == 0 && !ledger.tick());
    add(&ledger, "bob").await.unwrap();
    trail.flush().await.unwrap();
    let actions = actions(folder.path());
    assert_eq!(actions.iter().filter(|action| *action == "change.unstored").count(), 1, "{actions:?}");
    assert_eq!(actions.iter().filter(|action| *action == "grant.revoke").count(), 1, "{actions:?}");
}

#[tokio::test]
async fn a_change_that_hangs_keeps_nobody_in() {
    use futures_util::FutureExt;
    let (_folder, _trail, ledger, id, mut other) = with_grant().await;
    let hanging = ledger.changing.lock().await;
    {
        let revoking = ledger.take_away(&Actor::Proxy, "grant.revoke", None, |_| Ok(end(id)));
        assert!(revoking.now_or_never().is_none(), "it is stored after what came before");
        assert!(!is_open(&ledger, id));
    }
    drop(hanging);
    assert!(ledger.tick());
    ledger.store_ends().await.unwrap();
    assert!(is_stored(&mut other).await);
}

#[tokio::test]
async fn a_trail_that_takes_nothing_keeps_nobody_in() {
    let (_folder, trail, ledger, id, mut other) = with_grant().await;
    trail.close().await.unwrap();
    let revoked = ledger.take_away(&Actor::Proxy, "grant.revoke", None, |_| Ok(end(id))).await;
    let Err(error @ ChangeError::Unstored(_)) = revoked else { panic!("{revoked:?}") };
    assert!(error.to_string().contains("the audit trail cannot be written"), "{error}");
    assert!(!is_open(&ledger, id) && is_stored(&mut other).await, "it is stored without its line");
    assert_eq!(ledger.unstored(), 1, "the line is still to be written");
}

#[tokio::test]
async fn what_the_store_refuses_was_no_revocation() {
    let (_folder, _trail, ledger, id, mut other) = with_grant().await;
    sqlx::query("UPDATE grants SET ended_at = ends_at, end_cause = 'expired'")
        .execute(&mut other)
        .await
        .unwrap();
    let revoked = ledger.take_away(&Actor::Proxy, "grant.revoke", None, |_| Ok(end(id))).await;
    assert!(matches!(&revoked, Err(ChangeError::Refused(why)) if why.contains("ended")), "{revoked:?}");
    assert!(!is_open(&ledger, id) && ledger.unstored() == 0);
    let given = ledger.take_away(&Actor::Proxy, "user.add", None, |_| {
        let user = User { name: "eve".parse().unwrap(), groups: Default::default() };
        Ok(vec![Change::PutUser { user }])
    });
    assert!(matches!(given.await, Err(ChangeError::Refused(_))));
    assert!(ledger.book().user("eve").is_none());
}

/// The end of a certificate is in no book: whoever let somebody in by one wakes its sessions then, one of requests too.
#[tokio::test]
async fn the_end_of_a_certificate_wakes_the_sessions_of_requests() {
    let (_folder, _trail, ledger, _, _) = with_grant().await;
    let (name, now) = (Name::parse("alice").unwrap(), Time::now());
    let certificate = Arc::new(ClientCertificate {
        name: Some(name.clone()),
        window: crate::model::Window {
            start: now - Duration::from_secs(9),
            end: now + Duration::from_millis(50),
        },
        serial: "01".into(),
        issuer: "CN=us".into(),
        sha256: "00".into(),
    });
    let identity = ledger.certificate(&name, &certificate).unwrap();
    let peer = "192.0.2.7".parse().unwrap();
    let claim = Claim { user: name, level: None, target: "orders".parse().unwrap(), database: None, peer };
    let touch = Touch::new(crate::model::AccessLevel::Read, crate::model::Reach::nothing());
    let admitted = ledger.admit_request(&identity, &claim, touch, &[]).unwrap();
    assert!(admitted.1.is_some());
    let mut changed = ledger.changed();
    changed.mark_unchanged();
    tokio::time::sleep(Duration::from_millis(60)).await;
    ledger.tick();
    assert!(changed.has_changed().unwrap(), "nobody looks at their grant");
    assert_eq!(ledger.request_ended(&admitted.0), Some(EndCause::CredentialEnded));
}
