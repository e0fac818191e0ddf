//! `connect`: the ready lines for the clients that people use.

mod mysql;

use std::fmt::Write as _;

use crate::admin::body::{ConnectAnswer, ConnectParams, Door};
use crate::cli::Context;
use crate::cli::client::{escape, with_query};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{plain, print, print_json};
use crate::model::{AccessLevel, Name};

pub async fn run(
    context: &Context,
    target: Name,
    user: Option<Name>,
    level: Option<AccessLevel>,
    database: Option<String>,
) -> Outcome {
    let path = with_query("/v1/connect", &ConnectParams { target });
    let answer: ConnectAnswer = context.client.get(&path).await?;
    if let Some(level) = level.as_ref().filter(|level| !answer.levels.contains(level)) {
        let levels: Vec<_> = answer.levels.iter().map(AccessLevel::as_str).collect();
        return Err(Failure::new(format!("the target {} has no level {level}", answer.target))
            .hint(format!("it has {}", levels.join(", "))));
    }
    if context.json {
        return print_json(&answer);
    }
    let door = answer.doors.first().ok_or_else(|| {
        Failure::new(format!("no listener leads to {}", answer.target))
            .hint(format!("add a [[listener]] with protocol = \"{}\" to the node file", answer.protocol))
    })?;
    let person = user.as_ref().map_or("USER", Name::as_str);
    let way = Way {
        door,
        user: login(person, level.as_ref(), door.name_target.then_some(&answer.target)),
        database: database.or_else(|| answer.database.clone()).unwrap_or_else(|| "DATABASE".to_owned()),
    };
    let mut text = String::new();
    if !answer.details.is_empty() {
        text += &format!("{}\n\n", plain(&answer.details));
    }
    text += &match answer.protocol.as_str() {
        "postgres" => postgres(&way),
        "mysql" => mysql::lines(&way),
        other => format!("host {}, port {}, user {} ({other})\n", door.host, door.port, way.user),
    };
    print(&text)
}

/// `USER[+LEVEL][@TARGET]` (design 1.3).
fn login(user: &str, level: Option<&AccessLevel>, target: Option<&Name>) -> String {
    let level = level.map(|level| format!("+{level}")).unwrap_or_default();
    let target = target.map(|target| format!("@{target}")).unwrap_or_default();
    format!("{user}{level}{target}")
}

const PASSWORD: &str = "The password is the secret that tidegate credential issue printed.\n";

struct Way<'a> {
    door: &'a Door,
    user: String,
    database: String,
}

/// A value of a libpq connection string, quoted where it must be.
fn quoted(value: &str) -> String {
    let needs = value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '\'' || c == '\\');
    match needs {
        true => format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
        false => value.to_owned(),
    }
}

/// An argument of a POSIX shell, inside double quotes.
fn shell(text: &str) -> String {
    let mut line = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            line.push('\\');
        }
        line.push(c);
    }
    line + "\""
}

