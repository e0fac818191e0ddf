//! The ready lines for clients of MySQL and MariaDB.

use std::fmt::Write as _;

use super::{PASSWORD, Way, plain, python, shell, url_host};
use crate::cli::client::escape;

/// How a client checks the listener's certificate.
enum Check<'a> {
    /// There is no TLS.
    No,
    /// Against the authorities that the system knows.
    System,
    /// Against this file.
    File(&'a str),
}

pub(super) fn lines(way: &Way<'_>) -> String {
    let Way { door, user, database } = way;
    let check = match (door.sslmode.as_str(), door.sslrootcert.as_deref()) {
        ("disable", _) => Check::No,
        (_, None | Some("system")) => Check::System,
        (_, Some(file)) => Check::File(file),
    };
    if door.host.starts_with('/') {
        return socket(way);
    }
    let (host, port) = (&door.host, door.port);
    // The command lines take this name for a socket of their own.
    let protocol = if host == "localhost" { " --protocol=TCP" } else { "" };
    let common = format!("--host={}{protocol} --port={port} --user={}", shell(host), shell(user));
    let shown = shell(database);
    let (mysql, mariadb) = match &check {
        Check::No => ("--ssl-mode=DISABLED".to_owned(), "--skip-ssl".to_owned()),
        // Neither looks at what the system trusts unless it is told where that is.
        Check::System => (
            format!("--ssl-mode=VERIFY_IDENTITY --ssl-ca={SYSTEM}"),
            format!("--ssl-verify-server-cert --ssl-ca={SYSTEM}"),
        ),
        Check::File(file) => (
            format!("--ssl-mode=VERIFY_IDENTITY --ssl-ca={}", shell(file)),
            format!("--ssl-verify-server-cert --ssl-ca={}", shell(file)),
        ),
    };
    let address = format!("{}:{port}/{}", url_host(host), escape(database));
    let (connector_j, mariadb_j) = match &check {
        Check::No => ("sslMode=DISABLED".to_owned(), "sslMode=disable".to_owned()),
        Check::System => ("sslMode=VERIFY_IDENTITY".to_owned(), "sslMode=verify-full".to_owned()),
        Check::File(file) => (
            "sslMode=VERIFY_IDENTITY".to_owned(),
            // MariaDB's driver takes what it is given as it stands.
            format!("sslMode=verify-full&serverSslCert={file}"),
        ),
    };
    let python_tls = match &check {
        Check::No => ", ssl_disabled=True".to_owned(),
        Check::System => format!(", ssl_ca={}, ssl_verify_identity=True", python(SYSTEM)),
        Check::File(file) => format!(", ssl_ca={}, ssl_verify_identity=True", python(file)),
    };
    let go_tls = match &check {
        Check::No => "false",
        Check::System => "true",
        Check::File(_) => "tidegate",
    };
    let mut text = format!("mysql    mysql {common} {mysql} --password {shown}\n");
    let _ = writeln!(text, "mariadb  mariadb {common} {mariadb} --password {shown}");
    let _ = writeln!(text, "JDBC     jdbc:mysql://{address}?user={}&{connector_j}", escape(user));
    let literal = format!("{}:{port}/{database}", url_host(host));
    let _ = writeln!(text, "         jdbc:mariadb://{literal}?user={user}&{mariadb_j}");
    let _ = writeln!(
        text,
        "PyMySQL  pymysql.connect(host={}, port={port}, user={}, password=SECRET, database={}{python_tls})",
        python(host),
        python(user),
        python(database)
    );
    let _ = writeln!(
        text,
        "Go       {user}:SECRET@tcp({}:{port})/{}?tls={go_tls}",
        url_host(host),
        escape(database)
    );
    let _ = writeln!(text, "DBeaver  host {host}, port {port}, database {database}, user {user}");
    match &check {
        Check::No => text += "\nThis listener has no TLS: it is for this machine only.\n",
        Check::System => {
            let _ = writeln!(
                text,
                "\nThe certificate is from {}. The command lines need a file with the authorities that they trust;\n\
                 {SYSTEM} is where Debian has it.",
                plain(door.issuer.as_deref().unwrap_or("an unknown CA")),
            );
        }
        Check::File(file) => {
            let _ = writeln!(
                text,
                "\nThe CA is our own: clients elsewhere need a copy of {file}. MySQL's JDBC driver wants it in a key store \
                 (trustCertificateKeyStoreUrl),\nGo under a name: mysql.RegisterTLSConfig(\"tidegate\", …).",
            );
        }
    }
    text + PASSWORD
}

