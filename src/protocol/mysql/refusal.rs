//! Refusals in MySQL's words: the ERR packet
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_err_packet.html>). Numbers and SQLSTATEs
//! are the server's own for the same thing
//! (<https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>).

use bytes::{BufMut, BytesMut};

use super::capability::Capabilities;
use super::packet;
use crate::model::Refusal;

/// Appends an ERR packet. Its message begins with our stable code, so that it is seen whatever a client shows:
/// `TG004: the grant was revoked`. A client that has not said yet what it speaks gets no SQLSTATE, as servers do.
pub(crate) fn put_error(out: &mut BytesMut, sequence: u8, agreed: Capabilities, refusal: &Refusal) {
    let (number, sqlstate) = number(refusal);
    put_report(out, sequence, agreed, number, sqlstate, &format!("{}: {refusal}", refusal.code()));
}

/// Appends an ERR packet of any content.
pub(crate) fn put_report(
    out: &mut BytesMut,
    sequence: u8,
    agreed: Capabilities,
    number: u16,
    sqlstate: &str,
    message: &str,
) {
    packet::put(out, sequence, |out| {
        out.put_u8(packet::ERR);
        out.put_u16_le(number);
        if agreed.has(Capabilities::PROTOCOL_41) {
            out.put_u8(b'#');
            out.put_slice(sqlstate.as_bytes());
        }
        out.put_slice(message.as_bytes());
    });
}

/// The error number and SQLSTATE that drivers act on.
pub(crate) fn number(refusal: &Refusal) -> (u16, &'static str) {
    match refusal {
        // ER_ACCESS_DENIED_ERROR.
        Refusal::BadCredentials | Refusal::NotGranted => (1045, "28000"),
        // ER_SESSION_WAS_KILLED.
        Refusal::Ended(_) | Refusal::Killed | Refusal::SessionTimeout => (3169, "HY000"),
        // ER_SPECIFIC_ACCESS_DENIED_ERROR.
        Refusal::OperationDenied(_) => (1227, "42000"),
        // ER_CON_COUNT_ERROR.
        Refusal::PoolExhausted => (1040, "08004"),
        // ER_USER_LIMIT_REACHED.
        Refusal::RateLimited => (1226, "42000"),
        // ER_CONNECT_TO_FOREIGN_DATA_SOURCE.
        Refusal::TargetUnavailable | Refusal::UpstreamLost | Refusal::ConnectorRefused => (1429, "HY000"),
        // ER_MALFORMED_PACKET.
        Refusal::ProtocolViolation(_) => (1835, "HY000"),
        // ER_SERVER_SHUTDOWN.
        Refusal::ShuttingDown => (1053, "08S01"),
        // ER_CLIENT_INTERACTION_TIMEOUT.
        Refusal::IdleTimeout => (4031, "HY000"),
        // ER_NET_READ_INTERRUPTED.
        Refusal::LoginTimeout => (1159, "08S01"),
        // ER_ERROR_ON_WRITE.
        Refusal::TrailUnavailable => (1026, "HY000"),
        // ER_SECURE_TRANSPORT_REQUIRED.
        Refusal::TlsRequired => (3159, "HY000"),
        // ER_NOT_SUPPORTED_YET.
        Refusal::NotSupported(_) => (1235, "42000"),
        // ER_WRONG_VALUE_FOR_VAR.
        Refusal::BadParameter(_) => (1231, "42000"),
        // ER_BAD_DB_ERROR.
        Refusal::NoDatabase => (1049, "42000"),
    }
}
