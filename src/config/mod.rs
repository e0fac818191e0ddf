//! The two kinds of configuration files: the node file ([`NodeConfig`]) and resource files
//! ([`Resources`]); their mistakes; the difference between resources and the store ([`diff`]).

mod checks;
mod diff;
mod listener;
mod mistake;
mod node;
mod render;
mod resource_file;
mod resources;
mod table;
mod upstream;

pub use diff::{Plan, diff};
pub use listener::{ClientCertificates, ListenAddress, Listener, ListenerTls, SocketFile};
pub use mistake::Mistake;
pub use node::{Admin, Audit, Bodies, Limits, Log, NodeConfig, TlsFiles};
pub use render::render;
pub use resources::{GrantResource, Known, Resources, Surroundings, TargetResource};

/// The names of the protocols that are built in.
pub fn protocols() -> Vec<&'static str> {
    crate::protocol::every().map(|entry| entry.name).collect()
}
