use std::fmt;

use super::resource::EndCause;

/// What we tell a person when something is not to be had. The only error type with a path to a
/// client; it carries no text from inside. Each has a stable code, said in the client's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong secret, unknown user, malformed login name, expired credential: all the same to the client.
    BadCredentials,
    /// Authenticated, but no grant that is open now matches the claim.
    NotGranted,
    /// An open grant was there and has ended, or what it hung on has.
    Ended(EndCause),
    /// Policy or the protocol's own rules forbid this operation.
    OperationDenied(&'static str),
    /// No upstream connection became free in time.
    PoolExhausted,
    RateLimited,
    /// The target cannot be reached, refuses our connector, or is suspended by its own alarm.
    TargetUnavailable,
    /// The client broke the protocol. What was wrong is said in the protocol's terms, without payload.
    ProtocolViolation(&'static str),
    ShuttingDown,
    IdleTimeout,
    SessionTimeout,
    LoginTimeout,
    /// `session kill`.
    Killed,
    /// The audit trail cannot be written, and the node is configured to stop then.
    TrailUnavailable,
    /// TLS is required and the client did not ask for it.
    TlsRequired,
    /// Something the protocol knows and this listener does not serve (replication, for example).
    NotSupported(&'static str),
    /// The server did not accept a start-up setting; the name is the client's own.
    BadParameter(String),
    /// The upstream connection broke in the middle of the session.
    UpstreamLost,
    /// The database that was asked for does not exist or the connector may not enter it.
    NoDatabase,
    /// The target refuses the proxy's own login at this level.
    ConnectorRefused,
    /// Neither memory nor disk has room for what was sent, or the person's share of it is used up.
    NoRoom,
}

impl Refusal {
    /// Stable, documented in `docs/codes.md`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadCredentials => "TG001",
            Self::NotGranted => "TG002",
            Self::Ended(EndCause::Expired) => "TG003",
            Self::Ended(EndCause::Revoked) => "TG004",
            Self::Ended(EndCause::CredentialEnded) => "TG005",
            Self::Ended(EndCause::UserRemoved) => "TG006",
            Self::Ended(EndCause::TargetSuspended) => "TG007",
            Self::Ended(EndCause::NoLongerMatches) => "TG008",
            Self::OperationDenied(_) => "TG009",
            Self::PoolExhausted => "TG010",
            Self::RateLimited => "TG011",
            Self::TargetUnavailable => "TG012",
            Self::ProtocolViolation(_) => "TG013",
            Self::ShuttingDown => "TG014",
            Self::IdleTimeout => "TG015",
            Self::SessionTimeout => "TG016",
            Self::LoginTimeout => "TG017",
            Self::Killed => "TG018",
            Self::TrailUnavailable => "TG019",
            Self::TlsRequired => "TG020",
            Self::NotSupported(_) => "TG021",
            Self::BadParameter(_) => "TG022",
            Self::UpstreamLost => "TG023",
            Self::NoDatabase => "TG024",
            Self::ConnectorRefused => "TG025",
            Self::NoRoom => "TG026",
        }
    }

    /// Every refusal once, for the table that a test prints and the documents show.
    pub fn every() -> Vec<Self> {
        let mut all = vec![Self::BadCredentials, Self::NotGranted];
        all.extend(EndCause::ALL.map(Self::Ended));
        all.extend([
            Self::OperationDenied("it may not be done"),
            Self::PoolExhausted,
            Self::RateLimited,
            Self::TargetUnavailable,
            Self::ProtocolViolation("the message is malformed"),
            Self::ShuttingDown,
            Self::IdleTimeout,
            Self::SessionTimeout,
            Self::LoginTimeout,
            Self::Killed,
            Self::TrailUnavailable,
            Self::TlsRequired,
            Self::NotSupported("replication"),
            Self::BadParameter("search_path".into()),
            Self::UpstreamLost,
            Self::NoDatabase,
            Self::ConnectorRefused,
            Self::NoRoom,
        ]);
        all
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCredentials => f.write_str("the login was not accepted"),
            Self::NotGranted => f.write_str("no grant of yours is open for this now"),
            Self::Ended(cause) => write!(f, "{}", cause.sentence()),
            Self::OperationDenied(why) => write!(f, "this is not allowed here: {why}"),
            Self::PoolExhausted => f.write_str("all connections to the target are in use, try again later"),
            Self::RateLimited => f.write_str("too many connections or attempts, try again later"),
            Self::TargetUnavailable => f.write_str("the target cannot be reached now"),
            Self::ProtocolViolation(what) => write!(f, "the client broke the protocol: {what}"),
            Self::ShuttingDown => f.write_str("the proxy is shutting down"),
            Self::IdleTimeout => f.write_str("the session was idle for too long"),
            Self::SessionTimeout => f.write_str("the session reached its longest duration"),
            Self::LoginTimeout => f.write_str("the login took too long"),
            Self::Killed => f.write_str("an administrator ended the session"),
            Self::TrailUnavailable => f.write_str("the audit trail cannot be written, so nothing may run"),
            Self::TlsRequired => f.write_str("this listener requires TLS"),
            Self::NotSupported(what) => write!(f, "{what} is not served here"),
            Self::BadParameter(name) => write!(f, "the target did not accept the start-up setting {name:?}"),
            Self::UpstreamLost => f.write_str("the connection to the target was lost"),
            Self::NoDatabase => f.write_str("the database cannot be entered"),
            Self::ConnectorRefused => f.write_str(
                "the target refuses the proxy's own login at this level; its operators have been told",
            ),
            Self::NoRoom => f.write_str("there is no room for this much now, send less or try again later"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code_of_its_own() {
        let mut codes: Vec<_> = Refusal::every().iter().map(Refusal::code).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert_eq!(count, 26);
    }
}
