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
        // ER_CONNECTION_KILLED of MariaDB, under the SQLSTATE upon which pools of clients take a connection for dead
        // and try another, as MaxScale says it.
        Refusal::Ended(_) | Refusal::Killed | Refusal::SessionTimeout => (1927, "08S01"),
        // ER_SPECIFIC_ACCESS_DENIED_ERROR.
        Refusal::OperationDenied(_) => (1227, "42000"),
        // ER_CON_COUNT_ERROR.
        Refusal::PoolExhausted => (1040, "08004"),
        Refusal::NoRoom => (1021, "HY000"),
        // ER_USER_LIMIT_REACHED.
        Refusal::RateLimited => (1226, "42000"),
        // ER_CONNECT_TO_FOREIGN_DATA_SOURCE.
        Refusal::TargetUnavailable | Refusal::ConnectorRefused => (1429, "HY000"),
        // ER_NET_READ_ERROR.
        Refusal::UpstreamLost => (1158, "08S01"),
        // ER_MALFORMED_PACKET.
        Refusal::ProtocolViolation(_) => (1835, "HY000"),
        // ER_SERVER_SHUTDOWN.
        Refusal::ShuttingDown => (1053, "08S01"),
        // ER_CLIENT_INTERACTION_TIMEOUT.
        Refusal::IdleTimeout => (4031, "HY000"),
        // ER_NET_READ_INTERRUPTED: what a server says when connect_timeout strikes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_words() {
        let mut table = String::new();
        for refusal in Refusal::every() {
            let mut out = BytesMut::new();
            put_error(&mut out, 2, Capabilities::PROTOCOL_41, &refusal);
            let header = packet::peek(&out).unwrap();
            assert_eq!((header.total(), header.sequence), (out.len(), 2));
            let [packet::ERR, one, two, b'#', rest @ ..] = &out[packet::HEADER_BYTES..] else { panic!() };
            let (sqlstate, message) = std::str::from_utf8(rest).unwrap().split_at(5);
            let number = u16::from_le_bytes([*one, *two]);
            table.push_str(&format!("{number}  {sqlstate}  {message}\n"));
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn every_code_is_in_the_documents_with_its_number() {
        let documents = include_str!("../../../docs/codes.md");
        for refusal in Refusal::every() {
            let (number, sqlstate) = number(&refusal);
            let row = format!("| {} | {number} | {sqlstate} |", refusal.code());
            assert!(documents.contains(&row), "docs/codes.md has no row {row}");
        }
    }

    #[test]
    fn a_client_that_has_not_said_what_it_speaks_gets_no_sqlstate() {
        let mut out = BytesMut::new();
        put_error(&mut out, 0, Capabilities::NONE, &Refusal::ShuttingDown);
        assert_eq!(&out[..], b"\x24\0\0\0\xff\x1d\x04TG014: the proxy is shutting down".as_slice());
    }
}
