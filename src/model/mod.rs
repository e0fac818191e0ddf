//! Plain types with their limits: names, ids, targets, claims, refusals, events. No behaviour that
//! needs the world.

mod certificate;
mod claim;
pub mod conditions;
mod event;
mod id;
mod level;
pub mod limits;
mod name;
mod note;
mod operation;
pub mod pattern;
mod refusal;
mod resource;
mod touch;
mod upstream;

pub use certificate::ClientCertificate;
pub use claim::{Claim, LoginName, LoginNameError};
pub use event::{Actor, Admin, Denied, Ending, Event, SessionEnd, SessionStart};
pub use id::{CredentialId, GrantId, IdError, SessionId};
pub use level::AccessLevel;
pub use name::{Name, NameError};
pub use note::{Note, NoteKind, NoteReader, Notes, Parameters, SessionContext, StatementKind};
pub use operation::{Operation, Verdict};
pub use refusal::Refusal;
pub use resource::{
    BodyMode, Change, Connector, Credential, Databases, EndCause, Ended, Grant, Loss, Parking, PoolSettings,
    Snapshot, Subject, Target, TlsMode, User, Verifiers, Window,
};
pub use touch::{Reach, Touch};
pub use upstream::{
    AuthMethod, ChannelBinding, Compression, Surety, TlsNegotiation, UnixAddress, UpkeepLogin, Upstream,
    Wildcards, is_unix,
};

/// Wall time. Grants end against it; durations are measured with a monotonic clock instead.
pub type Time = jiff::Timestamp;
