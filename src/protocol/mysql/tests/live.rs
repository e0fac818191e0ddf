//! Against running servers and real clients, over plain blocking sockets. Not run by default: name them first.
//!
//! ```text
//! TIDEGATE_MYSQL_SERVERS='mysql-9 127.0.0.1:3306 alice caching_sha2_password
//! mariadb-11 127.0.0.1:3307 par parsec' \
//! TIDEGATE_MYSQL_CLIENTS='mysql-9 mysql -h127.0.0.1 -PPORT -ualice -ptg_golden -e "SELECT 1"' \
//!     cargo test --lib mysql::tests::live -- --ignored --test-threads=1
//! ```
//!
//! A line of servers is a name, an address, a user whose password is `tg_golden` and who may enter the database
//! `shop`, and that user's method. A line of clients is a name and a command, in which PORT stands for the port.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::BytesMut;

use super::super::accept::MySqlAccept;
use super::super::capability::Capabilities;
use super::super::dial::{Goal, MySqlDial};
use super::super::facts::MySqlFacts;
use super::super::facts::Settings;
use super::super::packet;
use super::super::script::{Job, MySqlScript};
use crate::credential::Secret;
use crate::model::Name;
use crate::protocol::kit::{mysql::RANDOM, postgres::lenient};
use crate::protocol::session::{
    Accept, AcceptContext, AcceptInput, AcceptStep, Dial, DialInput, DialStep, DialTls, DialWay, Facts,
    Findings, Interruption, Report, Script, ScriptStep, TlsOffer,
};

fn lines(variable: &str) -> Vec<Vec<String>> {
    let text = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().filter(|line| !line.trim().is_empty()).map(words).collect()
}

/// A connection, with everything that went over it.
struct Peer {
    socket: TcpStream,
    input: BytesMut,
    transcript: String,
}

impl Peer {
    fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, input: BytesMut::new(), transcript: String::new() }
    }

    /// `side` is whose words they are.
    fn write(&mut self, side: char, out: &mut BytesMut) {
        if !out.is_empty() {
            self.socket.write_all(out).unwrap();
            self.transcript.push_str(&super::golden::line(side, out));
            out.clear();
        }
    }

    /// False at the end.
    fn read(&mut self, side: char) -> bool {
        let mut buffer = [0; 8192];
        let count = self.socket.read(&mut buffer).unwrap_or(0);
        if count > 0 {
            self.transcript.push_str(&super::golden::line(side, &buffer[..count]));
        }
        self.input.extend_from_slice(&buffer[..count]);
        count > 0
    }

    fn dial(&mut self, machine: &mut MySqlDial) -> Result<MySqlFacts, String> {
        let mut out = BytesMut::new();
        let mut step = machine.step(DialInput::Start, &mut out);
        loop {
            self.write('>', &mut out);
            step = match step.map_err(|error| error.to_string())? {
                DialStep::NeedBytes if self.read('<') => {
                    machine.step(DialInput::Bytes(&mut self.input), &mut out)
                }
                DialStep::NeedBytes => return Err("gone".into()),
                DialStep::Seal { .. } => machine.step(DialInput::Sealed(Err("not here")), &mut out),
                DialStep::Ready(facts) => return Ok(facts),
                DialStep::Refused(error) => return Err(format!("{:?} {error}", error.kind)),
                DialStep::Sent => return Err("sent".into()),
                DialStep::StartTls => return Err("tls".into()),
            };
        }
    }
}

impl Peer {
    /// A script that must be done; what it found.
    fn run(&mut self, mut script: MySqlScript) -> Findings {
        let mut out = BytesMut::new();
        loop {
            let step = script.step(&mut self.input, &mut out).unwrap();
            self.write('>', &mut out);
            match step {
                ScriptStep::NeedBytes => assert!(self.read('<')),
                ScriptStep::Done(Report::Done(findings)) => return findings,
                ScriptStep::Done(report) => panic!("{report:?}"),
            }
        }
    }
}

