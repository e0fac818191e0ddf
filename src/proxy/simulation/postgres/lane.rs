//! Messages over a pipe, from either end.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::protocol::postgres::frame;
use crate::tls::memory::Pipe;

/// A typed message.
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
    /// When its last byte had been written.
    pub written_at: Instant,
}

impl Message {
    /// The strings that it begins with.
    pub fn strings(&self) -> Vec<String> {
        self.body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }
}

pub struct Lane {
    pub pipe: Pipe,
    pub input: BytesMut,
    pub out: BytesMut,
}

pub fn lost() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl Lane {
    pub fn new(pipe: Pipe) -> Self {
        Self { pipe, input: BytesMut::new(), out: BytesMut::new() }
    }

    pub fn say(&mut self, tag: u8, body: &[u8]) {
        frame::put(&mut self.out, tag, |out| out.extend_from_slice(body));
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let count = self.pipe.write(&self.out).await?;
            self.out.advance(count);
        }
        Ok(())
    }

    /// A message that is there already.
    pub fn take(&mut self) -> io::Result<Option<Message>> {
        let Some(header) = frame::peek(&self.input).map_err(io::Error::other)? else { return Ok(None) };
        if self.input.len() < header.total {
            return Ok(None);
        }
        let mut body = self.input.split_to(header.total);
        body.advance(frame::HEADER_BYTES);
        Ok(Some(Message { tag: header.tag, body: body.to_vec(), written_at: self.pipe.written_at }))
    }

    /// Cancel safe.
    pub async fn more(&mut self) -> io::Result<()> {
        match self.pipe.read_buf(&mut self.input).await? {
            0 => Err(lost()),
            _ => Ok(()),
        }
    }

    /// The next message. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.more().await?;
        }
    }

    /// A packet without a type, as connections begin with.
    pub async fn packet(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(head) = self.input.first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if self.input.len() >= length {
                    return Ok(self.input.split_to(length)[4..].to_vec());
                }
            }
            self.more().await?;
        }
    }
}
