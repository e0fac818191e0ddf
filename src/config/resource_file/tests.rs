use std::path::PathBuf;

use super::*;

const PROTOCOLS: [&str; 1] = ["postgres"];

/// Writes the texts as `0.toml`, `1.toml` … and loads them; mistakes without the folder.
fn load(texts: &[&str], known: Option<&Known>) -> Result<Resources, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..texts.len()).map(|i| folder.path().join(format!("{i}.toml"))).collect();
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).unwrap();
    }
    let around = Surroundings { protocols: PROTOCOLS.to_vec(), known, node: None };
    let folder = format!("{}/", folder.path().display());
    Resources::load_with(&paths, &around)
        .map_err(|mistakes| mistakes.iter().map(|one| one.to_string().replace(&folder, "")).collect())
}

fn expect(mistakes: &[String], expected: &[&str]) {
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\n  is not\n{expected}");
    }
}

const TARGET: &str = "[[target]]\nname = 'orders'\nprotocol = 'postgres'\naddress = 'db:5432'\ntls = 'require'\n\
                      [target.connector.read]\nsecret = 'file:a.json'\n";

#[test]
fn the_example_in_the_repository_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/orders.toml");
    let around = Surroundings { protocols: PROTOCOLS.to_vec(), known: Some(&Known::default()), node: None };
    let resources = Resources::load_with(&[path], &around).unwrap();
    let target = &resources.targets[0].target;
    assert_eq!((target.name.as_str(), target.tls), ("orders", TlsMode::VerifyFull));
    assert_eq!(target.connectors[&AccessLevel::ReadWrite].secret, "env:TIDEGATE_SECRET_ORDERS_RW");
    assert_eq!(target.pool, PoolSettings::default());
    let users: Vec<_> = resources.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(users, ["alice", "bob"]);
    let grant = &resources.grants[1];
    assert_eq!(grant.subject, Subject::Group(Name::parse("backend").unwrap()));
    assert_eq!(grant.databases, Databases::Listed(["shop".to_owned(), "shop_archive".to_owned()].into()));
    assert_eq!((grant.cidrs.len(), grant.sessions_max), (2, Some(4)));
    assert_eq!(grant.window.start, "2026-11-23T20:00:00Z".parse().unwrap());
}

#[test]
fn the_example_for_mysql_loads_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let protocols = vec!["postgres", "mysql"];
    let around = Surroundings { protocols, known: Some(&Known::default()), node: None };
    let files = ["orders.toml", "shop.toml"].map(|name| folder.join(name));
    let resources = Resources::load_with(&files, &around).unwrap();
    let target = &resources.targets[1].target;
    assert_eq!((target.name.as_str(), target.protocol.as_str()), ("shop", "mysql"));
}

#[test]
fn all_mistakes_of_all_files_are_listed() {
    let first = "[[target]]\nname = 'Orders'\nprotocol = 'mysql'\naddress = 'db'\ntls = 'verify'\ndetails = \"a\\u0007\"\nowner = 'x'\n\
                 [target.connector.read-write]\nsecret = 'hunter2'\n\
                 [target.connector.admin]\npassword = 'hunter2'\n\
                 [target.pool]\nsize_max = 0\nwarm_max = 1\n\
                 [[target]]\nname = 'empty'\nprotocol = 'postgres'\naddress = '[::1]:5432'\n";
    let second = "[[user]]\nname = 'alice'\n[[user]]\nname = 'alice'\ngroups = 'x'\n[[user]]\npassword = 'hunter2'\n\
                  [[grant]]\nname = 'g'\nuser = 'alice'\ngroup = 'b'\ntarget = 'empty'\nlevel = 'rw'\nfrom = '2026-11-22T08:00:00Z'\n\
                  until = 2026-11-22T08:00:00\ndatabases = []\ncidrs = ['10.0.0.1']\nsessions = 0\n";
    let mistakes = load(&[first, second, "a = ["], None).unwrap_err();
    assert!(!mistakes.iter().any(|mistake| mistake.contains("hunter2")), "{mistakes:#?}");
    expect(
        &mistakes,
        &[
            "0.toml:2: target.name = 'Orders': a name is made of a-z",
            "0.toml:3: target.protocol = 'mysql': not a protocol that is built in; there is postgres",
            "0.toml:4: target.address = 'db': must be host:port",
            "0.toml:5: target.tls = 'verify': not a TLS mode; one of disable, allow, prefer, require, verify-ca, verify-full",
            "0.toml:6: target.details = \"a\\u0007\": has the control character '\\u{7}'",
            "0.toml:7: target.owner: not a key that exists here; did you mean owners?",
            "0.toml:8: target.connector.read-write: not the name of a level; did you mean read_write?",
            "0.toml:9: target.connector.read-write.secret: not a reference to a secret",
            "0.toml:10: target.connector.admin.secret: missing",
            "0.toml:11: target.connector.admin.password: no login stands in a resource file",
            "0.toml:13: target.pool.size_max = 0: must be a whole number from 1 to 10000",
            "0.toml:14: target.pool.warm_max: not a key that exists here; did you mean warm_min?",
            "0.toml:15: target.tls_ca: missing; tls = \"verify-full\" (the default is verify-full)",
            "0.toml:15: target.connector: missing",
            "1.toml:4: user.name: a second user alice; the first is at 1.toml:1",
            "1.toml:5: user.groups = 'x': must be a list of texts",
            "1.toml:6: user.name: missing",
            "1.toml:7: user.password: no login stands in a resource file",
            "1.toml:11: grant.group: a grant is given to a user or to a group, not to both",
            "1.toml:13: grant.level = 'rw': not the name of a level; did you mean read_write?",
            "1.toml:14: grant.from = '2026-11-22T08:00:00Z': must be a date, time and offset without quotes",
            "1.toml:15: grant.until = 2026-11-22T08:00:00: must be a date, time and offset without quotes",
            "1.toml:16: grant.databases = []: empty; leave it out",
            "1.toml:17: grant.cidrs = ['10.0.0.1']: \"10.0.0.1\" has no prefix length; one address alone is \"10.0.0.1/32\"",
            "1.toml:18: grant.sessions = 0: must be a whole number from 1",
            "2.toml:1: not TOML:",
        ],
    );
}

