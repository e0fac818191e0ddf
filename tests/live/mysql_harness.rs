//! MariaDB's and MySQL's servers are what the other tests take them for.

use crate::support::mysql::wire::flag;
use crate::support::mysql::{Login, Release, Wire, on_all_releases, shared};
use crate::support::server::ROLE_PASSWORD;

on_all_releases!(a_server_is_real_and_reached_with_tls_and_without);

fn a_server_is_real_and_reached_with_tls_and_without(release: Release) {
    let place = shared(release).place();
    let version = place.ask("select version()");
    let expected = match release {
        Release::Distribution => "MariaDB",
        Release::MariaDb11 => "11.8.",
        Release::MySql9 => "9.",
    };
    assert!(version.contains(expected), "{version}");
    let role = place.role("read");
    let mut wire = place.login(&role, ROLE_PASSWORD).expect("with TLS");
    assert_ne!(wire.ask("show status like 'ssl_cipher'"), "Ssl_cipher|");
    assert!(wire.greeting.capabilities & flag::SSL != 0);
    let login = Login {
        user: &role,
        password: ROLE_PASSWORD,
        database: Some(&place.database),
        more: flag::DEPRECATE_EOF,
        ..Login::default()
    };
    let mut plain = Wire::login(place.port, &login).map_err(|refused| refused.0).expect("without TLS");
    assert_eq!(plain.ask("select count(*), null, '' from items; select 2"), "1000|null|; 2");
    assert_eq!(plain.told("delete from items").code, "1142");
    let (id, parameters) = plain.prepare("select name from items where id = ?").expect("prepared");
    assert_eq!(parameters, 1);
    plain.send(&Wire::execution(id, 0, &[Some("7")]));
    assert!(format!("{:?}", plain.binary_answers()).contains("item 7"));
    assert_eq!(place.login(&role, "wrong").err().expect("a wrong password").code, "1045");
    wire.query("select sleep(60)");
    place.wait_running("sleep(60)");
    let id = place.ask(&format!(
        "select id from information_schema.processlist where user = '{role}' and info like '%sleep%'"
    ));
    place.run(&format!("kill query {id}"));
    // Sleep alone answers 1 where it is interrupted.
    assert_eq!(wire.answers().len(), 1);
    assert!(place.general_log().contains("select sleep(60)"));
}
