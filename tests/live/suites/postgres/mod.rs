//! PostgreSQL's fixture, on both servers.

mod states;
mod traces;

use std::collections::BTreeMap;
use std::io::Read;
use std::thread::JoinHandle;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::{Door, Fixture, LastWords, Names, cut, reset, suites};
use crate::support::client::Pending;
use crate::support::wire::{self, Message, Wire, packet, startup_packet, string};
use crate::support::{Client, Node, Options, PATIENCE, Place, Server, Told, text, wait_until};

suites!(
    postgres_15 => super::Postgres(crate::support::shared(crate::support::Version::Distribution)),
    postgres_18 => super::Postgres(crate::support::shared(crate::support::Version::Newest)),
);

pub struct Postgres(pub &'static Server);

pub enum Hand {
    Wire(Wire),
    /// Knows the answer to the server's challenge and has not given it.
    Halfway(Wire, Box<ScramSha256>),
    /// Reads all the time.
    Reading(JoinHandle<LastWords>),
    Tls(Client, Option<Pending>),
}

impl Hand {
    pub fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Wire(wire) | Self::Halfway(wire, _) => wire,
            Self::Reading(_) | Self::Tls(..) => panic!("not at hand"),
        }
    }
}

impl Fixture for Postgres {
    type Client = Hand;
    type Place = Place;
    const PARKS: bool = true;

    fn node(&self, options: Options<'_>) -> Node {
        Node::with(self.0.place(), options)
    }

    fn connect(&self, door: &Door, settings: &[(&str, &str)]) -> Result<Hand, Told> {
        let wire = Wire::login(door.port, &door.name, &door.secret, settings);
        wire.map(Hand::Wire).map_err(|refused| refused.0)
    }

