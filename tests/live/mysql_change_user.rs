//! Clients that log in again on the connection that they have.

use crate::support::mysql::wire::{command, flag, say};
use crate::support::mysql::{Login, Release, on_all_releases};
use crate::support::node::field;
use crate::support::{Node, PATIENCE, Person, wait_until};

on_all_releases!(another_login_is_another_session, who_fails_is_out);

fn login(person: &Person) -> Login<'_> {
    Login { user: &person.name, password: &person.secret, ..Login::default() }
}

fn another_login_is_another_session(release: Release) {
    let node = Node::mysql(release);
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read_write"));
    let [read, write] = ["read", "read_write"].map(|level| format!("{}@%", node.place.role(level)));
    for (tls, more) in [(false, 0), (true, 0), (false, flag::COMPRESS), (true, flag::COMPRESS)] {
        let mut wire = alice.mysql(&Login { tls, more, ..Login::default() }).expect("let in");
        assert_eq!(wire.ask("select current_user()"), read);
        let first = node.session_of("alice");
        wire.run("set @mine = 7");
        let (statement, _) = wire.prepare("select 1").expect("prepared");
        wire.change_user(&login(&bob)).expect("bob, who has a grant");
        // What was sent along is of a nonce that is used up: it is always asked for anew.
        assert!(wire.steps.starts_with("Scaching_sha2_password "), "{}", wire.steps);
        assert_eq!(wire.ask("select current_user()"), write, "bob's level");
        assert_eq!(wire.ask("select @mine"), "null");
        let second = node.session_of("bob");
        assert_eq!(wire.ask("select @tidegate"), format!("bob/{second}"));
        wire.send(&crate::support::mysql::Wire::execution(statement, 0, &[]));
        assert_eq!(wire.read().expect("an answer")[0], 0xff, "alice's prepared statement is gone");
        // Uncommitted work of bob's is gone when he turns back into alice.
        wire.run("begin");
        wire.run("update items set name = 'bob was here' where id = 3");
        wire.change_user(&login(&alice)).expect("alice again");
        assert_eq!(
            wire.ask("select name from items where id = 3; select current_user()"),
            format!("item 3; {read}")
        );
        assert_eq!(wire.told("delete from items").code, "1142", "alice may read only");
        let third = node.session_of("alice");
        // The number that the client was told stays its own: another session of alice's can stop it by it.
        let number = wire.greeting.connection;
        wire.query("select sleep(60)");
        node.place.wait_running("sleep(60)");
        let mut other = alice.mysql_login();
        other.run(&format!("kill query {number}"));
        wire.answers();
        other.goodbye();
        wire.goodbye();

        let end = node.wait_end_of(&first);
        assert_eq!((field(&end, "how"), field(&end, "user")), ("close".into(), "alice".into()));
        assert!(field(&end, "why").contains(&second), "{end}");
        assert_eq!(end["reused"], true, "{end}");
        let end = node.wait_end_of(&second);
        assert!(field(&end, "why").contains(&third) && end["reused"] == true, "{end}");
        let start = node.wait_event("session_start", |line| field(line, "session") == second);
        assert_eq!((field(&start, "user"), &start["tls"]), ("bob".into(), &tls.into()));
        node.wait_event("login_accepted", |line| field(line, "session") == second);
        node.wait_end_of(&third);
    }
    node.place.wait_quiet(PATIENCE);
}

fn who_fails_is_out(release: Release) {
    let node = Node::mysql(release);
    let alice = node.person("alice", "read");
    let carol = node.user("carol");
    let stranger = Login { user: "nobody", password: "tg_00000000000000000000000000", ..Login::default() };
    let wrong = Login { password: stranger.password, ..login(&alice) };
    for (who, code) in [(&stranger, "TG001"), (&wrong, "TG001"), (&login(&carol), "TG002")] {
        let mut wire = alice.mysql_login();
        let first = node.session_of("alice");
        let told = wire.change_user(who).expect_err("not let in");
        assert!(told.message.starts_with(code), "{told:?}");
        assert!(wire.until_closed().0.is_empty(), "the connection ends with it");
        assert_eq!(node.wait_end_of(&first)["reused"], true);
        let refused = node.wait_event("login_refused", |line| field(line, "code") == code);
        assert!(!field(&node.wait_end_of(&first), "why").is_empty(), "{refused}");
        wait_until("nobody is there", PATIENCE, || node.sessions().is_empty());
    }
    // Cut short, and with more behind it than a login has.
    let mut wire = alice.mysql_login();
    wire.send(&say(command::CHANGE_USER, b"alice"));
    let (payloads, _) = wire.until_closed();
    assert_eq!(payloads.len(), 1, "{payloads:?}");
    let mut wire = alice.mysql_login();
    let ahead =
        [say(command::CHANGE_USER, b"alice\0\0\0"), say(command::QUERY, b"delete from items")].concat();
    wire.send(&ahead);
    let (payloads, _) = wire.until_closed();
    assert_eq!(payloads.last().map(|payload| payload[0]), Some(0xff), "{payloads:?}");
    assert!(node.events("statement").iter().all(|line| !field(line, "text").contains("delete")));
}