fn save(name: &str, about: &str, transcript: &str) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol/mysql/golden");
    let text = format!("# {about}\n# Recorded by tests/live.rs.\n{transcript}");
    std::fs::write(folder.join(format!("{name}.txt")), text).unwrap();
}

fn login(database: &str) -> Goal {
    Goal { database: database.into(), flavour: String::new() }
}

fn attempt(address: &str, goal: Goal, secret: &Secret) -> (Peer, Result<MySqlFacts, String>) {
    let mut peer = Peer::new(TcpStream::connect(address).unwrap());
    // Not outside TLS and sealed: the password goes as it is, which these servers take over a socket of the
    // system's only, so whoever asks for it refuses.
    let way = DialWay { local: false, ..lenient(DialTls::Without) };
    let mut machine = MySqlDial::towards(goal, way, secret);
    machine.fix_random(&RANDOM);
    let end = peer.dial(&mut machine);
    (peer, end)
}

#[test]
#[ignore = "needs running servers, and writes into the tree"]
fn record_servers() {
    for line in lines("TIDEGATE_MYSQL_SERVERS") {
        let [name, address, user, method] = &line[..] else { panic!("{line:?}") };
        let secret = |password: &str| Secret::new(user.clone(), zeroize::Zeroizing::new(password.into()), 1);
        let (peer, end) = attempt(address, login("shop"), &secret("tg_golden"));
        let facts = end.unwrap_or_else(|error| panic!("{name} {method}: {error}"));
        assert_eq!(facts.login(), user);
        let version = facts.server_version();
        println!("{name} {method}: {version} {:?}", facts.learned.capabilities);
        save(
            &format!("dial-{name}-{method}"),
            &format!("Tidegate logs in by {method} to {version}."),
            &peer.transcript,
        );
        let (peer, end) = attempt(address, login("shop"), &secret("wrong"));
        let error = end.unwrap_err();
        assert!(error.starts_with("BadSecret") || error.contains("not here"), "{name} {method}: {error}");
        // What is sealed is another each time.
        if error.starts_with("BadSecret") {
            save(
                &format!("dial-{name}-{method}-wrong"),
                &format!("Tidegate logs in with a wrong password by {method} to {version}."),
                &peer.transcript,
            );
        }
        let (_, end) = attempt(address, login("nowhere"), &secret("tg_golden"));
        let error = end.unwrap_err();
        assert!(error.starts_with("NotAdmitted 1044") || error.starts_with("NoDatabase 1049"), "{error}");
        // A statement of another connection is stopped.
        let (mut running, end) = attempt(address, login("shop"), &secret("tg_golden"));
        let facts = end.unwrap();
        let mut query = BytesMut::new();
        packet::put(&mut query, 0, |out| out.extend_from_slice(b"\x03SELECT SLEEP(20)"));
        running.write('>', &mut query);
        std::thread::sleep(Duration::from_millis(300));
        let (mut other, end) = attempt(address, login(""), &secret("tg_golden"));
        let own = end.unwrap();
        other.run(MySqlScript::run(Job::Stop { interruption: &facts.interruption() }, &own));
        let began = std::time::Instant::now();
        assert!(running.read('<'));
        assert!(began.elapsed() < Duration::from_secs(5), "{name}");
        // Nothing to stop.
        other.run(MySqlScript::run(Job::Stop { interruption: &Interruption(b"99999999".to_vec()) }, &own));
    }
}

