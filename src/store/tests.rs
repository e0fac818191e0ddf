use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;
use crate::model::{
    Connector, Credential, CredentialId, Databases, EndCause, Ended, Grant, PoolSettings, Subject, Target,
    TlsMode, User, Verifiers, Window,
};

pub(super) const URL: &str = "sqlite:state/tidegate.db";

pub(super) fn at(seconds: i64) -> Time {
    // Far ahead: nothing here depends on the day the tests run.
    Time::from_second(4_000_000_000 + seconds).unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(super) fn user(text: &str, groups: &[&str]) -> User {
    User { name: name(text), groups: groups.iter().map(|group| name(group)).collect() }
}

pub(super) fn target(text: &str, levels: &[AccessLevel]) -> Target {
    let connector = |level: &AccessLevel| Connector {
        secret: format!("file:{text}-{level}.json"),
        baseline: None,
        suspended: None,
    };
    Target {
        name: name(text),
        protocol: "postgres".to_owned(),
        address: "127.0.0.1:5432".to_owned(),
        database: Some("shop".to_owned()),
        tls: TlsMode::Require,
        tls_ca: None,
        upstream: Default::default(),
        details: "Questions: #data".to_owned(),
        owners: [name("data")].into(),
        connectors: levels.iter().map(|level| (level.clone(), connector(level))).collect(),
        pool: PoolSettings { size_max: 7, ..PoolSettings::default() },
        remembered: Default::default(),
        accept_extensions: ["plperlu".to_owned()].into(),
        park: Default::default(),
        park_accepts: Default::default(),
        bodies: Default::default(),
        suspended: None,
    }
}

pub(super) fn grant(id: u64, called: Option<&str>, subject: Subject) -> Grant {
    Grant {
        id: GrantId::from_u64(id),
        name: called.map(name),
        subject,
        target: name("orders"),
        level: AccessLevel::Read,
        databases: Databases::Listed(["shop".to_owned(), "a\"b'c".to_owned()].into()),
        window: Window { start: at(0), end: at(1_000) },
        cidrs: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        sessions_max: Some(u32::MAX),
        reason: Some("because; drop table grants".to_owned()),
        created_at: "2026-11-22T08:00:00.123456789Z".parse().unwrap(),
        created_by: "uid 1000".to_owned(),
        ended: None,
    }
}

pub(super) fn credential(id: u64, of: &str) -> Credential {
    Credential {
        id: CredentialId::from_u64(id),
        user: name(of),
        window: Window { start: at(0), end: at(1_000) },
        verifiers: Verifiers {
            scram_stored_key: vec![1; 32],
            scram_server_key: vec![2; 32],
            caching_sha2: vec![3; 32],
            ed25519: vec![4; 32],
            parsec: vec![5; 32],
            check: vec![id as u8; 32],
            mysql_native: id.is_multiple_of(2).then(|| vec![6; 20]),
        },
        created_by: "uid 1000".to_owned(),
        ended: None,
    }
}

pub(super) fn ended(seconds: i64, cause: EndCause) -> Ended {
    Ended { at: at(seconds), cause, reason: Some("enough".to_owned()) }
}

fn session(id: u64) -> SessionRow {
    SessionRow {
        session: SessionId::from_u64(id),
        user: name("alice"),
        target: name("orders"),
        level: AccessLevel::ReadWrite,
        grant: GrantId::from_u64(1),
        database: None,
        peer: "127.0.0.1:50000".to_owned(),
        protocol: "postgres".to_owned(),
        started_at: at(1),
        ended_at: None,
        how: None,
        code: None,
        statements: 0,
        bytes_up: 0,
        bytes_down: 0,
    }
}

fn put_user(user: User) -> Change {
    Change::PutUser { user }
}
fn put_target(target: Target) -> Change {
    Change::PutTarget { target: Box::new(target) }
}
fn put_grant(grant: Grant) -> Change {
    Change::PutGrant { grant: Box::new(grant) }
}
fn add(credential: Credential) -> Change {
    Change::AddCredential { credential: Box::new(credential) }
}
fn alice() -> Subject {
    Subject::User(name("alice"))
}

pub(super) type Parts = (Vec<User>, Vec<Target>, Vec<Grant>, Vec<Credential>);

pub(super) fn parts(snapshot: Snapshot) -> Parts {
    (snapshot.users, snapshot.targets, snapshot.grants, snapshot.credentials)
}

/// One user, one target, one grant, one credential.
async fn filled(folder: &Path) -> Store {
    let store = Store::open(URL, folder).await.unwrap();
    let changes = [
        put_user(user("alice", &["backend", "data"])),
        put_target(target("orders", &[AccessLevel::Read, AccessLevel::ReadWrite])),
        put_grant(grant(1, Some("week-47"), alice())),
        add(credential(1, "alice")),
    ];
    store.apply(&changes, at(1)).await.unwrap();
    store
}

async fn refusal(store: &Store, change: Change, seconds: i64) -> String {
    let before = parts(store.snapshot().await.unwrap());
    // The first change is fine; it must not stay either.
    let changes = [put_user(user("mallory", &[])), change];
    match store.apply(&changes, at(seconds)).await {
        Err(StoreError::Refused(sentence)) => {
            assert_eq!(parts(store.snapshot().await.unwrap()), before, "{sentence}");
            sentence
        }
        other => panic!("not refused: {other:?} of {:?}", changes[1]),
    }
}

#[tokio::test]
async fn what_is_put_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let (users, targets, grants, credentials) = parts(store.snapshot().await.unwrap());
    assert_eq!(users, [user("alice", &["backend", "data"])]);
    assert_eq!(targets, [target("orders", &[AccessLevel::Read, AccessLevel::ReadWrite])]);
    assert_eq!(grants, [grant(1, Some("week-47"), alice())]);
    assert_eq!(credentials, [credential(1, "alice")]);
}

