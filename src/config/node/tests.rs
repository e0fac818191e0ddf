use super::*;
use crate::config::{ListenAddress, ListenerTls, SocketFile};

fn load(text: &str, look: bool) -> (tempfile::TempDir, Result<NodeConfig, Vec<String>>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = NodeConfig::load_with(&path, &["postgres"], look).map_err(|mistakes| {
        let folder = format!("{}/", folder.path().display());
        mistakes.iter().map(|mistake| mistake.to_string().replace(&folder, "")).collect()
    });
    (folder, loaded)
}

const LEAST: &str = "[[listener]]\naddress = '127.0.0.1:6432'\nprotocol = 'postgres'\n";

#[test]
fn the_least_file_has_the_defaults() {
    let (folder, config) = load(LEAST, false);
    let config = config.unwrap();
    let base = folder.path();
    assert_eq!(
        config.listeners,
        [Listener {
            name: "127.0.0.1:6432".to_owned(),
            address: ListenAddress::Tcp("127.0.0.1:6432".parse().unwrap()),
            protocol: "postgres".to_owned(),
            target: None,
            tls: ListenerTls::Off,
            connections_max: 10_000,
            server_name_suffix: None,
            client_certificates: None,
            server_version: None,
            mysql_native_password: false,
            proxy_from: Vec::new(),
            socket: SocketFile::default(),
        }]
    );
    assert_eq!((config.tls, config.base.as_path()), (None, base));
    assert_eq!(config.store_url, "sqlite:state/tidegate.db");
    assert_eq!(config.secret_directory, base.join("secrets"));
    assert_eq!(config.keys_file, base.join("state/installation.key"));
    assert_eq!(
        config.audit,
        Audit {
            directory: base.join("state/audit"),
            sync: Duration::from_millis(100),
            lag_bytes_max: 67_108_864,
            segment_bytes: 2_097_152,
            continue_on_failure: false,
            text_bytes_max: 32_768,
        }
    );
    assert_eq!(config.admin, Admin { socket: base.join("state/admin.sock"), uids: vec![], address: None });
    assert!(config.limits.workers >= 1);
    assert_eq!(
        Limits { workers: 1, ..config.limits },
        Limits {
            workers: 1,
            login: Duration::from_secs(20),
            idle: None,
            session: None,
            park: Some(Duration::from_secs(5)),
            notice: Some(Duration::from_secs(300)),
            drain: Duration::from_secs(30),
        }
    );
    assert_eq!(config.log, Log { level: "info".to_owned(), json: false });
    let directory = base.join("state/bodies");
    assert_eq!(config.bodies, Bodies { directory, bytes_max: 8 << 30, person_bytes_max: 2 << 30 });
}

#[test]
fn every_key_is_read() {
    let (folder, config) = load(
        "[[listener]]\nname = 'pg'\naddress = '0.0.0.0:6432'\nprotocol = 'postgres'\ntarget = 'orders'\n\
         tls = 'require'\nmax_connections = 5\n\
         [tls]\ncertificate = 'a.pem'\nkey = '/b.key'\n\
         [store]\nurl = 'sqlite:/x.db'\n[secret]\ndirectory = '/s'\n[keys]\nfile = 'k'\n\
         [audit]\ndirectory = 'a'\nsync_ms = 7\nlag_bytes_max = 2097152\nsegment_bytes = 1048576\non_failure = 'continue'\n\
         text_bytes_max = 256\n\
         [admin]\nsocket = 'x.sock'\nuids = [1000, 0x3e9]\naddress = '127.0.0.1:8443'\n\
         [limits]\nworkers = 3\nlogin_seconds = 1\nidle_seconds = 2\nsession_seconds = 3\ndrain_seconds = 0\npark_seconds = 0\nnotice_seconds = 4\n\
         [log]\nlevel = 'info,tidegate::pool=debug'\nformat = 'json'\n",
        false,
    );
    let (config, base) = (config.unwrap(), folder.path());
    let listener = &config.listeners[0];
    assert_eq!(
        (listener.name.as_str(), listener.tls, listener.connections_max),
        ("pg", ListenerTls::Require, 5)
    );
    assert_eq!(listener.target.as_ref().unwrap().as_str(), "orders");
    assert_eq!(config.tls, Some(TlsFiles { certificate: base.join("a.pem"), key: "/b.key".into() }));
    assert_eq!(config.store_url, "sqlite:/x.db");
    assert_eq!((config.secret_directory, config.keys_file), ("/s".into(), base.join("k")));
    assert_eq!(
        config.audit,
        Audit {
            directory: base.join("a"),
            sync: Duration::from_millis(7),
            lag_bytes_max: 2_097_152,
            segment_bytes: 1_048_576,
            continue_on_failure: true,
            text_bytes_max: 256,
        }
    );
    let address = Some("127.0.0.1:8443".parse().unwrap());
    assert_eq!(config.admin, Admin { socket: base.join("x.sock"), uids: vec![1_000, 1_001], address });
    let seconds = Duration::from_secs;
    assert_eq!(
        config.limits,
        Limits {
            workers: 3,
            login: seconds(1),
            idle: Some(seconds(2)),
            session: Some(seconds(3)),
            park: None,
            notice: Some(seconds(4)),
            drain: seconds(0),
        }
    );
    assert_eq!(config.log, Log { level: "info,tidegate::pool=debug".to_owned(), json: true });
}

