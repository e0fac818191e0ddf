//! The story on MariaDB: five steps, each shown and each checked.

use std::time::Instant;

use super::client::{Client, Way, vertical};
use super::{Programs, Server, log};
use crate::cli::demo::certificates::Authority;
use crate::cli::demo::node::{self, Node, Target};
use crate::cli::demo::session::Session;
use crate::cli::demo::stage::{Stage, failed, public_file};
use crate::cli::demo::story::{CUT_WITHIN, GLANCE, PATIENCE, results};
use crate::cli::demo::{evidence, say};
use crate::cli::failure::{Failure, Outcome};

/// The servers, running.
pub struct Scene {
    server: Server,
    node: Node,
    programs: Programs,
}

impl Scene {
    /// A client of a person, by way of the proxy.
    fn client(&self, user: &str) -> Outcome<Client> {
        let way = Way::Tcp {
            port: self.node.port,
            user: user.to_owned(),
            password: self.node.secret(user)?,
            root_certificate: self.node.root_certificate.clone(),
        };
        Ok(Client::new(&self.programs.client, way))
    }
}

/// A real MariaDB server, Tidegate in front of it, two people with credentials and no grant.
pub async fn prepare(stage: &mut Stage, programs: Programs) -> Outcome<Scene> {
    say::line("Tidegate demo: a real MariaDB server, and Tidegate in front of it.")?;
    let authority = Authority::new()?;
    public_file(&stage.path("ca.pem"), &authority.certificate)?;
    let server = super::start(stage, &programs, &authority).await?;
    say::line(&format!(
        "MariaDB {} runs on 127.0.0.1:{} (TLS only, ed25519 only), with a database shop and two accounts \
         that only Tidegate knows: tg_orders_read and tg_orders_rw.",
        server.version, server.port
    ))?;
    let target = Target { protocol: "mysql", port: server.port, connectors: &server.connectors };
    let node = node::start(stage, &authority, target).await?;
    node.introduce(stage).await?;
    Ok(Scene { server, node, programs })
}

pub async fn tell(stage: &mut Stage, scene: &Scene) -> Outcome {
    stage.all_run()?;
    refused(scene).await?;
    let alice = let_in(scene).await?;
    let (alice, bob, grant) = handed_over(scene, alice).await?;
    let bob = cut(scene, bob, &grant).await?;
    told(scene, &alice, &bob).await
}

/// A credential alone opens nothing.
async fn refused(scene: &Scene) -> Outcome {
    say::heading(1, "bob has a credential and no grant")?;
    say::line(
        "mariadb is told where to go by --host, --port, --user, --database, --ssl-ca, --ssl-verify-server-cert and \
         MYSQL_PWD.",
    )?;
    no_entry(scene).await?;
    let shown = scene.node.run(&["audit", "search", "--user", "bob", "--event", "login_refused"]).await?;
    say::proven(shown.out.contains("TG002"), "the trail names bob and says why", shown.out.trim())
}

async fn no_entry(scene: &Scene) -> Outcome {
    say::command("bob$", "mariadb --execute 'SELECT 1'")?;
    let printed = scene.client("bob")?.run(&["--execute", "SELECT 1"]).await?;
    say::output(printed.out.lines().chain(printed.err.lines()))?;
    say::expect(!printed.ok, "the client to be refused", &printed.out)?;
    say::proven(printed.err.contains("TG002"), "bob is refused with TG002", printed.err.trim())
}

/// Who is on which connection, by the server's own account.
const WHO: &str = "SELECT PROCESSLIST_ID AS connection, PROCESSLIST_USER AS user, CONVERT(VARIABLE_VALUE USING utf8mb4) \
                   AS tidegate FROM performance_schema.user_variables_by_thread JOIN performance_schema.threads \
                   USING (THREAD_ID) WHERE VARIABLE_NAME = 'tidegate'";

