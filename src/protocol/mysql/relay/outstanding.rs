//! What answers are due, in the order in which the server, or we ourselves, will give them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::Refusal;
use crate::model::limits::{OUTSTANDING_KEPT, OUTSTANDING_MAX};
use crate::protocol::session::Killed;

/// A command that has been sent and noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Run {
    /// 0: it is in no note.
    pub number: u64,
    /// When it, or what is left of it, was sent; microseconds of the flow's clock.
    pub sent: u64,
    /// Bytes of it that no result has counted yet.
    pub bytes_up: u64,
}

/// What answers one command.
#[derive(Debug)]
pub(super) enum Answer {
    /// OK, an error, or rows; any number of them. `offered`: the names of the client's files that it offers.
    Results { offered: Offered },
    /// Rows of a cursor.
    Fetched,
    /// The statement's number, then definitions of its parameters and columns.
    Prepared { slot: usize },
    /// Definitions of columns, to an end.
    Fields,
    /// OK, or what says so in older servers.
    Done,
    /// The same, upon which prepared statements and user variables are gone.
    Reset,
    /// A line of text.
    Text,
    /// Nothing of the server's: the client is shown this refusal.
    Refused(Box<Refusal>),
    /// Nothing of the server's: what came of stopping another session, once it is known.
    Killed(Option<Killed>),
    /// OK to words of ours, swallowed.
    Own,
}

/// `None`, which takes no room, where it is none.
pub(super) type Offered = Option<Arc<[Vec<u8>]>>;

impl Answer {
    /// We give it ourselves.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Killed(_))
    }
}

#[derive(Debug)]
pub(super) struct Due {
    pub answer: Answer,
    pub run: Run,
    /// The number of the answer's first packet: as many as the command has packets.
    pub sequence: u8,
}

/// Where in its answer the front of the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// The first packet of an answer, or of a further result of it.
    #[default]
    First,
    /// So many definitions, and then …
    Definitions {
        left: u64,
        then: Then,
    },
    /// The EOF behind them.
    DefinitionsEnd {
        then: Then,
    },
    Rows,
    /// The client sends the file that it offered.
    File,
}

/// What follows definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Rows,
    /// Definitions of a prepared statement's columns.
    Columns(u16),
    Nothing,
}

/// The queue, with how far its front has come.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    queue: VecDeque<Due>,
    pub stage: Stage,
    /// The number of the next packet of the front's answer.
    pub sequence: u8,
    pub rows: u64,
    pub bytes_down: u64,
    /// Results of the front that have ended.
    pub results: u64,
}

impl Outstanding {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Room for a command and words of ours behind it.
    pub fn is_full(&self) -> bool {
        self.queue.len() + 2 > OUTSTANDING_MAX
    }

    pub fn push(&mut self, answer: Answer, run: Run) {
        self.queue.push_back(Due { answer, run, sequence: 1 });
        if self.queue.len() == 1 {
            self.next_front();
        }
    }

    /// The command that was pushed last has another packet.
    pub fn lengthen_last(&mut self, bytes: usize) {
        let is_front = self.queue.len() == 1;
        let Some(last) = self.queue.back_mut() else { return };
        last.run.bytes_up += bytes as u64;
        last.sequence = last.sequence.wrapping_add(1);
        if is_front && self.stage == Stage::First && self.results == 0 {
            self.sequence = last.sequence;
        }
    }

    pub fn front(&self) -> Option<&Due> {
        self.queue.front()
    }

    pub fn front_mut(&mut self) -> Option<&mut Due> {
        self.queue.front_mut()
    }

    pub fn back(&self) -> Option<&Due> {
        self.queue.back()
    }

    pub fn back_mut(&mut self) -> Option<&mut Due> {
        self.queue.back_mut()
    }

    pub fn pop(&mut self) -> Option<Due> {
        let due = self.queue.pop_front();
        self.next_front();
        due
    }

    fn next_front(&mut self) {
        let front = self.queue.front();
        self.sequence = front.map_or(1, |due| due.sequence);
        // The fetched rows have no definitions of their own.
        let is_headless = matches!(front.map(|due| &due.answer), Some(Answer::Fetched | Answer::Fields));
        self.stage = if is_headless { Stage::Rows } else { Stage::First };
        (self.rows, self.bytes_down, self.results) = (0, 0, 0);
        if self.queue.is_empty() && self.queue.capacity() > OUTSTANDING_KEPT {
            self.queue.shrink_to(OUTSTANDING_KEPT / 4);
        }
    }

    /// The front's answer goes on with another result.
    pub fn next_result(&mut self) {
        self.stage = Stage::First;
        self.results += 1;
        (self.rows, self.bytes_down) = (0, 0);
    }

    /// What has been noted and whose end has not been seen.
    pub fn statements(&self) -> impl Iterator<Item = &Run> {
        self.queue.iter().map(|due| &due.run).filter(|run| run.number > 0)
    }
}