#[tokio::test]
async fn files_are_private_and_the_store_opens_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let state = folder.path().join("state");
    assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&state).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{file:?}");
    }
    let second = Store::open(URL, folder.path()).await.err().unwrap().to_string();
    assert!(second.ends_with("is in use by another tidegate process; stop that one first"), "{second}");
    store.close().await;
    let again = Store::open(URL, folder.path()).await.unwrap();
    assert_eq!(again.snapshot().await.unwrap().grants.len(), 1);
}

#[tokio::test]
async fn targets_and_levels_are_suspended_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let (orders, level) = (name("orders"), AccessLevel::Read);
    let one = async || store.snapshot().await.unwrap().targets.remove(0);
    let set =
        Change::SetBaseline { target: orders.clone(), level: level.clone(), fingerprint: "f1".to_owned() };
    let alarm =
        Change::SuspendLevel { target: orders.clone(), level: level.clone(), reason: "differs".to_owned() };
    let suspend = Change::SuspendTarget { name: orders.clone(), reason: "upgrade".to_owned() };
    store.apply(&[set, alarm, suspend], at(2)).await.unwrap();
    let target = one().await;
    assert_eq!(target.suspended.as_deref(), Some("upgrade"));
    let connector = &target.connectors[&level];
    assert_eq!(
        (connector.baseline.as_deref(), connector.suspended.as_deref()),
        (Some("f1"), Some("differs"))
    );
    assert_eq!(target.connectors[&AccessLevel::ReadWrite].suspended, None);

    let resume = Change::ResumeLevel { target: orders.clone(), level: level.clone() };
    store.apply(&[resume, Change::ResumeTarget { name: orders.clone() }], at(3)).await.unwrap();
    assert_eq!(one().await, super::tests::target("orders", &[AccessLevel::Read, AccessLevel::ReadWrite]));

    let admin = Change::ResumeLevel { target: orders, level: AccessLevel::Admin };
    assert_eq!(refusal(&store, admin, 4).await, "target orders has no connector for admin");
    let reason = String::new();
    assert_eq!(
        refusal(&store, Change::SuspendTarget { name: name("x"), reason }, 4).await,
        "there is no target x"
    );
}

