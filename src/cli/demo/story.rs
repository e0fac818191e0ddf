//! The story itself: five steps, each shown and each checked.

use std::time::{Duration, Instant};

use crate::cli::demo::certificates::Authority;
use crate::cli::demo::node::{self, Node, Target};
use crate::cli::demo::postgres::{self, Programs, Server};
use crate::cli::demo::psql::{Psql, expanded};
use crate::cli::demo::session::Session;
use crate::cli::demo::stage::{Stage, public_file};
use crate::cli::demo::{evidence, say};
use crate::cli::failure::{Failure, Outcome};

/// What the contract promises (design 1.5.2).
pub const CUT_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at the server.
pub const GLANCE: Duration = Duration::from_millis(5);
/// How long is waited for something that should be there at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The servers, running.
pub struct Scene {
    server: Server,
    node: Node,
    programs: Programs,
}

impl Scene {
    fn psql(&self, user: &str) -> Outcome<Psql> {
        self.node.psql(&self.programs.psql, user)
    }
}

/// A real PostgreSQL server, Tidegate in front of it, two people with credentials and no grant.
pub async fn prepare(stage: &mut Stage, programs: Programs) -> Outcome<Scene> {
    say::line("Tidegate demo: a real PostgreSQL server, and Tidegate in front of it.")?;
    let authority = Authority::new()?;
    public_file(&stage.path("ca.pem"), &authority.certificate)?;
    let server = postgres::start(stage, &programs, &authority).await?;
    say::line(&format!(
        "PostgreSQL {} runs on 127.0.0.1:{} (TLS only, SCRAM only), with a database shop and two roles \
         that only Tidegate knows: tg_orders_read and tg_orders_rw.",
        server.version, server.port
    ))?;
    let target = Target { protocol: "postgres", port: server.port, connectors: &server.connectors };
    let node = node::start(stage, &authority, target).await?;
    node.introduce(stage).await?;
    Ok(Scene { server, node, programs })
}

pub async fn tell(stage: &mut Stage, scene: &Scene) -> Outcome {
    refused(scene).await?;
    let alice = let_in(scene).await?;
    let (alice, bob, grant) = handed_over(scene, alice).await?;
    let bob = cut(scene, bob, &grant).await?;
    told(stage, scene, &alice, &bob).await
}

/// A credential alone opens nothing.
async fn refused(scene: &Scene) -> Outcome {
    say::heading(1, "bob has a credential and no grant")?;
    say::line(
        "psql is told where to go by PGHOST, PGPORT, PGUSER, PGPASSWORD, PGSSLMODE=verify-full and \
         PGSSLROOTCERT.",
    )?;
    say::command("bob$", "psql -c 'SELECT 1'")?;
    let printed = scene.psql("bob")?.run(&["-c", "SELECT 1"]).await?;
    say::output(printed.out.lines().chain(printed.err.lines()))?;
    say::expect(!printed.ok, "psql to be refused", &printed.out)?;
    say::proven(printed.err.contains("TG002"), "bob is refused with TG002", printed.err.trim())?;
    let shown = scene.node.run(&["audit", "search", "--user", "bob", "--event", "login_refused"]).await?;
    say::proven(shown.out.contains("TG002"), "the trail names bob and says why", shown.out.trim())
}

