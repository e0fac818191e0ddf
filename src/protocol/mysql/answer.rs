//! What a server answers to commands of our own, read whole: an end, an error, or rows of texts.

use super::capability::Capabilities;
use super::packet::{self, EOF, ERR, HEADER_BYTES, Header, LOCAL_INFILE, OK, PROGRESS};
use crate::model::limits::{
    SCRIPT_BYTES_MAX, SCRIPT_COLUMNS_MAX, SCRIPT_MESSAGE_BYTES_MAX, SCRIPT_MESSAGES_MAX,
    SERVER_MESSAGE_CHARS_MAX,
};
use crate::protocol::session::WireError;

/// `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok { status: u16 },
    Error { number: u16, sqlstate: String, message: String },
    Rows { rows: Vec<Row>, status: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    First,
    Definitions(u64),
    DefinitionsEnd,
    Rows,
}

/// Reads one answer after the other.
pub(super) struct Answers {
    agreed: Capabilities,
    stage: Stage,
    columns: usize,
    rows: Vec<Row>,
    /// The number of the next packet.
    sequence: u8,
    /// So far, of all answers.
    packets: usize,
    bytes: usize,
}

const PLACE: &str = "an answer to a script";

const fn wrong(what: &'static str) -> WireError {
    WireError::new(PLACE, what)
}

impl Answers {
    pub fn new(agreed: Capabilities) -> Self {
        Self { agreed, stage: Stage::First, columns: 0, rows: Vec::new(), sequence: 1, packets: 0, bytes: 0 }
    }

    /// How much of the input was read, and the answer that ended there.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Option<Answer>), WireError> {
        let mut end = 0;
        loop {
            let rest = &input[end..];
            let Some(header) = packet::peek(rest) else { return Ok((end, None)) };
            if header.length == 0 || header.length > SCRIPT_MESSAGE_BYTES_MAX {
                return Err(wrong("a packet of a wrong length"));
            }
            // Within compressed packets a server's numbers go their own way.
            if header.sequence != self.sequence && !self.agreed.is_compressed() {
                return Err(wrong("packets are out of order"));
            }
            let Some(body) = rest.get(HEADER_BYTES..header.total()) else { return Ok((end, None)) };
            end += header.total();
            self.sequence = self.sequence.wrapping_add(1);
            self.packets += 1;
            self.bytes += header.total();
            if self.packets > SCRIPT_MESSAGES_MAX || self.bytes > SCRIPT_BYTES_MAX {
                return Err(wrong("more than a script is answered with"));
            }
            if let Some(answer) = self.packet(header, body)? {
                self.stage = Stage::First;
                self.sequence = 1;
                return Ok((end, Some(answer)));
            }
        }
    }

    fn packet(&mut self, header: Header, body: &[u8]) -> Result<Option<Answer>, WireError> {
        if body[0] == ERR {
            return self.error(body);
        }
        let deprecates = self.agreed.has(Capabilities::DEPRECATE_EOF);
        let is_end = body[0] == EOF && (header.length < 9 || deprecates);
        match self.stage {
            Stage::First if body[0] == OK || is_end => {
                let status = if body[0] == EOF && !deprecates { eof_status(body) } else { ok_status(body) };
                let status = status.ok_or(wrong("a malformed OK"))?;
                return Ok(Some(Answer::Ok { status: last(status)? }));
            }
            Stage::First if body[0] == LOCAL_INFILE => return Err(wrong("the server asks for a file")),
            Stage::First => {
                let mut rest = body;
                let columns = packet::take_number(&mut rest)
                    .filter(|columns| (1..=SCRIPT_COLUMNS_MAX).contains(columns));
                let columns = columns.ok_or(wrong("a number of columns that cannot be"))?;
                if !matches!(rest, [] | [1]) {
                    return Err(wrong("columns without their definitions"));
                }
                self.columns = columns as usize;
                self.rows.clear();
                self.stage = Stage::Definitions(columns);
            }
            Stage::Definitions(left @ 2..) => self.stage = Stage::Definitions(left - 1),
            Stage::Definitions(_) => {
                self.stage = if deprecates { Stage::Rows } else { Stage::DefinitionsEnd };
            }
            Stage::DefinitionsEnd if is_end => self.stage = Stage::Rows,
            Stage::DefinitionsEnd => return Err(wrong("definitions without their end")),
            Stage::Rows if is_end => {
                let status = if deprecates { ok_status(body) } else { eof_status(body) };
                let status = last(status.ok_or(wrong("a malformed end of rows"))?)?;
                return Ok(Some(Answer::Rows { rows: std::mem::take(&mut self.rows), status }));
            }
            Stage::Rows => {
                let row = row(body, self.columns).ok_or(wrong("a malformed row"))?;
                self.rows.push(row);
            }
        }
        Ok(None)
    }

    fn error(&self, body: &[u8]) -> Result<Option<Answer>, WireError> {
        let mut rest = &body[1..];
        let number = packet::take(&mut rest).map(u16::from_le_bytes).ok_or(wrong("a malformed error"))?;
        if number == PROGRESS && self.agreed.has(Capabilities::MARIADB_PROGRESS) {
            return Ok(None);
        }
        let mut sqlstate = "HY000".to_owned();
        if let Some((state, message)) = rest.split_first_chunk::<6>()
            && state[0] == b'#'
        {
            sqlstate = state[1..]
                .iter()
                .filter(|byte| byte.is_ascii_alphanumeric())
                .map(|b| char::from(*b))
                .collect();
            rest = message;
        }
        let message = String::from_utf8_lossy(rest).chars().take(SERVER_MESSAGE_CHARS_MAX).collect();
        Ok(Some(Answer::Error { number, sqlstate, message }))
    }
}

/// Statements of ours have one result.
fn last(status: u16) -> Result<u16, WireError> {
    match status & super::capability::status::MORE_RESULTS {
        0 => Ok(status),
        _ => Err(wrong("more results than were asked for")),
    }
}

fn ok_status(body: &[u8]) -> Option<u16> {
    let mut rest = body.get(1..)?;
    packet::take_number(&mut rest)?;
    packet::take_number(&mut rest)?;
    packet::take(&mut rest).map(u16::from_le_bytes)
}

fn eof_status(body: &[u8]) -> Option<u16> {
    body.get(3..5).map(|status| u16::from_le_bytes([status[0], status[1]]))
}

fn row(body: &[u8], columns: usize) -> Option<Row> {
    let mut rest = body;
    let mut row = Vec::with_capacity(columns);
    for _ in 0..columns {
        // NULL has the first byte of no length.
        if let Some((&LOCAL_INFILE, behind)) = rest.split_first() {
            rest = behind;
            row.push(None);
            continue;
        }
        row.push(Some(String::from_utf8_lossy(packet::take_bytes(&mut rest)?).into_owned()));
    }
    rest.is_empty().then_some(row)
}
