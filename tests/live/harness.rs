//! The servers are what the other tests take them for.

use crate::support::{Client, Server, Version, on_both_servers, tls};

on_both_servers!(a_server_is_real_and_reached_with_tls_and_without);

fn a_server_is_real_and_reached_with_tls_and_without(server: &'static Server) {
    let place = server.place();
    let version: u32 = place.ask("show server_version_num").parse().expect("a number");
    match server.version {
        Version::Distribution => assert!(version >= 140_000, "{version}"),
        Version::Newest => assert!(version >= 180_000, "{version}"),
    }
    let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(place.ask(ssl), "f");
    let config = server.superuser(&place.database);
    assert_eq!(Client::connect(&config, Some(tls::authority())).expect("TLS").one(ssl), "t");
    assert!(Client::connect(&config, Some(&tls::Authority::new("somebody else"))).is_err());
    let role = place.role("read");
    let direct = crate::support::client::config(
        server.port,
        &role,
        crate::support::server::ROLE_PASSWORD,
        Some(&place.database),
    );
    let reader = Client::connect(&direct, None).expect("the connector's role logs in");
    assert_eq!(reader.told("delete from items").code, "42501");
    let sleeping = reader.start("select pg_sleep(60)");
    place.wait_running("pg_sleep");
    assert_eq!(place.count("state = 'active'"), 1);
    place.ask(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"));
    assert_eq!(sleeping.told().code, "57P01");
    assert!(place.log().contains("LOG:  statement: select pg_sleep(60)"));
    let wire = crate::support::wire::Wire::login(
        server.port,
        &role,
        crate::support::server::ROLE_PASSWORD,
        &[("database", &place.database)],
    );
    let mut wire = wire.map_err(|refused| refused.0).expect("by hand");
    wire.query("select 1");
    assert_eq!(wire.tags(), "TDCZ");
    assert!(wire.steps.starts_with("R10R11R12R0S") && wire.steps.ends_with("SKZ"), "{}", wire.steps);
}
