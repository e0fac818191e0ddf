//! Refusals in the words of the API: its error body, so that clients show them as they show their server's own.

use serde_json::json;

use crate::model::Refusal;

/// What a refused request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// JSON.
    pub body: String,
    /// Seconds after which it may be tried again.
    pub retry_after: Option<u32>,
}

/// The status is what clients act on: 401 asks for a proof, 429 and 503 are tried again.
pub fn answer(refusal: &Refusal) -> Answer {
    let (status, kind) = match refusal {
        Refusal::BadCredentials => (401, "security_exception"),
        Refusal::NotGranted
        | Refusal::Ended(_)
        | Refusal::OperationDenied(_)
        | Refusal::Killed
        | Refusal::IdleTimeout
        | Refusal::SessionTimeout
        | Refusal::TlsRequired
        | Refusal::NoDatabase => (403, "security_exception"),
        Refusal::ProtocolViolation(_) | Refusal::BadParameter(_) => (400, "illegal_argument_exception"),
        Refusal::LoginTimeout => (408, "timeout_exception"),
        Refusal::RateLimited => (429, "rejected_execution_exception"),
        Refusal::NotSupported(_) => (501, "illegal_argument_exception"),
        Refusal::TargetUnavailable | Refusal::UpstreamLost | Refusal::ConnectorRefused => {
            (502, "connect_transport_exception")
        }
        Refusal::NoRoom => (507, "circuit_breaking_exception"),
        Refusal::PoolExhausted | Refusal::ShuttingDown | Refusal::TrailUnavailable => {
            (503, "rejected_execution_exception")
        }
    };
    let reason = format!("{refusal} [{}]", refusal.code());
    let cause = json!({"type": kind, "reason": reason});
    let body = json!({
        "error": {"root_cause": [cause], "type": kind, "reason": reason},
        "status": status,
    });
    let retry_after = matches!(status, 429 | 503).then_some(1);
    Answer { status, body: body.to_string(), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_words() {
        let table: String = Refusal::every()
            .iter()
            .map(|refusal| {
                let answer = answer(refusal);
                format!("{} {} {}\n", refusal.code(), answer.status, answer.body)
            })
            .collect();
        insta::assert_snapshot!(table);
    }
}
