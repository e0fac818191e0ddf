//! Framing: one type byte, then a length of 4 bytes that counts itself, then the body
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>). Start-up packets have no
//! type byte.

use bytes::{BufMut, BytesMut};

use crate::protocol::session::WireError;

/// Type byte and length.
pub const HEADER_BYTES: usize = 5;

/// The front of a typed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// The whole message: header and body.
    pub total: usize,
}

/// Looks at the header in place. `None`: fewer than five bytes are there yet.
///
/// A length under 4 cannot be, and one over 1 GiB is more than any PostgreSQL takes
/// (`PQ_LARGE_MESSAGE_LIMIT` is `MaxAllocSize`).
pub fn peek(input: &[u8]) -> Result<Option<Header>, WireError> {
    let Some(head) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..=0x3fff_ffff).contains(&length) {
        return Err(WireError::new("message header", "a length that cannot be"));
    }
    Ok(Some(Header { tag: head[0], total: length + 1 }))
}

/// Appends a message; `body` writes what follows the length.
pub fn put(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = (out.len() - at) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a string and its zero byte. A zero byte within ends it early: the protocol has no way to
/// carry one.
pub fn put_string(out: &mut BytesMut, text: &str) {
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

/// Takes a zero-terminated string from the front of `body`.
pub fn take_string<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let text = &body[..end];
    *body = &body[end + 1..];
    Some(text)
}
