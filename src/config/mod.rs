//! The two kinds of configuration files: the node file ([`NodeConfig`]) and resource files
//! ([`Resources`]), their mistakes, and the difference between resources and the store.

mod mistake;
mod node;
mod resources;

pub use mistake::Mistake;
pub use node::{Admin, Audit, Limits, Listener, ListenerTls, Log, NodeConfig, TlsFiles};
pub use resources::{GrantResource, Resources, TargetResource};