const GRANT: &str = "[[grant]]\nname = 'g'\nuser = 'alice'\ntarget = 'orders'\nlevel = 'read'\n\
                     from = 2026-11-22T08:00:00Z\nuntil = 2026-11-22T18:00:00+01:00\n";

#[test]
fn grants_name_what_some_file_or_the_store_has() {
    let nothing = Known::default();
    assert!(load(&[GRANT, TARGET, "[[user]]\nname = 'alice'\n"], Some(&nothing)).is_ok());
    assert!(load(&[GRANT], None).is_ok());
    expect(
        &load(&[GRANT], Some(&nothing)).unwrap_err(),
        &[
            "0.toml:3: grant.user = 'alice': there is no user alice; add a [[user]] of that name",
            "0.toml:4: grant.target = 'orders': there is no target orders; add a [[target]]",
        ],
    );
    let mut stored = Known::default();
    stored.users.insert(Name::parse("alice").unwrap());
    stored.targets.insert(Name::parse("orders").unwrap(), [AccessLevel::Admin].into());
    expect(
        &load(&[GRANT], Some(&stored)).unwrap_err(),
        &["0.toml:5: grant.level = 'read': target orders has no connector for read; it has admin"],
    );
    // The files come first: they will replace what is stored.
    assert!(load(&[TARGET, GRANT], Some(&stored)).is_ok());
    // A target or file that is wrong is no reason to call its name unknown.
    let wrong = TARGET.replace("db:5432", "db");
    expect(&load(&[&wrong, GRANT], Some(&stored)).unwrap_err(), &["0.toml:4: target.address = 'db'"]);
    expect(&load(&["[", GRANT], Some(&nothing)).unwrap_err(), &["0.toml:1: not TOML"]);
}

#[test]
fn windows_and_confirmations_are_checked() {
    let backwards = GRANT.replace("18:00:00+01:00", "09:00:00+01:00");
    expect(
        &load(&[&backwards], None).unwrap_err(),
        &["0.toml:7: grant.until: must be later than from, which is 2026-11-22T08:00:00Z"],
    );
    let confirmed = "secret_confirmed_for = 'db:5433'\n[target.connector.read]";
    let target = TARGET.replace("[target.connector.read]", confirmed);
    expect(
        &load(&[&target], None).unwrap_err(),
        &[
            "0.toml:6: target.secret_confirmed_for = 'db:5433': must repeat the target's address, which is \"db:5432\"",
        ],
    );
    let target = target.replace("5433", "5432");
    let resources = load(&[&target], None).unwrap();
    assert_eq!(resources.targets[0].secret_confirmed_for.as_deref(), Some("db:5432"));
}

#[test]
fn a_login_in_the_place_of_a_table_is_not_shown() {
    for text in [
        "[target.connector]\nread = 'hunter2'\n",
        "[target]\nconnector.read = { username = 'u', password = 'hunter2' }\n",
        "connector = 'hunter2'\n",
    ] {
        let body = "name = 'a'\nprotocol = 'postgres'\naddress = 'db:1'\ntls = 'require'\n";
        let text = match text.strip_prefix("[target]\n") {
            Some(rest) => format!("[[target]]\n{body}{rest}"),
            None => format!("[[target]]\n{body}{text}"),
        };
        let mistakes = load(&[&text], None).unwrap_err();
        assert!(!mistakes.is_empty() && !mistakes.iter().any(|one| one.contains("hunter2")), "{mistakes:#?}");
    }
}

#[test]
fn a_check_reads_what_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let node = file("node.toml", "[[listener]]\naddress = '127.0.0.1:1'\nprotocol = 'postgres'\n");
    let node = crate::config::NodeConfig::load_with(&node, &PROTOCOLS, false).unwrap();
    let resources = file("r.toml", &TARGET.replace("'require'", "'verify-full'\ntls_ca = 'ca.pem'"));
    let around = Surroundings { protocols: PROTOCOLS.to_vec(), known: None, node: Some(&node) };
    let mistakes = Resources::load_with(std::slice::from_ref(&resources), &around).unwrap_err();
    let said: Vec<_> =
        mistakes.iter().map(|mistake| (mistake.line.unwrap(), mistake.what.as_str())).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].0 == 6 && said[0].1.contains("ca.pem cannot be read: No such file"), "{said:?}");
    assert!(said[1].0 == 8 && said[1].1.contains("the secret directory"), "{said:?}");
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    file("ca.pem", "");
    file("secrets/a.json", "{\"username\": \"u\", \"password\": \"p\"}");
    assert!(Resources::load_with(&[resources], &around).is_ok());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    /// Cut, doubled and overwritten parts of a file that is right.
    #[test]
    fn damaged_files_give_mistakes_with_lines(
        edits in proptest::collection::vec((0..8_000usize, 0..40usize, "[\\PC\n\"'=\\[\\]{}]{0,6}"), 1..6),
    ) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/orders.toml");
        let mut text: Vec<char> = std::fs::read_to_string(path).unwrap().chars().collect();
        for (at, length, put) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        let lines = text.lines().count() + 1;
        if let Err(mistakes) = load(&[&text], Some(&Known::default())) {
            for mistake in mistakes {
                let line = mistake.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
                proptest::prop_assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{}", mistake);
            }
        }
    }
}