    fn ask(&self, client: &mut Hand, question: &str) -> String {
        let wire = client.wire();
        wire.query(question);
        let answers = wire.until_ready();
        let words = answers.iter().filter_map(|message| match message.tag {
            'D' => Some(columns(&message.body)),
            'E' => Some(format!("error {}", message.field(b'C'))),
            'A' => Some("a notification".to_owned()),
            _ => None,
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn names(&self, client: &mut Hand) -> Names {
        let names = self.ask(client, "select pg_backend_pid(), current_setting('application_name')");
        let (connection, stamp) = names.split_once('|').unwrap_or_else(|| panic!("{names}"));
        let session = stamp.split_once('/').unwrap_or_else(|| panic!("{names}")).1;
        let session = session.split(' ').next().unwrap_or_default();
        Names { session: session.into(), connection: connection.into() }
    }

    fn occupy(&self, client: &mut Hand) {
        client.wire().query("select pg_sleep(600)");
    }

    fn goodbye(&self, client: Hand) {
        match client {
            Hand::Wire(wire) => wire.goodbye(),
            _ => panic!("in no state to say goodbye"),
        }
    }

    fn vanish(&self, client: Hand) {
        match client {
            Hand::Wire(wire) | Hand::Halfway(wire, _) => wire.vanish(),
            // Ends with the node.
            Hand::Reading(_) => {}
            Hand::Tls(client, _) => client.close(),
        }
    }

    fn last_words(&self, client: Hand) -> LastWords {
        match client {
            Hand::Wire(mut wire) => read_out(&mut wire),
            Hand::Halfway(mut wire, scram) => {
                let _ = wire.try_send(&packet('p', scram.message()));
                read_out(&mut wire)
            }
            Hand::Reading(reader) => reader.join().expect("no panic"),
            Hand::Tls(client, running) => {
                let told = match running {
                    Some(running) => Some(running.told()),
                    None => client.end().err(),
                };
                LastWords { told: told.filter(|told| !told.code.is_empty()), ..LastWords::default() }
            }
        }
    }

    fn operate(&self, node: &Node, statements: &str) {
        // Each for itself: some may not run within a block.
        statements.split("; ").for_each(|statement| node.place.master().run(statement));
    }

    fn forget(&self, node: &Node) {
        let connectors = format!("datname = '{}' and usename like '{0}%'", node.place.database);
        node.place.ask(&format!(
            "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where {connectors}"
        ));
        wait_until("the connections are gone", PATIENCE, || node.place.count("true") == 0);
    }

    fn lives(&self, node: &Node, connection: &str) -> bool {
        !connection.is_empty() && node.place.count(&format!("pid = {connection}")) > 0
    }

    fn residue(&self, node: &Node) -> String {
        node.place.ask("select string_agg(name, ',') from items where id >= 7000")
    }

    fn code(&self, refusal: &str) -> &'static str {
        let codes =
            BTreeMap::from([("TG001", "28P01"), ("TG002", "28000"), ("TG014", "57P03"), ("TG015", "57P05")]);
        codes.get(refusal).copied().unwrap_or("57P01")
    }

    fn traces(&self) -> Vec<reset::Trace<Self>> {
        traces::all(self.0.version)
    }

    fn states(&self) -> Vec<cut::State<Self>> {
        states::all()
    }
}

fn columns(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        let (value, behind) = behind.split_at(length.max(0) as usize);
        columns.push(if length < 0 { "null".to_owned() } else { text(value) });
        rest = behind;
    }
    columns.join("|")
}

/// Reads to the end of the connection.
fn read_out(wire: &mut Wire) -> LastWords {
    let mut words = LastWords { warned: Some(0), ..LastWords::default() };
    let mut bytes: Vec<u8> = Vec::new();
    // Of a long message that is not kept.
    let mut skip = 0;
    let mut space = vec![0; 64 << 10];
    loop {
        match wire.socket.read(&mut space) {
            Ok(0) => break,
            Ok(count) => bytes.extend(&space[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => {
                words.wrong = Some(format!("the proxy does not close: {error}"));
                return words;
            }
        }
        skip = take_messages(&mut bytes, skip, &mut words);
    }
    words.broken_off = skip > 0 || !bytes.is_empty();
    words
}

/// Takes whole messages, and the beginning of a long one, off the front of `bytes`.
fn take_messages(bytes: &mut Vec<u8>, mut skip: usize, words: &mut LastWords) -> usize {
    loop {
        let skipped = skip.min(bytes.len());
        bytes.drain(..skipped);
        skip -= skipped;
        let Some(head) = bytes.first_chunk::<5>() else { return skip };
        let tag = head[0] as char;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !"123ACDEGHIKNRSTZcdnst".contains(tag) || length < 4 {
            words.wrong.get_or_insert(format!("a message {tag:?} of {length} bytes"));
        }
        if let Some(told) = words.told.take().filter(|told| told.code.starts_with("57P")) {
            words.wrong.get_or_insert(format!("{tag:?} behind {told:?}"));
        }
        if tag == 'E' || tag == 'N' {
            let Some(body) = bytes.get(5..length + 1) else { return 0 };
            let message = Message { tag, body: body.to_vec() };
            if tag == 'E' {
                words.told = Some(message.told());
            } else if message.field(b'M').starts_with("your access ends at ") {
                words.warned = words.warned.map(|count| count + 1);
            }
        }
        skip = length + 1;
    }
}

/// Start-up and the first half of the proof.
fn halfway(door: &Door) -> (Wire, Box<ScramSha256>) {
    let mut wire = Wire::connect(door.port);
    wire.send(&startup_packet(wire::VERSION_3, &[("user", &door.name)]));
    let mut scram = Box::new(ScramSha256::new(door.secret.as_bytes(), ChannelBinding::unsupported()));
    assert_eq!(wire.read().expect("a choice of mechanisms").tag, 'R');
    let first = scram.message();
    let body = [&string("SCRAM-SHA-256")[..], &(first.len() as u32).to_be_bytes(), first];
    wire.send(&packet('p', &body.concat()));
    let challenge = wire.read().expect("a challenge");
    scram.update(&challenge.body[4..]).expect("a SCRAM challenge");
    (wire, scram)
}

/// Parse, Bind, Execute of a statement without parameters.
fn extended(sql: &str) -> Vec<u8> {
    [
        packet('P', &[&[0][..], &string(sql), &[0, 0]].concat()),
        packet('B', &[0, 0, 0, 0, 0, 0, 0, 0]),
        packet('E', &[0, 0, 0, 0, 0]),
    ]
    .concat()
}