/// A grant for two minutes; who is there, as the database server sees it.
async fn let_in(scene: &Scene) -> Outcome<Session> {
    say::heading(2, "alice gets a grant for two minutes")?;
    scene.node.grant("alice", "read_write", "2m").await?;
    let mut alice = scene.psql("alice")?.open("alice")?;
    let rows = alice.run("SELECT id, name, price FROM product ORDER BY id;").await?;
    say::expect(rows.iter().any(|row| row.contains("(3 rows)")), "three products", rows.join(" / "))?;
    let role = alice.run("SELECT current_user;").await?;
    say::expect(
        role.iter().any(|row| row.contains("tg_orders_rw")),
        "the connector's role",
        role.join(" / "),
    )?;
    say::line("\nThe database server's own view, asked by its superuser past the proxy:")?;
    let sql = "SELECT pid, usename, application_name FROM pg_stat_activity \
               WHERE usename LIKE 'tg_%' ORDER BY pid;";
    say::command("postgres=>", sql)?;
    let seen = scene.server.superuser.run(&["-c", sql]).await?;
    say::output(seen.out.lines().filter(|line| !line.is_empty()))?;
    say::proven(
        seen.out.contains("tg_orders_rw") && seen.out.contains("alice/s-") && seen.out.contains("(1 row)"),
        "one connection, the connector's role, and alice's name on it",
        format!("{}{}", seen.out.trim(), seen.err.trim()),
    )?;
    Ok(alice)
}

