//! What answers are due, in the order in which the server will give them.

use std::collections::VecDeque;

use super::prepared::Id;
use crate::model::Refusal;
use crate::model::limits::{COPY_SYNCS_MAX, OUTSTANDING_KEPT, OUTSTANDING_MAX};

/// A statement that has been sent and noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub number: u64,
    /// When it, or what is left of it, was sent; microseconds of the flow's clock.
    pub sent: u64,
    /// Bytes of it that no result has counted yet.
    pub bytes_up: u64,
}

/// One thing the server owes.
#[derive(Debug)]
pub(super) enum Due {
    /// Any number of results, then ReadyForQuery.
    Query(Run),
    /// FunctionCallResponse, then ReadyForQuery.
    Function(Run),
    /// ParseComplete. Holds the record.
    Parse {
        entry: Id,
        statement: Id,
    },
    /// BindComplete. Holds the record.
    Bind {
        entry: Id,
        portal: Id,
    },
    /// ParameterDescription, then RowDescription or NoData. Holds the record.
    DescribeStatement(Option<Id>),
    /// RowDescription or NoData.
    DescribePortal,
    /// Rows or COPY, then one of CommandComplete, EmptyQueryResponse, PortalSuspended.
    Execute(Run),
    /// CloseComplete, for a statement or portal; `None`: of a name that we do not know.
    CloseStatement(Option<Id>),
    ClosePortal(Option<Id>),
    /// ReadyForQuery.
    Sync,
    /// Nothing: the end of the client's COPY data. Only matters behind a statement that copies in.
    CopyEnd,
    /// An error, in whose place the client is shown this refusal. `simple`: it ends with ReadyForQuery,
    /// else the rest up to the Sync is skipped.
    Refused {
        run: Run,
        refusal: Box<Refusal>,
        simple: bool,
    },
    /// Words of ours: so many answers, swallowed. `inline`: they stand in a batch of the client's.
    Own {
        answers: u32,
        inline: bool,
    },
    /// ReadyForQuery to words of ours, swallowed.
    OwnSync(Purpose),
}

/// Why we spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The stamp or start-up settings.
    Stamp,
    /// A prepared statement of a session that moved here: put back and described.
    Attach(Id),
    /// What a prepared statement is, before the session moves.
    Describe(Id),
    /// Statements that are not what they were on the last connection are closed.
    Misfits,
    /// Whether the session may give its connection back.
    Proof,
    /// To learn which Syncs a failed COPY had swallowed.
    Fence,
}

/// Where in its answers the front of the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// Nothing yet, or (Query) a result ended and the next may begin.
    #[default]
    Begin,
    /// RowDescription came.
    Rows,
    CopyIn,
    CopyOut,
    /// CopyDone came; CommandComplete is next.
    CopyOutDone,
    /// ParameterDescription came.
    Described,
    /// Only ReadyForQuery may come.
    Ended {
        failed: bool,
    },
}

/// What follows a statement that copies in, behind its Syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyTail {
    /// Nothing yet.
    Open,
    /// The end of the client's data.
    Ended,
    /// Something that the server does not take during COPY.
    Other,
}

/// The queue, with how far its front has come.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    queue: VecDeque<Due>,
    pub stage: Stage,
    pub rows: u64,
    pub bytes_down: u64,
    /// Results that the front Query has given.
    pub results: u64,
}

impl Outstanding {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Room for a statement and words of ours around it.
    pub fn is_full(&self) -> bool {
        self.queue.len() + 4 > OUTSTANDING_MAX
    }

    pub fn push(&mut self, due: Due) {
        // Marks the end of a COPY that may be going on; where nothing is due there is none.
        if matches!(due, Due::CopyEnd) && self.queue.is_empty() {
            return;
        }
        self.queue.push_back(due);
    }

    /// The statements that have been sent and whose end has not been seen.
    pub fn statements(&self) -> impl Iterator<Item = &Run> {
        // The end of the first has been seen when only its ReadyForQuery is missing.
        let ended = usize::from(matches!(self.stage, Stage::Ended { .. }));
        self.queue.iter().skip(ended).filter_map(|due| match due {
            Due::Query(run) | Due::Function(run) | Due::Execute(run) => Some(run),
            _ => None,
        })
    }

    pub fn front(&self) -> Option<&Due> {
        self.queue.front()
    }

    pub fn front_mut(&mut self) -> Option<&mut Due> {
        self.queue.front_mut()
    }

    /// Takes the front, and every COPY end behind it that the server will ignore.
    pub fn pop(&mut self) -> Option<Due> {
        let due = self.queue.pop_front();
        while matches!(self.queue.front(), Some(Due::CopyEnd)) {
            self.queue.pop_front();
        }
        self.next_front();
        due
    }

    fn next_front(&mut self) {
        self.stage = Stage::Begin;
        (self.rows, self.bytes_down, self.results) = (0, 0, 0);
        if self.queue.is_empty() && self.queue.capacity() > OUTSTANDING_KEPT {
            self.queue.shrink_to(OUTSTANDING_KEPT / 4);
        }
    }

    pub fn get(&self, at: usize) -> Option<&Due> {
        self.queue.get(at)
    }

    /// How many Syncs stand between the front and the client's next end of COPY data, and what follows.
    /// More than the limit are not counted: the rest is [`CopyTail::Other`].
    pub fn copy_syncs(&self) -> (usize, CopyTail) {
        let behind = self.queue.iter().skip(1).take(COPY_SYNCS_MAX + 1);
        let syncs = behind.take_while(|due| matches!(due, Due::Sync)).count();
        let tail = match self.queue.get(1 + syncs) {
            None => CopyTail::Open,
            Some(Due::CopyEnd) => CopyTail::Ended,
            Some(_) => CopyTail::Other,
        };
        (syncs, tail)
    }

    /// Syncs at the front, with nothing that is answered in between.
    pub fn leading_syncs(&self) -> usize {
        let silent = self.queue.iter().take_while(|due| matches!(due, Due::Sync | Due::CopyEnd));
        silent.filter(|due| matches!(due, Due::Sync)).count()
    }

    /// The front's COPY succeeded: the server ignored the Syncs sent before the end of the data. They and
    /// the end stand right behind the front.
    pub fn forget_copy(&mut self, syncs: usize) {
        self.queue.drain(1..(2 + syncs).min(self.queue.len()));
    }

    /// Nothing that is answered stands behind the front.
    pub fn is_last(&self) -> bool {
        self.queue.iter().skip(1).all(|due| matches!(due, Due::CopyEnd))
    }

    /// The front's COPY failed: the end of its data means nothing any more.
    pub fn forget_copy_end(&mut self, syncs: usize) {
        while matches!(self.queue.get(1 + syncs), Some(Due::CopyEnd)) {
            self.queue.remove(1 + syncs);
        }
    }
}