#[tokio::test]
async fn what_has_ended_stays_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let id = GrantId::from_u64(1);
    store.apply(&[Change::ExtendGrant { id, end: at(2_000) }], at(2)).await.unwrap();
    let shorter = refusal(&store, Change::ExtendGrant { id, end: at(1_500) }, 2).await;
    assert!(shorter.contains("revoke it to end it earlier"), "{shorter}");
    store.apply(&[Change::EndGrant { id, ended: ended(3, EndCause::Revoked) }], at(3)).await.unwrap();
    let kept = Grant {
        ended: Some(ended(3, EndCause::Revoked)),
        window: Window { start: at(0), end: at(2_000) },
        ..grant(1, Some("week-47"), alice())
    };
    assert_eq!(store.snapshot().await.unwrap().grants, std::slice::from_ref(&kept));

    for change in [
        Change::EndGrant { id, ended: ended(4, EndCause::Expired) },
        Change::ExtendGrant { id, end: at(3_000) },
        put_grant(grant(1, Some("week-47"), alice())),
    ] {
        let said = refusal(&store, change, 4).await;
        assert!(said.contains("already (the grant was revoked); what has ended stays ended"), "{said}");
    }
    let said = refusal(&store, put_grant(grant(2, Some("week-47"), alice())), 4).await;
    assert!(said.starts_with("the name week-47 belongs to grant g-0000000000001, which ended"), "{said}");
    // Removing what it was for does not touch it.
    store.apply(&[Change::RemoveUser { name: name("alice") }], at(5)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().grants, [kept]);
    // And the schema itself holds.
    let reopened =
        sqlx::query("UPDATE grants SET ended_at = NULL, end_cause = NULL").execute(&store.inner.writer).await;
    assert!(reopened.unwrap_err().to_string().contains("an ended grant does not change"));
}

#[tokio::test]
async fn a_window_that_is_over_is_not_reopened_before_its_end_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let id = GrantId::from_u64(1);
    let said = refusal(&store, Change::ExtendGrant { id, end: at(9_000) }, 1_000).await;
    assert!(said.starts_with("grant week-47 (g-0000000000001) expired at"), "{said}");
    let longer =
        Grant { window: Window { start: at(0), end: at(9_000) }, ..grant(1, Some("week-47"), alice()) };
    assert!(refusal(&store, put_grant(longer), 1_000).await.contains("expired at"));
    store.apply(&[Change::EndGrant { id, ended: ended(1_000, EndCause::Expired) }], at(1_000)).await.unwrap();
}

#[tokio::test]
async fn removing_a_user_or_target_ends_what_was_open() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let group = Subject::Group(name("backend"));
    store.apply(&[put_grant(grant(2, None, group))], at(2)).await.unwrap();
    store.apply(&[Change::RemoveUser { name: name("alice") }], at(3)).await.unwrap();
    let removed = Some(Ended { at: at(3), cause: EndCause::UserRemoved, reason: None });
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.users, []);
    assert_eq!(snapshot.grants[0].ended, removed);
    assert_eq!(snapshot.grants[1].ended, None, "the group's grant is not the user's");
    assert_eq!(snapshot.credentials[0].ended, removed);

    store.apply(&[Change::RemoveTarget { name: name("orders") }], at(4)).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.targets, []);
    assert_eq!(snapshot.grants[0].ended, removed);
    let ended = snapshot.grants[1].ended.clone().unwrap();
    assert_eq!((ended.at, ended.cause), (at(4), EndCause::NoLongerMatches));

    for (change, said) in [
        (Change::RemoveUser { name: name("alice") }, "there is no user alice"),
        (Change::RemoveTarget { name: name("orders") }, "there is no target orders"),
        (add(credential(2, "alice")), "there is no user alice; add the user first"),
    ] {
        assert_eq!(refusal(&store, change, 5).await, said);
    }
}

