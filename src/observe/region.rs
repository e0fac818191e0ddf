//! One segment of the journal in memory: a preallocated file, mapped shared. The only place of the
//! trail with `unsafe`, and what it has to offer is safe to use in every order:
//!
//! - [`Appender`] is the one value that can write, and it writes only behind the committed length;
//! - [`Region::bytes`] shows only what lies before it, which nothing ever changes again;
//! - [`Region::restart`] takes the region by value, so that no shown byte can be looked at any more.
//!
//! The length is published with a release store and read with an acquire load. As the mapping is
//! shared, what is committed belongs to the kernel: the death of the process cannot lose it.
//!
//! The space is allocated when the file is made, so a full disk is an error then and not a SIGBUS
//! later. (File systems that copy on write, such as btrfs and ZFS, cannot promise that.) The files
//! are ours alone: the folder is closed to other users and locked against a second process.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::record::hash;

const MAGIC: [u8; 8] = *b"tidejrn1";
/// Apart from the header, so that the committer and the reader of the header share no cache line.
const COMMITTED_AT: usize = 64;
/// Records begin here.
pub const DATA_AT: usize = 128;

/// What a segment's file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Different each time a segment is taken into use: a record of an earlier use fails its check.
    pub generation: u64,
    /// No record in it has a lower sequence number.
    pub sequence: u64,
}

impl Header {
    fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        let check = hash(0, &bytes[..24]);
        bytes[24..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The header of a file, and how many bytes of records it says are committed.
    pub fn decode(file: &[u8; DATA_AT]) -> Option<(Self, u64)> {
        let number = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
        if file[..8] != MAGIC || number(24)? != hash(0, &file[..24]) {
            return None;
        }
        let committed = number(COMMITTED_AT)?.checked_sub(DATA_AT as u64)?;
        Some((Self { generation: number(8)?, sequence: number(16)? }, committed))
    }
}

/// A mapped segment.
pub struct Region {
    map: MmapRaw,
    path: PathBuf,
    generation: u64,
}

/// The right to append to a region; there is one for each use of it.
pub struct Appender {
    region: Arc<Region>,
    /// What is committed; only this value changes it.
    end: usize,
}

impl Region {
    /// Makes the file, all of its space, and the mapping.
    pub fn create(path: &Path, bytes: usize, header: Header) -> io::Result<Appender> {
        let made = Self::allocate(path, bytes.max(DATA_AT));
        if made.is_err() {
            // Half a segment is of no use and holds space that somebody may need.
            let _ = std::fs::remove_file(path);
        }
        Ok(made?.restart(header))
    }

    fn allocate(path: &Path, bytes: usize) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&file, bytes)?,
            other => other?,
        }
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        Ok(Self { map, path: path.to_owned(), generation: 0 })
    }

    /// Empties the region for another use. Nobody can hold bytes of it: it is taken by value.
    pub fn restart(mut self, header: Header) -> Appender {
        // In this order a death in between leaves an empty segment, never an old one with a new header.
        self.committed().store(DATA_AT as u64, Ordering::Release);
        let bytes = header.encode();
        // SAFETY: the map is at least `DATA_AT` long, which is more than a header; `self` is owned, so
        // there is no other reader or writer in this process.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr(), bytes.len()) };
        self.generation = header.generation;
        // The page faults now and not under a session. What cannot be had is had later, one by one.
        let _ = self.map.advise(Advice::PopulateWrite);
        Appender { region: Arc::new(self), end: DATA_AT }
    }

    fn committed(&self) -> &AtomicU64 {
        // SAFETY: in bounds (the map is at least `DATA_AT` long), aligned (a map begins at a page),
        // alive as long as `self`, and never touched but through this atomic once it is mapped.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(COMMITTED_AT).cast()) }
    }

    /// What is committed, from the first record on.
    pub fn bytes(&self) -> &[u8] {
        let end = (self.committed().load(Ordering::Acquire) as usize).clamp(DATA_AT, self.map.len());
        // SAFETY: in bounds by the clamp. Bytes before the committed length were written before its
        // release store, which the acquire load has seen; an `Appender` writes only behind it, and
        // `restart` needs the region by value while this borrow needs it to stay.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(DATA_AT), end - DATA_AT) }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Gives the space back.
    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

impl Appender {
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// How many bytes still fit.
    pub fn room(&self) -> usize {
        self.region.map.len() - self.end
    }

    /// Copies a record in and commits it; pads it to eight bytes. False when it does not fit.
    pub fn append(&mut self, parts: [&[u8]; 3]) -> bool {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let padded = size.next_multiple_of(8);
        if padded > self.room() {
            return false;
        }
        let mut at = self.end;
        for part in parts {
            // SAFETY: `at + part.len()` is at most `end + padded`, which is in bounds as checked. The
            // target is behind the committed length: nobody reads there, and `&mut self` of the only
            // appender means that nobody else writes there. `part` is a borrow from elsewhere.
            unsafe {
                let target = self.region.map.as_mut_ptr().add(at);
                std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len());
            }
            at += part.len();
        }
        self.end += padded;
        self.region.committed().store(self.end as u64, Ordering::Release);
        true
    }
}

/// For file systems that cannot allocate in one call.
fn fill(file: &File, bytes: usize) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = 0;
    while at < bytes {
        let part = &ZEROS[..ZEROS.len().min(bytes - at)];
        file.write_all_at(part, at as u64)?;
        at += part.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Header = Header { generation: 1, sequence: 1 };

    fn on_disk(path: &Path) -> (Option<(Header, u64)>, Vec<u8>) {
        let file = std::fs::read(path).unwrap();
        (Header::decode(file.first_chunk().unwrap()), file[DATA_AT..].to_vec())
    }

    #[test]
    fn what_is_committed_is_in_the_file_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.seg");
        let mut appender = Region::create(&path, 4096, FIRST).unwrap();
        assert_eq!(on_disk(&path).0, Some((FIRST, 0)));
        assert!(appender.append([b"abc", b"", b"defgh1"]));
        assert_eq!(appender.region().bytes(), b"abcdefgh1\0\0\0\0\0\0\0");
        let (header, data) = on_disk(&path);
        assert_eq!(header, Some((FIRST, 16)));
        assert_eq!(&data[..9], b"abcdefgh1");
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut appender = Region::create(&directory.path().join("1.seg"), DATA_AT + 16, FIRST).unwrap();
        assert!(!appender.append([b"12345678", b"12345678", b"1"]));
        assert_eq!(appender.region().bytes(), b"");
        assert!(appender.append([b"12345678", b"", b"1"]));
        assert_eq!(appender.room(), 0);
        assert!(!appender.append([b"", b"", b"1"]));
        assert!(appender.append([b"", b"", b""]));
    }

    #[test]
    fn a_restarted_region_is_empty_and_of_another_generation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.seg");
        let mut appender = Region::create(&path, 4096, FIRST).unwrap();
        assert!(appender.append([b"old", b"", b""]));
        let region = Arc::into_inner(appender.region).unwrap();
        let next = Header { generation: 2, sequence: 9 };
        let appender = region.restart(next);
        assert_eq!(appender.region().bytes(), b"");
        assert_eq!(appender.region().generation(), 2);
        assert_eq!(on_disk(&path).0, Some((next, 0)));
    }

    #[test]
    fn space_that_cannot_be_had_is_an_error_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.seg");
        // More than any file can be.
        assert!(Region::create(&path, isize::MAX as usize, FIRST).is_err());
        assert!(!path.exists());
        assert!(Region::create(&directory.path().join("none/1.seg"), 4096, FIRST).is_err());
    }
}
