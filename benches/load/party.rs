//! The ways to the server that are compared, each proxy a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::client::Login;
use crate::support::server::{self, ROLE_PASSWORD, as_server, own};
use crate::support::{
    Node, Options, PATIENCE, Place, Version, janitor, text, tls, wait_until, write_private,
};

const SCALE: &str = "10";

/// One way to the server.
pub struct Party {
    pub name: &'static str,
    pub login: Login,
    /// Where it speaks TLS itself.
    pub tls_port: Option<u16>,
    /// Of the proxy; the direct way has none.
    pub pid: Option<u32>,
    /// Of the process that speaks TLS, where it is another one.
    pub tls_pid: Option<u32>,
}

impl Party {
    pub fn with_tls(&self, resume: bool) -> Login {
        let mut config = (*tls::client_config(tls::authority())).clone();
        if !resume {
            config.resumption = rustls::client::Resumption::disabled();
        }
        let port = self.tls_port.expect("it speaks TLS");
        Login { port, tls: Some(Arc::new(config)), ..self.login.clone() }
    }
}

/// All of them on one server.
pub struct Parties {
    pub all: Vec<Party>,
    pub versions: Vec<String>,
    pub node: Node,
    /// The grant of the user `crowd`, whose login this is.
    pub crowd: (String, Login),
    alice: Login,
    workers: usize,
    programs: Vec<(String, String)>,
    proxies: Vec<Proxy>,
}

pub struct Proxy(Child);

impl Proxy {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        janitor::forget(self.0.id());
    }
}

impl Parties {
    pub fn start(workers: usize) -> Self {
        // The servers' own logs and the tests' settings cost what nobody measures here.
        let settings = "log_statement = 'none'\nshared_buffers = 256MB\nmax_connections = 2000";
        let place = Place::alone(Version::Distribution, server::Options { settings, ..Default::default() });
        fill(&place);
        let programs = setup();
        let mut versions = vec![format!("PostgreSQL {}", place.ask("show server_version"))];
        versions.extend(programs[..2].iter().map(|(name, program)| version(name, program)));
        let limits = format!("workers = {workers}\npark_seconds = 1");
        let options = Options {
            pool: "size_max = 1100",
            limits: &limits,
            target: "tls = \"disable\"\npark = \"proven\"\npark_accepts = [\"functions\", \"sequences\"]\n",
            audit: "",
            log: "warn",
            ..Default::default()
        };
        let node = Node::with(place, options);
        let person = |name: &str| {
            let person = node.user(name);
            let grant = node.grant(name, "read", "8h", &[]);
            let direct = direct(&node.place);
            (grant, Login { port: node.port, user: person.name, password: person.secret, ..direct })
        };
        let ((_, alice), crowd) = (person("alice"), person("crowd"));
        versions.push(text(&node.tg(&["--version"]).stdout).trim().to_owned());
        let (all, proxies) = proxies(&node, &alice, workers, &programs);
        Self { all, versions, node, crowd, alice, workers, programs, proxies }
    }

    /// Every proxy anew: memory that one has had from the system it keeps, and takes again without asking.
    pub fn renew(&mut self) {
        self.proxies.clear();
        self.node.kill();
        self.node.resume();
        (self.all, self.proxies) = proxies(&self.node, &self.alice, self.workers, &self.programs);
    }

    pub fn party(&self, name: &str) -> &Party {
        self.all.iter().find(|party| party.name == name).expect("one of ours")
    }
}

fn direct(place: &Place) -> Login {
    Login {
        port: place.port,
        user: place.role("read"),
        password: ROLE_PASSWORD.into(),
        database: place.database.clone(),
        tls: None,
    }
}

/// Starts those that are compared with.
fn proxies(
    node: &Node,
    alice: &Login,
    workers: usize,
    programs: &[(String, String)],
) -> (Vec<Party>, Vec<Proxy>) {
    let (place, direct) = (&node.place, direct(&node.place));
    let (relay, relay_port) = start_relay(place.port, workers, None);
    let (tls_relay, tls_relay_port) = start_relay(place.port, workers, Some(&certificate()));
    let (haproxy, haproxy_port) = start_haproxy(&programs[1].1, place.port);
    let (pgbouncer, pgbouncer_port) = start_pgbouncer(&programs[0].1, place);
    let proxy = |name, child: &Proxy, port, tls_port| Party {
        name,
        login: Login { port, ..direct.clone() },
        tls_port,
        pid: Some(child.0.id()),
        tls_pid: Some(child.0.id()),
    };
    let all = vec![
        Party {
            name: "direct",
            login: direct.clone(),
            tls_port: Some(direct.port),
            pid: None,
            tls_pid: None,
        },
        Party {
            tls_pid: Some(tls_relay.0.id()),
            ..proxy("tokio relay", &relay, relay_port, Some(tls_relay_port))
        },
        proxy("HAProxy", &haproxy, haproxy_port, None),
        proxy("PgBouncer", &pgbouncer, pgbouncer_port, Some(pgbouncer_port)),
        Party {
            name: "Tidegate",
            tls_port: Some(alice.port),
            login: alice.clone(),
            pid: Some(node.pid()),
            tls_pid: Some(node.pid()),
        },
    ];
    (all, vec![relay, tls_relay, haproxy, pgbouncer])
}

