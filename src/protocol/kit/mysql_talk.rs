//! MySQL's conversation, scripts, texts and values for the fuzz targets: no panic, an end, an answer of bounded size,
//! and for scripts the same outcome however the bytes arrive.

use crate::model::Parameters;
use crate::protocol::mysql::{Job, MySqlScript, Settings, talk};
use crate::protocol::session::{Act, Logins, Termination};

/// More than any script says: the list of a session's variables is the longest.
const SAID_MAX: usize = 64 << 10;
/// Between the turns of a server.
const NEXT_TURN: &[u8] = b"\xfe\xff";

/// The text of a statement, in every reading that it may have, and its label.
pub fn text(data: &[u8]) {
    talk::read_text(data);
    let text = data.to_vec();
    let thread = std::thread::Builder::new().stack_size(crate::model::limits::LABEL_STACK_BYTES);
    let labelled = thread.spawn(move || {
        let label = crate::protocol::mysql::label_statement(&text, true);
        let lists = [&label.verbs, &label.reads, &label.writes, &label.calls];
        lists.iter().all(|names| names.len() <= crate::model::limits::LABEL_NAMES_MAX)
    });
    let bounded = labelled.map(std::thread::JoinHandle::join);
    assert!(matches!(bounded, Ok(Ok(true))), "a label broke its limits, or its maker");
}

/// Bound values: as many bytes of what a note says of them as the first byte, then the values; and the same bytes as
/// what a client sent.
pub fn value(data: &[u8]) {
    talk::find_values(data);
    let Some((count, rest)) = data.split_first() else { return };
    let (types, values) = rest.split_at(rest.len().min(usize::from(*count)));
    let parameters = Parameters { types, values, length: values.len() as u64 };
    let shown = crate::protocol::mysql::describe_parameters(&parameters);
    let text = serde_json::Value::from(shown).to_string();
    // A type says in one bit that a value is NULL, and takes two bytes.
    let bytes = types.len() + values.len();
    assert!(text.len() <= 32 * bytes + 64, "{} bytes of text for {bytes}", text.len());
}

/// An established conversation: chunks of either side, each behind a byte that says whose it is and how long.
pub fn relay(data: &[u8]) {
    crate::protocol::mysql::fuzz_relay(data);
}

/// One script on one connection.
pub fn script(data: &[u8]) -> String {
    let [setup, rest @ ..] = data else { return String::new() };
    let of = Termination("7".into());
    let logins = Logins {
        levels: vec![("read".into(), "conn".into())],
        upkeep: Some("upkeep".into()),
        connections: 5,
    };
    let settings = Settings { collation: 224, ..Settings::default() };
    let job = match setup % 10 {
        0 | 1 => Job::Probe,
        2 => Job::Prepare { stamp: "alice/s-0", settings: &settings },
        look @ (3 | 4) => Job::Reset { random: Some(7), look: look == 4 },
        5 => Job::Ping,
        6 => Job::Check { level: "read" },
        7 => Job::Form { logins: &logins },
        8 => Job::Try(Act::See(&of)),
        _ => Job::Terminate { terminations: std::slice::from_ref(&of) },
    };
    let facts = talk::facts(setup / 10);
    let mut turns = Vec::new();
    let mut left = rest;
    while let Some(at) = left.windows(NEXT_TURN.len()).position(|window| window == NEXT_TURN) {
        turns.push(left[..at].to_vec());
        left = &left[at + NEXT_TURN.len()..];
    }
    turns.push(left.to_vec());
    let drive = |cut: super::Cut<'_>| {
        let mut machine = MySqlScript::run(job, &facts);
        let mut turns = turns.clone().into_iter();
        super::run(&mut machine, &mut |_| turns.next(), cut).0
    };
    let whole = drive(&mut super::whole);
    assert!(whole.said.len() <= SAID_MAX, "the answer is longer than any can be: {}", whole.said.len());
    assert_ne!(whole.end, "endless");
    let piecewise = drive(&mut |_| 1);
    // A second part has a seed of its own.
    if !matches!(job, Job::Probe) {
        assert_eq!(whole.said, piecewise.said, "byte by byte");
    }
    assert_eq!(whole.end, piecewise.end, "byte by byte");
    whole.end
}
