//! What every protocol is tested with: drivers that play the engine for one machine, feed it in
//! pieces of any size, and write down what it said and how it ended. The tests beside the protocols
//! and the fuzz targets are built on them (feature `testing`).
//!
//! A peer is a list of turns: what it sends once it has heard what the machine said so far.

pub mod mysql;
pub mod mysql_talk;
pub mod postgres;

use bytes::BytesMut;

use super::session::{
    Accept, AcceptInput, AcceptStep, Answer, Dial, DialInput, DialStep, DialTlsFacts, Question, Report,
    Script, ScriptStep, TlsFacts, TlsStart, WireError,
};

/// Between the turns of a peer, in the data of a fuzz target.
const NEXT_TURN: &[u8] = b"\xfe\xff";
/// A turn that stands for the message that a right peer would send now.
const RIGHT: &[u8] = b"\xfe";
/// More than any machine says in one conversation: the texts of a check are the longest.
const SAID_MAX: usize = 32 << 10;
/// Steps of one machine on one turn: more, and it does not come to an end.
const STEPS_MAX: usize = 1_000_000;

/// What a peer sends next, from all that the machine said since its last turn; `None`: it is gone.
pub type Peer<'a> = &'a mut dyn FnMut(&[u8]) -> Option<Vec<u8>>;
/// How many of the bytes that are left of a turn arrive now: from 1 to all of them.
pub type Cut<'a> = &'a mut dyn FnMut(usize) -> usize;

/// All at once.
pub fn whole(left: usize) -> usize {
    left
}

/// A peer that says these things, whatever it hears.
pub fn script(turns: &[&[u8]]) -> impl FnMut(&[u8]) -> Option<Vec<u8>> {
    let mut turns: std::collections::VecDeque<Vec<u8>> = turns.iter().map(|turn| turn.to_vec()).collect();
    move |_| turns.pop_front()
}

/// What became of a conversation; the same for the same turns however they were cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// All that the machine said.
    pub said: Vec<u8>,
    /// How it ended, in words.
    pub end: String,
}

/// One conversation while it lasts.
struct Talk<'a> {
    peer: Peer<'a>,
    cut: Cut<'a>,
    /// What arrived and is not consumed.
    input: BytesMut,
    out: BytesMut,
    said: Vec<u8>,
    /// What of this turn has not arrived.
    turn: Vec<u8>,
}

impl<'a> Talk<'a> {
    fn new(peer: Peer<'a>, cut: Cut<'a>) -> Self {
        Self { peer, cut, input: BytesMut::new(), out: BytesMut::new(), said: Vec::new(), turn: Vec::new() }
    }

    /// Lets the next piece arrive. False: there is none, and there never will be.
    fn listen(&mut self) -> bool {
        if self.turn.is_empty() {
            match (self.peer)(&self.out) {
                Some(turn) => self.turn = turn,
                None => return false,
            }
            self.said.extend_from_slice(&self.out.split());
        }
        let count = match self.turn.len() {
            0 => 0,
            left => (self.cut)(left).clamp(1, left),
        };
        self.input.extend(self.turn.drain(..count));
        true
    }

    /// TLS begins; whatever came before it must not be used.
    fn is_quiet(&self) -> bool {
        self.input.is_empty() && self.turn.is_empty()
    }

    fn end(mut self, end: impl Into<String>) -> Outcome {
        self.said.extend_from_slice(&self.out);
        Outcome { said: self.said, end: end.into() }
    }

    fn broken(self, error: &WireError) -> Outcome {
        self.end(format!("error: {error}"))
    }
}

/// Drives a login to its end.
pub fn accept<A: Accept>(
    machine: &mut A,
    peer: Peer<'_>,
    cut: Cut<'_>,
    answer: &mut dyn FnMut(Question) -> Answer,
) -> Outcome {
    accept_with(machine, &TlsFacts::default(), peer, cut, answer)
}

/// The same where TLS, once it stands, has this to say. Of a client that begins with TLS the turn that it begins
/// in stands for the handshake.
pub fn accept_with<A: Accept>(
    machine: &mut A,
    tls: &TlsFacts,
    peer: Peer<'_>,
    cut: Cut<'_>,
    answer: &mut dyn FnMut(Question) -> Answer,
) -> Outcome {
    let mut talk = Talk::new(peer, cut);
    let mut step = machine.step(AcceptInput::Start, &mut talk.out);
    for _ in 0..STEPS_MAX {
        step = match step {
            Err(error) => return talk.broken(&error),
            Ok(AcceptStep::NeedBytes) => match talk.listen() {
                true => machine.step(AcceptInput::Bytes(&mut talk.input), &mut talk.out),
                false => return talk.end("gone"),
            },
            Ok(AcceptStep::StartTls(TlsStart::Asked)) if !talk.is_quiet() => {
                return talk.end("bytes ahead of TLS");
            }
            Ok(AcceptStep::StartTls(_)) => {
                talk.input.clear();
                talk.turn.clear();
                machine.step(AcceptInput::TlsReady(tls), &mut talk.out)
            }
            Ok(AcceptStep::Ask(question)) => {
                match machine.step(AcceptInput::Answer(answer(question)), &mut talk.out) {
                    // What is buffered may be due now.
                    Ok(AcceptStep::NeedBytes) => {
                        machine.step(AcceptInput::Bytes(&mut talk.input), &mut talk.out)
                    }
                    other => other,
                }
            }
            Ok(AcceptStep::Cancel(key)) => {
                return talk.end(format!("cancel {} {:?}", key.process, key.secret));
            }
            Ok(AcceptStep::Login(login)) => {
                let (identity, claim) = *login;
                return talk.end(format!("login {} {claim:?}", identity.user()));
            }
            Ok(AcceptStep::Refuse(refusal, why)) => {
                machine.refuse(&refusal, &mut talk.out);
                return talk.end(format!("refused {refusal:?}: {why}"));
            }
        };
    }
    talk.end("endless")
}

