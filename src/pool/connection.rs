use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::model::{Name, limits};
use crate::protocol::session::{Facts, Report, Script, ScriptStep, Wire, WireError};
use crate::tls::Stream;

/// One upstream connection that is logged in as a connector.
pub(super) struct Connection<W: Wire> {
    pub stream: Stream,
    /// As the server told them at login; what `Reset` goes back to.
    pub facts: W::Facts,
    /// What was agreed at login and cannot be changed since ([`Wire::flavour`]).
    pub flavour: Arc<str>,
    pub born: Instant,
    pub idle_since: Instant,
    /// The thread whose runtime the socket is registered with.
    pub home: std::thread::ThreadId,
    /// The secret's epoch it was made under.
    pub epoch: u64,
    /// Role settings at the server when it was made.
    pub fingerprint: String,
    /// What the last thorough look at the server's catalogs found, for the next reset to compare with.
    pub catalogs: Option<String>,
    /// Extensions, languages and code in its database whose state no reset clears.
    pub stateful: BTreeSet<String>,
    /// Who had it last. Where the operator has not accepted all of `stateful`, nobody else gets it.
    pub last_user: Option<Name>,
    /// Whether it has ever been lent: a failure then is no news about the target.
    pub used: bool,
}

impl<W: Wire> Connection<W> {
    /// Whether this person may have it for such a session, given what the operator accepts to be shared.
    pub fn suits(&self, user: &Name, flavour: &str, accepted: &BTreeSet<String>) -> bool {
        *self.flavour == *flavour
            && (self.last_user.as_ref().is_none_or(|last| last == user) || self.stateful.is_subset(accepted))
    }

    /// Makes the current thread its home, so that its bytes wake no other one.
    pub fn move_here(&mut self) -> io::Result<()> {
        let here = std::thread::current().id();
        if self.home != here {
            self.stream.move_here()?;
            self.home = here;
        }
        Ok(())
    }

    pub fn is_quiet(&mut self) -> bool {
        is_quiet(&mut self.stream)
    }
}

/// Whether an idle connection has nothing to say, neither an end nor an error nor a notification. It must be silent,
/// so anything at all means that it is not to be used. Never waits.
pub(super) fn is_quiet(stream: &mut Stream) -> bool {
    let mut space = [0u8; 64];
    let mut buffer = ReadBuf::new(&mut space);
    let below = &mut *stream;
    // TLS may have something in a buffer of its own. Unconstrained: a task that has done much in this turn
    // would be told "nothing" of every socket.
    let read = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *below).poll_read(cx, &mut buffer));
    let read = std::pin::pin!(tokio::task::unconstrained(read));
    read.poll(&mut Context::from_waker(Waker::noop())).is_pending() && stream.is_silent()
}

impl<W: Wire> Connection<W> {
    /// Closes a connection on which nothing is under way.
    pub fn part(self) {
        part::<W>(self.stream);
    }
}

/// Says goodbye where the protocol has a word for it, as far as the socket takes it at once, and closes.
pub(super) fn part<W: Wire>(mut stream: Stream) {
    if !W::GOODBYE.is_empty() {
        let stream = std::pin::Pin::new(&mut stream);
        let _ = stream.poll_write(&mut Context::from_waker(Waker::noop()), W::GOODBYE);
    }
}

/// Why a script could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Exchange {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the server broke the protocol: {0}")]
    Wire(#[from] WireError),
    #[error("the server sent more than {} bytes in answer to a script", limits::SCRIPT_MESSAGE_BYTES_MAX)]
    TooMuch,
    #[error("the server took too long")]
    Timeout,
}

/// Drives a script over a stream. Not cancel safe: a connection whose script was dropped half way
/// is to be closed.
pub async fn run_script<S: Script>(stream: &mut Stream, script: &mut S) -> Result<Report, Exchange> {
    let mut input = BytesMut::new();
    let mut out = BytesMut::new();
    loop {
        let step = script.step(&mut input, &mut out)?;
        if !out.is_empty() {
            stream.write_all(&out).await?;
            stream.flush().await?;
            out.clear();
        }
        match step {
            // An answer that nobody asked for would be taken for one of the next person's.
            ScriptStep::Done(_) if !input.is_empty() => {
                return Err(WireError::new("script", "bytes after the last answer").into());
            }
            ScriptStep::Done(report) => return Ok(report),
            ScriptStep::NeedBytes => {
                if input.len() > limits::SCRIPT_MESSAGE_BYTES_MAX {
                    return Err(Exchange::TooMuch);
                }
                // Without room of its own the buffer would be given 64 bytes at a time.
                input.reserve(limits::SCRIPT_READ_BYTES);
                if stream.read_buf(&mut input).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
        }
    }
}

impl<W: Wire> std::fmt::Debug for Connection<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.facts.upstream_name())
    }
}
