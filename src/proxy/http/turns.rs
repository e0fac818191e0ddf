//! A long body is read a part at a time, so that others on the same thread are served in between.

use crate::model::limits;
use crate::protocol::http::{Asked, Several, Wrong};

/// Reads the searches of a whole body. Cancel safe: nothing is kept of it.
pub(super) async fn read(mut several: Several, body: &[u8]) -> Result<Asked, Wrong> {
    let (mut rest, mut turn) = (body, 0);
    while !rest.is_empty() {
        let left = several.read(rest)?;
        turn += rest.len() - left.len();
        rest = left;
        if turn >= limits::HTTP_TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    several.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::protocol::http::{self, Path};

    fn several() -> Several {
        let path = Path::parse("/_msearch").unwrap();
        let routed = http::api("opensearch").unwrap().route("POST", &path).unwrap();
        let Ok(several) = routed.several() else { panic!("an _msearch is read search by search") };
        several
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_get_their_turn_while_a_long_body_is_read() {
        let search =
            "{\"index\":\"logs-1\"}\n{\"query\":{\"match\":{\"message\":\"word word word\"}},\"size\":1}\n";
        let body = search.repeat((1 << 20) / search.len());
        let (turns, longest) = (Arc::new(AtomicUsize::new(0)), body.len() / limits::HTTP_TURN_BYTES);
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let asked = read(several(), body.as_bytes()).await.unwrap();
        other.abort();
        assert!(turns.load(Relaxed) >= longest - 1, "{} turns", turns.load(Relaxed));
        let read_at_once = http::api("opensearch").unwrap();
        let read_at_once = read_at_once.route("POST", &Path::parse("/_msearch").unwrap()).unwrap();
        assert_eq!(asked.touch(), read_at_once.asked(body.as_bytes()).unwrap().touch());
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_body_is_said() {
        for bad in ["", "{}\n", "{}\n{}", "{}\n{}\n{}\n", "x\n{}\n"] {
            assert!(matches!(read(several(), bad.as_bytes()).await, Err(Wrong::Bad(_))), "{bad:?}");
        }
    }
}
