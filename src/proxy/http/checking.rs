//! A `_bulk` that is passed on as it comes: each line once it is known that the grant covers what it names.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::HttpDoor;
use super::counting::Told;
use super::spool::START_BYTES_MAX;
use super::upload::Checked;
use super::upstream::Place;
use crate::grant::Admission;
use crate::model::{Reach, Refusal, Touch, limits};
use crate::protocol::http::{Bulk, Catalog};

pub(super) struct Checking {
    body: Incoming,
    bulk: Bulk,
    /// What has come and has not been passed on.
    pending: BytesMut,
    /// The actions that have been passed on.
    told: Told,
}

/// Whether what is touched is covered.
pub(super) struct Cover {
    pub door: Arc<HttpDoor>,
    pub admission: Admission,
    pub place: Arc<Place>,
}

pub(super) const SLOW: Refusal = Refusal::ProtocolViolation("the body came too slowly");
/// By another name, for who has a grant for everything.
pub(super) const ACCOUNTS: Refusal = Refusal::OperationDenied(
    "a name leads to the cluster's own accounts, which are not reached through the proxy",
);

/// The next piece of a client's body. Cancel safe.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    let frame = tokio::time::timeout(limits::HTTP_BODY_WAIT, body.frame()).await;
    match frame.map_err(|_| SLOW)? {
        None => Ok(None),
        Some(Err(_)) => Err(Refusal::ProtocolViolation("the body is broken")),
        // Trailers say more of a request than was authorized.
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => Ok(Some(data)),
            Err(_) => Err(Refusal::ProtocolViolation("trailers are not taken")),
        },
    }
}

impl Cover {
    /// For the end of a body that began to come then: an alias may stand for something else by now.
    pub async fn still(self, began: Instant) -> Result<(), Refusal> {
        match self.admission.touch() {
            Some(touch) if began.elapsed() >= limits::HTTP_ALIASES_AGE_MAX => {
                self.covers(touch.clone()).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Gives what was looked up for it.
    async fn covers(&self, mut touch: Touch) -> Result<Arc<Catalog>, Refusal> {
        let admission = &self.admission;
        let catalog = self.door.catalogs.of(admission.target(), admission.level(), &self.place).await?;
        match (admission.scope().is_everything(), &touch.reach) {
            (false, _) => touch = catalog.resolve(&touch),
            (true, Reach::Names(names)) if names.iter().any(|name| catalog.is_veil(name)) => {
                return Err(ACCOUNTS);
            }
            (true, _) => {}
        }
        match self.door.shared.ledger.covers(admission, touch) {
            true => Ok(catalog),
            false => Err(Refusal::NotGranted),
        }
    }
}

impl Checking {
    /// `begun`: what was given to `bulk` so far.
    pub fn new(body: Incoming, begun: BytesMut, bulk: Bulk) -> Self {
        Self { body, bulk, pending: begun, told: Told::default() }
    }

    /// Where the actions that are passed on are told.
    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// What the names so far stand for.
    pub fn resolve(&mut self, catalog: &Catalog) {
        self.bulk.actions().resolve(catalog);
    }

    /// How it begins, and how much of it has come.
    pub fn start(&self) -> (&[u8], u64) {
        (&self.pending[..self.pending.len().min(START_BYTES_MAX)], self.pending.len() as u64)
    }

    /// What was covered when this began is passed on, then the rest; where it stops, the other says why. It ends when
    /// nobody takes the pieces any more.
    pub fn start_passing(self, cover: Cover) -> (mpsc::Receiver<Checked>, oneshot::Receiver<Refusal>) {
        let ((to, pieces), (say, refused)) = (mpsc::channel(1), oneshot::channel());
        tokio::spawn(async move {
            let gone = to.clone();
            let refusal = tokio::select! {
                passed = self.pass(&to, &cover) => passed.err(),
                () = gone.closed() => None,
            };
            if let Some(refusal) = refusal {
                // Said before the pieces end: whoever sees their end knows why.
                let _ = say.send(refusal);
            }
            drop((to, gone));
        });
        (pieces, refused)
    }

    async fn pass(mut self, to: &mpsc::Sender<Checked>, cover: &Cover) -> Result<(), Refusal> {
        let (mut known, mut checked) = (self.bulk.names(), Instant::now());
        loop {
            // What was covered may be an alias, which stands for something else by now.
            if self.bulk.names() != known || checked.elapsed() >= limits::HTTP_ALIASES_AGE_MAX {
                (known, checked) = (self.bulk.names(), Instant::now());
                let catalog = cover.covers(self.bulk.touch()).await?;
                if self.bulk.leads_to_accounts(&catalog) {
                    return Err(ACCOUNTS);
                }
                self.bulk.actions().resolve(&catalog);
            }
            self.told.tell(self.bulk.actions());
            let ready = self.pending.len() - self.bulk.unread();
            if ready > 0 && to.send(Checked::Piece(self.pending.split_to(ready).freeze())).await.is_err() {
                return Ok(());
            }
            let Some(piece) = piece(&mut self.body).await? else { break };
            self.bulk.push(&piece).map_err(Refusal::from)?;
            self.pending.extend_from_slice(&piece);
        }
        self.bulk.finish().map_err(Refusal::from)?;
        let _ = to.send(Checked::End).await;
        Ok(())
    }
}
