use std::path::Path;

use super::*;
use crate::config::NodeConfig;

/// One listener with these keys, in a file that has a certificate.
fn load(keys: &str) -> Result<Listener, Vec<String>> {
    load_of("postgres", keys)
}

fn load_of(protocol: &str, keys: &str) -> Result<Listener, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let text =
        format!("[[listener]]\nprotocol = '{protocol}'\n{keys}\n[tls]\ncertificate = 'a'\nkey = 'b'\n");
    std::fs::write(&path, text).unwrap();
    let shown = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    match NodeConfig::load_with(&path, &["postgres", "mysql"], false) {
        Ok(mut config) => {
            let mut listener = config.listeners.remove(0);
            let near = |path: &mut std::path::PathBuf| {
                if let Ok(rest) = path.strip_prefix(folder.path()) {
                    *path = rest.to_owned();
                }
            };
            if let Some(clients) = &mut listener.client_certificates {
                near(&mut clients.check.ca);
                clients.check.crl.iter_mut().for_each(near);
            }
            Ok(listener)
        }
        Err(mistakes) => Err(mistakes.iter().map(|mistake| shown(mistake.to_string())).collect()),
    }
}

const TCP: &str = "address = '10.0.0.7:6432'\n";

#[test]
fn every_key_of_a_listener_is_read() {
    let listener = load(&format!(
        "{TCP}server_name_suffix = '.DB.example.com'\nclient_certificates = 'require'\nclient_ca = 'ca.pem'\n\
         client_crl = '/crl.pem'\nclient_name = 'dns'\nproxy_protocol.from = ['10.1.0.0/16', '2001:db8::/32']\n"
    ))
    .unwrap();
    assert_eq!(listener.server_name_suffix.as_deref(), Some(".db.example.com"));
    let check = ClientCheck { ca: "ca.pem".into(), crl: Some("/crl.pem".into()), name_from: NameFrom::Dns };
    assert_eq!(listener.client_certificates, Some(ClientCertificates { required: true, check }));
    let networks: Vec<String> = listener.proxy_from.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.1.0.0/16", "2001:db8::/32"]);
    let optional = load(&format!("{TCP}client_certificates = 'optional'\nclient_ca = 'ca.pem'\n")).unwrap();
    let clients = optional.client_certificates.unwrap();
    assert_eq!((clients.required, clients.check.name_from), (false, NameFrom::CommonName));
    assert_eq!(load(&format!("{TCP}client_certificates = 'off'\n")).unwrap().client_certificates, None);
    let socket =
        load("address = 'unix:/run/tg/.s.PGSQL.6432'\nsocket_mode = 0o600\nsocket_gid = 7\n").unwrap();
    assert_eq!(socket.address, ListenAddress::Unix("/run/tg/.s.PGSQL.6432".into()));
    assert_eq!(socket.name, "unix:/run/tg/.s.PGSQL.6432");
    assert_eq!(socket.socket, SocketFile { mode: 0o600, gid: Some(7) });
    assert_eq!(socket.tls, ListenerTls::Off, "although there is a certificate");
}