/// Everything that a session of PostgreSQL can leave behind.
const LEFT_BEHIND: [&str; 9] = [
    "CREATE TEMPORARY TABLE note AS SELECT 'for my eyes only' AS text;",
    "PREPARE find_product (int) AS SELECT * FROM product WHERE id = $1;",
    "SET statement_timeout = '77s';",
    "SET shop.customer = '4711';",
    "SELECT pg_advisory_lock(42);",
    "LISTEN price_changes;",
    "SET ROLE auditor;",
    "BEGIN;",
    "INSERT INTO product VALUES (99, 'never committed', 1.00);",
];
const MY_SESSION: &str = "SELECT * FROM my_session;";
const FIELDS: [&str; 9] = [
    "role",
    "temporary_tables",
    "prepared_statements",
    "statement_timeout",
    "shop_customer",
    "advisory_locks",
    "listening_channels",
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
    say::line("\nmy_session is a view over pg_prepared_statements, pg_locks, pg_class and the like:")?;
    alice.set("\\x on").await?;
    let before = expanded(&alice.run(MY_SESSION).await?);
    let expected = ["auditor", "1", "1", "77s", "4711", "1", "1", "t", "1"];
    compare(&before, &expected, "all of it in alice's session")?;
    let backend = field(&before, "backend_pid").to_owned();
    let sent = alice.leave().await?;

    let id = scene.node.grant("bob", "read_write", "10m").await?;
    let mut bob = scene.psql("bob")?.open("bob")?;
    bob.set("\\x on").await?;
    let after = expanded(&bob.run(MY_SESSION).await?);
    compare(&after, &["tg_orders_rw", "0", "0", "0", "", "0", "0", "f", "0"], "none of it in bob's session")?;
    say::proven(
        field(&after, "backend_pid") == backend,
        &format!("it is the same connection: backend {backend} before and after"),
        field(&after, "backend_pid"),
    )?;
    say::line("✓ nothing that alice left is there, and her open transaction is rolled back")?;
    Ok((sent, bob, id))
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

fn compare(fields: &[(String, String)], expected: &[&str; 9], what: &str) -> Outcome {
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
    let mut server = scene.server.superuser.open("postgres")?;
    server.set("\\t on").await?;
    bob.set("\\set VERBOSITY verbose").await?;
    say::line("PostgreSQL looks by itself whether a client is still there; bob switches that off:")?;
    bob.run("SET client_connection_check_interval = 0;").await?;
    bob.begin("SELECT pg_sleep(60);").await?;
    let begun = Instant::now();
    while running(&mut server).await? != 1 {
        tokio::time::sleep(GLANCE).await;
        say::expect(begun.elapsed() < PATIENCE, "the statement to run at the server", "none")?;
    }
    say::line("\nIt runs: pg_stat_activity shows it. Now:")?;
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
    let said = bob.last_words().await?;
    say::line("\nbob's psql says:")?;
    say::output(said.iter().map(String::as_str).filter(|line| !line.is_empty()))?;
    let said = said.join("\n");
    say::proven(said.contains("57P01") && said.contains("TG004"), "bob is told why: 57P01, TG004", &said)?;
    say::proven(
        took < CUT_WITHIN,
        &format!("the server had stopped the statement {:.2} s after the command began", took.as_secs_f64()),
        format!("{:.2} s", took.as_secs_f64()),
    )?;
    server.leave_quietly().await?;
    say::line("\nHis credential is as good as before, but it opens nothing:")?;
    say::command("bob$", "psql -c 'SELECT 1'")?;
    let printed = scene.psql("bob")?.run(&["-c", "SELECT 1"]).await?;
    say::output(printed.out.lines().chain(printed.err.lines()))?;
    say::expect(!printed.ok, "psql to be refused", &printed.out)?;
    say::proven(printed.err.contains("TG002"), "bob is refused with TG002", printed.err.trim())?;
    Ok(bob.sent)
}

/// How many statements sleep at the server, by its own account.
async fn running(server: &mut Session) -> Outcome<u32> {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%' \
               AND pid <> pg_backend_pid();";
    let lines = server.ask(sql).await?;
    lines
        .iter()
        .find_map(|line| line.trim().parse().ok())
        .ok_or_else(|| Failure::new(format!("pg_stat_activity gave no count: {}", lines.join(" / "))))
}

/// The trail has every statement, with the person; the server's own log agrees.
async fn told(stage: &Stage, scene: &Scene, alice: &[String], bob: &[String]) -> Outcome {
    say::heading(5, "the trail says who did what")?;
    scene.node.run(&["audit", "search", "--user", "alice"]).await?;
    scene.node.run(&["audit", "search", "--user", "bob"]).await?;
    let log = stage.log("postgres")?;
    for (user, sent) in [("alice", alice), ("bob", bob)] {
        let lines = scene.node.trail(&["--user", user]).await?;
        let trail = evidence::in_trail(&lines);
        evidence::same_as_sent(&trail, sent)
            .map_err(|why| Failure::new(format!("the trail of {user} is not what {user} sent: {why}")))?;
        say::line(&format!("\n✓ the trail has all {} statements of {user}, word for word", trail.len()))?;
        let (server, example) = evidence::in_server_log(&log, user);
        let lines = example.as_deref().unwrap_or_default();
        say::line("  The server's own log, which knows the person by the connection's name, has as many:")?;
        say::output([lines])?;
        say::proven(
            server == trail,
            &format!("{} statements of {user} in the server's log, the same ones", server.len()),
            format!("{server:?}, and the trail has {trail:?}"),
        )?;
    }
    results(&scene.node).await?;
    scene.node.run(&["audit", "verify"]).await.map(drop)
}

/// Rows and duration of what ran, and the end of what was cut.
pub async fn results(node: &Node) -> Outcome {
    let lines = node.trail(&["--user", "alice"]).await?;
    let found = evidence::result_of(&lines, "SELECT id, name, price FROM product ORDER BY id")
        .ok_or_else(|| Failure::new("the trail has no result of alice's SELECT"))?;
    say::proven(
        found["rows"] == 3 && found["duration_us"].as_u64().is_some_and(|took| took > 0),
        "alice's SELECT is there with its 3 rows and its duration",
        found,
    )?;
    let lines = node.trail(&["--user", "bob", "--event", "session_end"]).await?;
    let end = lines.last().ok_or_else(|| Failure::new("the trail has no end of bob's session"))?;
    say::proven(
        end["how"] == "cut" && end["code"] == "TG004" && end["error_delivered"] == true,
        "bob's session ended as a cut with TG004, and he was told",
        end,
    )
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
        let passwords = scene.node.password_file(user)?;
        let connection = scene.node.connection(user);
        say::ready(&format!("PGPASSFILE={} psql \"{connection}\"", passwords.display()))?;
    }
    scene.node.administer()?;
    say::closing("Ctrl-C stops everything and removes the folder.")
}
