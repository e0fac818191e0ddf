//! The engine: listeners, the login, the session, cancellation, draining. Owns every socket, timer
//! and limit.
//!
//! Reading order: `node` starts it all, `listener` accepts, `door` and `engine` are where a protocol is erased,
//! `login` makes a session of a connection, `session` ends it, `pump` moves the bytes between,
//! `parking` lets go of the connection of a session that is idle.

mod cancel;
mod clock;
mod control;
mod door;
mod endpoint;
mod engine;
mod http;
mod ids;
mod keeper;
mod listener;
mod login;
mod node;
mod parking;
mod peer;
mod pump;
mod registry;
mod session;
#[cfg(test)]
mod simulation;
mod tally;
mod throttle;
mod waiting;
mod workers;

pub use control::{
    BoxFuture, LevelChecks, LevelTrouble, ListenerStatus, ListenerTlsStatus, NodeControl, NodeStatus,
    TargetChecks,
};
pub use node::{Node, SetLog};
pub use registry::{Registry, SessionInfo};
