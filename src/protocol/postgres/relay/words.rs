//! Messages of our own, to either side.

use bytes::{BufMut, BytesMut};

use super::super::frame;

/// The name under which our own statements and portals live on the server for the moment they take.
/// The client's unnamed ones must not be touched, and no driver makes names like this.
pub(super) const OWN_NAME: &str = "tidegate:own";

/// What is sent instead of a simple statement that was refused: a syntax error in any state, so that
/// the server aborts and answers just as it would have if the refusal were its own.
pub(super) fn put_failing_query(out: &mut BytesMut) {
    frame::put(out, b'Q', |body| frame::put_string(body, "tidegate: statement refused"));
}

/// The same for a Parse: a Bind with two formats for no parameters fails in any state.
pub(super) fn put_failing_bind(out: &mut BytesMut) {
    frame::put(out, b'B', |body| body.put_slice(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]));
}

pub(super) fn put_parse(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u32]) {
    frame::put(out, b'P', |body| {
        body.put_slice(name);
        body.put_u8(0);
        body.put_slice(text);
        body.put_u8(0);
        body.put_u16(types.len() as u16);
        types.iter().for_each(|oid| body.put_u32(*oid));
    });
}

/// Bind, Execute and Close of what [`OWN_NAME`] was parsed as; no parameters, no rows.
pub(super) fn put_own_run(out: &mut BytesMut) {
    frame::put(out, b'B', |body| {
        frame::put_string(body, OWN_NAME);
        frame::put_string(body, OWN_NAME);
        body.put_slice(&[0; 6]);
    });
    frame::put(out, b'E', |body| {
        frame::put_string(body, OWN_NAME);
        body.put_u32(0);
    });
    frame::put(out, b'C', |body| {
        body.put_u8(b'P');
        frame::put_string(body, OWN_NAME);
    });
}

/// Closing what does not exist is no error.
pub(super) fn put_own_close(out: &mut BytesMut) {
    frame::put(out, b'C', |body| {
        body.put_u8(b'S');
        frame::put_string(body, OWN_NAME);
    });
}

pub(super) fn put_describe_statement(out: &mut BytesMut, name: &[u8]) {
    put_of_statement(out, b'D', name);
}

pub(super) fn put_close_statement(out: &mut BytesMut, name: &[u8]) {
    put_of_statement(out, b'C', name);
}

fn put_of_statement(out: &mut BytesMut, tag: u8, name: &[u8]) {
    frame::put(out, tag, |body| {
        body.put_u8(b'S');
        body.put_slice(name);
        body.put_u8(0);
    });
}

pub(super) fn put_sync(out: &mut BytesMut) {
    frame::put(out, b'S', |_| {});
}

pub(super) fn put_parameter_status(out: &mut BytesMut, name: &str, value: &[u8]) {
    frame::put(out, b'S', |body| {
        frame::put_string(body, name);
        body.put_slice(value.split(|byte| *byte == 0).next().unwrap_or_default());
        body.put_u8(0);
    });
}

pub(super) fn put_ready(out: &mut BytesMut, status: u8) {
    frame::put(out, b'Z', |body| body.put_u8(status));
}
