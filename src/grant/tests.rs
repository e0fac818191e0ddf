//! The decision case by case, and against a reference that is written as the contract says it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::credential::{Identity, testing};
use crate::model::limits::CREDENTIALS_PER_USER_MAX;
use crate::model::{
    AccessLevel, Claim, Connector, Credential, CredentialId, Databases, EndCause, Ended, Grant, GrantId,
    Name, PoolSettings, Reach, Refusal, Snapshot, Subject, Target, Time, TlsMode, Touch, User, Verifiers,
    Window,
};

/// Tests count time in seconds.
fn at(second: i64) -> Time {
    Time::from_second(second).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn level(text: &str) -> AccessLevel {
    text.parse().unwrap()
}

fn user(text: &str, groups: &[&str]) -> User {
    User { name: name(text), groups: groups.iter().map(|group| name(group)).collect() }
}

fn target(text: &str, database: Option<&str>, levels: &[&str]) -> Target {
    let connector = Connector { secret: "file:x.json".into(), baseline: None, suspended: None };
    Target {
        name: name(text),
        protocol: "postgres".into(),
        address: "127.0.0.1:5432".into(),
        database: database.map(str::to_owned),
        tls: TlsMode::Disable,
        tls_ca: None,
        upstream: Default::default(),
        details: String::new(),
        owners: Default::default(),
        connectors: levels.iter().map(|text| (level(text), connector.clone())).collect(),
        pool: PoolSettings::default(),
        remembered: Default::default(),
        accept_extensions: Default::default(),
        park: Default::default(),
        park_accepts: Default::default(),
        bodies: Default::default(),
        suspended: None,
    }
}

/// For alice on orders, read, from second 100 until 200.
fn grant(id: u64) -> Grant {
    Grant {
        id: GrantId::from_u64(id),
        name: None,
        subject: Subject::User(name("alice")),
        target: name("orders"),
        level: AccessLevel::Read,
        databases: Databases::Default,
        window: Window { start: at(100), end: at(200) },
        cidrs: vec![],
        sessions_max: None,
        reason: None,
        created_at: at(0),
        created_by: "uid 0".into(),
        ended: None,
    }
}

/// Of alice, from second 0 until 1,000.
fn credential(id: u64) -> Credential {
    let none = Verifiers {
        scram_stored_key: vec![],
        scram_server_key: vec![],
        caching_sha2: vec![],
        ed25519: vec![],
        parsec: vec![],
        check: vec![],
        mysql_native: None,
    };
    Credential {
        id: CredentialId::from_u64(id),
        user: name("alice"),
        window: Window { start: at(0), end: at(1_000) },
        verifiers: none,
        created_by: "uid 0".into(),
        ended: None,
    }
}

fn ended(second: i64, cause: EndCause) -> Option<Ended> {
    Some(Ended { at: at(second), cause, reason: None })
}

/// alice in backend, bob; orders with three levels and a default database; credential 1.
fn world(grants: Vec<Grant>) -> Snapshot {
    Snapshot {
        users: vec![user("alice", &["backend"]), user("bob", &[])],
        targets: vec![target("orders", Some("shop"), &["read", "read_write", "dump"])],
        grants,
        credentials: vec![credential(1)],
    }
}

/// alice with credential 1, proven once for all cases.
fn alice() -> Identity {
    static PROVEN: std::sync::OnceLock<Identity> = std::sync::OnceLock::new();
    let prove = || testing::identity(&name("alice"), CredentialId::from_u64(1), at(1_000)).unwrap();
    PROVEN.get_or_init(prove).clone()
}

fn claim() -> Claim {
    Claim {
        user: name("alice"),
        level: None,
        target: name("orders"),
        database: None,
        peer: "10.1.2.3".parse().unwrap(),
    }
}

fn no_sessions(_: GrantId) -> u32 {
    0
}

fn admit_with(snapshot: Snapshot, claim: &Claim, now: i64) -> Result<Admission, NotAdmitted> {
    Book::new(snapshot).admit(&alice(), claim, at(now), &no_sessions)
}

fn admit(grants: Vec<Grant>, claim: &Claim, now: i64) -> Result<Admission, NotAdmitted> {
    admit_with(world(grants), claim, now)
}

#[track_caller]
fn assert_why(outcome: Result<Admission, NotAdmitted>, part: &str) {
    let refused = outcome.unwrap_err();
    assert_eq!(refused.refusal, Refusal::NotGranted);
    assert!(refused.why.contains(part), "{}", refused.why);
}

// ---------------------------------------------------------------------------------------------
// admit

#[test]
fn an_open_grant_lets_in_until_the_earlier_end() {
    let admitted = admit(vec![grant(1)], &claim(), 100).unwrap();
    assert_eq!(admitted.user().as_str(), "alice");
    assert_eq!(admitted.target().as_str(), "orders");
    assert_eq!(admitted.level(), &AccessLevel::Read);
    assert_eq!(admitted.grant(), GrantId::from_u64(1));
    assert_eq!(admitted.credential(), Some(CredentialId::from_u64(1)));
    assert_eq!(admitted.database(), Some("shop"));
    assert_eq!(admitted.peer(), claim().peer);
    assert_eq!(admitted.until(), at(200));
    assert!(admitted.others().is_empty());

    let mut short = world(vec![grant(1)]);
    short.credentials[0].window.end = at(150);
    assert_eq!(admit_with(short, &claim(), 100).unwrap().until(), at(150));
}

#[test]
fn lowest_level_then_latest_end_then_id() {
    let with = |id, text, end| Grant {
        level: level(text),
        window: Window { start: at(100), end: at(end) },
        ..grant(id)
    };
    let grants = vec![with(5, "read", 200), with(4, "read_write", 900), with(3, "read", 300)];
    let grants = [grants, vec![with(2, "read", 300), with(1, "dump", 900)]].concat();
    let admitted = admit(grants.clone(), &claim(), 100).unwrap();
    assert_eq!(admitted.grant(), GrantId::from_u64(2));
    assert_eq!(
        admitted.others(),
        [(level("read"), at(300)), (level("read"), at(200)), (level("read_write"), at(900))]
    );
    // By name, the higher one and the one outside the order.
    for (text, id) in [("read_write", 4), ("dump", 1)] {
        let admitted = admit(grants.clone(), &Claim { level: Some(level(text)), ..claim() }, 100).unwrap();
        assert_eq!(admitted.grant(), GrantId::from_u64(id));
        assert!(admitted.others().is_empty());
    }
}

#[test]
fn a_group_grant_is_for_its_members_only() {
    let group = |text| Grant { subject: Subject::Group(name(text)), ..grant(1) };
    assert!(admit(vec![group("backend")], &claim(), 100).is_ok());
    assert_why(admit(vec![group("frontend")], &claim(), 100), "alice has no grant for the target orders");
    // A group and a user of the same name are two things.
    assert_why(admit(vec![group("alice")], &claim(), 100), "no grant");
    let to_user = Grant { subject: Subject::User(name("backend")), ..grant(1) };
    assert_why(admit(vec![to_user], &claim(), 100), "no grant");
}

#[test]
fn the_trail_is_told_what_the_client_is_not() {
    assert_why(admit(vec![], &claim(), 100), "alice has no grant for the target orders");
    assert_why(admit(vec![grant(1)], &claim(), 99), "opens at 1970-01-01T00:01:40Z");
    assert_why(admit(vec![grant(1)], &claim(), 200), "expired at 1970-01-01T00:03:20Z");
    let revoked = Grant { ended: ended(150, EndCause::Revoked), ..grant(1) };
    assert_why(admit(vec![revoked], &claim(), 160), "the grant was revoked");
    let wanted = Claim { level: Some(level("admin")), ..claim() };
    assert_why(admit(vec![grant(1)], &wanted, 100), "is for the level read, which was not asked for");
    let named = Grant { level: level("dump"), ..grant(1) };
    assert_why(admit(vec![named], &claim(), 100), "level dump, which must be asked for by name");
    let elsewhere = Claim { database: Some("hr".into()), ..claim() };
    assert_why(admit(vec![grant(1)], &elsewhere, 100), "does not cover the database");
    let inside = Grant { cidrs: vec!["192.168.0.0/16".parse().unwrap()], ..grant(1) };
    assert_why(admit(vec![inside], &claim(), 100), "is not for the address 10.1.2.3");
    let unreachable = Grant { level: level("admin"), ..grant(1) };
    assert_why(admit(vec![unreachable], &claim(), 100), "no connector for the level admin");
    let gone = Claim { target: name("gone"), ..claim() };
    assert_why(admit(vec![grant(1)], &gone, 100), "there is no target \"gone\"");
    let orphan = Grant { target: name("gone"), ..grant(1) };
    assert_why(admit(vec![orphan], &gone, 100), "there is no target \"gone\"");

    let mut suspended = world(vec![grant(1)]);
    suspended.targets[0].suspended = Some("moving".into());
    assert_why(admit_with(suspended, &claim(), 100), "the target is suspended (moving)");
    let mut alarm = world(vec![grant(1)]);
    alarm.targets[0].connectors.get_mut(&AccessLevel::Read).unwrap().suspended = Some("alarm".into());
    assert_why(admit_with(alarm, &claim(), 100), "level read is suspended (alarm)");
    let mut removed = world(vec![grant(1)]);
    removed.users.remove(0);
    assert_why(admit_with(removed, &claim(), 100), "there is no user \"alice\"");

    // Of several, the one that came nearest: not the oldest, not the last in the list.
    let nearest = Grant { name: Some(name("week-47")), sessions_max: Some(2), ..grant(2) };
    let grants = vec![grant(1), nearest, Grant { level: level("dump"), ..grant(3) }];
    let grants = grants.into_iter().map(|mut grant| {
        if grant.id == GrantId::from_u64(1) {
            grant.window.end = at(101);
        }
        grant
    });
    let book = Book::new(world(grants.collect()));
    assert_why(book.admit(&alice(), &claim(), at(150), &|_| 2), "grant week-47 (g-0000000000002) would fit");
}

#[test]
fn sessions_max_counts_all_sessions_of_the_grant() {
    let book = Book::new(world(vec![Grant { sessions_max: Some(2), ..grant(1) }]));
    for (live, fits) in [(0, true), (1, true), (2, false), (3, false)] {
        let count = |id| if id == GrantId::from_u64(1) { live } else { 0 };
        assert_eq!(book.admit(&alice(), &claim(), at(100), &count).is_ok(), fits, "{live}");
    }
    let none = Book::new(world(vec![Grant { sessions_max: Some(0), ..grant(1) }]));
    assert!(none.admit(&alice(), &claim(), at(100), &no_sessions).is_err());
}

#[test]
fn databases_are_the_default_one_a_list_or_all() {
    let listed = |names: &[&str]| Databases::Listed(names.iter().map(|name| name.to_string()).collect());
    let fits = |databases: Databases, default: Option<&str>, asked: Option<&str>| {
        let mut snapshot = world(vec![Grant { databases, ..grant(1) }]);
        snapshot.targets[0].database = default.map(str::to_owned);
        let claim = Claim { database: asked.map(str::to_owned), ..claim() };
        admit_with(snapshot, &claim, 100).map(|admitted| admitted.database().map(str::to_owned)).ok()
    };
    let shop = || Some(Some("shop".to_owned()));
    assert_eq!(fits(Databases::Default, Some("shop"), None), shop());
    assert_eq!(fits(Databases::Default, Some("shop"), Some("shop")), shop());
    assert_eq!(fits(Databases::Default, Some("shop"), Some("hr")), None);
    assert_eq!(fits(Databases::Default, None, None), Some(None));
    assert_eq!(fits(Databases::Default, None, Some("hr")), None);
    assert_eq!(fits(Databases::All, Some("shop"), Some("hr")), Some(Some("hr".into())));
    assert_eq!(fits(Databases::All, Some("shop"), None), shop());
    assert_eq!(fits(Databases::All, None, None), Some(None));
    assert_eq!(fits(listed(&["hr"]), Some("shop"), Some("hr")), Some(Some("hr".into())));
    assert_eq!(fits(listed(&["hr"]), Some("shop"), None), None);
    assert_eq!(fits(listed(&["shop"]), Some("shop"), None), shop());
    assert_eq!(fits(listed(&["shop"]), None, None), None);
    assert_eq!(fits(listed(&[]), Some("shop"), Some("shop")), None);
}

#[test]
fn addresses_match_also_through_a_dual_stack_listener() {
    let inside = |cidr: &str| vec![Grant { cidrs: vec![cidr.parse().unwrap()], ..grant(1) }];
    let from = |peer: &str| Claim { peer: peer.parse().unwrap(), ..claim() };
    assert!(admit(inside("10.0.0.0/8"), &from("10.9.9.9"), 100).is_ok());
    assert!(admit(inside("10.0.0.0/8"), &from("::ffff:10.9.9.9"), 100).is_ok());
    assert!(admit(inside("10.0.0.0/8"), &from("11.0.0.1"), 100).is_err());
    assert!(admit(inside("10.0.0.0/8"), &from("fe80::1"), 100).is_err());
    assert!(admit(inside("fe80::/10"), &from("fe80::1"), 100).is_ok());
}

#[test]
fn a_proof_is_of_one_name_and_one_live_credential() {
    let refused = |snapshot: Snapshot| admit_with(snapshot, &claim(), 100).unwrap_err().refusal;
    let mut revoked = world(vec![grant(1)]);
    revoked.credentials[0].ended = ended(99, EndCause::Revoked);
    assert_eq!(refused(revoked), Refusal::BadCredentials);
    let mut expired = world(vec![grant(1)]);
    expired.credentials[0].window.end = at(100);
    assert_eq!(refused(expired), Refusal::BadCredentials);
    let mut gone = world(vec![grant(1)]);
    gone.credentials.clear();
    assert_eq!(refused(gone), Refusal::BadCredentials);
    let mut other = world(vec![grant(1)]);
    other.credentials[0].user = name("bob");
    assert_eq!(refused(other), Refusal::BadCredentials);

    // bob has a grant; alice's proof with a claim to be bob gets nothing.
    let for_bob = Grant { subject: Subject::User(name("bob")), ..grant(1) };
    let as_bob = Claim { user: name("bob"), ..claim() };
    assert_why(admit(vec![for_bob], &as_bob, 100), "alice claims to be bob");
}

#[test]
fn live_credentials_of_a_user_are_at_most_eight_those_that_end_last() {
    let mut snapshot = world(vec![]);
    snapshot.credentials = (1..=12)
        .map(|id| Credential { window: Window { start: at(0), end: at(100 + id as i64) }, ..credential(id) })
        .collect();
    snapshot.credentials[11].ended = ended(50, EndCause::Revoked);
    snapshot.credentials[10].window.start = at(60);
    snapshot.credentials.push(Credential { user: name("nobody"), ..credential(13) });
    let book = Book::new(snapshot);
    let ids = |user: &str, now| -> Vec<u64> {
        book.credentials(user, at(now)).iter().map(|credential| credential.id.as_u64()).collect()
    };
    assert_eq!(ids("alice", 50), [10, 9, 8, 7, 6, 5, 4, 3]);
    assert_eq!(ids("alice", 60).len(), CREDENTIALS_PER_USER_MAX);
    assert_eq!(ids("alice", 108), [11, 10, 9]);
    assert_eq!(ids("alice", 111), [0; 0]);
    // Credentials without a user, a user without credentials, and nobody at all.
    for user in ["nobody", "bob", "carol", ""] {
        assert_eq!(ids(user, 50), [0; 0], "{user}");
    }
}

// ---------------------------------------------------------------------------------------------
// recheck

/// How a session that came in at 100 under `grants` stands at `now` in a changed world.
fn recheck(grants: Vec<Grant>, now: i64, change: impl FnOnce(&mut Snapshot)) -> Standing {
    let admitted = admit(grants.clone(), &claim(), 100).unwrap();
    let mut snapshot = world(grants);
    change(&mut snapshot);
    Book::new(snapshot).recheck(&admitted, at(now), &no_sessions)
}

#[test]
fn a_session_stands_until_its_grants_end() {
    assert_eq!(recheck(vec![grant(1)], 199, |_| {}), Standing::Open { until: at(200) });
    assert_eq!(recheck(vec![grant(1)], 200, |_| {}), Standing::Ended(EndCause::Expired));
    let extended = recheck(vec![grant(1)], 250, |snapshot| snapshot.grants[0].window.end = at(300));
    assert_eq!(extended, Standing::Open { until: at(300) });
    let shortened = recheck(vec![grant(1)], 150, |snapshot| snapshot.grants[0].window.end = at(150));
    assert_eq!(shortened, Standing::Ended(EndCause::Expired));
    let short_credential =
        recheck(vec![grant(1)], 150, |snapshot| snapshot.credentials[0].window.end = at(160));
    assert_eq!(short_credential, Standing::Open { until: at(160) });
}

#[test]
fn each_end_has_its_cause() {
    type Change = fn(&mut Snapshot);
    let cases: &[(EndCause, Change)] = &[
        (EndCause::Revoked, |s| s.grants[0].ended = ended(140, EndCause::Revoked)),
        (EndCause::Expired, |s| s.grants[0].ended = ended(140, EndCause::Expired)),
        (EndCause::Revoked, |s| s.grants.clear()),
        (EndCause::CredentialEnded, |s| s.credentials[0].ended = ended(140, EndCause::Revoked)),
        (EndCause::CredentialEnded, |s| s.credentials[0].window.end = at(150)),
        (EndCause::CredentialEnded, |s| s.credentials.clear()),
        (EndCause::CredentialEnded, |s| s.credentials[0].user = name("bob")),
        (EndCause::UserRemoved, |s| s.users.clear()),
        (EndCause::UserRemoved, |s| {
            s.users.clear();
            s.credentials[0].ended = ended(140, EndCause::UserRemoved);
        }),
        // Removed, and somebody of the same name added again.
        (EndCause::UserRemoved, |s| s.credentials[0].ended = ended(140, EndCause::UserRemoved)),
        (EndCause::TargetSuspended, |s| s.targets[0].suspended = Some("moving".into())),
        (EndCause::TargetSuspended, |s| {
            s.targets[0].connectors.get_mut(&AccessLevel::Read).unwrap().suspended = Some("alarm".into());
        }),
        (EndCause::TargetSuspended, |s| s.targets.clear()),
        (EndCause::NoLongerMatches, |s| {
            s.targets[0].connectors.remove(&AccessLevel::Read);
        }),
        (EndCause::NoLongerMatches, |s| s.grants[0].level = AccessLevel::ReadWrite),
        (EndCause::NoLongerMatches, |s| s.grants[0].target = name("invoices")),
        (EndCause::NoLongerMatches, |s| s.grants[0].subject = Subject::User(name("bob"))),
        (EndCause::NoLongerMatches, |s| s.grants[0].cidrs = vec!["192.168.0.0/16".parse().unwrap()]),
        (EndCause::NoLongerMatches, |s| {
            s.grants[0].databases = Databases::Listed(["hr".to_owned()].into());
        }),
        // The default database is another one now; the session is in the old one.
        (EndCause::NoLongerMatches, |s| s.targets[0].database = Some("hr".into())),
        (EndCause::NoLongerMatches, |s| s.targets[0].database = None),
    ];
    for (i, (cause, change)) in cases.iter().enumerate() {
        assert_eq!(recheck(vec![grant(1)], 150, change), Standing::Ended(*cause), "{i}");
    }
    // A session in the server's own choice of database is not in the default one that came later.
    let mut bare = world(vec![grant(1)]);
    bare.targets[0].database = None;
    let admitted = admit_with(bare, &claim(), 100).unwrap();
    let standing = Book::new(world(vec![grant(1)])).recheck(&admitted, at(150), &no_sessions);
    assert_eq!(standing, Standing::Ended(EndCause::NoLongerMatches));
    let group = Grant { subject: Subject::Group(name("backend")), ..grant(1) };
    let left = recheck(vec![group], 150, |snapshot| snapshot.users[0].groups.clear());
    assert_eq!(left, Standing::Ended(EndCause::NoLongerMatches));
}

/// Another level's alarm, a lower limit of sessions, another target's suspension: no end.
#[test]
fn what_does_not_concern_a_session_does_not_end_it() {
    let changes: &[fn(&mut Snapshot)] = &[
        |s| s.grants[0].sessions_max = Some(0),
        |s| {
            s.targets[0].connectors.get_mut(&AccessLevel::ReadWrite).unwrap().suspended =
                Some("alarm".into());
        },
        |s| s.targets.push(Target { suspended: Some("x".into()), ..target("invoices", None, &["read"]) }),
        |s| s.users.retain(|user| user.name == name("alice")),
        |s| s.users[0].groups.clear(),
        |s| s.grants.push(Grant { window: Window { start: at(0), end: at(900) }, ..grant(2) }),
    ];
    for (i, change) in changes.iter().enumerate() {
        assert_eq!(recheck(vec![grant(1)], 150, change), Standing::Open { until: at(200) }, "{i}");
    }
}

fn lasting(id: u64, start: i64, end: i64) -> Grant {
    Grant { window: Window { start: at(start), end: at(end) }, ..grant(id) }
}

#[test]
fn a_session_moves_to_a_grant_that_admits_the_same() {
    // Admitted at 100 under 1, which ends at 200; the other opens at 150.
    let Standing::Moved(moved) = recheck(vec![grant(1), lasting(2, 150, 300)], 200, |_| {}) else {
        panic!("it moves")
    };
    assert_eq!((moved.grant(), moved.until()), (GrantId::from_u64(2), at(300)));
    assert_eq!((moved.level(), moved.database()), (&AccessLevel::Read, Some("shop")));
    // And from there on as under any grant.
    let book = Book::new(world(vec![grant(1), lasting(2, 150, 300)]));
    assert_eq!(book.recheck(&moved, at(299), &no_sessions), Standing::Open { until: at(300) });
    assert_eq!(book.recheck(&moved, at(300), &no_sessions), Standing::Ended(EndCause::Expired));

    // Also when its own is revoked, deleted, or stops to fit: what counts is that one is open.
    let changes: &[fn(&mut Snapshot)] = &[
        |s| s.grants[0].ended = ended(160, EndCause::Revoked),
        |s| {
            s.grants.remove(0);
        },
        |s| s.grants[0].subject = Subject::User(name("bob")),
    ];
    for (i, change) in changes.iter().enumerate() {
        let standing = recheck(vec![grant(1), lasting(2, 150, 300)], 160, change);
        assert!(matches!(standing, Standing::Moved(_)), "{i}: {standing:?}");
    }
}

#[test]
fn a_session_moves_nowhere_else() {
    let expired = Standing::Ended(EndCause::Expired);
    let other = |other: Grant| recheck(vec![grant(1), other], 210, |_| {});
    let level_other = |text| Grant { level: level(text), ..lasting(2, 150, 300) };
    assert_eq!(other(level_other("read_write")), expired);
    assert_eq!(other(level_other("dump")), expired);
    assert_eq!(other(Grant { target: name("invoices"), ..lasting(2, 150, 300) }), expired);
    assert_eq!(other(Grant { subject: Subject::User(name("bob")), ..lasting(2, 150, 300) }), expired);
    assert_eq!(
        other(Grant { cidrs: vec!["192.168.0.0/16".parse().unwrap()], ..lasting(2, 150, 300) }),
        expired
    );
    assert_eq!(other(Grant { ended: ended(205, EndCause::Revoked), ..lasting(2, 150, 300) }), expired);
    assert_eq!(other(Grant { sessions_max: Some(0), ..lasting(2, 150, 300) }), expired);
    let listed = Databases::Listed(["hr".to_owned()].into());
    assert_eq!(other(Grant { databases: listed, ..lasting(2, 150, 300) }), expired);
    // There was a moment without a grant, however late somebody looks.
    assert_eq!(other(lasting(2, 201, 300)), expired);
    assert!(matches!(other(lasting(2, 200, 300)), Standing::Moved(_)));
    let revoked_at_140 = |s: &mut Snapshot| s.grants[0].ended = ended(140, EndCause::Revoked);
    let standing = recheck(vec![grant(1), lasting(2, 150, 300)], 160, revoked_at_140);
    assert_eq!(standing, Standing::Ended(EndCause::Revoked));

    // Nothing moves without its credential or its user.
    let two = || vec![grant(1), lasting(2, 150, 300)];
    let standing = recheck(two(), 210, |s| s.credentials[0].ended = ended(160, EndCause::Revoked));
    assert_eq!(standing, Standing::Ended(EndCause::CredentialEnded));
    assert_eq!(recheck(two(), 210, |s| s.users.clear()), Standing::Ended(EndCause::UserRemoved));
    // Nor to a connector that is suspended: the grant's own end is what is said.
    assert_eq!(recheck(two(), 210, |s| s.targets[0].suspended = Some("moving".into())), expired);
}

#[test]
fn a_move_takes_a_free_place_of_the_other_grant_only() {
    let grants = vec![grant(1), Grant { sessions_max: Some(2), ..lasting(2, 150, 300) }];
    let admitted = admit(vec![grant(1)], &claim(), 100).unwrap();
    let book = Book::new(world(grants));
    for (live, moves) in [(0, true), (1, true), (2, false)] {
        let count = |id| if id == GrantId::from_u64(2) { live } else { 7 };
        let standing = book.recheck(&admitted, at(200), &count);
        assert_eq!(matches!(standing, Standing::Moved(_)), moves, "{live}");
    }
}

#[test]
fn due_is_what_has_passed_its_end_and_is_not_stored_as_ended() {
    let stored = Grant { ended: ended(200, EndCause::Expired), ..grant(3) };
    let mut snapshot = world(vec![grant(1), lasting(2, 150, 300), stored]);
    snapshot.credentials.push(Credential { window: Window { start: at(0), end: at(200) }, ..credential(2) });
    let book = Book::new(snapshot);
    assert_eq!(book.due(at(199)), (vec![], vec![]));
    assert_eq!(book.due(at(200)), (vec![GrantId::from_u64(1)], vec![CredentialId::from_u64(2)]));
    assert_eq!(book.due(at(1_000)).0.len(), 2);
}

// ---------------------------------------------------------------------------------------------
// explain

#[test]
fn explain_says_what_admit_does_and_why() {
    let revoked = Grant { ended: ended(150, EndCause::Revoked), name: Some(name("old")), ..grant(1) };
    let group = Grant { subject: Subject::Group(name("backend")), ..lasting(3, 100, 300) };
    let inside = Grant { cidrs: vec!["192.168.0.0/16".parse().unwrap()], ..grant(2) };
    let not_theirs = Grant { subject: Subject::User(name("bob")), ..grant(4) };
    let book = Book::new(world(vec![group, inside, revoked, not_theirs]));
    let asked =
        Asked { user: "alice", target: "orders", level: None, database: None, peer: None, touch: None };
    let said = book.explain(&asked, at(160), &no_sessions);
    assert_eq!((said.grant, said.until), (Some(GrantId::from_u64(3)), Some(at(300))));
    let verdicts: Vec<_> =
        said.considered.iter().map(|(_, name, verdict)| (name.clone(), &**verdict)).collect();
    assert_eq!(
        verdicts,
        [
            (Some(name("old")), "ended at 1970-01-01T00:02:30Z: the grant was revoked"),
            (None, "is open too, level read, until 1970-01-01T00:03:20Z, from 192.168.0.0/16 only"),
            (None, "lets them in until 1970-01-01T00:05:00Z"),
        ]
    );
    let said = book.explain(&Asked { peer: Some(claim().peer), ..asked }, at(300), &no_sessions);
    assert_eq!((said.grant, said.until), (None, None));
    assert_eq!(said.why, "grant g-0000000000003 expired at 1970-01-01T00:05:00Z");
    let said = book.explain(&Asked { user: "carol", ..asked }, at(160), &no_sessions);
    assert_eq!((said.why.as_str(), said.considered.len()), ("there is no user \"carol\"", 0));
}

// ---------------------------------------------------------------------------------------------
// Against a reference

const PEERS: [&str; 3] = ["10.1.2.3", "192.168.1.1", "fe80::1"];
const TARGETS: [&str; 4] = ["orders", "bare", "closed", "gone"];
const LEVELS: [&str; 4] = ["read", "read_write", "admin", "dump"];
const DATABASES: [&str; 2] = ["shop", "hr"];

/// Every kind of target: with a default database and perhaps a level in alarm, without either, suspended;
/// the fourth name is of none.
fn any_world() -> impl Strategy<Value = Snapshot> {
    let users = (any::<[bool; 2]>(), prop::bool::weighted(0.95)).prop_map(|(groups, known)| {
        let groups: Vec<&str> = ["backend", "admins"]
            .into_iter()
            .zip(groups)
            .filter(|(_, is)| *is)
            .map(|(name, _)| name)
            .collect();
        let mut users = vec![user("bob", &["backend"])];
        if known {
            users.push(user("alice", &groups));
        }
        users
    });
    let grants = prop::collection::vec(any_grant(), 0..20);
    let alarm = prop::option::weighted(0.5, 0..2usize);
    let revoked = prop::option::weighted(0.1, 0..60i64);
    (users, grants, alarm, 20..60i64, revoked).prop_map(|(users, mut grants, alarm, end, revoked)| {
        for (id, grant) in grants.iter_mut().enumerate() {
            grant.id = GrantId::from_u64(id as u64);
        }
        let mut orders = target("orders", Some("shop"), &["read", "read_write", "dump"]);
        if let Some(connector) = alarm.and_then(|i| orders.connectors.get_mut(&level(LEVELS[i]))) {
            connector.suspended = Some("alarm".into());
        }
        let mut closed = target("closed", Some("shop"), &["read"]);
        closed.suspended = Some("moving".into());
        let bare = target("bare", None, &["read", "admin"]);
        let mut credential = credential(1);
        credential.window.end = at(end);
        credential.ended = revoked.and_then(|second| ended(second, EndCause::Revoked));
        Snapshot { users, targets: vec![bare, closed, orders], grants, credentials: vec![credential] }
    })
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let subject = prop_oneof![
        4 => Just(Subject::User(name("alice"))),
        1 => Just(Subject::User(name("bob"))),
        3 => Just(Subject::Group(name("backend"))),
        1 => Just(Subject::Group(name("admins"))),
    ];
    let databases = prop_oneof![
        Just(Databases::Default),
        Just(Databases::All),
        Just(Databases::Listed(["hr".to_owned()].into())),
        Just(Databases::Listed(["shop".to_owned(), "hr".to_owned()].into())),
    ];
    let cidrs = prop_oneof![3 => Just(vec![]), 1 => Just(vec!["10.0.0.0/8".parse().unwrap()])];
    let cause = prop_oneof![Just(EndCause::Revoked), Just(EndCause::Expired)];
    let over = prop::option::weighted(0.1, (0..60i64, cause));
    let place = prop_oneof![12 => Just(0usize), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let text = prop_oneof![5 => Just(0usize), 3 => Just(1), 1 => Just(2), 1 => Just(3)];
    let window = (0..30i64, 0..40i64);
    let max = prop::option::weighted(0.2, 0..3u32);
    (subject, databases, cidrs, over, place, text, window, max).prop_map(
        |(subject, databases, cidrs, over, place, text, (start, length), sessions_max)| Grant {
            subject,
            databases,
            cidrs,
            ended: over.and_then(|(second, cause)| ended(second, cause)),
            target: name(TARGETS[place]),
            level: level(LEVELS[text]),
            window: Window { start: at(start), end: at(start + length) },
            sessions_max,
            ..grant(0)
        },
    )
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let text = prop_oneof![4 => Just(0usize), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let levels = prop::option::of(text);
    let databases = prop::option::of(0..2usize);
    let peer = prop_oneof![4 => Just(0usize), 1 => Just(1), 1 => Just(2)];
    let place = prop_oneof![12 => Just(0usize), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    (levels, databases, place, peer).prop_map(|(text, database, place, peer)| Claim {
        user: name("alice"),
        level: text.map(|i| level(LEVELS[i])),
        target: name(TARGETS[place]),
        database: database.map(|i| DATABASES[i].to_owned()),
        peer: PEERS[peer].parse().unwrap(),
    })
}

fn any_counts() -> impl Strategy<Value = BTreeMap<u64, u32>> {
    prop::collection::btree_map(0..20u64, 0..4u32, 0..6)
}

/// The first admission from `start` on, so that most cases are of a session that came in.
fn first_admission(book: &Book, claim: &Claim, start: i64) -> Option<(Admission, i64)> {
    let starts = (0..40).map(|after| (start + after) % 40);
    starts.filter_map(|now| Some((book.admit(&alice(), claim, at(now), &no_sessions).ok()?, now))).next()
}

/// What is wanted, as the reference sees it.
struct Reference<'a> {
    world: &'a Snapshot,
    target: &'a str,
    level: Option<&'a AccessLevel>,
    database: Option<&'a str>,
    peer: IpAddr,
    counts: &'a BTreeMap<u64, u32>,
}

impl<'a> Reference<'a> {
    fn of_claim(world: &'a Snapshot, claim: &'a Claim, counts: &'a BTreeMap<u64, u32>) -> Self {
        let target = world.targets.iter().find(|target| target.name == claim.target);
        let default = target.and_then(|target| target.database.as_deref());
        Self {
            world,
            target: claim.target.as_str(),
            level: claim.level.as_ref(),
            database: claim.database.as_deref().or(default),
            peer: claim.peer,
            counts,
        }
    }

    fn of_session(world: &'a Snapshot, admitted: &'a Admission, counts: &'a BTreeMap<u64, u32>) -> Self {
        Self {
            world,
            target: admitted.target().as_str(),
            level: Some(admitted.level()),
            database: admitted.database(),
            peer: admitted.peer(),
            counts,
        }
    }

    fn credential_is_live(&self, now: Time) -> bool {
        let credential = &self.world.credentials[0];
        credential.ended.is_none() && credential.window.start <= now && now < credential.window.end
    }

    /// All conditions at once, in no order, place by place as the contract lists them.
    fn fits(&self, grant: &Grant, now: Time) -> bool {
        let Some(alice) = self.world.users.iter().find(|user| user.name.as_str() == "alice") else {
            return false;
        };
        let Some(target) = self.world.targets.iter().find(|target| target.name.as_str() == self.target)
        else {
            return false;
        };
        let subject = match &grant.subject {
            Subject::User(name) => name.as_str() == "alice",
            Subject::Group(name) => alice.groups.iter().any(|group| group == name),
        };
        let level = match self.level {
            Some(level) => grant.level == *level,
            None => ["read", "read_write", "admin"].contains(&grant.level.as_str()),
        };
        let database = match &grant.databases {
            Databases::All => true,
            Databases::Default => self.database.map(str::to_owned) == target.database,
            Databases::Listed(names) => match self.database {
                Some(database) => names.iter().any(|name| name == database),
                None => false,
            },
        };
        let address = grant.cidrs.is_empty() || grant.cidrs.iter().any(|net| net.contains(&self.peer));
        let connector =
            target.connectors.get(&grant.level).is_some_and(|connector| connector.suspended.is_none());
        let open = grant.ended.is_none() && grant.window.start <= now && now < grant.window.end;
        grant.target == target.name
            && target.suspended.is_none()
            && subject
            && level
            && database
            && address
            && connector
            && open
    }

    fn has_place(&self, grant: &Grant) -> bool {
        let live = self.counts.get(&grant.id.as_u64()).copied().unwrap_or(0);
        grant.sessions_max.is_none_or(|max| live < max)
    }

    /// The best of those that fit: each is held against each.
    fn best(&self, now: Time, eligible: impl Fn(&Grant) -> bool) -> Option<&'a Grant> {
        let fitting: Vec<&Grant> = self
            .world
            .grants
            .iter()
            .filter(|grant| self.fits(grant, now) && self.has_place(grant) && eligible(grant))
            .collect();
        let wins = |one: &Grant, other: &Grant| {
            one.level < other.level
                || one.level == other.level
                    && (one.window.end > other.window.end
                        || one.window.end == other.window.end && one.id <= other.id)
        };
        fitting.iter().copied().find(|one| fitting.iter().all(|other| wins(one, other)))
    }

    fn standing(&self, admitted: &Admission, now: Time) -> &'static str {
        if !self.world.users.iter().any(|user| user.name.as_str() == "alice") || !self.credential_is_live(now)
        {
            return "ended";
        }
        let current = self.world.grants.iter().find(|grant| grant.id == admitted.grant());
        if current.is_some_and(|grant| self.fits(grant, now)) {
            return "open";
        }
        let closed = match current {
            Some(Grant { ended: Some(ended), window, .. }) => ended.at.min(window.end),
            Some(grant) => grant.window.end,
            None => admitted.until(),
        };
        let follows = |grant: &Grant| grant.id != admitted.grant() && grant.window.start <= closed.min(now);
        if self.best(now, follows).is_some() { "moved" } else { "ended" }
    }
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Open { .. } => "open",
        Standing::Moved(_) => "moved",
        Standing::Ended(_) => "ended",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn admit_agrees_with_the_reference(
        world in any_world(), claim in any_claim(), now in 0..70i64, counts in any_counts(),
    ) {
        let book = Book::new(world.clone());
        let sessions = |id: GrantId| counts.get(&id.as_u64()).copied().unwrap_or(0);
        let reference = Reference::of_claim(&world, &claim, &counts);
        let expected =
            reference.best(at(now), |_| true).filter(|_| reference.credential_is_live(at(now)));
        let admitted = book.admit(&alice(), &claim, at(now), &sessions);
        prop_assert_eq!(admitted.as_ref().ok().map(|a| a.grant()), expected.map(|grant| grant.id));
        if let (Ok(admitted), Some(grant)) = (&admitted, expected) {
            prop_assert_eq!(admitted.until(), grant.window.end.min(world.credentials[0].window.end));
            prop_assert!(admitted.until() > at(now));
            prop_assert_eq!(admitted.database(), reference.database);
            prop_assert_eq!(admitted.level(), &grant.level);
            let open = world.grants.iter().filter(|grant| reference.fits(grant, at(now)) && reference.has_place(grant));
            prop_assert_eq!(admitted.others().len() + 1, open.count());
        }
        // explain is the same decision without a proof.
        let said = book.explain(&Asked::from(&claim), at(now), &sessions);
        prop_assert_eq!(said.grant, reference.best(at(now), |_| true).map(|grant| grant.id));
    }

    /// Also in another world: everything about users, targets, grants and credentials may change.
    #[test]
    fn recheck_agrees_with_the_reference(
        world in any_world(), other in any_world(), same: bool, claim in any_claim(),
        start in 0..40i64, later in 0..40i64, counts in any_counts(),
    ) {
        let came_in = first_admission(&Book::new(world.clone()), &claim, start);
        prop_assume!(came_in.is_some());
        let (admitted, start) = came_in.unwrap();
        let world = if same { world } else { other };
        let now = at(start + later);
        let sessions = |id: GrantId| counts.get(&id.as_u64()).copied().unwrap_or(0);
        let standing = Book::new(world.clone()).recheck(&admitted, now, &sessions);
        let reference = Reference::of_session(&world, &admitted, &counts);
        prop_assert_eq!(word(&standing), reference.standing(&admitted, now), "{:?}", standing);
        match standing {
            Standing::Open { until } => prop_assert!(now < until),
            Standing::Moved(moved) => {
                prop_assert!(now < moved.until() && moved.grant() != admitted.grant());
                prop_assert_eq!((moved.level(), moved.target()), (admitted.level(), admitted.target()));
                prop_assert_eq!((moved.user(), moved.credential()), (admitted.user(), admitted.credential()));
                prop_assert_eq!((moved.database(), moved.peer()), (admitted.database(), admitted.peer()));
            }
            Standing::Ended(_) => {}
        }
    }

    /// In one and the same book an end is an end, however late somebody looks again.
    #[test]
    fn a_later_time_never_reopens(
        world in any_world(), claim in any_claim(), start in 0..40i64, later in 0..30i64, still in 0..30i64,
    ) {
        let book = Book::new(world);
        let came_in = first_admission(&book, &claim, start);
        prop_assume!(came_in.is_some());
        let (admitted, start) = came_in.unwrap();
        prop_assert_eq!(
            book.recheck(&admitted, at(start), &no_sessions), Standing::Open { until: admitted.until() }
        );
        if let Standing::Ended(_) = book.recheck(&admitted, at(start + later), &no_sessions) {
            let again = book.recheck(&admitted, at(start + later + still), &no_sessions);
            prop_assert!(matches!(again, Standing::Ended(_)), "{again:?}");
        }
    }

    /// An end that is stored holds at any time that a clock may show.
    #[test]
    fn a_clock_set_back_reopens_nothing(
        mut world in any_world(), claim in any_claim(), start in 0..40i64, clock in -100..100i64,
    ) {
        let came_in = first_admission(&Book::new(world.clone()), &claim, start);
        prop_assume!(came_in.is_some());
        let (admitted, start) = came_in.unwrap();
        for grant in &mut world.grants {
            grant.ended = ended(start, EndCause::Expired);
        }
        let book = Book::new(world);
        prop_assert!(book.admit(&alice(), &claim, at(clock), &no_sessions).is_err());
        let standing = book.recheck(&admitted, at(clock), &no_sessions);
        prop_assert!(matches!(standing, Standing::Ended(_)), "{standing:?}");
    }
}

/// `cargo test --lib grant -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
fn time_of_a_decision_with_ten_thousand_grants() {
    let spread = (0..10_000u64).map(|id| Grant {
        subject: match id % 10 {
            0 => Subject::Group(name("backend")),
            _ => Subject::User(name(&format!("user-{}", id % 1_000))),
        },
        target: name(&format!("target-{}", id % 50)),
        ..grant(id)
    });
    let spread = [spread.collect(), vec![grant(10_000)]].concat();
    let heaped: Vec<Grant> = (0..10_000).map(grant).collect();
    for (kind, grants) in [("spread over users and targets", spread), ("all of one user and target", heaped)]
    {
        let (book, alice, claim) = (Book::new(world(grants)), alice(), claim());
        let start = std::time::Instant::now();
        let count = 1_000;
        for _ in 0..count {
            assert!(book.admit(&alice, &claim, at(150), &no_sessions).is_ok());
        }
        println!("{kind}: {:?} a decision", start.elapsed() / count);
    }
}

// ---------------------------------------------------------------------------------------------
// Requests, where the proxy authorizes

fn touch(least: &str, names: &[&str]) -> Touch {
    let reach = Reach::Names(names.iter().map(|name| (*name).to_owned()).collect());
    Touch::new(level(least), reach)
}

fn patterns(id: u64, of: &str, patterns: &[&str]) -> Grant {
    let databases = match patterns {
        ["*"] => Databases::All,
        patterns => Databases::Listed(patterns.iter().map(|pattern| (*pattern).to_owned()).collect()),
    };
    Grant { level: level(of), databases, ..grant(id) }
}

fn admit_request(grants: &[Grant], touch: Touch) -> Result<Admission, NotAdmitted> {
    Book::new(world(grants.to_vec())).admit_request(&alice(), &claim(), touch, at(150), &no_sessions)
}

#[test]
fn a_request_needs_one_grant_that_covers_all_of_it() {
    let grants = [patterns(1, "read", &["logs-*", "a"]), patterns(2, "read_write", &["b", ".own-*"])];
    let admitted = |least: &str, names: &[&str]| {
        admit_request(&grants, touch(least, names)).map(|admission| admission.grant().to_string()).ok()
    };
    let (one, two) = (Some(GrantId::from_u64(1).to_string()), Some(GrantId::from_u64(2).to_string()));
    assert_eq!(admitted("read", &["logs-1", "a"]), one);
    assert_eq!(admitted("read", &["b", ".own-x"]), two);
    assert_eq!(admitted("read_write", &["b"]), two);
    assert_eq!(admitted("read", &[]), one, "the lowest level that is enough");
    assert_eq!(admitted("read_write", &[]), two);
    for (least, names) in [
        ("read", &["a", "b"][..]),
        ("read_write", &["a"]),
        ("admin", &["b"]),
        ("read", &["logs"]),
        ("read", &["shop"]),
        ("read", &[".logs-1"]),
    ] {
        assert_eq!(admitted(least, names), None, "{least} {names:?}");
    }
    let everything = Touch::new(level("read"), Reach::Everything("_all"));
    assert_why(
        admit_request(&grants, everything.clone()),
        "not for everything ('*'), which this takes: _all",
    );
    assert!(admit_request(&[patterns(1, "read", &["*"])], everything).is_ok());
    assert!(admit_request(&[patterns(1, "read", &["*"])], touch("read", &[".x", "secret"])).is_ok());
    assert_why(admit_request(&grants, touch("read", &["secret"])), "does not cover \"secret\"");
    assert_why(admit_request(&grants, touch("admin", &["b"])), "takes more");
}

#[test]
fn a_grant_without_patterns_covers_the_targets_own_and_a_level_without_order_nothing() {
    let own = grant(1);
    assert!(admit_request(std::slice::from_ref(&own), touch("read", &["shop"])).is_ok());
    assert!(admit_request(std::slice::from_ref(&own), touch("read", &["shops"])).is_err());
    let mut bare = world(vec![own]);
    bare.targets = vec![target("orders", None, &["read"])];
    let refused =
        Book::new(bare).admit_request(&alice(), &claim(), touch("read", &["shop"]), at(150), &no_sessions);
    assert!(refused.is_err());
    let dump = [patterns(1, "dump", &["*"])];
    let named = Claim { level: Some(level("dump")), ..claim() };
    let refused = Book::new(world(dump.to_vec())).admit_request(
        &alice(),
        &named,
        touch("read", &["a"]),
        at(150),
        &no_sessions,
    );
    assert_why(refused, "takes more");
}

#[test]
fn what_was_admitted_for_a_request_is_held_against_what_it_touches() {
    let admission = admit_request(&[patterns(1, "read", &["logs-*"])], touch("read", &["logs-1"])).unwrap();
    let standing = |grants: Vec<Grant>, admission: &Admission| {
        Book::new(world(grants)).recheck(admission, at(150), &no_sessions)
    };
    assert!(matches!(standing(vec![patterns(1, "read", &["logs-*"])], &admission), Standing::Open { .. }));
    let narrowed = vec![patterns(1, "read", &["logs-2"])];
    assert_eq!(standing(narrowed.clone(), &admission), Standing::Ended(EndCause::NoLongerMatches));
    let other = vec![patterns(1, "read", &["logs-2"]), patterns(2, "read", &["logs-1"])];
    assert!(matches!(standing(other, &admission), Standing::Moved(to) if to.grant() == GrantId::from_u64(2)));
    // The session lasts as long as its grant, whatever that covers.
    let session = admission.of_session();
    assert!(matches!(standing(narrowed, &session), Standing::Open { .. }));
    let revoked = Grant { ended: ended(120, EndCause::Revoked), ..patterns(1, "read", &["logs-*"]) };
    assert_eq!(standing(vec![revoked], &session), Standing::Ended(EndCause::Revoked));
}

#[test]
fn what_was_begun_under_a_grant_goes_on_under_no_other() {
    let grants = [patterns(1, "read", &["logs-*"]), patterns(2, "read", &["logs-*"])];
    let begun = |id| Touch { grant: Some(GrantId::from_u64(id)), ..touch("read", &["logs-1"]) };
    let admitted = |id| admit_request(&grants, begun(id)).map(|admission| admission.grant());
    assert_eq!(admitted(1), Ok(GrantId::from_u64(1)));
    assert_eq!(admitted(2), Ok(GrantId::from_u64(2)));
    assert_why(admit_request(&grants, begun(3)), "is another one than this was begun under");
    // Nor does it move to another when its own ends.
    let kept = admit_request(&grants, touch("read", &["logs-1"])).unwrap().of_grant();
    assert_eq!(kept.grant(), GrantId::from_u64(1));
    let revoked = Grant { ended: ended(120, EndCause::Revoked), ..patterns(1, "read", &["logs-*"]) };
    let book = Book::new(world(vec![revoked, patterns(2, "read", &["logs-*"])]));
    assert_eq!(book.recheck(&kept, at(150), &no_sessions), Standing::Ended(EndCause::Revoked));
}

#[test]
fn the_scopes_of_a_person_are_those_of_their_open_grants() {
    let ended = Grant { ended: ended(120, EndCause::Revoked), ..patterns(3, "read", &["old"]) };
    let grants = vec![patterns(1, "read_write", &["logs-*"]), patterns(2, "read", &["a", ".b*"]), ended];
    let book = Book::new(world(grants));
    let scopes = |least, names| book.scopes(&alice(), &claim(), &touch(least, names), at(150), &no_sessions);
    let found = scopes("read", &[]);
    let fits = |name: &str| found.iter().map(|scope| scope.fits(name)).collect::<Vec<_>>();
    assert_eq!(fits("a"), [true, false], "the lowest level comes first");
    assert_eq!((fits(".b1"), fits("logs-1")), (vec![true, false], vec![false, true]));
    assert_eq!((fits("old"), fits(".logs-1")), (vec![false, false], vec![false, false]));
    assert_eq!((scopes("read_write", &[]).len(), scopes("read", &["logs-1"]).len()), (1, 1));
    assert!(scopes("admin", &[]).is_empty());
}

#[test]
fn a_secret_without_a_name_is_found_while_it_lives() {
    let mut snapshot = world(vec![]);
    snapshot.credentials[0].verifiers.check = vec![7; 32];
    let book = Book::new(snapshot.clone());
    assert_eq!(
        book.credential_by_check(&[7; 32], at(10)).map(|found| found.id),
        Some(CredentialId::from_u64(1))
    );
    assert!(book.credential_by_check(&[8; 32], at(10)).is_none());
    assert!(book.credential_by_check(&[7; 32], at(1_000)).is_none());
    snapshot.credentials[0].ended = ended(5, EndCause::Revoked);
    assert!(Book::new(snapshot.clone()).credential_by_check(&[7; 32], at(10)).is_none());
    snapshot.credentials[0].ended = None;
    snapshot.users.clear();
    assert!(Book::new(snapshot).credential_by_check(&[7; 32], at(10)).is_none());
}
