//! Room for bodies that are kept whole before anything of them is sent: a little memory each, the rest in files without
//! a name. What somebody uses of it is counted for them, so that nobody takes the room of all.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::model::{Name, Refusal, limits};

/// How much of a body's beginning is kept for the trail: what the trail's own limit would cut in two is masked whole.
pub(super) const START_BYTES_MAX: usize = limits::AUDIT_TEXT_BYTES_MAX + limits::SMALL_MESSAGE_BYTES_MAX;

/// Where bodies are kept.
pub(super) struct Spool {
    folder: PathBuf,
    memory: Arc<Room>,
    disk: Arc<Room>,
}

/// Bytes that may be used, by one person and by all.
struct Room {
    each: u64,
    all: u64,
    used: Mutex<HashMap<Name, u64>>,
}

/// A part of a room; given back when dropped.
pub(super) struct Taken {
    room: Arc<Room>,
    user: Name,
    bytes: u64,
}

/// A body as far as it has come.
pub(super) struct Spooling {
    /// `None`: it stays in memory.
    folder: Option<PathBuf>,
    /// What is not in the file.
    tail: BytesMut,
    file: Option<File>,
    length: u64,
    /// How it begins, for the trail; what is in the file of it.
    start: Vec<u8>,
    memory: Taken,
    disk: Taken,
}

/// A whole body.
pub(super) struct Spooled {
    pub length: u64,
    /// How it begins, for the trail: at most [`START_BYTES_MAX`].
    pub start: Bytes,
    pub kept: Kept,
    memory: Taken,
    _disk: Taken,
}

pub(super) enum Kept {
    Memory(Bytes),
    /// To be read from where it stands.
    File(File),
}

impl Spool {
    /// `each`, `all`: bytes on the disk.
    pub fn new(folder: PathBuf, each: u64, all: u64) -> Self {
        let memory =
            Room::new(limits::HTTP_BODIES_PERSON_BYTES_MAX as u64, limits::HTTP_BODIES_BYTES_MAX as u64);
        Self { folder, memory: Arc::new(memory), disk: Arc::new(Room::new(each, all)) }
    }

    /// Room in memory for an answer to this person that is read here.
    pub fn answer(&self, user: &Name) -> Taken {
        Taken::nothing(&self.memory, user)
    }

    /// Room for a body of this person. `spills`: what does not fit into memory goes into a file; else it is too long.
    pub fn begin(&self, user: &Name, spills: bool) -> Spooling {
        let taken = |room: &Arc<Room>| Taken::nothing(room, user);
        Spooling {
            folder: spills.then(|| self.folder.clone()),
            tail: BytesMut::new(),
            file: None,
            length: 0,
            start: Vec::new(),
            memory: taken(&self.memory),
            disk: taken(&self.disk),
        }
    }
}

impl Room {
    fn new(each: u64, all: u64) -> Self {
        Self { each, all, used: Mutex::default() }
    }
}

impl Taken {
    fn nothing(room: &Arc<Room>, user: &Name) -> Self {
        Self { room: room.clone(), user: user.clone(), bytes: 0 }
    }

    /// Holds so many instead; where there is no room for that, as many as before.
    pub fn hold(&mut self, bytes: u64) -> Result<(), Refusal> {
        let mut used = self.room.used.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = used.get(&self.user).map_or(0, |used| *used) - self.bytes + bytes;
        // There are as many entries as people who send something at this moment.
        let all = used.values().sum::<u64>() - self.bytes + bytes;
        if bytes > self.bytes && (theirs > self.room.each || all > self.room.all) {
            return Err(Refusal::NoRoom);
        }
        match theirs {
            0 => used.remove(&self.user),
            theirs => used.insert(self.user.clone(), theirs),
        };
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Less always has room.
        let _ = self.hold(0);
    }
}

impl Spooling {
    /// How much of it may be in memory.
    fn most(&self) -> usize {
        match self.folder {
            Some(_) => limits::HTTP_BODY_MEMORY_BYTES_MAX,
            None => limits::HTTP_BODY_BYTES_MAX,
        }
    }

