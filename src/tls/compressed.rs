//! MySQL's compressed packets
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_compression.html>), as a layer between TLS
//! and the machines, which see the packets that are inside.
//!
//! What is compressed stands for itself, so a stream has the state of a codec only while it is in the middle of one
//! packet, and one that is idle has neither that nor a buffer.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::Stream;
use crate::model::limits;
use crate::protocol::session::Framing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Zlib,
    Zstd,
}

impl Codec {
    /// `None`: the conversation is not compressed.
    pub fn of(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Plain => None,
            Framing::Zlib => Some(Self::Zlib),
            Framing::Zstd(_) => Some(Self::Zstd),
        }
    }
}

/// Length and number as sent, length inside (0: as it is).
const HEAD: usize = 7;
/// Of a packet inside.
const INNER_HEAD: usize = 4;
/// A packet of this length goes on in the next one.
const CONTINUED: usize = 0xff_ffff;
/// Less than this is not worth it; the servers have the same.
const WORTH: usize = 50;
const NOT_SO_LONG: &str = "a compressed packet that is not as long as it says";
/// As both servers have it where nobody says otherwise.
const ZSTD_LEVEL: i32 = 3;

/// What is spared of one packet for the next: one worker needs one of each at a time.
#[derive(Default)]
struct Spare {
    inflate: Option<Decompress>,
    expand: Option<Decoder<'static>>,
    deflate: Option<Compress>,
    shrink: Option<zstd::bulk::Compressor<'static>>,
    room: Vec<u8>,
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Which side of a connection this is: each command begins with number 0, what answers it goes on from there, and
/// so does what the client says in the middle of an answer (a file).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// One side of a connection that is compressed.
pub struct Compressed {
    stream: Stream,
    codec: Codec,
    side: Side,
    /// What had been read before this began.
    ahead: BytesMut,
    head: [u8; HEAD],
    have: usize,
    reading: Reading,
    /// The number of what was read last.
    heard: u8,
    /// Something was read since what is written began.
    is_asked: bool,
    /// Of what is read.
    asking: Track,
    /// Of what is written.
    answering: Track,
    /// The number of what is written next.
    number: u8,
    /// The first bytes of a head inside, which decide of the number of the packet that they are in.
    withheld: BytesMut,
    /// Ready for the stream below.
    pending: BytesMut,
}

enum Reading {
    Head,
    /// So many bytes that are as they are.
    Plain(usize),
    Packed(Box<Packed>),
}

/// In the middle of a compressed packet.
struct Packed {
    codec: Unpack,
    /// Read and not unpacked.
    input: BytesMut,
    /// Not read yet.
    left: usize,
    /// What it still makes.
    due: usize,
}

enum Unpack {
    Zlib(Decompress),
    Zstd(Decoder<'static>),
}

/// Follows the packets that are inside.
#[derive(Default)]
struct Track {
    head: [u8; INNER_HEAD],
    have: usize,
    left: usize,
    number: u8,
    /// The next packet is a part of this one.
    continued: bool,
    /// It has no bytes: the end of a file, or of a payload.
    is_empty: bool,
}

impl Track {
    fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (INNER_HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == INNER_HEAD {
                self.have = 0;
                self.begin(self.head);
            }
        }
    }

