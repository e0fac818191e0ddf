//! Refusals and notices in PostgreSQL's words: `ErrorResponse` and `NoticeResponse`
//! (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).

use bytes::{BufMut, BytesMut};

use super::frame;
use crate::model::Refusal;

/// What becomes of the conversation after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// It ends: the client does not wait for a `ReadyForQuery`.
    Fatal,
    /// It goes on.
    Error,
}

/// Appends an `ErrorResponse`. Its message begins with our stable code, so that it is seen whatever
/// a client shows: `TG004: the grant was revoked`.
pub(crate) fn put_error(out: &mut BytesMut, severity: Severity, refusal: &Refusal) {
    let severity = match severity {
        Severity::Fatal => "FATAL",
        Severity::Error => "ERROR",
    };
    put_report(out, b'E', severity, sqlstate(refusal), &format!("{}: {refusal}", refusal.code()));
}

/// Appends a `NoticeResponse`, which psql and most other clients show.
pub(crate) fn put_notice(out: &mut BytesMut, text: &str) {
    // successful_completion, as a notice of PL/pgSQL's RAISE has it.
    put_report(out, b'N', "NOTICE", "00000", text);
}

fn put_report(out: &mut BytesMut, tag: u8, severity: &str, sqlstate: &str, message: &str) {
    frame::put(out, tag, |out| {
        for (field, text) in [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', message)] {
            out.put_u8(field);
            frame::put_string(out, text);
        }
        out.put_u8(0);
    });
}

/// The SQLSTATE that drivers act on
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(crate) fn sqlstate(refusal: &Refusal) -> &'static str {
    match refusal {
        // invalid_password.
        Refusal::BadCredentials => "28P01",
        // invalid_authorization_specification: what a server without a fitting pg_hba.conf line says.
        Refusal::NotGranted | Refusal::TlsRequired => "28000",
        // admin_shutdown: what pg_terminate_backend says. Pools of clients take it for a dead
        // connection and try another.
        Refusal::Ended(_) | Refusal::Killed | Refusal::SessionTimeout => "57P01",
        // insufficient_privilege.
        Refusal::OperationDenied(_) => "42501",
        // too_many_connections.
        Refusal::PoolExhausted => "53300",
        Refusal::NoRoom => "53100",
        // configuration_limit_exceeded.
        Refusal::RateLimited => "53400",
        // connection_failure.
        Refusal::TargetUnavailable | Refusal::UpstreamLost | Refusal::ConnectorRefused => "08006",
        // protocol_violation.
        Refusal::ProtocolViolation(_) => "08P01",
        // cannot_connect_now: worth another try elsewhere or later.
        Refusal::ShuttingDown => "57P03",
        // idle_session_timeout.
        Refusal::IdleTimeout => "57P05",
        // query_canceled: what the server itself says when authentication_timeout strikes.
        Refusal::LoginTimeout => "57014",
        // io_error.
        Refusal::TrailUnavailable => "58030",
        // feature_not_supported.
        Refusal::NotSupported(_) => "0A000",
        // invalid_parameter_value.
        Refusal::BadParameter(_) => "22023",
        // invalid_catalog_name.
        Refusal::NoDatabase => "3D000",
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
            put_error(&mut out, Severity::Fatal, &refusal);
            // Read back by the parser that tokio-postgres uses.
            let fields: Vec<_> = out[5..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            // Well-formed in the eyes of the parser that tokio-postgres uses.
            use postgres_protocol::message::backend::Message;
            assert!(matches!(Message::parse(&mut out.clone()), Ok(Some(Message::ErrorResponse(_)))));
            table.push_str(fields.join("  ").trim_end());
            table.push('\n');
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn every_code_is_in_the_documents_with_its_sqlstate() {
        let documents = include_str!("../../../docs/codes.md");
        for refusal in Refusal::every() {
            let row = format!("| {} | {} |", refusal.code(), sqlstate(&refusal));
            assert!(documents.contains(&row), "docs/codes.md has no row {row}");
        }
    }

    #[test]
    fn an_error_that_does_not_end_the_session_says_so() {
        let mut out = BytesMut::new();
        put_error(&mut out, Severity::Error, &Refusal::OperationDenied("why\0hidden"));
        assert_eq!(
            &out[..],
            b"E\0\0\0\x40SERROR\0VERROR\0C42501\0MTG009: this is not allowed here: why\0\0".as_slice()
        );
    }
}
