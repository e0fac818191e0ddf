//! pgx's own tests, which come with its module, through the proxy.

use std::collections::BTreeMap;

use super::{Mode, Way, client, installed};
use crate::support::{Node, Options, Server, Version, on_both_servers, text};

on_both_servers!(the_tests_of_pgx_pass_as_they_do_directly);

/// Tests that need not pass, at most five, all of which pass directly: why.
const KNOWN: [(&str, &str); 5] = [
    // Expect application_name to be theirs alone; it also says whose session it is.
    ("pgconn", "TestConnectWithRuntimeParams"),
    ("pgxpool", "TestPoolBeforeConnect"),
    // Expect another server process after a reconnection. It may be the same one, reset and confirmed clean:
    // that a lease goes back to the pool and to the next is what the proxy is for.
    ("pgxpool", "TestConnReleaseClosesConnInTransaction"),
    ("pgxpool", "TestConnReleaseClosesConnInFailedTransaction"),
    // Expects keys of four bytes from servers older than 18. The key is the proxy's own, which speaks 3.2
    // whatever the server does.
    ("pgconn", ONLY_OLD_SERVERS),
];
const ONLY_OLD_SERVERS: &str = "TestConnectProtocolVersion32";

/// Other databases, other ways to log in, and programs that are not part of the module.
const SKIPPED: [&str; 15] = [
    "TestConnect/Unix_socket",
    "TestConnect/Plain_password",
    "TestConnect/MD5_password",
    "TestConnectWithOptions/Unix_socket",
    "TestConnectWithOptions/Plain_password",
    "TestConnectWithOptions/MD5_password",
    "TestConnectOAuth",
    "TestConnectOAuthError",
    "TestConnectTLSPasswordProtectedClientCertWithSSLPassword",
    "TestConnectTLSPasswordProtectedClientCertWithGetSSLPasswordConfigOption",
    "TestConnContextCanceledCancelsRunningQueryOnServer/pgbouncer",
    "TestParseURLSettingsOracle",
    "TestCrateDBConnect",
    "TestPgbouncerQueryExecModes",
    "TestPgbouncerStatementCacheEviction",
];

const PACKAGES: [(&str, &str); 4] =
    [("pgx", "."), ("pgconn", "pgconn"), ("pgxpool", "pgxpool"), ("stdlib", "stdlib")];

fn suite(package: &str, way: &Way, more: &[&str]) -> BTreeMap<String, String> {
    let (_, folder) = PACKAGES.iter().find(|(name, _)| *name == package).expect("a package");
    let folder = installed("go/pgx").join(folder);
    let mut command = client(folder.join("suite.test"));
    command.current_dir(folder).args(["-test.v", "-test.timeout=400s"]).args(more).env("HOME", &way.home);
    let variables = [
        ("PGX_TEST_DATABASE", Mode::Plain, ""),
        ("PGX_TEST_TCP_CONN_STRING", Mode::Plain, ""),
        ("PGX_TEST_SCRAM_PASSWORD_CONN_STRING", Mode::Plain, " channel_binding=disable"),
        ("PGX_TEST_TLS_CONN_STRING", Mode::Tls, " channel_binding=disable"),
        ("PGX_TEST_SCRAM_PLUS_CONN_STRING", Mode::Tls, " channel_binding=require"),
    ];
    for (name, mode, more) in variables {
        command.env(name, format!("{}{more}", way.conninfo(mode)));
    }
    let output = command.output().expect("timeout is part of coreutils");
    let said = text(&output.stdout);
    let results: BTreeMap<String, String> = said
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--- "))
        .filter_map(|line| {
            let (result, name) = line.split_once(": ")?;
            Some((name.split_whitespace().next()?.to_owned(), result.to_owned()))
        })
        .collect();
    assert!(!results.is_empty(), "no tests ran: {said}{}", text(&output.stderr));
    // What a failed test said, for whoever has to look.
    for (name, _) in results.iter().filter(|(_, result)| *result == "FAIL") {
        let lines =
            said.lines().skip_while(|line| !(line.starts_with("===") && line.ends_with(name.as_str())));
        eprintln!("{package} {name}: {:#?}", lines.skip(1).take(12).collect::<Vec<_>>());
    }
    results
}

fn the_tests_of_pgx_pass_as_they_do_directly(server: &'static Server) {
    let options = Options {
        pool: "size_max = 60\nwait_seconds_max = 60",
        target: "park = \"never\"",
        log: "info",
        ..Options::default()
    };
    let node = Node::with(server.place(), options);
    let role = node.place.role("admin");
    node.place.master().run(&format!(
        "alter database {} owner to {role};
         grant set on parameter log_statement to {role};
         create extension hstore; create extension ltree;
         create domain uint64 as numeric(20, 0); alter domain uint64 owner to {role};
         do $$ begin create user \" tricky, ' }} \"\" \\\\ test user \"; exception when duplicate_object then end $$",
        node.place.database
    ));
    // TestConnect looks whether the user that it named is the one at the server.
    let person = node.person(&role, "admin");
    let (direct, proxied) = (Way::direct(&node, "admin"), Way::proxied(&node, &person));
    let mut passed = 0;
    let mut wrong = Vec::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = PACKAGES
            .iter()
            .map(|(package, _)| (package, scope.spawn(|| suite(package, &proxied, &[]))))
            .collect();
        for (package, run) in runs {
            for (name, result) in run.join().expect("the tests ran") {
                let test = name.split('/').next().expect("a name");
                let known = KNOWN.contains(&(*package, test))
                    && (test != ONLY_OLD_SERVERS || server.version == Version::Distribution);
                match &result[..] {
                    "PASS" => passed += 1,
                    "FAIL" if known => {}
                    "SKIP" if SKIPPED.contains(&&name[..]) => {}
                    _ => wrong.push(format!("{package} {name}: {result}")),
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(passed >= 1_690, "only {passed} tests passed");
    for (package, test) in KNOWN {
        let results = suite(package, &direct, &["-test.run", &format!("^{test}$")]);
        assert_eq!(results[test], "PASS", "{package} {test} directly");
    }
}