    fn begin(&mut self, head: [u8; INNER_HEAD]) {
        self.left = u24(&head);
        self.number = head[3];
        self.continued = self.left == CONTINUED;
        self.is_empty = self.left == 0;
    }
}

fn u24(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) | usize::from(bytes[1]) << 8 | usize::from(bytes[2]) << 16
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Compressed {
    /// The server's side. `first` is written as it is, ahead of what is compressed; `ahead` has been read already.
    pub fn new(stream: Stream, codec: Codec, first: BytesMut, ahead: BytesMut) -> Self {
        Self { pending: first, ahead, ..Self::of(Side::Server, stream, codec) }
    }

    /// The client's side, where nothing of the login is left over. The numbers of the packets inside that it reads
    /// are the server's own affair: after each part that a server has sent it goes on with the number of the
    /// compressed packet (`net_flush`).
    pub fn towards_server(stream: Stream, codec: Codec) -> Self {
        Self::of(Side::Client, stream, codec)
    }

    fn of(side: Side, stream: Stream, codec: Codec) -> Self {
        Self {
            stream,
            codec,
            side,
            ahead: BytesMut::new(),
            head: [0; HEAD],
            have: 0,
            reading: Reading::Head,
            heard: 0,
            is_asked: false,
            asking: Track::default(),
            answering: Track::default(),
            number: 0,
            withheld: BytesMut::new(),
            pending: BytesMut::new(),
        }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether a packet has begun, read from below and not given on.
    pub fn is_within(&self) -> bool {
        self.have > 0 || !matches!(self.reading, Reading::Head) || !self.ahead.is_empty()
    }

    /// Reads from below into `space`. 0: the end.
    fn poll_below(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        poll_below(&mut self.stream, &mut self.ahead, cx, space)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.have < HEAD {
            let mut space = [0; HEAD];
            let wanted = HEAD - self.have;
            let count = ready!(self.poll_below(cx, &mut space[..wanted]))?;
            if count == 0 {
                return Poll::Ready(match self.have {
                    0 => Ok(false),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            self.head[self.have..self.have + count].copy_from_slice(&space[..count]);
            self.have += count;
        }
        self.have = 0;
        let (left, due) = (u24(&self.head), u24(&self.head[4..]));
        self.heard = self.head[3];
        self.is_asked = true;
        self.reading = match (left, due) {
            (0, 0) => Reading::Head,
            (0, _) => return Poll::Ready(Err(bad("a compressed packet of nothing"))),
            (_, 0) => Reading::Plain(left),
            _ => Reading::Packed(Box::new(Packed {
                codec: Unpack::new(self.codec)?,
                input: BytesMut::new(),
                left,
                due,
            })),
        };
        Poll::Ready(Ok(true))
    }

    fn poll_plain(&mut self, cx: &mut Context<'_>, left: usize, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let wanted = left.min(space.len());
        let count = ready!(self.poll_below(cx, &mut space[..wanted]))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.reading = if count == left { Reading::Head } else { Reading::Plain(left - count) };
        Poll::Ready(Ok(count))
    }

    /// 0: the packet is at its end.
    fn poll_packed(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let Reading::Packed(packed) = &mut self.reading else { return Poll::Ready(Ok(0)) };
        loop {
            if packed.input.is_empty() && packed.left > 0 {
                let wanted = packed.left.min(limits::COMPRESSED_READ_BYTES);
                packed.input.resize(wanted, 0);
                let read = poll_below(&mut self.stream, &mut self.ahead, cx, &mut packed.input);
                packed.input.truncate(match &read {
                    Poll::Ready(Ok(count)) => *count,
                    _ => 0,
                });
                let count = ready!(read)?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                packed.left -= count;
            }
            // One byte more than was said shows that more comes.
            let mut beyond = [0];
            let wanted = packed.due.min(space.len());
            let space = if packed.due == 0 { &mut beyond[..] } else { &mut space[..wanted] };
            let (read, written, ended) = packed.codec.run(&packed.input, space)?;
            packed.input.advance(read);
            let spent = packed.input.is_empty() && packed.left == 0;
            let Some(due) = packed.due.checked_sub(written) else {
                return Poll::Ready(Err(bad(NOT_SO_LONG)));
            };
            packed.due = due;
            // It ends with the last byte that was said, on either side, and not before and not without.
            let short_or_long = ended && !(due == 0 && spent);
            let stops = !ended && written == 0 && spent;
            if short_or_long || stops {
                return Poll::Ready(Err(bad(NOT_SO_LONG)));
            }
            if ended {
                if let Reading::Packed(packed) = std::mem::replace(&mut self.reading, Reading::Head) {
                    packed.codec.spare();
                }
                return Poll::Ready(Ok(written));
            }
            if written > 0 {
                return Poll::Ready(Ok(written));
            }
            if read == 0 && !packed.input.is_empty() {
                return Poll::Ready(Err(bad("a compressed packet that does not go on")));
            }
        }
    }

    /// Takes the bytes of packets over into compressed ones.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.withheld.is_empty() {
            return self.wrap(bytes);
        }
        let mut all = std::mem::take(&mut self.withheld);
        all.extend_from_slice(bytes);
        self.wrap(&all)
    }

    /// Cuts where a command or an answer begins, which has numbers of its own.
    fn wrap(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut at, mut from) = (0, 0);
        while at < bytes.len() {
            if self.answering.left > 0 {
                let count = self.answering.left.min(bytes.len() - at);
                self.answering.left -= count;
                at += count;
                continue;
            }
            let Some(head) = bytes[at..].first_chunk::<INNER_HEAD>() else {
                self.withheld = bytes[at..].into();
                break;
            };
            if let Some(number) = self.begins(head[3]) {
                self.pack(&bytes[from..at])?;
                from = at;
                self.number = number;
                self.is_asked = false;
            }
            self.answering.begin(*head);
            at += INNER_HEAD;
        }
        self.pack(&bytes[from..at])
    }

    /// The number of the compressed packet that a packet of this number begins, if it begins one: as the first of
    /// an answer or a command, or of a file that the server has asked for.
    fn begins(&self, number: u8) -> Option<u8> {
        let follows = number == self.answering.number.wrapping_add(1);
        let next = self.heard.wrapping_add(1);
        match self.side {
            _ if self.answering.continued => None,
            Side::Server => {
                let answers = self.is_asked && number == self.asking.number.wrapping_add(1);
                (!follows || answers).then_some(next)
            }
            // Number 0 is a command's, and that of every 256th packet of a file.
            Side::Client if number == 0 && !(follows && self.is_sending_file()) => Some(0),
            Side::Client => self.is_asked.then_some(next),
        }
    }

    /// What was written last is a part of a file, and not its end.
    fn is_sending_file(&self) -> bool {
        self.answering.number > 0 && !self.answering.is_empty
    }

    fn pack(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        SPARE.with_borrow_mut(|spare| {
            let small =
                bytes.len() >= WORTH && spare.pack(self.codec, bytes)? && spare.room.len() < bytes.len();
            let (content, inside) = if small { (&spare.room[..], bytes.len()) } else { (bytes, 0) };
            let mut head = [0; HEAD];
            head[..3].copy_from_slice(&(content.len() as u32).to_le_bytes()[..3]);
            head[3] = self.number;
            head[4..].copy_from_slice(&(inside as u32).to_le_bytes()[..3]);
            self.pending.extend_from_slice(&head);
            self.pending.extend_from_slice(content);
            Ok::<_, io::Error>(())
        })?;
        self.number = self.number.wrapping_add(1);
        Ok(())
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(count);
        }
        self.pending = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

fn poll_below(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    cx: &mut Context<'_>,
    space: &mut [u8],
) -> Poll<io::Result<usize>> {
    if !ahead.is_empty() {
        let count = ahead.len().min(space.len());
        ahead.copy_to_slice(&mut space[..count]);
        if ahead.is_empty() {
            *ahead = BytesMut::new();
        }
        return Poll::Ready(Ok(count));
    }
    let mut buffer = ReadBuf::new(space);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

impl Unpack {
    fn new(codec: Codec) -> io::Result<Self> {
        SPARE.with_borrow_mut(|spare| {
            Ok(match codec {
                Codec::Zlib => Self::Zlib(spare.inflate.take().unwrap_or_else(|| Decompress::new(true))),
                Codec::Zstd => Self::Zstd(match spare.expand.take() {
                    Some(decoder) => decoder,
                    None => {
                        let mut decoder = Decoder::new()?;
                        decoder.set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_BITS_MAX))?;
                        decoder
                    }
                }),
            })
        })
    }

    /// How much was read, how much written, and whether that is the end.
    fn run(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        match self {
            Self::Zlib(zlib) => {
                let (read, written) = (zlib.total_in(), zlib.total_out());
                let status = zlib.decompress(input, output, FlushDecompress::None);
                let status = status.map_err(|_| bad("a compressed packet that is not zlib's"))?;
                let (read, written) = (zlib.total_in() - read, zlib.total_out() - written);
                Ok((read as usize, written as usize, status == Status::StreamEnd))
            }
            Self::Zstd(zstd) => {
                let status = zstd.run_on_buffers(input, output);
                let status = status.map_err(|_| bad("a compressed packet that is not zstd's"))?;
                Ok((status.bytes_read, status.bytes_written, status.remaining == 0))
            }
        }
    }

    /// Keeps it for the next packet.
    fn spare(self) {
        SPARE.with_borrow_mut(|spare| match self {
            Self::Zlib(mut zlib) => {
                zlib.reset(true);
                spare.inflate = Some(zlib);
            }
            Self::Zstd(mut zstd) => spare.expand = zstd.reinit().is_ok().then_some(zstd),
        });
    }
}

impl Spare {
    /// Compresses into `room`. False: it does not become smaller.
    fn pack(&mut self, codec: Codec, bytes: &[u8]) -> io::Result<bool> {
        self.room.clear();
        match codec {
            Codec::Zlib => {
                self.room.reserve(bytes.len());
                let fast = || Compress::new(Compression::fast(), true);
                let deflate = self.deflate.get_or_insert_with(fast);
                deflate.reset();
                let status = deflate.compress_vec(bytes, &mut self.room, FlushCompress::Finish);
                Ok(status.is_ok_and(|status| status == Status::StreamEnd))
            }
            Codec::Zstd => {
                let shrink = match &mut self.shrink {
                    Some(shrink) => shrink,
                    none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
                };
                self.room.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
                shrink.compress_to_buffer(bytes, &mut self.room)?;
                Ok(true)
            }
        }
    }
}

impl AsyncRead for Compressed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let space = buffer.initialize_unfilled();
            if space.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let count = match &this.reading {
                Reading::Head => match ready!(this.poll_head(cx))? {
                    true => continue,
                    false => return Poll::Ready(Ok(())),
                },
                Reading::Plain(left) => {
                    let left = *left;
                    ready!(this.poll_plain(cx, left, space))?
                }
                Reading::Packed(_) => ready!(this.poll_packed(cx, space))?,
            };
            if count > 0 {
                this.asking.see(&space[..count]);
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Compressed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        let count = bytes.len().min(limits::READ_BYTES);
        this.take(&bytes[..count])?;
        // What the stream below does not take now is flushed later.
        match this.poll_pending(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
