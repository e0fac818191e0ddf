//! Messages of a server as far as we read them ourselves: while we log in, and in scripts of ours
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).

use bytes::{Buf, Bytes, BytesMut};

use super::frame;
use crate::model::limits;
use crate::protocol::session::{ServerError, ServerErrorKind, WireError};

/// One whole message without its header.
#[derive(Debug)]
pub(super) struct Message {
    pub tag: u8,
    pub body: Bytes,
}

/// Takes messages off what a server sent, within an allowance: the longest message, how many of
/// them, and all their bytes.
#[derive(Debug)]
pub(super) struct Reader {
    messages_left: usize,
    bytes_left: usize,
}

impl Reader {
    pub fn new(messages_max: usize) -> Self {
        Self { messages_left: messages_max, bytes_left: limits::SCRIPT_BYTES_MAX }
    }

    /// `None`: the message is not whole yet. What is too long is refused by its header, before
    /// anything waits for its body.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Message>, WireError> {
        let Some(header) = frame::peek(input)? else { return Ok(None) };
        if header.total > limits::SCRIPT_MESSAGE_BYTES_MAX {
            return Err(WireError::new("message header", "longer than any message we asked for"));
        }
        if self.messages_left == 0 || self.bytes_left < header.total {
            return Err(WireError::new("message header", "more messages than we asked for"));
        }
        if input.len() < header.total {
            return Ok(None);
        }
        self.messages_left -= 1;
        self.bytes_left -= header.total;
        let mut body = input.split_to(header.total).freeze();
        body.advance(frame::HEADER_BYTES);
        Ok(Some(Message { tag: header.tag, body }))
    }
}

/// Takes a fixed number of bytes off the front.
pub(super) fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*front)
}

/// `ParameterStatus`: name and value.
pub(super) fn parameter(mut body: &[u8]) -> Option<(String, String)> {
    let name = frame::take_string(&mut body)?;
    let value = frame::take_string(&mut body)?;
    body.is_empty().then(|| (lossy(name), lossy(value)))
}

/// `DataRow` in text format; NULL becomes an empty text.
pub(super) fn row(mut body: &[u8]) -> Option<Vec<String>> {
    let columns = u16::from_be_bytes(take(&mut body)?);
    let mut texts = Vec::new();
    for _ in 0..columns {
        texts.push(cell(&mut body)?.map(lossy).unwrap_or_default());
    }
    body.is_empty().then_some(texts)
}

/// The same with so many columns, where they lie; NULL told from an empty text.
pub(super) fn cells<const N: usize>(mut body: &[u8]) -> Option<[Option<&[u8]>; N]> {
    let columns = u16::from_be_bytes(take(&mut body)?);
    if usize::from(columns) != N {
        return None;
    }
    let mut cells = [None; N];
    for cell_of in &mut cells {
        *cell_of = cell(&mut body)?;
    }
    body.is_empty().then_some(cells)
}

fn cell<'a>(body: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = i32::from_be_bytes(take(body)?);
    match usize::try_from(length) {
        Ok(length) => body.split_off(..length).map(Some),
        Err(_) if length == -1 => Some(None),
        Err(_) => None,
    }
}

/// The transaction status of a `ReadyForQuery`.
pub(super) fn status(body: &[u8]) -> Option<u8> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Some(*status),
        _ => None,
    }
}

pub(super) fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// An `ErrorResponse`, as far as we use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The server ends the conversation after it: no `ReadyForQuery` follows.
    pub fatal: bool,
    pub code: String,
    pub message: String,
}

impl Complaint {
    /// Never fails: an error without a SQLSTATE, or one that is cut short, is still an error
    /// (pgbouncer crashed on one, CVE-2026-6666).
    pub fn parse(mut body: &[u8]) -> Self {
        let mut complaint = Self { fatal: false, code: "XX000".into(), message: String::new() };
        while let Some([field]) = take(&mut body) {
            // A zero byte ends the fields; it has no text.
            let Some(text) = frame::take_string(&mut body).filter(|_| field != 0) else { break };
            match field {
                // `V` is never translated, `S` may be.
                b'V' | b'S' => complaint.fatal |= matches!(text, b"FATAL" | b"PANIC"),
                b'C' if is_sqlstate(text) => complaint.code = lossy(text),
                b'M' => complaint.message = printable(&lossy(text)),
                _ => {}
            }
        }
        complaint
    }