/// A grant for two minutes; who is there, as the database server sees it.
async fn let_in(scene: &Scene) -> Outcome<Session> {
    say::heading(2, "alice gets a grant for two minutes")?;
    scene.node.grant("alice", "read_write", "2m").await?;
    let mut alice = scene.client("alice")?.open("alice")?;
    let rows = alice.run("SELECT id, name, price FROM product ORDER BY id;").await?;
    say::expect(rows.iter().any(|row| row.contains("table")), "three products", rows.join(" / "))?;
    let user = alice.run("SELECT CURRENT_USER();").await?;
    say::expect(
        user.iter().any(|row| row.contains("tg_orders_rw")),
        "the connector's account",
        user.join(" / "),
    )?;
    say::line("\nThe database server's own view, asked by its superuser past the proxy:")?;
    say::command("root>", WHO)?;
    let seen = scene.server.superuser.run(&["--table", "--execute", WHO]).await?;
    say::output(seen.out.lines().filter(|line| !line.is_empty()))?;
    say::proven(
        seen.out.contains("tg_orders_rw")
            && seen.out.contains("alice/s-")
            && !seen.out.contains("tg_orders_read"),
        "one connection, the connector's account, and alice's name on it",
        format!("{}{}", seen.out.trim(), seen.err.trim()),
    )?;
    Ok(alice)
}

/// What a session of MariaDB can leave behind.
const LEFT_BEHIND: [&str; 8] = [
    "CREATE TEMPORARY TABLE note SELECT 'for my eyes only' AS text;",
    "PREPARE greeting FROM 'DO 1';",
    "SET @customer = '4711';",
    "SET lock_wait_timeout = 77;",
    "SELECT GET_LOCK('price list', 0);",
    "SET ROLE auditor;",
    "START TRANSACTION;",
    "INSERT INTO product VALUES (99, 'never committed', 1.00);",
];
const MY_SESSION: &str = "CALL my_session()\\G";
const FIELDS: [&str; 8] = [
    "role",
    "temporary_tables",
    "prepared_statements",
    "customer",
    "lock_wait_timeout",
    "has_lock",
    "open_transaction",
    "uncommitted_row",
];