#[test]
fn mistakes_say_what_would_be_right() {
    for (keys, said) in [
        (
            "address = 'unix:/run/tidegate.sock'",
            "3: listener.address = 'unix:/run/tidegate.sock': the file must be called .s.PGSQL.PORT",
        ),
        (
            "address = 'unix:/run/.s.PGSQL.0'",
            "3: listener.address = 'unix:/run/.s.PGSQL.0': the file must be called .s.PGSQL.PORT",
        ),
        (
            "address = 'localhost:1'",
            "3: listener.address = 'localhost:1': must be an IP address and a port, such as \"127.0.0.1:6432\"",
        ),
        ("address = 'unix:/run/.s.PGSQL.1'\ntls = 'require'", "4: listener.tls: a unix socket has none"),
        (
            "address = 'unix:/run/.s.PGSQL.1'\nproxy_protocol.from = ['10.0.0.0/8']",
            "4: listener.proxy_protocol: is for TCP",
        ),
        (
            "address = 'unix:/run/.s.PGSQL.1'\nsocket_mode = 511111",
            "4: listener.socket_mode = 511111: must be a mode, such as 0o660",
        ),
        ("address = '127.0.0.1:1'\nsocket_mode = 0o600", "4: listener.socket_mode: is for a unix socket"),
        (
            "address = '127.0.0.1:1'\nproxy_protocol.from = ['10.0.0.0/33']",
            "4: listener.proxy_protocol.from = ['10.0.0.0/33']: must be networks",
        ),
        (
            "address = '127.0.0.1:1'\nproxy_protocol.from = []",
            "4: listener.proxy_protocol.from = []: must be networks",
        ),
        (
            "address = '127.0.0.1:1'\nproxy_protocol.from = ['::/0']",
            "4: listener.proxy_protocol.from = ['::/0']: ::/0 is everybody",
        ),
        (
            "address = '127.0.0.1:1'\nproxy_protocol.form = ['10.0.0.0/8']",
            "4: listener.proxy_protocol.from: missing; such as from = [\"10.0.0.0/8\"]",
        ),
        (
            "address = '127.0.0.1:1'\nserver_name_suffix = 'db.example'",
            "4: listener.server_name_suffix = 'db.example': must be what follows the target",
        ),
        (
            "address = '127.0.0.1:1'\nserver_name_suffix = '.'",
            "4: listener.server_name_suffix = '.': must be what follows the target",
        ),
        (
            "address = '127.0.0.1:1'\nserver_name_suffix = '.db..example'",
            "4: listener.server_name_suffix = '.db..example': must be what",
        ),
        (
            "address = '127.0.0.1:1'\ntls = 'off'\nserver_name_suffix = '.db'",
            "5: listener.server_name_suffix: needs TLS",
        ),
        (
            "address = '127.0.0.1:1'\ntls = 'off'\nclient_certificates = 'optional'\nclient_ca = 'x'",
            "5: listener.client_certificates: needs TLS",
        ),
        (
            "address = '127.0.0.1:1'\nclient_certificates = 'yes'",
            "4: listener.client_certificates = 'yes': must be \"off\", \"optional\"",
        ),
        (
            "address = '127.0.0.1:1'\nclient_certificates = 'require'",
            "4: listener.client_certificates: needs client_ca",
        ),
        ("address = '127.0.0.1:1'\nclient_ca = 'x'", "4: listener.client_ca: has no effect"),
        (
            "address = '127.0.0.1:1'\nclient_certificates = 'require'\nclient_ca = 'x'\nclient_name = 'uid'",
            "6: listener.client_name = 'uid': must be \"cn\"",
        ),
    ] {
        let mistakes = load(keys).unwrap_err();
        assert!(mistakes[0].starts_with(&format!("node.toml:{said}")), "{keys}: {mistakes:?}");
    }
    let long = format!("address = 'unix:/{}/.s.PGSQL.1'\n", "x".repeat(100));
    assert!(load(&long).unwrap_err()[0].contains("is longer than the 106 bytes"));
}

#[test]
fn an_address_is_written_as_it_is_read() {
    for text in ["127.0.0.1:6432", "[::1]:1", "unix:/run/tidegate/.s.PGSQL.6432"] {
        let address: ListenAddress = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(json, format!("{text:?}"));
        assert_eq!(serde_json::from_str::<ListenAddress>(&json).unwrap(), address);
        assert!(address.is_local());
    }
    assert!(!"0.0.0.0:1".parse::<ListenAddress>().unwrap().is_local());
    assert_eq!("unix:x".parse(), Ok(ListenAddress::Unix(Path::new("x").to_owned())));
}

#[test]
fn an_old_method_is_offered_where_it_is_asked_for() {
    let of = |protocol, said: &str| {
        let listener = load_of(protocol, &format!("{TCP}mysql_native_password = '{said}'\n"));
        listener.map(|listener| listener.mysql_native_password)
    };
    assert!(!load_of("mysql", TCP).unwrap().mysql_native_password);
    assert_eq!(
        (of("mysql", "offer"), of("mysql", "off"), of("postgres", "off")),
        (Ok(true), Ok(false), Ok(false))
    );
    for (wrong, right) in [
        (of("mysql", "on"), "must be \"off\" or \"offer\""),
        (of("postgres", "offer"), "is for protocol = \"mysql\""),
    ] {
        let mistakes = wrong.unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains(right), "{mistakes:?}");
    }
}