    /// Whether a body of so many bytes has room now.
    pub fn expect(&mut self, bytes: u64) -> Result<(), Refusal> {
        match bytes <= self.most() as u64 {
            true if self.memory.hold(bytes).is_ok() => Ok(()),
            true if self.folder.is_none() => Err(Refusal::NoRoom),
            false if self.folder.is_none() => Err(TOO_LONG),
            _ => self.disk.hold(bytes),
        }
    }

    /// `beside`: bytes that reading it for names holds.
    pub async fn push(&mut self, piece: &[u8], beside: usize) -> Result<(), Refusal> {
        self.length += piece.len() as u64;
        let wanted = self.tail.len() + piece.len();
        let has_room = self.memory.hold((wanted + beside) as u64);
        if wanted > self.most() || has_room.is_err() {
            if self.folder.is_none() {
                return has_room.and(Err(TOO_LONG));
            }
            // Who has many bodies under way has less of each in memory.
            self.disk.hold(self.disk.bytes.max(self.length))?;
            self.write().await.map_err(|error| cannot(&error))?;
            self.memory.hold((piece.len() + beside) as u64)?;
        }
        self.tail.extend_from_slice(piece);
        Ok(())
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether all that has come is in memory.
    pub fn is_in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// What there is of a body that [is in memory](Self::is_in_memory), to be passed on.
    pub fn into_memory(self) -> BytesMut {
        self.tail
    }

    async fn write(&mut self) -> io::Result<()> {
        let room = START_BYTES_MAX - self.start.len();
        self.start.extend_from_slice(&self.tail[..self.tail.len().min(room)]);
        if let (None, Some(folder)) = (&self.file, &self.folder) {
            self.file = Some(nameless(folder).await?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.tail).await?;
        }
        self.tail.clear();
        Ok(())
    }

    pub async fn finish(mut self) -> Result<Spooled, Refusal> {
        let length = self.length;
        if self.file.is_some() {
            let written = async {
                self.write().await?;
                let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
                file.flush().await?;
                file.rewind().await?;
                Ok::<_, io::Error>(file)
            };
            let file = written.await.map_err(|error| cannot(&error))?;
            self.memory.hold(0)?;
            let start = Bytes::from(self.start);
            let (memory, _disk) = (self.memory, self.disk);
            return Ok(Spooled { length, start, kept: Kept::File(file), memory, _disk });
        }
        let whole = self.tail.freeze();
        let start = beginning(&whole);
        self.disk.hold(0)?;
        let (memory, _disk) = (self.memory, self.disk);
        Ok(Spooled { length, start, kept: Kept::Memory(whole), memory, _disk })
    }
}

impl Spooled {
    /// All of it, where it is in memory.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.kept {
            Kept::Memory(bytes) => Some(bytes),
            Kept::File(_) => None,
        }
    }

    /// Another one in its place, which may take more room.
    pub fn replace(&mut self, body: Bytes) -> Result<(), Refusal> {
        self.memory.hold(body.len() as u64)?;
        self.length = body.len() as u64;
        self.start = beginning(&body);
        self.kept = Kept::Memory(body);
        Ok(())
    }
}

fn beginning(body: &Bytes) -> Bytes {
    body.slice(..body.len().min(START_BYTES_MAX))
}

const TOO_LONG: Refusal = Refusal::ProtocolViolation("the body is longer than what the proxy reads whole");

fn cannot(error: &io::Error) -> Refusal {
    tracing::error!(%error, "a body cannot be kept: see [bodies] in the node file");
    Refusal::NoRoom
}