#[test]
fn listeners_off_loopback_need_tls() {
    let tls = |text: &str, certificate: bool| {
        let tail = if certificate { "[tls]\ncertificate = 'a'\nkey = 'b'\n" } else { "" };
        let (_folder, config) = load(&format!("[[listener]]\nprotocol = 'postgres'\n{text}\n{tail}"), false);
        config.map(|config| config.listeners[0].tls)
    };
    let (near, far) = ("address = '127.0.0.1:1'\n", "address = '[::]:1'\n");
    assert_eq!(tls(near, false), Ok(ListenerTls::Off));
    assert_eq!(tls(near, true), Ok(ListenerTls::Optional));
    assert_eq!(tls("address = '[::1]:1'\ntls = 'require'", true), Ok(ListenerTls::Require));
    assert_eq!(tls(far, true), Ok(ListenerTls::Require));
    for (text, certificate, said) in [
        (format!("{far}tls = 'off'"), true, "node.toml:4: listener.tls: must be \"require\""),
        (format!("{far}tls = 'optional'"), true, "node.toml:4: listener.tls: must be \"require\""),
        (format!("{far}tls = 'require'"), false, "node.toml:4: listener.tls: needs a certificate"),
        (far.to_owned(), false, "node.toml:1: listener.tls: needs a certificate"),
        (format!("{near}tls = 'optional'"), false, "node.toml:4: listener.tls: needs a certificate"),
    ] {
        let mistakes = tls(&text, certificate).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(said), "{mistakes:?}");
    }
}

#[test]
fn all_mistakes_are_listed() {
    let (_folder, config) = load(
        "speed = 9\n\
         [[listener]]\naddress = 'localhost:6432'\nprotocol = 'postgras'\nadress = 'x'\n\
         [[listener]]\nname = 'pg'\naddress = '127.0.0.1:1'\nprotocol = 'postgres'\n\
         [[listener]]\nname = 'pg'\naddress = '127.0.0.1:1'\nprotocol = 'postgres'\nmax_connections = 0\n\
         [tls]\ncertificate = 'a'\n\
         [store]\nurl = 'postgres://h/d'\n\
         [recording]\nurl = 'file:x'\n\
         [audit]\non_failure = 'ignore'\nsegment_bytes = 1048577\nlag_bytes_max = 1048576\n\
         [limits]\nlogin_seconds = '20'\n\
         [admin]\nuids = [-1]\n\
         [log]\nlevel = 'inof'\n",
        false,
    );
    let expected = [
        "node.toml:1: speed: not a key that exists here; there are",
        "node.toml:3: listener.address = 'localhost:6432': must be an IP address and a port",
        "node.toml:4: listener.protocol = 'postgras': not a protocol that is built in; there is postgres",
        "node.toml:5: listener.adress: not a key that exists here; did you mean address?",
        "node.toml:11: listener.name: a second listener of this name; the first is at node.toml:6",
        "node.toml:12: listener.address: a second listener on this address; the first is at node.toml:6",
        "node.toml:14: listener.max_connections = 0: must be a whole number from 1 to 1000000",
        "node.toml:15: tls.key: missing; such as key = \"tls/server.key\"",
        "node.toml:18: store.url = 'postgres://h/d': a PostgreSQL store is not built yet",
        "node.toml:19: recording: recordings are not built yet",
        "node.toml:22: audit.on_failure = 'ignore': must be \"close\"",
        "node.toml:23: audit.segment_bytes = 1048577: must be a multiple of 65536",
        "node.toml:24: audit.lag_bytes_max: must not be below segment_bytes",
        "node.toml:26: limits.login_seconds = '20': must be a whole number from 1 to 600",
        "node.toml:28: admin.uids = [-1]: must be a list of whole numbers",
        "node.toml:30: log.level = 'inof': must be one of off, error",
    ];
    let mistakes = config.unwrap_err();
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\n  is not\n{expected}");
    }
}

