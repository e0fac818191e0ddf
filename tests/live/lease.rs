//! One connection, many people: what is left behind is never met.

use std::time::{Duration, Instant};

use crate::support::{
    Client, Node, Options, PATIENCE, Person, Server, Version, on_both_servers, shared, wait_until,
};

on_both_servers!(
    nothing_of_one_person_is_met_by_the_next_on_the_same_connection,
    role_settings_that_outlive_a_session_suspend_the_level,
    stateful_extensions_keep_a_connection_with_one_person,
);

fn one_connection(server: &'static Server) -> Node {
    Node::with(server.place(), Options { pool: "size_max = 1\nwait_seconds_max = 20", ..Options::default() })
}

/// Everything that a session may leave behind, as one line of facts.
const LEFTOVERS: &str = "select format('user=%s tables=%s prepared=%s cursors=%s channels=%s locks=%s work_mem=%s custom=%s \
     sequence=%s items=%s readonly=%s', \
     current_user = session_user, \
     (select count(*) from pg_class where relnamespace = pg_my_temp_schema()), \
     (select count(*) from pg_prepared_statements), \
     (select count(*) from pg_cursors where name <> ''), \
     (select count(*) from pg_listening_channels()), \
     (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), \
     current_setting('work_mem'), \
     coalesce(nullif(current_setting('my.own', true), ''), 'none'), \
     (select count(*) from pg_sequences where last_value = 42), \
     (select count(*) from items where id = 5000), \
     current_setting('default_transaction_read_only'))";
const CLEAN: &str = "user=t tables=0 prepared=0 cursors=0 channels=0 locks=0 work_mem=4MB custom=none sequence=0 items=0 readonly=off";
const FULL: &str = "user=f tables=1 prepared=1 cursors=1 channels=1 locks=1 work_mem=7MB custom=mine sequence=0 items=1 readonly=on";

fn nothing_of_one_person_is_met_by_the_next_on_the_same_connection(server: &'static Server) {
    let node = one_connection(server);
    let writer = node.place.role("read_write");
    node.place.master().run(&format!(
        "create role {writer}_other; grant {writer}_other to {writer};
         grant select on items to {writer}_other"
    ));
    let (alice, bob) = (node.person("alice", "read_write"), node.person("bob", "read_write"));
    for round in 0..3 {
        let first = alice.login();
        let pid = first.backend_pid();
        assert_eq!(first.one(LEFTOVERS), CLEAN, "round {round}");
        first.run(
            "create temp table leftover (a int);
             prepare leftover as select 1;
             declare leftover cursor with hold for select * from items;
             listen leftover;
             select pg_advisory_lock(4711);
             set work_mem = '7MB';
             set my.own = 'mine'",
        );
        first.run(&format!(
            "begin;
             insert into items values (5000, 'never committed');
             set default_transaction_read_only = on;
             set local role {writer}_other"
        ));
        assert_eq!(first.one(LEFTOVERS), FULL, "round {round}");
        first.close();
        let second = bob.login();
        assert_eq!(second.backend_pid(), pid, "the same pooled connection");
        assert_eq!(second.one(LEFTOVERS), CLEAN, "round {round}");
        assert_eq!(second.one("select pg_try_advisory_lock(4711)"), "t");
        assert_eq!(second.told("execute leftover").code, "26000");
        assert_eq!(second.told("select lastval()").code, "55000");
        second.run("notify leftover, 'to nobody'");
        // A role and a failed transaction, left open outside of SET LOCAL.
        second.run(&format!("set role {writer}_other; begin"));
        assert_eq!(second.told("select nonsense").code, "42703");
        assert!(second.notifications().is_empty());
        second.close();
    }
    let ended = node.events("session_end");
    assert!(ended.iter().all(|line| line["reused"] == true && line["how"] == "close"), "{ended:?}");
}

fn role_settings_that_outlive_a_session_suspend_the_level(server: &'static Server) {
    let node = one_connection(server);
    let (alice, bob) = (node.person("alice", "read_write"), node.person("bob", "read_write"));
    let carol = node.person("carol", "read");
    let first = alice.login();
    first.run("alter role current_user set search_path = evil, public");
    first.close();
    let alarm = node.wait_event("alarm", |line| line["level"] == "read_write");
    assert_eq!(alarm["target"], "shop");
    let told = bob.refused();
    assert!(told.message.starts_with("TG0"), "{told:?}");
    assert_eq!(carol.login().one("select 1"), "1", "other levels go on");
    // The operator mends it and says so.
    node.place.master().run(&format!("alter role {} reset all", node.place.role("read_write")));
    node.done(&["target", "resume", "shop", "--level", "read_write"]);
    assert_eq!(bob.login().one("show search_path"), "\"$user\", public");
}