#[tokio::test]
async fn grants_name_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let usual = grant(2, Some("other"), alice());
    for (change, said) in [
        (Grant { subject: Subject::User(name("eve")), ..usual.clone() }, "there is no user eve"),
        (Grant { subject: Subject::Group(name("ops")), ..usual.clone() }, "no user is in a group ops"),
        (Grant { target: name("x"), ..usual.clone() }, "there is no target x"),
        (
            Grant { level: AccessLevel::Admin, ..usual.clone() },
            "has no connector for admin; it has read, read_write",
        ),
        (
            Grant { window: Window { start: at(5), end: at(5) }, ..usual.clone() },
            "until: must be later than from",
        ),
        (Grant { databases: Databases::Listed([].into()), ..usual.clone() }, "databases: empty"),
        (Grant { sessions_max: Some(0), ..usual.clone() }, "sessions: must be at least 1"),
        (Grant { ended: Some(ended(1, EndCause::Revoked)), ..usual.clone() }, "as one that has ended"),
        (Grant { name: Some(name("week-47")), ..usual.clone() }, "the name week-47 belongs to grant"),
        (Grant { id: GrantId::from_u64(1), ..usual.clone() }, "has the id of another grant"),
    ] {
        let sentence = refusal(&store, put_grant(change), 2).await;
        assert!(sentence.contains(said), "{sentence}");
    }
    for change in [
        Change::EndGrant { id: GrantId::from_u64(9), ended: ended(2, EndCause::Revoked) },
        Change::ExtendGrant { id: GrantId::from_u64(9), end: at(2_000) },
    ] {
        assert_eq!(refusal(&store, change, 2).await, "there is no grant g-0000000000009");
    }
    let again = Grant {
        databases: Databases::All,
        cidrs: Vec::new(),
        sessions_max: None,
        reason: None,
        ..grant(1, Some("week-47"), alice())
    };
    store.apply(&[put_grant(again.clone())], at(2)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().grants, [again]);
}

#[tokio::test]
async fn credentials_are_few_and_end_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let more: Vec<_> = (2..=8).map(|id| add(credential(id, "alice"))).collect();
    store.apply(&more, at(2)).await.unwrap();
    let said = refusal(&store, add(credential(9, "alice")), 2).await;
    assert_eq!(said, "user alice has 8 live credentials, and 8 is the most; revoke one first");
    // Those whose time is over do not count, though nobody stored their end.
    store
        .apply(
            &[add(Credential { window: Window { start: at(0), end: at(5_000) }, ..credential(9, "alice") })],
            at(1_000),
        )
        .await
        .unwrap();

    let id = CredentialId::from_u64(1);
    let end = Change::EndCredential { id, ended: ended(3, EndCause::Revoked) };
    store.apply(std::slice::from_ref(&end), at(3)).await.unwrap();
    assert!(refusal(&store, end, 4).await.starts_with("credential c-0000000000001 ended at"));
    let unknown =
        Change::EndCredential { id: CredentialId::from_u64(77), ended: ended(3, EndCause::Revoked) };
    assert_eq!(
        refusal(&store, unknown, 4).await,
        format!("there is no credential {}", CredentialId::from_u64(77))
    );
    assert!(refusal(&store, add(credential(1, "alice")), 1_000).await.contains("is there already"));
    let never = Credential { window: Window { start: at(5), end: at(5) }, ..credential(10, "alice") };
    assert!(refusal(&store, add(never), 4).await.contains("would never be good"));
}

