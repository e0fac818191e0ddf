//! What is shown of an answer that tells of more than what a grant covers: it is read whole, within bounds, and sent on
//! without the rest.

use bytes::{Bytes, BytesMut};

use super::answer::Theirs;
use super::spool::Taken;
use crate::grant::{Admission, Scope};
use crate::model::{AccessLevel, Name, Refusal, limits};
use crate::protocol::http::{Hidden, Part, Path, View, Viewer};

/// What one request asks, and how much of the answer is for who asked.
pub(super) struct Shown {
    /// As the client sent it.
    path: Path,
    view: View,
    part: Option<Box<dyn Part>>,
    user: Name,
    level: AccessLevel,
    scope: Scope,
}

/// For answers that cannot be read.
pub(super) fn strange(protocol: &'static str) -> Refusal {
    tracing::error!(protocol, "a target's answer has a form that is not known, and is not shown");
    Refusal::UpstreamLost
}

impl Shown {
    pub fn new(path: Path, part: Option<Box<dyn Part>>, admission: &Admission) -> Self {
        let mut shown = Self {
            path,
            view: View::Whole,
            part,
            user: admission.user().clone(),
            level: admission.level().clone(),
            scope: admission.scope().clone(),
        };
        if let Some(part) = &shown.part {
            shown.view = shown.viewed(|path, viewer| part.view(path, viewer));
        }
        shown
    }

    fn viewed<T>(&self, look: impl FnOnce(&Path, &Viewer<'_>) -> T) -> T {
        let covers = |name: &str| self.scope.fits(name);
        let viewer = Viewer {
            user: self.user.as_str(),
            level: &self.level,
            sees_everything: self.scope.is_everything(),
            only: self.scope.only(),
            covers: &covers,
        };
        look(&self.path, &viewer)
    }

    /// Who the answer is for.
    pub fn user(&self) -> &Name {
        &self.user
    }

    /// What is asked.
    pub fn sent(&self) -> &Path {
        match &self.view {
            View::Whole => &self.path,
            View::Instead(path) | View::Filtered(path) => path,
        }
    }

    pub fn is_filtered(&self) -> bool {
        matches!(self.view, View::Filtered(_))
    }

    /// Whether what is shown is read whatever status it has, and is asked for as JSON.
    pub fn every_status(&self) -> bool {
        self.is_filtered() && self.part.as_ref().is_some_and(|part| part.every_status())
    }

    /// What is said of something that is not there, and of what is not for who asks.
    pub fn absent(&self) -> Option<(u16, &'static str)> {
        self.part.as_ref().filter(|_| self.is_filtered()).and_then(|part| part.absent())
    }

    /// Reads the answer, and leaves of it what is shown. Whether that is anything: else it is told as absent. Not
    /// cancel safe: what was read is lost.
    pub async fn read(
        &self,
        theirs: &mut Theirs,
        mut room: Taken,
        protocol: &'static str,
    ) -> Result<bool, Refusal> {
        let Some(part) = &self.part else { return Err(strange(protocol)) };
        let whole = read(theirs, &mut room, limits::HTTP_FILTERED_BYTES_MAX).await?;
        match self.viewed(|path, viewer| part.show(path, viewer, &whole)) {
            Ok(shown) => {
                drop(whole);
                room.hold(shown.len() as u64)?;
                theirs.show(Bytes::from(shown), room);
                Ok(true)
            }
            Err(Hidden::NotThere) => Ok(false),
            Err(Hidden::Wrong(wrong)) => Err(wrong.into()),
            Err(Hidden::Strange) => Err(strange(protocol)),
        }
    }
}

/// An answer to its end, of so many bytes at most. Not cancel safe: what was read is lost.
pub(super) async fn read(theirs: &mut Theirs, room: &mut Taken, most: usize) -> Result<BytesMut, Refusal> {
    const TOO_LONG: Refusal =
        Refusal::OperationDenied("the list is too long to be shown in part: ask for one vhost");
    if theirs.lower_bound() > most as u64 {
        return Err(TOO_LONG);
    }
    let mut whole = BytesMut::new();
    while let Some(part) = theirs.next().await {
        let part = part.map_err(|_| theirs.cut.take().unwrap_or(Refusal::UpstreamLost))?;
        if whole.len() + part.len() > most {
            return Err(TOO_LONG);
        }
        // What is shown is made beside it.
        room.hold(2 * (whole.len() + part.len()) as u64)?;
        whole.extend_from_slice(&part);
    }
    Ok(whole)
}
