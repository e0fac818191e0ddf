//! MySQL's part: an honest small server that says it is MariaDB, and clients that are not.

mod client;
mod lane;
mod server;

use std::sync::Arc;

use super::witness::Witness;
use super::{Cast, Plan, Player};
use crate::tls::memory::{Dice, Pipe};
pub use server::MySql;

/// The bits that the two ends of this simulation know
/// (<https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html>).
mod capability {
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    /// LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
    pub const ALWAYS: u32 = 1 << 2 | 1 << 3 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 19;

    /// What a client asks for, by the number of its connection: it cannot change its mind on it.
    pub fn of_client(number: u32) -> u32 {
        let number = super::super::witness::connection(number);
        let mut wanted = ALWAYS;
        if number.is_multiple_of(2) {
            wanted |= DEPRECATE_EOF;
        }
        if number.is_multiple_of(3) {
            wanted |= FOUND_ROWS;
        }
        wanted
    }
}

impl Cast for MySql {
    type Wire = crate::protocol::mysql::MySql;

    fn wire() -> Self::Wire {
        crate::protocol::mysql::MySql
    }

    fn new(witness: Arc<Witness>, plan: &Plan, _: &mut Dice) -> Self {
        Self::start(witness, plan)
    }

    async fn serve(self: Arc<Self>, pipe: Pipe, dice: Dice) {
        server::serve(&self, pipe, dice).await;
    }

    async fn play(player: Player, pipe: Pipe) {
        client::play(player, pipe).await;
    }

    /// There is no such request: a client stops a statement by another one.
    async fn ask_to_stop(_: Vec<u8>, _: Pipe) {}
}