#[tokio::test]
async fn a_snapshot_forgets_what_ended_long_ago() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let (past, end) = (at(3), ended(3, EndCause::Revoked));
    store
        .apply(
            &[
                Change::EndGrant { id: GrantId::from_u64(1), ended: end.clone() },
                Change::EndCredential { id: CredentialId::from_u64(1), ended: end },
            ],
            past,
        )
        .await
        .unwrap();
    let seen = async |seconds| {
        let snapshot = snapshot::read(&store.inner.readers, at(seconds)).await.unwrap();
        (snapshot.grants.len(), snapshot.credentials.len())
    };
    let days_30 = 30 * 86_400;
    assert_eq!(seen(3 + days_30).await, (1, 1));
    assert_eq!(seen(4 + days_30).await, (0, 0));
    // A revoked grant whose window is open stays in sight.
    let long = Grant { window: Window { start: at(0), end: at(100 * 86_400) }, ..grant(2, None, alice()) };
    let changes =
        [put_grant(long), Change::EndGrant { id: GrantId::from_u64(2), ended: ended(5, EndCause::Revoked) }];
    store.apply(&changes, at(5)).await.unwrap();
    assert_eq!(seen(2 * days_30).await, (1, 0));
    assert_eq!(seen(100 * 86_400).await, (0, 0));
}

#[tokio::test]
async fn the_history_of_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(URL, folder.path()).await.unwrap();
    for id in 1..=3 {
        store.keep_sessions(&[&session(id)]).await.unwrap();
    }
    let done = SessionRow {
        ended_at: Some(at(9)),
        how: Some("cut".to_owned()),
        code: Some("TG004".to_owned()),
        statements: 3,
        bytes_up: u64::MAX,
        bytes_down: 5,
        ..session(2)
    };
    store.keep_sessions(&[&done]).await.unwrap();
    let kept = SessionRow { bytes_up: i64::MAX as u64, ..done };
    assert_eq!(store.sessions(10).await.unwrap(), [session(3), kept.clone(), session(1)]);
    assert_eq!(store.sessions(1).await.unwrap(), [session(3)]);
    assert_eq!(store.session(SessionId::from_u64(2)).await.unwrap(), Some(kept.clone()));
    assert_eq!(store.session(SessionId::from_u64(4)).await.unwrap(), None);
    assert_eq!(store.targets_of_ended().await.unwrap(), [kept.target.clone()].into());

    drop(store);
    let store = Store::open(URL, folder.path()).await.unwrap();
    let lost = store.session(SessionId::from_u64(3)).await.unwrap().unwrap();
    assert_eq!(lost.how.as_deref(), Some("lost"));
    assert!(lost.ended_at.is_some());
    assert_eq!(store.session(SessionId::from_u64(2)).await.unwrap(), Some(kept));

    store.keep_sessions(&[&session(4)]).await.unwrap();
    history::sweep(&store.inner.history, 2).await.unwrap();
    let left: Vec<_> = store.sessions(10).await.unwrap().iter().map(|row| row.session.as_u64()).collect();
    assert_eq!(left, [4, 3]);
    history::sweep(&store.inner.history, 0).await.unwrap();
    assert_eq!(store.sessions(10).await.unwrap(), [session(4)], "an open session is never swept");
}

#[tokio::test]
async fn a_backup_opens_as_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let file = folder.path().join("copy.db");
    store.backup(&file).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    let said = store.backup(&file).await.unwrap_err().to_string();
    assert!(said.ends_with("copy.db exists already and is not overwritten; name another file"), "{said}");
    let said = store.backup(&folder.path().join("none/copy.db")).await.unwrap_err().to_string();
    assert!(said.contains("cannot be written: No such file"), "{said}");

    store.apply(&[Change::RemoveUser { name: name("alice") }], at(2)).await.unwrap();
    let copy = Store::open("sqlite:copy.db", folder.path()).await.unwrap();
    assert_eq!(copy.snapshot().await.unwrap().users, [user("alice", &["backend", "data"])]);
    assert_eq!(copy.snapshot().await.unwrap().credentials, [credential(1, "alice")]);
    let now = parts(store.snapshot().await.unwrap());
    store.backup(&folder.path().join("second.db")).await.unwrap();
    let second = Store::open("sqlite:second.db", folder.path()).await.unwrap();
    assert_eq!(parts(second.snapshot().await.unwrap()), now);
}