/// Drives an attempt at a server to its end; gives what it learnt.
pub fn dial<D: Dial>(machine: &mut D, peer: Peer<'_>, cut: Cut<'_>) -> (Outcome, Option<D::Facts>) {
    dial_inside(machine, peer, cut, &DialTlsFacts::default())
}

/// The same, with what TLS shows of the server where it begins.
pub fn dial_inside<D: Dial>(
    machine: &mut D,
    peer: Peer<'_>,
    cut: Cut<'_>,
    tls: &DialTlsFacts,
) -> (Outcome, Option<D::Facts>) {
    let mut talk = Talk::new(peer, cut);
    let mut step = machine.step(DialInput::Start, &mut talk.out);
    for _ in 0..STEPS_MAX {
        step = match step {
            Err(error) => return (talk.broken(&error), None),
            Ok(DialStep::NeedBytes) => match talk.listen() {
                true => machine.step(DialInput::Bytes(&mut talk.input), &mut talk.out),
                false => return (talk.end("gone"), None),
            },
            Ok(DialStep::StartTls) if !talk.is_quiet() => return (talk.end("bytes ahead of TLS"), None),
            Ok(DialStep::StartTls) => machine.step(DialInput::TlsReady(tls), &mut talk.out),
            // Nobody hides anything here: what was to be sealed is what goes out.
            Ok(DialStep::Seal { text, .. }) => {
                machine.step(DialInput::Sealed(Ok(text.to_vec())), &mut talk.out)
            }
            Ok(DialStep::Refused(error)) => {
                return (talk.end(format!("refused {:?} {error}", error.kind)), None);
            }
            Ok(DialStep::Ready(facts)) => return (talk.end("ready"), Some(facts)),
            Ok(DialStep::Sent) => return (talk.end("sent"), None),
        };
    }
    (talk.end("endless"), None)
}

/// Drives a script to its end; gives its report.
pub fn run<S: Script>(machine: &mut S, peer: Peer<'_>, cut: Cut<'_>) -> (Outcome, Option<Report>) {
    let mut talk = Talk::new(peer, cut);
    for _ in 0..STEPS_MAX {
        match machine.step(&mut talk.input, &mut talk.out) {
            Err(error) => return (talk.broken(&error), None),
            Ok(ScriptStep::Done(report)) => return (talk.end(format!("{report:?}")), Some(report)),
            Ok(ScriptStep::NeedBytes) if talk.listen() => {}
            Ok(ScriptStep::NeedBytes) => return (talk.end("gone"), None),
        }
    }
    (talk.end("endless"), None)
}

/// Drives one machine: how it is set up, what the peer says, how that is cut.
type Drive<'a> = &'a mut dyn FnMut(u8, Vec<Vec<u8>>, Cut<'_>) -> Outcome;

/// Runs a conversation whole, byte by byte, and in uneven pieces: the outcome is the same.
fn check(data: &[u8], drive: Drive<'_>) -> String {
    let [setup, seed, rest @ ..] = data else { return String::new() };
    let turns = split(rest);
    let all = drive(*setup, turns.clone(), &mut whole);
    assert!(all.said.len() <= SAID_MAX, "the answer is longer than any can be: {}", all.said.len());
    assert_ne!(all.end, "endless");
    assert_eq!(all, drive(*setup, turns.clone(), &mut |_| 1), "byte by byte");
    let mut state = u32::from(*seed);
    let uneven = &mut |left: usize| {
        // A linear congruence: any sequence does, as long as it is the same next time.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % left
    };
    assert_eq!(all, drive(*setup, turns, uneven), "in pieces from {seed}");
    all.end
}

fn split(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut turns = Vec::new();
    while let Some(at) = find(rest, NEXT_TURN) {
        turns.push(rest[..at].to_vec());
        rest = &rest[at + NEXT_TURN.len()..];
    }
    turns.push(rest.to_vec());
    turns
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}