/// User and system time of all threads of a process so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the proxy runs");
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
    let ticks: u64 =
        [fields[11], fields[12]].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    // USER_HZ, which Linux keeps at 100 for all that reads /proc.
    ticks as f64 / 100.0
}

/// What a process keeps in memory, its share of what it shares with others included, in bytes.
pub fn memory(pid: u32) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the proxy runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") * 1024.0
}

fn fill(place: &Place) {
    let config = place.superuser(&place.database);
    let password = text(config.get_password().expect("it has one"));
    let made = Command::new("pgbench")
        .args(["-i", "-q", "-s", SCALE, "-h", "127.0.0.1", "-U", "postgres"])
        .args(["-p", &place.port.to_string(), &place.database])
        .env("PGPASSWORD", password)
        .stdin(Stdio::null())
        .output()
        .expect("pgbench is installed: benches/load/setup");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let role = place.role("read");
    place.master().run(&format!("grant select on all tables in schema public to {role}"));
    place.master().run(&format!("create table sink (line text); grant insert, select on sink to {role}"));
    place.master().run("vacuum analyze");
}

/// Where the programs are that are compared with: PgBouncer, HAProxy, then the folder of the server's own.
pub fn setup() -> Vec<(String, String)> {
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load/setup");
    let found = Command::new(setup).stderr(Stdio::inherit()).output().expect("benches/load/setup runs");
    assert!(found.status.success(), "benches/load/setup failed");
    let programs = text(&found.stdout);
    let named =
        |line: &str| line.split_once('=').map(|(name, program)| (name.to_owned(), program.to_owned()));
    programs.lines().map(|line| named(line).expect("NAME=PROGRAM")).collect()
}

pub fn version(name: &str, program: &str) -> String {
    let option = if name == "haproxy" { "-v" } else { "--version" };
    let said = Command::new(program).arg(option).output().expect("it runs");
    let line = text(&said.stdout).lines().next().expect("a line").to_owned();
    line.split(" - ").next().unwrap_or_default().split(" 20").next().unwrap_or_default().to_owned()
}

fn certificate() -> PathBuf {
    let folder = janitor::new_folder("relay");
    tls::authority().write_certificate(&folder, "relay", tls::HOSTS);
    folder.join("relay")
}

pub fn spawn(command: &mut Command, port: u16, what: &str) -> Proxy {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the proxy runs");
    janitor::watch(child.id());
    wait_until(what, PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    Proxy(child)
}

pub fn start_relay(server: u16, workers: usize, certificate: Option<&Path>) -> (Proxy, u16) {
    let port = janitor::free_port();
    let mut command = Command::new(std::env::current_exe().expect("our own file"));
    command.arg("relay").args([port, server, workers as u16].map(|number| number.to_string()));
    command.args(certificate);
    (spawn(&mut command, port, "the relay listens"), port)
}

pub fn start_haproxy(program: &str, server: u16) -> (Proxy, u16) {
    let (folder, port) = (janitor::new_folder("haproxy"), janitor::free_port());
    let file = folder.join("haproxy.cfg");
    let settings = format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  \
         timeout server 1h\nlisten database\n  bind 127.0.0.1:{port}\n  server database 127.0.0.1:{server}\n"
    );
    std::fs::write(&file, settings).expect("its configuration");
    (spawn(Command::new(program).arg("-db").arg("-f").arg(&file), port, "HAProxy listens"), port)
}

fn start_pgbouncer(program: &str, place: &Place) -> (Proxy, u16) {
    let folder = janitor::new_folder("bouncer");
    let port = janitor::free_port();
    let role = place.role("read");
    // The server's own verifier: PgBouncer then derives nothing on its login path, towards either side.
    let verifier = place.ask(&format!("select rolpassword from pg_authid where rolname = '{role}'"));
    tls::authority().write_certificate(&folder, "bouncer", tls::HOSTS);
    write_private(&folder.join("users.txt"), &format!("\"{role}\" \"{verifier}\"\n"));
    write_private(
        &folder.join("pgbouncer.ini"),
        &format!(
            "[databases]\n{database} = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = session\n\
             default_pool_size = 100\nmax_client_conn = 12000\nlog_connections = 0\nlog_disconnections = 0\n\
             client_tls_sslmode = allow\nclient_tls_cert_file = {folder}/bouncer.pem\nserver_tls_sslmode = disable\n\
             client_tls_key_file = {folder}/bouncer.key\n\
             ignore_startup_parameters = extra_float_digits\nlogfile = {folder}/log\n",
            place.port,
            database = place.database,
            folder = folder.display(),
        ),
    );
    let files = ["users.txt", "pgbouncer.ini", "bouncer.pem", "bouncer.key"].map(|name| folder.join(name));
    files.iter().chain([&folder]).for_each(|path| own(path));
    let mut command = as_server(Path::new(program));
    (spawn(command.arg("-q").arg(folder.join("pgbouncer.ini")), port, "PgBouncer listens"), port)
}
