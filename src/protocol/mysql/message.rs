//! Packets of a server as far as we read them ourselves: while we log in, and in scripts of ours.

use bytes::{Buf, Bytes, BytesMut};

use super::packet;
use crate::model::limits;
use crate::protocol::session::{ServerError, ServerErrorKind, WireError};

/// Takes packets off what a server sent, in order and within an allowance: the longest, how many of them, and
/// all their bytes.
#[derive(Debug)]
pub(super) struct Reader {
    /// The number of the next packet, whoever sends it.
    pub sequence: u8,
    packets_left: usize,
    bytes_left: usize,
}

impl Reader {
    pub fn new(packets_max: usize) -> Self {
        Self { sequence: 0, packets_left: packets_max, bytes_left: limits::SCRIPT_BYTES_MAX }
    }

    /// `None`: the packet is not whole yet. What is too long is refused by its header, before anything waits for
    /// its body.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
        const PLACE: &str = "packet header";
        let Some(header) = packet::peek(input) else { return Ok(None) };
        if header.length > limits::SCRIPT_MESSAGE_BYTES_MAX {
            return Err(WireError::new(PLACE, "longer than any packet we asked for"));
        }
        if header.sequence != self.sequence {
            return Err(WireError::new(PLACE, "out of order"));
        }
        if self.packets_left == 0 || self.bytes_left < header.total() {
            return Err(WireError::new(PLACE, "more packets than we asked for"));
        }
        if input.len() < header.total() {
            return Ok(None);
        }
        self.packets_left -= 1;
        self.bytes_left -= header.total();
        self.sequence = self.sequence.wrapping_add(1);
        let mut body = input.split_to(header.total()).freeze();
        body.advance(packet::HEADER_BYTES);
        Ok(Some(body))
    }

    /// Appends the next packet of ours.
    pub fn put(&mut self, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
        packet::put(out, self.sequence, body);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// An ERR packet, behind its first byte. Never fails: one that is cut short is still an error.
pub(super) fn error(mut body: &[u8]) -> ServerError {
    let number = packet::take(&mut body).map_or(0, u16::from_le_bytes);
    // `#` and a SQLSTATE, once the server knows that we speak 4.1.
    let message = match body {
        [b'#', _, _, _, _, _, message @ ..] => message,
        message => message,
    };
    let message = printable(&String::from_utf8_lossy(message));
    ServerError { kind: kind_of(number), code: number.to_string(), message }
}

/// A server's words, fit for a log line and an answer: one line, and not endless.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limits::SERVER_MESSAGE_CHARS_MAX)
        .collect()
}

/// What an error's number means for the pool
/// (<https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>,
/// <https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference>).
pub(super) fn kind_of(number: u16) -> ServerErrorKind {
    match number {
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR, ER_MUST_CHANGE_PASSWORD(_LOGIN): the password.
        1045 | 1698 | 1820 | 1862 => ServerErrorKind::BadSecret,
        // ER_DBACCESS_DENIED_ERROR; ER_HOST_IS_BLOCKED and ER_HOST_NOT_PRIVILEGED; ER_NOT_SUPPORTED_AUTH_MODE,
        // ER_PLUGIN_IS_NOT_LOADED; ER_ACCOUNT_HAS_BEEN_LOCKED of MySQL and of MariaDB; ER_SECURE_TRANSPORT_REQUIRED.
        1044 | 1129 | 1130 | 1251 | 1524 | 3118 | 4151 | 3159 => ServerErrorKind::NotAdmitted,
        // ER_BAD_DB_ERROR.
        1049 => ServerErrorKind::NoDatabase,
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED.
        1040 | 1203 | 1226 => ServerErrorKind::Full,
        // ER_SERVER_SHUTDOWN, ER_SERVER_OFFLINE_MODE.
        1053 | 3032 => ServerErrorKind::Unready,
        _ => ServerErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_however_short_they_are() {
        let read = |body: &[u8]| {
            let error = error(body);
            (error.kind, error.code, error.message)
        };
        let denied = b"\x15\x04#28000Access denied for user 'a'@'b'\n";
        assert_eq!(
            read(denied),
            (ServerErrorKind::BadSecret, "1045".into(), "Access denied for user 'a'@'b' ".into())
        );
        // Ahead of the greeting there is no SQLSTATE.
        assert_eq!(
            read(b"\x10\x04Too many connections"),
            (ServerErrorKind::Full, "1040".into(), "Too many connections".into())
        );
        for (short, code) in
            [(&b""[..], "0"), (b"\x15", "0"), (b"\x15\x04", "1045"), (b"\x15\x04#28", "1045")]
        {
            assert_eq!(read(short).1, code);
        }
        assert_eq!(
            read(&[&b"\x15\x04"[..], &[b'a'; 5_000]].concat()).2.len(),
            limits::SERVER_MESSAGE_CHARS_MAX
        );
    }

    #[test]
    fn packets_come_in_order_and_within_an_allowance() {
        let mut reader = Reader::new(2);
        let mut input = BytesMut::from(&b"\x01\0\0\0a\x01\0\0\x01b\x01\0\0\x02c"[..]);
        assert_eq!(reader.next(&mut input).unwrap().unwrap(), "a");
        assert_eq!(reader.next(&mut input).unwrap().unwrap(), "b");
        assert!(reader.next(&mut input).is_err(), "one too many");
        let mut reader = Reader::new(2);
        assert!(reader.next(&mut BytesMut::from(&b"\x01\0\0\x01a"[..])).is_err(), "out of order");
        assert!(reader.next(&mut BytesMut::from(&b"\xff\xff\xff\0"[..])).is_err(), "too long");
        assert!(reader.next(&mut BytesMut::from(&b"\x01\0\0"[..])).unwrap().is_none());
    }
}
