//! PostgreSQL's part: an honest small server, and clients that are not.

mod client;
mod lane;
mod server;

use std::sync::Arc;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::witness::Witness;
use super::{Cast, Plan, Player};
use crate::tls::memory::{Dice, Pipe};
pub use server::Postgres;

impl Cast for Postgres {
    type Wire = crate::protocol::postgres::Postgres;

    fn wire() -> Self::Wire {
        crate::protocol::postgres::Postgres
    }

    fn new(witness: Arc<Witness>, plan: &Plan, dice: &mut Dice) -> Self {
        Self::start(witness, plan, dice)
    }

    async fn serve(self: Arc<Self>, pipe: Pipe, dice: Dice) {
        server::serve(&self, pipe, dice).await;
    }

    async fn play(player: Player, pipe: Pipe) {
        client::play(player, pipe).await;
    }

    async fn ask_to_stop(key: Vec<u8>, mut pipe: Pipe) {
        let mut request = Vec::new();
        request.put_u32(8 + key.len() as u32);
        request.put_u32(80_877_102);
        request.extend_from_slice(&key);
        // Lost on its way, like any other.
        let _ = pipe.write_all(&request).await;
        let _ = pipe.read_to_end(&mut Vec::new()).await;
    }
}