    pub fn into_error(self) -> ServerError {
        ServerError { kind: kind_of(&self.code), code: self.code, message: self.message }
    }
}

fn is_sqlstate(text: &[u8]) -> bool {
    text.len() == 5 && text.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// A server's words, fit for a log line and an answer: one line, and not endless.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limits::SERVER_MESSAGE_CHARS_MAX)
        .collect()
}

/// What a SQLSTATE means for the pool
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(super) fn kind_of(code: &str) -> ServerErrorKind {
    match code {
        // invalid_password, also where there is no such role.
        "28P01" => ServerErrorKind::BadSecret,
        // invalid_authorization_specification: no line in pg_hba.conf, a certificate that is missing or of another.
        "28000" => ServerErrorKind::NotAdmitted,
        // invalid_catalog_name; at login, insufficient_privilege is the CONNECT right on the
        // database, and object_not_in_prerequisite_state a database that takes no connections.
        "3D000" | "42501" | "55000" => ServerErrorKind::NoDatabase,
        // too_many_connections, also of a role or a database.
        "53300" => ServerErrorKind::Full,
        // admin_shutdown, crash_shutdown, cannot_connect_now.
        "57P01" | "57P02" | "57P03" => ServerErrorKind::Unready,
        _ => ServerErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(tag: u8, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        frame::put(&mut out, tag, |out| out.extend_from_slice(body));
        out
    }

    #[test]
    fn an_error_is_understood_however_broken_it_is() {
        let whole = Complaint::parse(b"SFATAL\0VFATAL\0C28P01\0Mno\nway\0\0");
        assert_eq!(whole, Complaint { fatal: true, code: "28P01".into(), message: "no way".into() });
        // As an old server says it: no SQLSTATE at all.
        assert_eq!(Complaint::parse(b"SERROR\0Mno\0\0").code, "XX000");
        for broken in
            [&b""[..], b"\0", b"C", b"C28P01", b"C\0", b"C28P0\xff\0", b"M\xff\xfe\0", b"\xff\xff\0"]
        {
            assert_eq!(Complaint::parse(broken).code, "XX000", "{broken:?}");
        }
        let long = [b"M".as_slice(), &[b'x'; 5_000], b"\0\0"].concat();
        assert_eq!(Complaint::parse(&long).message.len(), limits::SERVER_MESSAGE_CHARS_MAX);
    }

    #[test]
    fn rows_are_read_exactly_or_not_at_all() {
        assert_eq!(row(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff").unwrap(), ["ab", ""]);
        assert_eq!(row(b"\0\0").unwrap(), Vec::<String>::new());
        for bad in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01\0\0\0\x02a",
            b"\0\x01\xff\xff\xff\xfe",
            b"\0\x01\x7f\xff\xff\xffab",
            b"\0\0x",
            b"\xff\xff\0\0\0\0",
        ] {
            assert_eq!(row(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_parameter_and_a_status_are_read_exactly() {
        assert_eq!(parameter(b"a\0b\0"), Some(("a".into(), "b".into())));
        assert!(parameter(b"a\0b").is_none() && parameter(b"a\0b\0c").is_none());
        assert_eq!((status(b"I"), status(b"x"), status(b"II"), status(b"")), (Some(b'I'), None, None, None));
    }

    #[test]
    fn an_allowance_is_not_exceeded() {
        let mut reader = Reader::new(2);
        let mut input = framed(b'N', b"\0");
        input.extend_from_slice(&framed(b'N', b"\0"));
        input.extend_from_slice(&framed(b'N', b"\0"));
        assert!(reader.next(&mut input).unwrap().is_some());
        assert!(reader.next(&mut input).unwrap().is_some());
        assert!(reader.next(&mut input).is_err());

        // A length over the limit is refused although nothing of the body is there.
        let mut long = BytesMut::from(&b"D\0\x20\0\0"[..]);
        assert!(Reader::new(2).next(&mut long).is_err());
        let mut reader = Reader::new(100);
        let big = framed(b'D', &vec![0; limits::SCRIPT_MESSAGE_BYTES_MAX - 5]);
        let taken = (0..100).take_while(|_| reader.next(&mut big.clone()).is_ok()).count();
        assert_eq!(taken, limits::SCRIPT_BYTES_MAX / limits::SCRIPT_MESSAGE_BYTES_MAX);
    }
}
