//! The engine: listeners, the login, the session, cancellation, draining. Owns every socket, timer
//! and limit.

mod registry;

pub use registry::{Registry, SessionInfo};
