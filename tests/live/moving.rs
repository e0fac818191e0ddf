//! A session outlives its lease: it gives the connection back while it is idle and goes on with another.
//! The node runs inside the test here, because nothing from outside asks for it yet.

use tidegate::config::NodeConfig;
use tidegate::proxy::Node as InProcess;

use crate::support::{Node, PATIENCE, Server, block, on_both_servers, wait_until};

on_both_servers!(a_session_goes_on_with_another_connection);

fn a_session_goes_on_with_another_connection(server: &'static Server) {
    let outside = Node::start(server);
    let (alice, bob) = (outside.person("alice", "read_write"), outside.person("bob", "read_write"));
    outside.signal(rustix::process::Signal::TERM);
    outside.wait_ended(PATIENCE);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let file = outside.folder.join("tidegate.toml");
    let config = NodeConfig::load(&file).expect("a good file");
    let node = runtime.block_on(InProcess::start(&file, config, Box::new(|_| Ok(())))).expect("it starts");

    let mut settings = alice.config();
    settings.options("-c search_path=pg_catalog,public -c work_mem=5MB").application_name("mover");
    let client = crate::support::Client::connect(&settings, None).expect("alice is let in");
    let prepared = block(client.inner.prepare("select $1::int + 1")).expect("prepared");
    let before = client.backend_pid();
    let session = node.registry.list()[0].session;
    assert!(node.registry.park(session), "there is such a session");
    wait_until("the connection is given back", PATIENCE, || {
        node.registry.list().iter().any(|info| info.session == session && info.upstream.is_none())
    });
    // The connection that was given back is somebody else's now, and has nothing of alice's.
    // Bob is lent the pool's connections in no order that counts.
    let others: Vec<_> = (0..4).map(|_| bob.login()).collect();
    let other = others.iter().find(|other| other.backend_pid() == before).expect("bob has it now");
    assert_eq!(other.one("select count(*) from pg_prepared_statements"), "0");
    assert_eq!(other.one("show work_mem"), "4MB");

    // What alice had by protocol and by start-up goes on, on another connection.
    let sum: i32 = block(client.inner.query_one(&prepared, &[&41])).expect("it runs").get(0);
    assert_eq!(sum, 42);
    assert_ne!(client.backend_pid(), before);
    assert_eq!(client.one("show search_path"), "pg_catalog,public");
    assert_eq!(client.one("show work_mem"), "5MB");
    let shown = client.one("show application_name");
    assert!(shown.starts_with("alice/") && shown.ends_with(" mover"), "{shown}");

    // In a transaction, nothing is given back.
    client.run("begin");
    let held = client.backend_pid();
    assert!(node.registry.park(session));
    assert_eq!(client.backend_pid(), held);
    client.run("commit");
    runtime.block_on(node.stop(std::future::ready(())));
}
