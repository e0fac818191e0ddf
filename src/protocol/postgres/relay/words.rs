//! Messages of our own, to either side.

use bytes::{BufMut, BytesMut};

use super::super::frame;
use crate::model::Refusal;

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

pub(super) fn put_notice(out: &mut BytesMut, text: &str) {
    put_fields(out, b'N', "NOTICE", "00000", text);
}

pub(super) fn put_refusal(out: &mut BytesMut, severity: &str, refusal: &Refusal) {
    put_fields(out, b'E', severity, sqlstate(refusal), &format!("{}: {refusal}", refusal.code()));
}

/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
fn put_fields(out: &mut BytesMut, tag: u8, severity: &str, code: &str, message: &str) {
    frame::put(out, tag, |body| {
        for (field, text) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)] {
            body.put_u8(field);
            frame::put_string(body, text);
        }
        body.put_u8(0);
    });
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(super) fn sqlstate(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::BadCredentials => "28P01",
        Refusal::NotGranted | Refusal::TlsRequired => "28000",
        Refusal::Ended(_)
        | Refusal::Killed
        | Refusal::TrailUnavailable
        | Refusal::SessionTimeout
        | Refusal::LoginTimeout => "57P01",
        Refusal::OperationDenied(_) => "42501",
        Refusal::PoolExhausted => "53300",
        Refusal::RateLimited => "53400",
        Refusal::TargetUnavailable | Refusal::UpstreamLost => "08006",
        Refusal::ProtocolViolation(_) => "08P01",
        Refusal::ShuttingDown => "57P03",
        Refusal::IdleTimeout => "57P05",
        Refusal::NotSupported(_) => "0A000",
        Refusal::BadParameter(_) => "22023",
        Refusal::NoDatabase => "3D000",
    }
}