#[test]
fn shapes_that_are_wrong_are_mistakes() {
    for (text, said) in [
        ("", "node.toml: there is no [[listener]]; at least one is needed"),
        (
            "[listener]\naddress = 'x'\n",
            "node.toml:1: listener = [listener]: must be a list of tables: [[listener]]",
        ),
        ("listener = [7]\n", "node.toml:1: listener = [7]: must be a list of tables: [[listener]]"),
        (
            "limits = 7\n[[listener]]\naddress = '127.0.0.1:1'\nprotocol = 'postgres'\n",
            "node.toml:1: limits = 7: must be a table: [limits]",
        ),
    ] {
        let mistakes = load(text, false).1.unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(said), "{mistakes:?}");
    }
    let long = format!("{LEAST}[admin]\nsocket = '/{}'\n", "s".repeat(107));
    let mistakes = load(&long, false).1.unwrap_err();
    assert!(mistakes[0].contains("is longer than the 107 bytes"), "{mistakes:?}");
}

#[test]
fn a_check_looks_at_what_is_named() {
    let text =
        format!("{LEAST}[tls]\ncertificate = 'a.pem'\nkey = 'b.key'\n[store]\nurl = 'sqlite:node.toml'\n");
    assert!(load(&text, false).1.is_ok());
    let mistakes = load(&text, true).1.unwrap_err();
    let expected = [
        "node.toml: secret.directory: there is no folder secrets",
        "node.toml:5: tls.certificate = 'a.pem': cannot be read: No such file",
        "node.toml:6: tls.key = 'b.key': cannot be read: No such file",
        "node.toml:8: store.url: the store at node.toml",
    ];
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\n  is not\n{expected}");
    }
}

#[test]
fn the_file_in_the_repository_loads_and_shows_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidegate.toml");
    let shown = NodeConfig::load_with(&path, &["postgres"], false).unwrap();
    // Every commented key, uncommented, says what holds without it (but for those that are off by
    // default and show an example).
    let examples = [
        "name",
        "target",
        "certificate",
        "key",
        "address",
        "server_name_suffix",
        "server_version",
        "client_ca",
        "client_crl",
        "client_name",
        "proxy_protocol.from",
        "socket_mode",
        "socket_gid",
    ];
    let uncommented: String = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| match line.strip_prefix('#').and_then(|rest| rest.split_once(" = ")) {
            Some((key, _)) if !key.contains(' ') && !examples.contains(&key) => {
                format!("{}\n", &line[1..])
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("tidegate.toml");
    std::fs::write(&other, &uncommented).unwrap();
    let mut said = NodeConfig::load_with(&other, &["postgres"], false).unwrap();
    assert!(uncommented.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count() >= 20);
    assert_eq!(said.base, folder.path());
    // The same paths, from the other folder.
    let moved = |path: &mut PathBuf| *path = shown.base.join(path.strip_prefix(folder.path()).unwrap());
    moved(&mut said.secret_directory);
    moved(&mut said.audit.directory);
    moved(&mut said.admin.socket);
    moved(&mut said.keys_file);
    moved(&mut said.bodies.directory);
    said.base.clone_from(&shown.base);
    assert_eq!(said, shown);
}
