//! The fixture of MySQL's protocol, on MariaDB's servers and MySQL's.

mod states;
mod traces;

use std::thread::JoinHandle;

use super::{Door, Fixture, LastWords, Names, cut, reset, suites};
use crate::support::mysql::wire::{Reader, flag, packet, told};
use crate::support::mysql::{Answer, Login, Place, Release, Wire, shared};
use crate::support::{Node, Options, PATIENCE, Told, wait_until};

suites!(
    mariadb_10 => super::MySql(crate::support::mysql::Release::Distribution),
    mariadb_11 => super::MySql(crate::support::mysql::Release::MariaDb11),
    mysql_9 => super::MySql(crate::support::mysql::Release::MySql9),
);

pub struct MySql(pub Release);

pub enum Hand {
    Wire(Wire),
    /// Knows what to answer to the greeting and has not said it.
    Halfway(Wire, Vec<u8>),
    /// Reads all the time.
    Reading(JoinHandle<LastWords>),
}

impl Hand {
    pub fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Wire(wire) | Self::Halfway(wire, _) => wire,
            Self::Reading(_) => panic!("not at hand"),
        }
    }
}

fn login(door: &Door) -> Login<'_> {
    Login { user: &door.name, password: &door.secret, ..Login::default() }
}

impl Fixture for MySql {
    type Client = Hand;
    type Place = Place;
    const PARKS: bool = false;
    const GRANT: &'static [&'static str] = &["--database", "*"];

    fn node(&self, options: Options<'_>) -> Node<Place> {
        Node::with(shared(self.0).place(), options)
    }

    /// There are no settings at start-up but what the handshake agrees on.
    fn connect(&self, door: &Door, settings: &[(&str, &str)]) -> Result<Hand, Told> {
        let login = Login { attributes: settings, ..login(door) };
        Wire::login(door.port, &login).map(Hand::Wire).map_err(|refused| refused.0)
    }

    fn ask(&self, client: &mut Hand, question: &str) -> String {
        let wire = client.wire();
        wire.query(question);
        let words = wire.answers().into_iter().filter_map(|answer| match answer {
            Answer::Done { .. } => None,
            Answer::Rows { rows, .. } => Some(crate::support::mysql::wire::joined(rows)),
            Answer::Failed(told) => Some(format!("error {}", told.code)),
        });
        words.collect::<Vec<_>>().join("; ")
    }

    fn names(&self, client: &mut Hand) -> Names {
        let names = self.ask(client, "select connection_id(), @tidegate");
        let (connection, stamp) = names.split_once('|').unwrap_or_else(|| panic!("{names}"));
        let session = stamp.split_once('/').unwrap_or_else(|| panic!("{names}")).1;
        let session = session.split(' ').next().unwrap_or_default();
        Names { session: session.into(), connection: connection.into() }
    }

    fn occupy(&self, client: &mut Hand) {
        client.wire().query("select sleep(600)");
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
        }
    }

    fn last_words(&self, client: Hand) -> LastWords {
        match client {
            Hand::Wire(mut wire) => read_out(&mut wire),
            Hand::Halfway(mut wire, response) => {
                let _ = wire.try_send(&packet(1, &response));
                read_out(&mut wire)
            }
            Hand::Reading(reader) => reader.join().expect("no panic"),
        }
    }

    fn operate(&self, node: &Node<Place>, statements: &str) {
        statements.split("; ").for_each(|statement| node.place.run(statement));
    }

    fn forget(&self, node: &Node<Place>) {
        let connectors = format!(
            "select id from information_schema.processlist where user like '{}\\_%'",
            node.place.database
        );
        for id in node.place.ask(&connectors).split("; ").filter(|id| !id.is_empty()) {
            // It may be gone already.
            let _ = node.place.master().ask(&format!("kill {id}"));
        }
        wait_until("the connections are gone", PATIENCE, || node.place.count("true") == 0);
    }

    fn lives(&self, node: &Node<Place>, connection: &str) -> bool {
        !connection.is_empty() && node.place.count(&format!("id = {connection}")) > 0
    }

    fn residue(&self, node: &Node<Place>) -> String {
        node.place.ask("select coalesce(group_concat(name), '') from items where id >= 7000")
    }

    fn code(&self, refusal: &str) -> &'static str {
        match refusal {
            "TG001" | "TG002" => "1045",
            "TG014" => "1053",
            "TG015" => "4031",
            _ => "1927",
        }
    }

    fn traces(&self) -> Vec<reset::Trace<Self>> {
        traces::all(self.0)
    }

    fn states(&self) -> Vec<cut::State<Self>> {
        states::all()
    }
}

/// Reads to the end of the connection. There is no way to warn a client ahead.
fn read_out(wire: &mut Wire) -> LastWords {
    let mut words = LastWords::default();
    let mut bytes: Vec<u8> = Vec::new();
    let mut space = vec![0; 64 << 10];
    let mut reading = Packets::default();
    loop {
        match wire.read_bytes(&mut space) {
            Ok(0) => break,
            Ok(count) => bytes.extend(&space[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                break;
            }
            Err(error) => {
                words.wrong = Some(format!("the proxy does not close: {error}"));
                return words;
            }
        }
        reading.take(&mut bytes, &mut words);
    }
    words.broken_off = reading.skip > 0 || !bytes.is_empty();
    words
}

#[derive(Default)]
struct Packets {
    /// Of a long packet that is not kept.
    skip: usize,
    /// The number of the last packet, and whether it goes on in the next.
    last: Option<(u8, bool)>,
}

impl Packets {
    /// Takes whole packets, and the beginning of a long one, off the front of `bytes`.
    fn take(&mut self, bytes: &mut Vec<u8>, words: &mut LastWords) {
        loop {
            let skipped = self.skip.min(bytes.len());
            bytes.drain(..skipped);
            self.skip -= skipped;
            let Some(head) = bytes.first_chunk::<4>() else { return };
            let length = Reader(head).number(3) as usize;
            let (number, goes_on) = (head[3], length == 0xff_ffff);
            let first = bytes.get(4).copied();
            if length > 0 && first.is_none() {
                return;
            }
            let part = self.last.is_some_and(|(_, goes_on)| goes_on);
            let error = !part && first == Some(0xff) && length > 0;
            if let Some(told) = words.told.take().filter(|told| told.message.starts_with("TG")) {
                words.wrong.get_or_insert(format!("a packet behind {told:?}"));
            }
            // An answer to the next command begins anew.
            let follows = |(last, _): (u8, bool)| number == last.wrapping_add(1) || number <= 1;
            if !self.last.is_none_or(follows) {
                words.wrong.get_or_insert(format!("packet {number} behind {:?}", self.last));
            }
            if error {
                let Some(payload) = bytes.get(4..4 + length) else { return };
                words.told = Some(told(payload));
            }
            self.last = Some((number, goes_on));
            self.skip = 4 + length;
        }
    }
}

/// Has read the greeting, and knows the whole answer to it.
fn halfway(door: &Door) -> (Wire, Vec<u8>) {
    let mut wire = Wire::connect(door.port).expect("a greeting");
    let plugin = wire.greeting.plugin.clone();
    let response = wire.response(&login(door), &plugin);
    (wire, response)
}

/// With more, or less, than the usual capabilities.
fn with(door: &Door, more: u32, tls: bool) -> Wire {
    let login = Login { more: more & !flag::SSL, tls, ..login(door) };
    Wire::login(door.port, &login).map_err(|refused| refused.0).expect("let in")
}