/// Where the system's authorities are.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// JDBC and DBeaver do not reach one.
fn socket(way: &Way<'_>) -> String {
    let Way { door, user, database } = way;
    let common = format!("--socket={} --user={}", shell(&door.host), shell(user));
    let database_shown = shell(database);
    let mut text = format!("mysql    mysql {common} --password {database_shown}\n");
    // MariaDB's client insists on TLS from 11.4 on, also where nothing leaves the machine.
    let _ = writeln!(text, "mariadb  mariadb {common} --skip-ssl --password {database_shown}");
    let _ = writeln!(
        text,
        "PyMySQL  pymysql.connect(unix_socket={}, user={}, password=SECRET, database={})",
        python(&door.host),
        python(user),
        python(database)
    );
    let _ = writeln!(text, "Go       {user}:SECRET@unix({})/{}", door.host, escape(database));
    text += "\nThis listener is a socket of this machine.\n";
    text + PASSWORD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::body::Door;

    fn door(rootcert: Option<&str>) -> Door {
        Door {
            listener: "my".into(),
            host: "db.example.com".into(),
            port: 3306,
            name_target: true,
            sslmode: if rootcert.is_some() { "verify-full" } else { "disable" }.into(),
            sslrootcert: rootcert.map(str::to_owned),
            issuer: Some("CN=our CA".into()),
        }
    }

    fn shown(door: &Door) -> String {
        lines(&Way { door, user: "alice+read_write@orders".into(), database: "shop".into() })
    }

    #[test]
    fn lines_for_a_private_ca() {
        insta::assert_snapshot!(shown(&door(Some("/etc/tidegate/ca.pem"))), @r#"
        mysql    mysql --host="db.example.com" --port=3306 --user="alice+read_write@orders" --ssl-mode=VERIFY_IDENTITY --ssl-ca="/etc/tidegate/ca.pem" --password "shop"
        mariadb  mariadb --host="db.example.com" --port=3306 --user="alice+read_write@orders" --ssl-verify-server-cert --ssl-ca="/etc/tidegate/ca.pem" --password "shop"
        JDBC     jdbc:mysql://db.example.com:3306/shop?user=alice%2Bread_write%40orders&sslMode=VERIFY_IDENTITY
                 jdbc:mariadb://db.example.com:3306/shop?user=alice+read_write@orders&sslMode=verify-full&serverSslCert=/etc/tidegate/ca.pem
        PyMySQL  pymysql.connect(host="db.example.com", port=3306, user="alice+read_write@orders", password=SECRET, database="shop", ssl_ca="/etc/tidegate/ca.pem", ssl_verify_identity=True)
        Go       alice+read_write@orders:SECRET@tcp(db.example.com:3306)/shop?tls=tidegate
        DBeaver  host db.example.com, port 3306, database shop, user alice+read_write@orders

        The CA is our own: clients elsewhere need a copy of /etc/tidegate/ca.pem. MySQL's JDBC driver wants it in a key store (trustCertificateKeyStoreUrl),
        Go under a name: mysql.RegisterTLSConfig("tidegate", …).
        The password is the secret that tidegate credential issue printed.
        "#);
    }

    #[test]
    fn a_public_ca_is_left_to_the_system() {
        let text = shown(&door(Some("system")));
        assert!(text.contains("ca-certificates.crt") && text.contains("tls=true"), "{text}");
        assert!(text.contains("CN=our CA"), "{text}");
    }

    #[test]
    fn without_tls_on_this_machine() {
        let text = shown(&Door { host: "localhost".into(), ..door(None) });
        assert!(text.contains("--protocol=TCP") && text.contains("--ssl-mode=DISABLED"), "{text}");
        assert!(text.contains("no TLS") && !text.contains("verify"), "{text}");
    }

    #[test]
    fn a_socket_is_named_by_its_file() {
        let text = shown(&Door { host: "/run/tidegate/mysqld.sock".into(), port: 0, ..door(None) });
        assert!(text.contains("mysql --socket=\"/run/tidegate/mysqld.sock\""), "{text}");
        assert!(text.contains("user=\"alice+read_write@orders\" --skip-ssl --password"), "{text}");
        assert!(text.contains("@unix(/run/tidegate/mysqld.sock)/shop"), "{text}");
        assert!(!text.contains("jdbc:") && !text.contains("DBeaver"), "{text}");
    }
}
