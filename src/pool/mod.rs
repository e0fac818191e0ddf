//! Upstream connections: one pool per target, level and database, fair waiting, and the [`Lease`].
//!
//! ```text
//!   lease(admission) --> idle one, or dial + probe, or wait in line --> Prepare --> Lease
//!   Lease::finish    --> Reset, verified at the server --> Clean --> idle   (anything else: closed)
//! ```
//!
//! What the pool sends for itself carries an `Upkeep` permit; nothing turns that into a lease.

mod checks;
mod connection;
mod dial;
mod learned;
mod lease;
mod look;
#[expect(clippy::module_inception, reason = "the noun of this folder is the pool")]
mod pool;
mod pools;
mod side;
mod trouble;

pub use connection::{Exchange, run_script};
pub(crate) use dial::prepare_socket;
pub use dial::{DialFault, Dialer};
pub use lease::{Finished, Lease, Leased};
pub use pool::{Code, Cutting, Pool, PoolStatus};
pub use pools::{Keeper, Pools};
pub use trouble::Refused;