#[tokio::test]
async fn of_two_backups_to_one_place_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    for round in 0..10 {
        let file = folder.path().join(format!("copy{round}.db"));
        // The stores of rounds before may still be closing their files.
        let names = || -> std::collections::BTreeSet<_> {
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let before = names();
        let (one, other) = tokio::join!(store.backup(&file), store.backup(&file));
        let refused = match (one, other) {
            (Ok(()), Err(refused)) | (Err(refused), Ok(())) => refused.to_string(),
            both => panic!("{both:?}"),
        };
        assert!(refused.ends_with("exists already and is not overwritten; name another file"), "{refused}");
        let made: Vec<_> = names().difference(&before).cloned().collect();
        assert_eq!(made, [format!("copy{round}.db").as_str()], "nothing else is left behind");
        Store::open(&format!("sqlite:copy{round}.db"), folder.path()).await.unwrap();
        std::fs::remove_file(folder.path().join(format!("copy{round}.db.lock"))).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let before = parts(store.snapshot().await.unwrap());
    sqlx::query("PRAGMA max_page_count = 1").execute(&store.inner.writer).await.unwrap();
    let many: Vec<_> =
        (0..2_000).map(|number| put_user(user(&format!("user-{number}"), &["everybody"]))).collect();
    let error = store.apply(&many, at(2)).await.unwrap_err();
    assert!(
        error.to_string().ends_with("is on a full disk: nothing was changed; free some space and try again"),
        "{error}"
    );
    assert_eq!(parts(store.snapshot().await.unwrap()), before);
    sqlx::query("PRAGMA max_page_count = 1000000").execute(&store.inner.writer).await.unwrap();
    store.apply(&many, at(2)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().users.len(), 2_001);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    sqlx::query("PRAGMA query_only = 1").execute(&store.inner.writer).await.unwrap();
    let error = store.apply(&[put_user(user("bob", &[]))], at(2)).await.unwrap_err().to_string();
    assert!(error.contains("cannot be written: the file, its folder or the disk is read-only"), "{error}");
}

#[tokio::test]
async fn what_is_no_store_of_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let private =
        |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = async |file: &str| {
        let url = format!("sqlite:{file}");
        let error = Store::open(&url, folder.path()).await.err().unwrap().to_string();
        assert_eq!(
            Store::check(&url, folder.path()).err().map(|error| error.to_string()),
            Some(error.clone())
        );
        error
    };
    let text = folder.path().join("text.db");
    std::fs::write(&text, "not a database at all, but long enough to be looked at").unwrap();
    std::fs::set_permissions(&text, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(said("text.db").await.contains("(mode 644); run chmod 600 on it"));
    private(&text);
    assert!(said("text.db").await.contains("is not an SQLite database"));
    assert!(said(".").await.contains("is not a file"));

    let foreign = folder.path().join("foreign.db");
    std::fs::write(&foreign, "").unwrap();
    private(&foreign);
    let mut connection = open::connect_once(&foreign).await.unwrap();
    sqlx::query("CREATE TABLE theirs (x)").execute(&mut connection).await.unwrap();
    // Only its tables tell; a check does not open it.
    assert_eq!(Store::check("sqlite:foreign.db", folder.path()).map_err(|error| error.to_string()), Ok(()));
    let error = Store::open("sqlite:foreign.db", folder.path()).await.err().unwrap().to_string();
    assert!(error.contains("is a database of another program"), "{error}");
    sqlx::query("PRAGMA application_id = 7").execute(&mut connection).await.unwrap();
    assert!(said("foreign.db").await.contains("is a database of another program"));
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await.unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_newer_schema_and_a_damaged_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', 1, x'00', 0)",
    )
    .execute(&store.inner.writer)
    .await
    .unwrap();
    store.close().await;
    let error = Store::open(URL, folder.path()).await.err().unwrap().to_string();
    assert!(error.contains("was last used by a newer version of tidegate (schema 99)"), "{error}");

    let path = folder.path().join("state/tidegate.db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in &mut bytes[100..] {
        *byte = 0xa5;
    }
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(URL, folder.path()).await.err().unwrap().to_string();
    assert!(error.contains("is damaged: restore it from a backup"), "{error}");
}

