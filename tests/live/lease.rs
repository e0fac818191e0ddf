//! One connection, many people, in turn. That nothing which is left behind is met is looked at in
//! `suites::reset`.

use std::time::{Duration, Instant};

use crate::support::{
    Client, Node, Options, PATIENCE, Person, Server, Version, on_both_servers, shared, wait_until,
};

on_both_servers!(stateful_extensions_keep_a_connection_with_one_person);

fn one_connection(server: &'static Server) -> Node {
    Node::with(server.place(), Options { pool: "size_max = 1\nwait_seconds_max = 20", ..Options::default() })
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

/// What it keeps lives in the server's process, and its name is in no catalog any more.
#[test]
fn what_an_extension_that_came_and_went_has_kept_is_met_by_nobody() {
    let node = one_connection(shared(Version::Distribution));
    let (database, role) = (&node.place.database, node.place.role("admin"));
    node.place.master().run(&format!("grant create on database {database} to {role}"));
    let client = node.person("alice", "admin").login();
    client.run("begin; create extension plperl");
    client.run("do $$ $_SHARED{leftover} = 'mine'; $$ language plperl");
    client.run("rollback");
    client.close();
    wait_until("the session has ended", PATIENCE, || node.sessions().is_empty());
    let client = node.person("bob", "admin").login();
    client.run("create extension plperl");
    client.run("do $$ elog(ERROR, 'met') if defined $_SHARED{leftover}; $$ language plperl");
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
