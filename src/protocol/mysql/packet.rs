//! Framing and the few shapes that everything is made of: a length of 3 bytes and a sequence number, then the
//! payload; a payload of [`PAYLOAD_MAX`] bytes goes on in the next packet
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>,
//! <https://mariadb.com/docs/server/reference/clientserver-protocol/0-packet>).

use bytes::{BufMut, BytesMut};

/// Length and sequence number.
pub const HEADER_BYTES: usize = 4;
/// A packet of this length goes on in the next one, which may be empty.
pub const PAYLOAD_MAX: usize = 0xff_ffff;

/// First bytes of a packet that answers a command.
pub const OK: u8 = 0x00;
pub const LOCAL_INFILE: u8 = 0xfb;
pub const EOF: u8 = 0xfe;
pub const ERR: u8 = 0xff;

/// The number in an ERR packet that MariaDB uses for progress reports, which end nothing.
pub const PROGRESS: u16 = 0xffff;

/// The front of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Of the payload.
    pub length: usize,
    pub sequence: u8,
}

impl Header {
    /// The whole packet: header and payload.
    pub fn total(self) -> usize {
        HEADER_BYTES + self.length
    }

    /// The payload goes on in the next packet.
    pub fn goes_on(self) -> bool {
        self.length == PAYLOAD_MAX
    }

    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [one, two, three, ..] = (self.length as u32).to_le_bytes();
        [one, two, three, self.sequence]
    }
}

/// Looks at the header in place. `None`: fewer than four bytes are there yet. Every length can be.
pub fn peek(input: &[u8]) -> Option<Header> {
    let [one, two, three, sequence] = *input.first_chunk::<HEADER_BYTES>()?;
    Some(Header { length: u32::from_le_bytes([one, two, three, 0]) as usize, sequence })
}

/// Appends a packet; `body` writes its payload, which must be shorter than [`PAYLOAD_MAX`].
pub fn put(out: &mut BytesMut, sequence: u8, body: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = out.len() - at - HEADER_BYTES;
    debug_assert!(length < PAYLOAD_MAX, "words of ours are short");
    let [one, two, three, ..] = (length as u32).to_le_bytes();
    out[at..at + HEADER_BYTES].copy_from_slice(&[one, two, three, sequence]);
}

/// Appends a string and its zero byte. A zero byte within ends it early: this shape cannot carry one.
pub fn put_string(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text.split(|byte| *byte == 0).next().unwrap_or_default());
    out.put_u8(0);
}

/// Appends a number in the form that says its own length.
pub fn put_number(out: &mut BytesMut, number: u64) {
    match number {
        0..=0xfa => out.put_u8(number as u8),
        0xfb..=0xffff => {
            out.put_u8(0xfc);
            out.put_u16_le(number as u16);
        }
        0x1_0000..=0xff_ffff => {
            out.put_u8(0xfd);
            out.put_uint_le(number, 3);
        }
        _ => {
            out.put_u8(0xfe);
            out.put_u64_le(number);
        }
    }
}

/// Appends bytes behind their length.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Takes a fixed number of bytes off the front.
pub fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*front)
}

/// Takes a number that says its own length. `None`: it is cut short, or 0xfb (NULL) or 0xff, which are no numbers.
pub fn take_number(body: &mut &[u8]) -> Option<u64> {
    let [first] = take(body)?;
    match first {
        0..=0xfa => Some(first.into()),
        0xfc => take(body).map(|bytes| u16::from_le_bytes(bytes).into()),
        0xfd => take(body).map(|[one, two, three]| u32::from_le_bytes([one, two, three, 0]).into()),
        0xfe => take(body).map(u64::from_le_bytes),
        0xfb | 0xff => None,
    }
}

/// Takes bytes behind their length.
pub fn take_bytes<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(body)?).ok()?;
    body.split_off(..length)
}

/// Takes a zero-terminated string.
pub fn take_string<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let text = &body[..end];
    *body = &body[end + 1..];
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_its_length_and_number() {
        let mut out = BytesMut::new();
        put(&mut out, 7, |out| put_bytes(out, b"abc"));
        assert_eq!(&out[..], b"\x04\0\0\x07\x03abc");
        assert_eq!(peek(&out), Some(Header { length: 4, sequence: 7 }));
        assert_eq!(peek(&out[..3]), None);
        assert!(Header { length: PAYLOAD_MAX, sequence: 0 }.goes_on());
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (number, length) in [
            (0, 1),
            (0xfa, 1),
            (0xfb, 3),
            (0xffff, 3),
            (0x1_0000, 4),
            (0xff_ffff, 4),
            (0x100_0000, 9),
            (u64::MAX, 9),
        ] {
            let mut out = BytesMut::new();
            put_number(&mut out, number);
            assert_eq!(out.len(), length, "{number}");
            let mut rest = &out[..];
            assert_eq!(take_number(&mut rest), Some(number));
            assert!(rest.is_empty());
            assert_eq!(take_number(&mut &out[..length - 1]), None, "cut short");
        }
        assert_eq!(take_number(&mut &b"\xfb"[..]), None, "NULL");
        assert_eq!(take_number(&mut &b"\xff"[..]), None, "an error");
        assert_eq!(take_bytes(&mut &b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffa"[..]), None);
    }

    #[test]
    fn strings_end_at_their_zero_byte() {
        let mut out = BytesMut::new();
        put_string(&mut out, b"one\0two");
        assert_eq!(&out[..], b"one\0");
        let mut rest = &b"one\0two"[..];
        assert_eq!(take_string(&mut rest), Some(&b"one"[..]));
        assert_eq!(take_string(&mut rest), None);
    }
}
