//! The machines as a whole: one rule at a time ([`accept`], [`dial`], [`script`]), against transcripts
//! of real servers and clients and in pieces of any size ([`golden`]), and, on request, against a
//! running server ([`live`]); and [`cve`], what was once a hole somewhere else.

mod accept;
mod clients;
mod cve;
mod dial;
mod golden;
mod live;
mod script;

use bytes::{BufMut, BytesMut};

use super::frame;

/// A packet without a type byte.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u32(8 + body.len() as u32);
    out.put_u32(code);
    out.put_slice(body);
    out.to_vec()
}

/// A message with its type byte.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, tag, |out| out.put_slice(body));
    out.to_vec()
}

#[test]
fn the_registry_knows_the_protocol() {
    let entry = crate::protocol::by_name("postgres").unwrap();
    assert_eq!((entry.name, entry.port), ("postgres", 5432));
    assert!(crate::protocol::by_name("nothing").is_none());
}