/// A file that goes with the last who has it open. It has a name for a moment.
async fn nameless(folder: &std::path::Path) -> io::Result<File> {
    use std::fmt::Write;
    tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = String::from("body-");
    for byte in random {
        // Strings take everything.
        let _ = write!(name, "{byte:02x}");
    }
    let path = folder.join(name);
    let mut options = tokio::fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).await?;
    tokio::fs::remove_file(&path).await?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    async fn read(spooled: Spooled) -> Vec<u8> {
        match spooled.kept {
            Kept::Memory(bytes) => bytes.to_vec(),
            Kept::File(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).await.unwrap();
                bytes
            }
        }
    }

    #[tokio::test]
    async fn long_bodies_lie_in_files_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().join("bodies"), 4 << 20, 8 << 20);
        for length in
            [0, 1, limits::HTTP_BODY_MEMORY_BYTES_MAX, limits::HTTP_BODY_MEMORY_BYTES_MAX + 1, 3 << 20]
        {
            let body: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let mut spooling = spool.begin(&name("alice"), true);
            for piece in body.chunks(10_007) {
                spooling.push(piece, 0).await.unwrap();
                assert!(spooling.tail.len() <= limits::HTTP_BODY_MEMORY_BYTES_MAX);
            }
            let spooled = spooling.finish().await.unwrap();
            assert_eq!(spooled.length, length as u64);
            assert_eq!(spooled.start, body[..length.min(START_BYTES_MAX)]);
            let in_file = length > limits::HTTP_BODY_MEMORY_BYTES_MAX;
            assert_eq!(matches!(spooled.kept, Kept::File(_)), in_file, "{length}");
            assert_eq!(read(spooled).await, body);
            assert_eq!(folder.path().join("bodies").read_dir().map_or(0, Iterator::count), 0);
        }
        for room in [&spool.memory, &spool.disk] {
            assert!(room.used.lock().unwrap().is_empty(), "all of it is given back");
        }
    }

    /// Who has many bodies under way has next to nothing of each in memory, and what is shown of it is as long.
    #[tokio::test]
    async fn the_beginning_is_known_in_whatever_pieces_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 4 << 20, 8 << 20);
        let (mut one, mut other) = (spool.begin(&name("alice"), false), spool.begin(&name("alice"), false));
        one.expect(16 << 20).unwrap();
        other.expect((16 << 20) - 1_500).unwrap();
        let body: Vec<u8> = (0..100_000_usize).map(|place| (place % 251) as u8).collect();
        let mut spooling = spool.begin(&name("alice"), true);
        for piece in body.chunks(1_000) {
            spooling.push(piece, 0).await.unwrap();
        }
        assert!(!spooling.is_in_memory());
        let spooled = spooling.finish().await.unwrap();
        assert_eq!((spooled.length, &spooled.start[..]), (100_000, &body[..START_BYTES_MAX]));
        assert_eq!(read(spooled).await, body);
    }

    #[tokio::test]
    async fn nobody_takes_the_room_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().to_owned(), 2 << 20, 3 << 20);
        let piece = vec![b'x'; 1 << 20];
        let (mut alice, mut again, mut bob) = (
            spool.begin(&name("alice"), true),
            spool.begin(&name("alice"), true),
            spool.begin(&name("bob"), true),
        );
        alice.push(&piece, 0).await.unwrap();
        again.push(&piece, 0).await.unwrap();
        assert_eq!(
            alice.push(&piece, 0).await,
            Err(Refusal::NoRoom),
            "it is the person's, not the request's"
        );
        assert_eq!(bob.expect(2 << 20), Err(Refusal::NoRoom), "there is less left of all");
        bob.push(&piece, 0).await.unwrap();
        let mut search = spool.begin(&name("bob"), false);
        assert!(matches!(search.expect(17 << 20), Err(Refusal::ProtocolViolation(_))), "it stays in memory");
        drop((alice, search));
        bob.push(&piece, 0).await.unwrap();
        assert_eq!(spool.begin(&name("carol"), true).expect(1), Ok(()));
        drop((again, bob));
        assert!(spool.disk.used.lock().unwrap().is_empty());
        // A disk that takes nothing is no room either.
        let nowhere = Spool::new("/proc/nowhere".into(), 1 << 30, 1 << 30);
        let mut lost = nowhere.begin(&name("alice"), true);
        assert_eq!(lost.push(&piece, 0).await, Err(Refusal::NoRoom));
    }
}