fn stateful_extensions_keep_a_connection_with_one_person(server: &'static Server) {
    let node = Node::with(server.place(), Options { pool: "size_max = 3", ..Options::default() });
    node.place.master().run("create extension dblink");
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let visit = |person: &Person| -> String {
        let client = person.login();
        let pid = client.backend_pid();
        client.close();
        wait_until("the session has ended", PATIENCE, || node.sessions().is_empty());
        pid
    };
    let of_alice = visit(&alice);
    let of_bob = visit(&bob);
    assert_ne!(of_alice, of_bob, "a connection that dblink may have left something on met another person");
    assert_eq!(visit(&alice), of_alice, "one's own connection is reused");
    assert_eq!(visit(&bob), of_bob);
    let options =
        Options { pool: "size_max = 3", target: "accept_extensions = [\"dblink\"]", ..Options::default() };
    node.write("target.toml", &node.target_file(&options));
    node.done(&["apply", "target.toml"]);
    let pids: Vec<String> = [&alice, &bob, &alice, &bob].map(visit).into();
    assert!(pids.windows(2).all(|pair| pair[0] == pair[1]), "accepted, so shared: {pids:?}");
}

#[test]
fn connections_kept_for_one_person_give_way_to_another() {
    let node = one_connection(shared(Version::Distribution));
    node.place.master().run("create extension dblink");
    let (alice, bob) = (node.person("alice", "read"), node.person("bob", "read"));
    let client = alice.login();
    let pid = client.backend_pid();
    client.close();
    assert_ne!(bob.login().backend_pid(), pid);
}

/// Logins that wait for a connection of the reading level, as the metrics tell it.
fn waiting(node: &Node) -> usize {
    let metrics = node.http("/metrics");
    let wanted = |line: &&str| {
        ["tidegate_pool_connections{", "level=\"read\"", "state=\"waiting\""]
            .iter()
            .all(|part| line.contains(part))
    };
    let line = metrics.lines().find(wanted).and_then(|line| line.rsplit(' ').next());
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[test]
fn who_waits_longest_is_served_first() {
    let node = one_connection(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    let holder = alice.login();
    let people: Vec<Person> = (1..=5).map(|i| node.person(&format!("p{i}"), "read")).collect();
    let (sender, order) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for (i, person) in people.iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let client = person.login();
                sender.send(i).expect("somebody listens");
                client.close();
            });
            wait_until("one more waits", PATIENCE, || waiting(&node) == i + 1);
        }
        holder.close();
    });
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn who_waits_too_long_is_told_so() {
    let pool = "size_max = 1\nwait_seconds_max = 1\nwaiting_max = 1";
    let node = Node::with(shared(Version::Distribution).place(), Options { pool, ..Options::default() });
    let alice = node.person("alice", "read");
    let holder = alice.login();
    let began = Instant::now();
    let told = alice.refused();
    assert_eq!((told.code.as_str(), &told.message[..5]), ("53300", "TG010"), "{told:?}");
    assert!(began.elapsed() >= Duration::from_millis(900), "refused before the deadline");
    // One more than may wait is refused at once.
    let both: Vec<_> = std::thread::scope(|scope| {
        let attempts = [(); 2].map(|()| scope.spawn(|| (alice.refused(), Instant::now())));
        attempts.map(|attempt| attempt.join().expect("no panic")).into()
    });
    assert!(both.iter().all(|(told, _)| told.code == "53300"), "{both:?}");
    holder.close();
    assert_eq!(alice.login().one("select 1"), "1");
}

#[test]
fn a_dead_pooled_connection_is_noticed_before_it_is_lent() {
    let node = one_connection(shared(Version::Distribution));
    let alice = node.person("alice", "read");
    for _ in 0..5 {
        let client = alice.login();
        let pid = client.backend_pid();
        client.close();
        node.place.ask(&format!("select pg_terminate_backend({pid}, 5000)"));
        assert_ne!(alice.login().backend_pid(), pid);
    }
}

#[test]
fn warm_connections_are_there_before_anybody_comes_and_old_ones_go() {
    let pool = "size_max = 5\nwarm_min = 2\nage_seconds_max = 2\nidle_seconds_max = 1";
    let node = Node::with(shared(Version::Distribution).place(), Options { pool, ..Options::default() });
    let alice = node.person("alice", "read");
    let reader = node.place.role("read");
    wait_until("two are warm", PATIENCE, || node.place.count(&format!("usename = '{reader}'")) == 2);
    let clients: Vec<Client> = (0..4).map(|_| alice.login()).collect();
    let first = clients[0].backend_pid();
    clients.into_iter().for_each(Client::close);
    wait_until("those above the warm ones go", PATIENCE, || {
        node.place.count(&format!("usename = '{reader}'")) == 2
    });
    std::thread::sleep(Duration::from_millis(2_100));
    let client = alice.login();
    client.close();
    wait_until("one that is too old goes", PATIENCE, || node.place.count(&format!("pid = {first}")) == 0);
}
