//! A long body is read a part at a time, so that others on the same thread are served in between.

use crate::model::limits;
use crate::protocol::http::{Asked, Narrowed, Several, Wrong};

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

/// The body that is sent with names in the place of wildcards. `None`: as it came. Cancel safe.
pub(super) async fn narrowed(narrowed: &Narrowed, body: &[u8]) -> Result<Option<Vec<u8>>, Wrong> {
    let Some(mut lines) = narrowed.lines() else { return narrowed.body(body).map_err(Wrong::Bad) };
    let (mut rest, mut turn) = (body, 0);
    while !rest.is_empty() {
        let before = lines.sent.len();
        rest = lines.write(rest).map_err(Wrong::Bad)?;
        turn += lines.sent.len() - before;
        if turn >= limits::HTTP_TURN_BYTES {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(Some(lines.sent))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::grant::Scope;
    use crate::model::Wildcards;
    use crate::protocol::http::{self, Catalog, Path};

    fn several() -> Several {
        let path = Path::parse("/_msearch").unwrap();
        let routed = http::api("opensearch").unwrap().route("POST", &path).unwrap();
        let Ok(several) = routed.several() else { panic!("an _msearch is read search by search") };
        several
    }

    /// Somebody else on the same thread, and how many turns they have had.
    fn other() -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        });
        (turns, other)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_get_their_turn_while_names_are_put_into_it() {
        let search =
            "{\"index\":\"logs-*\"}\n{\"query\":{\"match\":{\"message\":\"word word word\"}},\"size\":1}\n";
        let body = search.repeat((512 << 10) / search.len());
        let asked = read(several(), body.as_bytes()).await.unwrap();
        let indices = br#"{"indices":[{"name":"logs-1","attributes":["open"]}],"data_streams":[]}"#;
        let catalog = Catalog::default().with_indices(indices).unwrap();
        let scopes = [Scope::of(&["logs-*"])];
        let sent = asked.narrowed(&catalog, Wildcards::Narrow, &scopes).unwrap().unwrap();
        let (turns, other) = other();
        let written = narrowed(&sent, body.as_bytes()).await.unwrap().unwrap();
        other.abort();
        assert!(turns.load(Relaxed) >= written.len() / limits::HTTP_TURN_BYTES - 1);
        assert_eq!(Some(written), sent.body(body.as_bytes()).unwrap());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_get_their_turn_while_a_long_body_is_read() {
        let search =
            "{\"index\":\"logs-1\"}\n{\"query\":{\"match\":{\"message\":\"word word word\"}},\"size\":1}\n";
        let body = search.repeat((1 << 20) / search.len());
        let due = body.len() / limits::HTTP_TURN_BYTES - 1;
        let (turns, other) = other();
        let asked = read(several(), body.as_bytes()).await.unwrap();
        other.abort();
        assert!(turns.load(Relaxed) >= due, "{} turns", turns.load(Relaxed));
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