/// What `script/tests.rs` reads. A line of `TIDEGATE_MYSQL_TALKS` is a name and an address, where `tidegate` may enter
/// `shop` with the password `tg_golden`.
#[test]
#[ignore = "needs running servers, and writes into the tree"]
fn record_talks() {
    let multi = Capabilities::DEPRECATE_EOF | Capabilities::MULTI_STATEMENTS;
    for line in lines("TIDEGATE_MYSQL_TALKS") {
        let [name, address] = &line[..] else { panic!("{line:?}") };
        for (end, agreed, words) in [
            ("", Capabilities::NONE, "neither DEPRECATE_EOF nor MULTI_STATEMENTS"),
            ("-deprecate", multi, "DEPRECATE_EOF and MULTI_STATEMENTS"),
        ] {
            let secret = Secret::new("tidegate".into(), zeroize::Zeroizing::new("tg_golden".into()), 1);
            let goal = Goal { database: "shop".into(), flavour: agreed.flavour() };
            let (mut peer, end_of_login) = attempt(address, goal, &secret);
            let mut facts = end_of_login.unwrap();
            peer.transcript.clear();
            facts.apply(&peer.run(MySqlScript::run(Job::Probe, &facts)));
            let settings = Settings { collation: 224, ..Settings::default() };
            let stamp = "alice/s-0dj3k8v7q2m1a";
            peer.run(MySqlScript::run(Job::Prepare { stamp, settings: &settings }, &facts));
            let mut query = BytesMut::new();
            packet::put(&mut query, 0, |out| out.extend_from_slice(b"\x03select 1"));
            peer.write('>', &mut query);
            assert!(peer.read('<'));
            peer.input.clear();
            for look in [false, true] {
                peer.run(MySqlScript::run(Job::Reset { random: Some(7), look }, &facts));
            }
            let version = facts.server_version().trim_start_matches("5.5.5-");
            save(
                &format!("talk-{name}{end}"),
                &format!(
                    "{version}: a probe in two parts, a preparation, a client's statement, a reset, one with a thorough \
                     look.\n# Agreed to: {words}."
                ),
                &joined(&peer.transcript),
            );
        }
    }
}

/// What one side wrote or was read of it in pieces is one line.
fn joined(transcript: &str) -> String {
    let mut out = String::new();
    let mut last = None;
    for line in transcript.lines() {
        match line.split_at(2) {
            (side, bytes) if last == Some(side) => out.push_str(bytes),
            (side, bytes) => {
                if last.is_some() {
                    out.push('\n');
                }
                out.push_str(side);
                out.push_str(bytes);
                last = Some(side);
            }
        }
    }
    out + "\n"
}

#[test]
#[ignore = "needs clients, and writes into the tree"]
fn record_clients() {
    for line in lines("TIDEGATE_MYSQL_CLIENTS") {
        let (name, command) = line.split_first().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let command = command.join(" ").replace("PORT", &port);
        let mut child = std::process::Command::new("sh").args(["-c", &command]).spawn().unwrap();
        let mut peer = Peer::new(listener.accept().unwrap().0);
        let orders = Some(Name::parse("orders").unwrap());
        let mut machine = MySqlAccept::new(&AcceptContext::new(
            orders,
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            TlsOffer::Unavailable,
        ));
        machine.fix_random(&RANDOM);
        let mut out = BytesMut::new();
        let mut step = machine.step(AcceptInput::Start, &mut out);
        let end = loop {
            peer.write('<', &mut out);
            step = match step.unwrap() {
                AcceptStep::NeedBytes if peer.read('>') => {
                    machine.step(AcceptInput::Bytes(&mut peer.input), &mut out)
                }
                AcceptStep::NeedBytes => break "gone".to_owned(),
                AcceptStep::Ask(question) => {
                    let answer = super::golden::answer(question);
                    machine.step(AcceptInput::Answer(answer), &mut out)
                }
                AcceptStep::Login(login) => {
                    let sequence = machine.admit(&mut out);
                    packet::put(&mut out, sequence, |out| out.extend_from_slice(b"\0\0\0\x02\0\0\0"));
                    peer.write('<', &mut out);
                    peer.read('>');
                    break format!("login {}", login.0.user());
                }
                AcceptStep::Refuse(refusal, why) => {
                    machine.refuse(&refusal, &mut out);
                    peer.write('<', &mut out);
                    break format!("{refusal:?}: {why}");
                }
                _ => break "another step".to_owned(),
            };
        };
        println!("{name}: {end}");
        drop(peer.socket);
        child.wait().unwrap();
        save(
            &format!("accept-{name}"),
            &format!("{name} logs in to Tidegate's machine: {end}."),
            &peer.transcript,
        );
    }
}
