//! Pipes of a simulation, where sockets would be: what one end writes arrives at the other late, in
//! pieces, and not at all when the connection is lost. Chance comes from a seed, time is tokio's.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Stream;

/// Random numbers that a seed decides (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..count`.
    pub fn below(&mut self, count: u64) -> u64 {
        self.roll() % count.max(1)
    }

    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True once in `times`; never for 0.
    pub fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.range(from, to))
    }

    /// For somebody who rolls in an order of their own.
    pub fn fork(&mut self) -> Self {
        Self(self.roll())
    }
}

/// What the way between two ends is like.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub latency_max: Duration,
    /// A write is cut into pieces of at most this, each with a delay of its own.
    pub piece_max: usize,
    /// Bytes on the way before a writer has to wait.
    pub capacity: usize,
    /// The connection is lost at one in so many writes; 0: never.
    pub lost_once_in: u64,
}

struct Chunk {
    due: Instant,
    written: Instant,
    bytes: Vec<u8>,
    taken: usize,
}

/// One direction.
struct Way {
    chunks: VecDeque<Chunk>,
    /// Bytes on the way.
    size: usize,
    /// When the reader learns that the writer has shut it.
    shut: Option<Instant>,
    lost: bool,
    reader_gone: bool,
    last_due: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
    dice: Dice,
}

impl Way {
    fn new(dice: Dice) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            chunks: VecDeque::new(),
            size: 0,
            shut: None,
            lost: false,
            reader_gone: false,
            last_due: Instant::now(),
            reader: None,
            writer: None,
            dice,
        }))
    }

    /// Nothing overtakes what was written before.
    fn due(&mut self, weather: &Weather) -> Instant {
        let delay = Duration::from_millis(self.dice.below(weather.latency_max.as_millis() as u64 + 1));
        self.last_due = self.last_due.max(Instant::now() + delay);
        self.last_due
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// The connection breaks: what has not arrived never will.
    fn lose(&mut self) {
        let now = Instant::now();
        self.chunks.retain(|chunk| chunk.due <= now);
        self.size = self.chunks.iter().map(|chunk| chunk.bytes.len() - chunk.taken).sum();
        self.lost = true;
        self.wake();
    }

    /// Whether reading would give something now: bytes, the end or an error.
    fn shows(&self) -> bool {
        let now = Instant::now();
        match self.chunks.front() {
            Some(chunk) => chunk.due <= now,
            None => self.lost || self.shut.is_some_and(|at| at <= now),
        }
    }
}

/// One end of a pipe. Dropping it closes it, as with a socket: with bytes unread, the other end is told
/// that the connection was reset, and may lose what it has not read.
pub struct Pipe {
    /// A number that both ends share.
    pub number: u64,
    incoming: Arc<Mutex<Way>>,
    outgoing: Arc<Mutex<Way>>,
    weather: Weather,
    timer: Option<Pin<Box<Sleep>>>,
    /// When what was read last had been written.
    pub written_at: Instant,
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap()
}

/// Two ends of one pipe.
pub fn pair(dice: &mut Dice, weather: Weather, number: u64) -> (Pipe, Pipe) {
    let (there, back) = (Way::new(dice.fork()), Way::new(dice.fork()));
    let end = |incoming: &Arc<Mutex<Way>>, outgoing: &Arc<Mutex<Way>>| Pipe {
        number,
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        weather,
        timer: None,
        written_at: Instant::now(),
    };
    (end(&there, &back), end(&back, &there))
}

impl Pipe {
    pub fn peer_is_gone(&self) -> bool {
        let way = lock(&self.incoming);
        way.lost || way.shut.is_some_and(|at| at <= Instant::now())
    }

    pub fn is_silent(&self) -> bool {
        !lock(&self.incoming).shows() && !self.peer_is_gone()
    }

    /// Says whether the other end has been let go of. For who watches, not for who takes part.
    pub fn watch(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let way = self.outgoing.clone();
        move || lock(&way).reader_gone
    }

    /// The connection breaks, for both.
    pub fn lose(&self) {
        lock(&self.incoming).lose();
        lock(&self.outgoing).lose();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let unread = {
            let mut way = lock(&self.incoming);
            way.reader_gone = true;
            way.wake();
            way.size > 0
        };
        let mut way = lock(&self.outgoing);
        if unread {
            way.lose();
        } else {
            let at = way.due(&self.weather);
            way.shut.get_or_insert(at);
        }
        way.wake();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self;
        loop {
            let mut way = lock(&pipe.incoming);
            let now = Instant::now();
            let (lost, shut) = (way.lost, way.shut);
            let due = match way.chunks.front_mut() {
                Some(chunk) if chunk.due <= now => {
                    let count = (chunk.bytes.len() - chunk.taken).min(buffer.remaining());
                    buffer.put_slice(&chunk.bytes[chunk.taken..chunk.taken + count]);
                    chunk.taken += count;
                    pipe.written_at = chunk.written;
                    if chunk.taken == chunk.bytes.len() {
                        way.chunks.pop_front();
                    }
                    way.size -= count;
                    way.wake();
                    return Poll::Ready(Ok(()));
                }
                Some(chunk) => chunk.due,
                None if lost => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => match shut {
                    Some(at) if at <= now => return Poll::Ready(Ok(())),
                    Some(at) => at,
                    None => {
                        way.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                },
            };
            way.reader = Some(cx.waker().clone());
            drop(way);
            let timer = pipe.timer.insert(Box::pin(tokio::time::sleep_until(due)));
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let weather = self.weather;
        let mut way = lock(&self.outgoing);
        if way.lost || way.reader_gone || way.shut.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if way.dice.once_in(weather.lost_once_in) {
            drop(way);
            self.lose();
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = weather.capacity.saturating_sub(way.size).min(bytes.len());
        if room == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // A socket may take less than it is given.
        let count = if way.dice.once_in(8) { way.dice.range(1, room as u64) as usize } else { room };
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let most = weather.piece_max.min(rest.len());
            let piece = if way.dice.once_in(2) { most } else { way.dice.range(1, most as u64) as usize };
            let (head, tail) = rest.split_at(piece);
            let chunk =
                Chunk { due: way.due(&weather), written: Instant::now(), bytes: head.to_vec(), taken: 0 };
            way.chunks.push_back(chunk);
            rest = tail;
        }
        way.size += count;
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = lock(&self.outgoing);
        if way.lost {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        let at = way.due(&self.weather);
        way.shut.get_or_insert(at);
        way.wake();
        Poll::Ready(Ok(()))
    }
}

/// Makes a connection, or says why there is none, after a while.
pub type Connect = Box<dyn FnMut() -> (Duration, io::Result<Pipe>)>;

thread_local! {
    static SERVERS: RefCell<HashMap<String, Connect>> = RefCell::default();
}

/// Who dials this address on this thread is given what `connect` makes.
pub fn listen(address: &str, connect: Connect) {
    SERVERS.with_borrow_mut(|servers| servers.insert(address.to_owned(), connect));
}

/// Forgets every address.
pub fn close() {
    SERVERS.with_borrow_mut(HashMap::clear);
}

/// `None`: there is no such address in memory.
pub fn connect(address: &str) -> Option<impl Future<Output = io::Result<Stream>> + Send + use<>> {
    let (delay, made) =
        SERVERS.with_borrow_mut(|servers| servers.get_mut(address).map(|connect| connect()))?;
    Some(async move {
        tokio::time::sleep(delay).await;
        made.map(|pipe| Stream::Memory(Box::new(pipe)))
    })
}
