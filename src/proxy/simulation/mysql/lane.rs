//! Packets over a pipe, from either end.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::protocol::mysql::packet;
use crate::tls::memory::Pipe;

pub struct Packet {
    pub number: u8,
    pub body: Vec<u8>,
    /// When its last byte had been written.
    pub written_at: Instant,
}

pub struct Lane {
    pub pipe: Pipe,
    pub input: BytesMut,
    pub out: BytesMut,
    /// Of the next packet that is said.
    pub number: u8,
}

pub fn lost() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl Lane {
    pub fn new(pipe: Pipe) -> Self {
        Self { pipe, input: BytesMut::new(), out: BytesMut::new(), number: 0 }
    }

    pub fn say(&mut self, body: &[u8]) {
        packet::put(&mut self.out, self.number, |out| out.extend_from_slice(body));
        self.number = self.number.wrapping_add(1);
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let count = self.pipe.write(&self.out).await?;
            self.out.advance(count);
        }
        Ok(())
    }

    /// A packet that is there already.
    pub fn take(&mut self) -> Option<Packet> {
        let [a, b, c, number] = *self.input.first_chunk::<4>()?;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if self.input.len() < 4 + length {
            return None;
        }
        self.input.advance(4);
        let body = self.input.split_to(length).to_vec();
        Some(Packet { number, body, written_at: self.pipe.written_at })
    }

    /// The next packet. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.take() {
                return Ok(packet);
            }
            if self.pipe.read_buf(&mut self.input).await? == 0 {
                return Err(lost());
            }
        }
    }
}

/// A string behind its length, of at most 250 bytes.
pub fn string(to: &mut Vec<u8>, text: &str) {
    assert!(text.len() <= 250);
    to.push(text.len() as u8);
    to.extend_from_slice(text.as_bytes());
}