#[tokio::test]
async fn a_first_start_that_died_early_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("early.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut connection = open::connect_once(&path).await.unwrap();
    sqlx::query("CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)")
        .execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let store = Store::open("sqlite:early.db", folder.path()).await.unwrap();
    store.apply(&[put_user(user("alice", &[]))], at(1)).await.unwrap();
}

#[test]
fn urls_name_one_file() {
    let base = Path::new("/base");
    for (url, path) in [
        ("sqlite:state/t.db", "/base/state/t.db"),
        ("sqlite:/var/t.db", "/var/t.db"),
        ("sqlite:///var/t.db", "/var/t.db"),
        ("sqlite://state/t.db", "/base/state/t.db"),
    ] {
        assert_eq!(database_path(url, base), Ok(path.into()));
    }
    for bad in [
        "",
        "state/t.db",
        "sqlite:",
        "sqlite:///",
        "sqlite:state/",
        "sqlite:t.db?mode=ro",
        "sqlite::memory:",
        "postgres://db/t",
    ] {
        assert!(database_path(bad, base).is_err(), "{bad}");
    }
    assert!(database_path("postgres://db/t", base).unwrap_err().contains("not built yet"));
}

#[test]
fn a_check_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    Store::check(URL, folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::write(folder.path().join("state"), "a file").unwrap();
    let said = Store::check(URL, folder.path()).unwrap_err().to_string();
    assert!(said.contains("is not a folder") || said.contains("Not a directory"), "{said}");
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path()).await;
    let many: Vec<_> = (0..500).map(|number| put_user(user(&format!("user-{number}"), &[]))).collect();
    for micros in [50, 500, 2_000, 5_000, 10_000] {
        let _ = tokio::time::timeout(Duration::from_micros(micros), store.apply(&many, at(2))).await;
        let users = store.snapshot().await.unwrap().users.len();
        assert!(users == 1 || users == 501, "{users}");
    }
    store.apply(&[put_user(user("bob", &[]))], at(3)).await.unwrap();
    assert!(store.snapshot().await.unwrap().users.contains(&user("bob", &[])));
}

/// The ledger holds these across threads.
#[test]
fn futures_may_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    let pending = |store: Store| async move {
        store.apply(&[], at(0)).await.unwrap();
        store.snapshot().await.unwrap();
        store.backup(Path::new("x")).await.unwrap();
    };
    let opened = async move {
        let store = Store::open(URL, Path::new("/")).await.unwrap();
        pending(store).await;
    };
    sendable(&opened);
}

mod crash;
mod model;

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date() {
    use sqlx::SqlSafeStr;
    use sqlx::migrate::{Migration, MigrationType, Migrator};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut connection = open::connect_once(&path).await.unwrap();
    let first = include_str!("migrations/0001_first.sql").into_sql_str();
    let first = Migration::new(1, "first".into(), MigrationType::Simple, first, false);
    Migrator::with_migrations(vec![first]).run(&mut connection).await.unwrap();
    sqlx::query(
        "INSERT INTO credentials (id, user_name, starts_at, ends_at, scram_stored_key, scram_server_key, caching_sha2, \
         ed25519, parsec, check_value, created_by) VALUES (?, 'alice', ?, ?, x'01', x'02', x'03', x'04', x'05', x'06', 'uid 0')",
    )
    .bind(CredentialId::from_u64(1).to_string())
    .bind(rows::time(at(0)))
    .bind(rows::time(at(1_000)))
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let store = Store::open("sqlite:old.db", folder.path()).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.credentials.len(), 1);
    assert_eq!(snapshot.credentials[0].verifiers.mysql_native, None);
    store
        .apply(
            &[
                put_user(user("bob", &[])),
                Change::AddCredential { credential: Box::new(credential(2, "bob")) },
            ],
            at(1),
        )
        .await
        .unwrap();
    let kept = store.snapshot().await.unwrap().credentials.into_iter().find(|kept| kept.user == name("bob"));
    assert_eq!(kept.unwrap().verifiers.mysql_native, Some(vec![6; 20]));
}