/// A string of Python.
fn python(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A host inside a URL: an IPv6 address stands in brackets.
fn url_host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn postgres(way: &Way<'_>) -> String {
    let Way { door, user, database } = way;
    let mut dsn = format!(
        "host={} port={} dbname={} user={} sslmode={}",
        quoted(&door.host),
        door.port,
        quoted(database),
        quoted(user),
        door.sslmode
    );
    let mut query = format!("sslmode={}", door.sslmode);
    let mut jdbc = format!("user={}&sslmode={}", escape(user), door.sslmode);
    match door.sslrootcert.as_deref() {
        Some("system") => {
            dsn += " sslrootcert=system";
            query += "&sslrootcert=system";
            jdbc += "&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory";
        }
        Some(file) => {
            let _ = write!(dsn, " sslrootcert={}", quoted(file));
            let _ = write!(query, "&sslrootcert={}", escape(file));
            let _ = write!(jdbc, "&sslrootcert={}", escape(file));
        }
        None => {}
    }
    let mut text = format!("psql     psql {}\n", shell(&dsn));
    if door.host.starts_with('/') {
        // Neither JDBC nor DBeaver reaches one, and a URI says it in a way that few people know.
        let _ = writeln!(text, "psycopg  psycopg.connect({})", python(&dsn));
        text += "\nThis listener is a socket of this machine.\n";
        return text + PASSWORD;
    }
    let address = format!("{}:{}/{}", url_host(&door.host), door.port, escape(database));
    let _ = writeln!(text, "URI      postgresql://{}@{address}?{query}", escape(user));
    let _ = writeln!(text, "JDBC     jdbc:postgresql://{address}?{jdbc}");
    let _ = writeln!(text, "psycopg  psycopg.connect({})", python(&dsn));
    let _ =
        writeln!(text, "DBeaver  host {}, port {}, database {database}, user {user}", door.host, door.port);
    match door.sslrootcert.as_deref() {
        Some("system") | None if door.sslmode == "disable" => {
            text += "\nThis listener has no TLS: it is for this machine only.\n";
        }
        Some("system") | None => {
            text += "         SSL tab: mode verify-full\n";
            let _ = writeln!(
                text,
                "\nThe certificate is from {}. Where the client does not know that CA, name its file in \
                 place of\nsslrootcert=system. libpq knows \"system\" from version 16 on.",
                plain(door.issuer.as_deref().unwrap_or("an unknown CA")),
            );
        }
        Some(file) => {
            let _ = writeln!(text, "         SSL tab: mode verify-full, CA certificate {file}");
            let _ = writeln!(text, "\nThe CA is our own: clients elsewhere need a copy of {file}.");
        }
    }
    text + PASSWORD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(rootcert: Option<&str>) -> Door {
        Door {
            listener: "pg".into(),
            host: "db.example.com".into(),
            port: 6432,
            name_target: true,
            sslmode: if rootcert.is_some() { "verify-full" } else { "disable" }.into(),
            sslrootcert: rootcert.map(str::to_owned),
            issuer: Some("CN=our CA".into()),
        }
    }

    fn lines(door: &Door, database: &str) -> String {
        let target = Name::parse("orders").unwrap();
        let level = AccessLevel::ReadWrite;
        let user = login("alice", Some(&level), door.name_target.then_some(&target));
        postgres(&Way { door, user, database: database.into() })
    }

    #[test]
    fn lines_for_a_private_ca() {
        insta::assert_snapshot!(lines(&door(Some("/etc/tidegate/ca.pem")), "shop"), @r#"
        psql     psql "host=db.example.com port=6432 dbname=shop user=alice+read_write@orders sslmode=verify-full sslrootcert=/etc/tidegate/ca.pem"
        URI      postgresql://alice%2Bread_write%40orders@db.example.com:6432/shop?sslmode=verify-full&sslrootcert=%2Fetc%2Ftidegate%2Fca.pem
        JDBC     jdbc:postgresql://db.example.com:6432/shop?user=alice%2Bread_write%40orders&sslmode=verify-full&sslrootcert=%2Fetc%2Ftidegate%2Fca.pem
        psycopg  psycopg.connect("host=db.example.com port=6432 dbname=shop user=alice+read_write@orders sslmode=verify-full sslrootcert=/etc/tidegate/ca.pem")
        DBeaver  host db.example.com, port 6432, database shop, user alice+read_write@orders
                 SSL tab: mode verify-full, CA certificate /etc/tidegate/ca.pem

        The CA is our own: clients elsewhere need a copy of /etc/tidegate/ca.pem.
        The password is the secret that tidegate credential issue printed.
        "#);
    }

    #[test]
    fn a_listener_of_one_target_needs_no_target_in_the_name() {
        let door = Door { name_target: false, ..door(None) };
        let text = lines(&door, "shop");
        assert!(text.contains("user=alice+read_write sslmode=disable\""), "{text}");
        assert!(text.contains("no TLS") && !text.contains("sslrootcert"), "{text}");
    }

    #[test]
    fn a_socket_is_named_by_its_folder() {
        let door = Door { host: "/run/tidegate".into(), name_target: false, ..door(None) };
        let text = lines(&door, "shop");
        assert!(
            text.contains("psql \"host=/run/tidegate port=6432 dbname=shop user=alice+read_write"),
            "{text}"
        );
        assert!(!text.contains("jdbc:") && !text.contains("DBeaver"), "{text}");
    }

    #[test]
    fn a_public_ca_is_left_to_the_system() {
        let text = lines(&door(Some("system")), "shop");
        assert!(text.contains("sslrootcert=system") && text.contains("CN=our CA"), "{text}");
    }

    #[test]
    fn odd_names_are_quoted() {
        let text = lines(&door(None), "my $shop's");
        assert!(text.contains(r#"dbname='my \$shop\\'s' user"#), "{text}");
        assert_eq!(url_host("::1"), "[::1]");
    }
}