/// The pool has one connection, so bob gets the one that alice had: the same, and nothing in it.
async fn handed_over(scene: &Scene, mut alice: Session) -> Outcome<(Vec<String>, Session, String)> {
    say::heading(3, "the same pooled connection, used by two people")?;
    say::line("alice leaves behind whatever a session can leave behind:")?;
    for statement in LEFT_BEHIND {
        alice.run(statement).await?;
    }
    say::line("\nmy_session is a procedure that looks for all of it:")?;
    let before = vertical(&alice.run(MY_SESSION).await?);
    compare(&before, &["auditor", "1", "1", "4711", "77", "1", "1", "1"], "all of it in alice's session")?;
    let connection = field(&before, "connection").to_owned();
    let sent = alice.leave().await?;

    let id = scene.node.grant("bob", "read_write", "10m").await?;
    let mut bob = scene.client("bob")?.open("bob")?;
    let after = vertical(&bob.run(MY_SESSION).await?);
    let usual = scene.server.superuser.value("SELECT @@GLOBAL.lock_wait_timeout").await?;
    compare(&after, &["NULL", "0", "0", "NULL", &usual, "NULL", "0", "0"], "none of it in bob's session")?;
    say::proven(
        field(&after, "connection") == connection,
        &format!("it is the same connection: number {connection} before and after"),
        field(&after, "connection"),
    )?;
    say::line("✓ nothing that alice left is there, and her open transaction is rolled back")?;
    Ok((sent, bob, id))
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

fn compare(fields: &[(String, String)], expected: &[&str; 8], what: &str) -> Outcome {
    for (name, value) in FIELDS.iter().zip(expected) {
        say::expect(
            fields.iter().any(|(known, found)| known == name && found == value),
            &format!("{what}: {name} = {value:?}"),
            format!("{:?}", field(fields, name)),
        )?;
    }
    Ok(())
}

/// A grant is revoked while its statement runs.
async fn cut(scene: &Scene, mut bob: Session, grant: &str) -> Outcome<Vec<String>> {
    say::heading(4, "a grant is revoked while bob's statement runs")?;
    let mut server = scene.server.superuser.open("root")?;
    bob.begin("SELECT SLEEP(60);").await?;
    let begun = Instant::now();
    while running(&mut server).await? != 1 {
        tokio::time::sleep(GLANCE).await;
        say::expect(begun.elapsed() < PATIENCE, "the statement to run at the server", "none")?;
    }
    say::line("\nIt runs: information_schema.PROCESSLIST shows it. Now:")?;
    let revoked = Instant::now();
    let revoke = ["grant", "revoke", grant, "--reason", "the ticket is closed"];
    let printed = scene.node.quietly(&revoke);
    // Asked in the meantime: the clock starts before the command does.
    let watched = async {
        while running(&mut server).await? != 0 {
            tokio::time::sleep(GLANCE).await;
            say::expect(revoked.elapsed() < PATIENCE, "the statement to be stopped", "it still runs")?;
        }
        Ok::<_, Failure>(revoked.elapsed())
    };
    let (printed, took) = tokio::try_join!(printed, watched)?;
    say::command("$", &format!("tidegate grant revoke {grant} --reason 'the ticket is closed'"))?;
    say::output(printed.out.lines().chain(printed.err.lines()))?;
    say::expect(printed.ok, "the grant to be revoked", printed.err.trim())?;
    let sent = bob.sent.clone();
    let said = bob.last_answer().await?;
    say::line("\nbob's client says:")?;
    say::output(said.iter().map(String::as_str).filter(|line| !line.is_empty()))?;
    let said = said.join("\n");
    say::proven(said.contains("TG004"), "bob is told why: TG004", &said)?;
    say::proven(
        took < CUT_WITHIN,
        &format!("the server had stopped the statement {:.2} s after the command began", took.as_secs_f64()),
        format!("{:.2} s", took.as_secs_f64()),
    )?;
    server.leave_quietly().await?;
    say::line("\nHis credential is as good as before, but it opens nothing:")?;
    no_entry(scene).await?;
    Ok(sent)
}

/// How many statements sleep at the server, by its own account.
async fn running(server: &mut Session) -> Outcome<u32> {
    let sql = "SELECT COUNT(*) AS running FROM information_schema.PROCESSLIST WHERE COMMAND = 'Query' \
               AND INFO LIKE 'SELECT SLEEP%'\\G";
    let lines = server.ask(sql).await?;
    let found = vertical(&lines);
    field(&found, "running")
        .parse()
        .map_err(|_| Failure::new(format!("PROCESSLIST gave no count: {}", lines.join(" / "))))
}

/// The trail has every statement, with the person; the server's own log agrees.
async fn told(scene: &Scene, alice: &[String], bob: &[String]) -> Outcome {
    say::heading(5, "the trail says who did what")?;
    scene.node.run(&["audit", "search", "--user", "alice"]).await?;
    scene.node.run(&["audit", "search", "--user", "bob"]).await?;
    let file = &scene.server.log;
    let bytes = std::fs::read(file).map_err(|error| failed(file, &error))?;
    let log = String::from_utf8_lossy(&bytes);
    for (user, sent) in [("alice", alice), ("bob", bob)] {
        let lines = scene.node.trail(&["--user", user]).await?;
        let trail = evidence::in_trail(&lines);
        evidence::same_as_sent(&trail, sent)
            .map_err(|why| Failure::new(format!("the trail of {user} is not what {user} sent: {why}")))?;
        say::line(&format!("\n✓ the trail has all {} statements of {user}, word for word", trail.len()))?;
        let (server, example) = log::in_server_log(&log, user);
        say::line("  The server's own log, where Tidegate says whose the connection is, has as many:")?;
        say::output([example.as_deref().unwrap_or_default()])?;
        say::proven(
            server == trail,
            &format!("{} statements of {user} in the server's log, the same ones", server.len()),
            format!("{server:?}, and the trail has {trail:?}"),
        )?;
    }
    results(&scene.node).await?;
    scene.node.run(&["audit", "verify"]).await.map(drop)
}

/// Fresh grants, and the lines to try it with.
pub async fn invite(scene: &Scene) -> Outcome {
    say::heading(6, "your turn")?;
    say::line("More than one connection now, for more than one terminal:")?;
    scene.node.widen(scene.server.port)?;
    scene.node.run(&["apply", "tidegate/orders.toml"]).await?;
    scene.node.grant("alice", "read_write", "2h").await?;
    scene.node.grant("bob", "read", "2h").await?;
    scene.node.ready_lines().await?;
    say::line("\nWithout typing the password, in another terminal:")?;
    for user in ["alice", "bob"] {
        let text = format!(
            "[client]\nprotocol=TCP\nhost=localhost\nport={}\nuser={user}\npassword={}\nssl-ca={}\n\
             ssl-verify-server-cert\n",
            scene.node.port,
            scene.node.secret(user)?,
            scene.node.root_certificate.display()
        );
        let file = scene.node.private_file(&format!("{user}.cnf"), &text)?;
        say::ready(&format!("mariadb --defaults-file={} shop", file.display()))?;
    }
    scene.node.administer()?;
    say::closing("Ctrl-C stops everything and removes the folder.")
}
