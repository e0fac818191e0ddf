//! The audit files as they are written: `audit-000001.jsonl`, `audit-000002.jsonl`, … Each line ends with
//! its chain value; the first line of each file (`file_start`) names the file before it and the chain
//! value it carries on, so that a file can be checked when older ones have been put away.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::line::{LineWriter, close, put_hex, put_string};
use super::scan::{self, Scan};
use crate::model::limits::AUDIT_WRITE_BYTES;

/// The current file, open for writing.
pub struct AuditFile {
    directory: PathBuf,
    name: scan::FileName,
    file: File,
    /// What is known to be on the disk.
    safe: Mark,
    /// What has been handed to the file.
    written: Mark,
    /// Lines that are not yet handed over.
    buffer: Vec<u8>,
    #[cfg(test)]
    pub fault: Fault,
}

/// A place in the current file, and the chain value of the line that ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    length: u64,
    chain: [u8; 32],
}

/// The audit files as an earlier process left them.
pub struct Found {
    pub file: AuditFile,
    /// The highest sequence number in them.
    pub highest: u64,
}

/// What the first line of a file says.
pub struct FileStart<'a> {
    pub sequence: u64,
    pub micros: i64,
    /// Why the file before it is not simply carried on.
    pub damage: Option<&'a str>,
}

impl AuditFile {
    /// Opens the last file, or makes the first.
    ///
    /// The whole last file is checked. A line at its end that is not whole, as a death within a write
    /// leaves it, is moved to a file of its own that ends in `.torn`. Damage anywhere else is not touched,
    /// it is evidence: a new file begins then and says what is wrong with the last.
    pub fn open(directory: &Path, lines: &mut LineWriter, micros: i64) -> io::Result<Found> {
        let mut names = scan::files(directory)?;
        while let Some(name) = names.pop() {
            let path = name.path(directory);
            let scan = Scan::file(&path)?;
            if scan.damaged() {
                return Self::after_damage(directory, &name, &scan, lines, micros);
            }
            if scan.torn() {
                tracing::warn!(file = %path.display(), at = scan.good_bytes, "the last audit line was torn; it is moved aside");
                set_aside(&path, scan.good_bytes)?;
            }
            if scan.lines == 0 {
                // It died before the first line of a new file was whole: that file never began.
                std::fs::remove_file(&path)?;
                continue;
            }
            let file = OpenOptions::new().write(true).open(&path)?;
            file.sync_data()?;
            let safe = Mark { length: scan.good_bytes, chain: scan.chain };
            return Ok(Found { file: Self::with(directory, name, file, safe), highest: scan.highest });
        }
        let mut file = Self::begin(directory, scan::FileName::FIRST, [0; 32])?;
        file.start(None, FileStart { sequence: 1, micros, damage: None }, lines)?;
        Ok(Found { file, highest: 1 })
    }

    fn after_damage(
        directory: &Path,
        name: &scan::FileName,
        scan: &Scan,
        lines: &mut LineWriter,
        micros: i64,
    ) -> io::Result<Found> {
        let damage = scan.describe();
        tracing::error!(file = %name, damage, "an audit file is damaged; it is left as it is and a new one begins");
        let sequence = scan.highest + 1;
        let mut file = Self::begin(directory, name.next(), scan.last_chain)?;
        file.start(Some(name), FileStart { sequence, micros, damage: Some(&damage) }, lines)?;
        Ok(Found { file, highest: sequence })
    }

    fn with(directory: &Path, name: scan::FileName, file: File, safe: Mark) -> Self {
        Self {
            directory: directory.to_owned(),
            name,
            file,
            safe,
            written: safe,
            buffer: Vec::with_capacity(AUDIT_WRITE_BYTES + AUDIT_WRITE_BYTES / 4),
            #[cfg(test)]
            fault: Fault::default(),
        }
    }

    /// An empty file that carries on `chain`. What a failed attempt has left under its name goes.
    fn begin(directory: &Path, name: scan::FileName, chain: [u8; 32]) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(name.path(directory))?;
        Ok(Self::with(directory, name, file, Mark { length: 0, chain }))
    }

    fn start(
        &mut self,
        previous: Option<&scan::FileName>,
        start: FileStart<'_>,
        lines: &mut LineWriter,
    ) -> io::Result<()> {
        let chain = self.written.chain;
        self.line(|out| {
            lines.begin(out, start.sequence, start.micros);
            out.extend_from_slice(b",\"event\":\"file_start\",\"previous\":");
            match previous {
                Some(name) => put_string(out, &name.to_string()),
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"previous_chain\":\"");
            put_hex(out, &chain);
            out.push(b'"');
            if let Some(damage) = start.damage {
                out.extend_from_slice(b",\"previous_damage\":");
                put_string(out, damage);
            }
        })?;
        self.sync()?;
        // The name must survive a power loss like the line.
        File::open(&self.directory)?.sync_all()
    }

    /// Goes on in a new file. Everything must be synced. On an error this file stays the current one.
    pub fn rotate(&mut self, start: FileStart<'_>, lines: &mut LineWriter) -> io::Result<()> {
        #[cfg(test)]
        self.fault.check()?;
        let mut next = Self::begin(&self.directory, self.name.next(), self.safe.chain)?;
        next.start(Some(&self.name), start, lines)?;
        #[cfg(test)]
        {
            next.fault = std::mem::take(&mut self.fault);
        }
        *self = next;
        Ok(())
    }

    /// Appends a line: `write` puts in all but the chain and the closing brace.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = self.buffer.len();
        write(&mut self.buffer);
        self.written.chain = close(&mut self.buffer, start, &self.written.chain);
        self.buffer.push(b'\n');
        if self.buffer.len() >= AUDIT_WRITE_BYTES { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.fault.write(&self.file, &self.buffer, self.written.length)?;
        // At its place and not at the end of the file: what a failed write left there is written over.
        self.file.write_all_at(&self.buffer, self.written.length)?;
        self.written.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Everything so far is on the disk when it returns.
    pub fn sync(&mut self) -> io::Result<()> {
        self.spill()?;
        #[cfg(test)]
        self.fault.check()?;
        if self.written.length != self.safe.length {
            self.file.sync_data()?;
        }
        self.safe = self.written;
        Ok(())
    }

    /// Back to what is known to be on the disk. After a failed sync nobody can say what became of the
    /// pages, so they are written again and not only synced again.
    pub fn roll_back(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.written = self.safe;
        self.file.set_len(self.safe.length)
    }

    /// The bytes that are safe in the current file.
    pub fn length(&self) -> u64 {
        self.safe.length
    }

    pub fn name(&self) -> scan::FileName {
        self.name
    }
}

/// Moves what lies behind `keep` to a file of its own beside it.
fn set_aside(path: &Path, keep: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut copy = path.as_os_str().to_owned();
    copy.push(format!(".{keep}.torn"));
    let mut aside =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(PathBuf::from(copy))?;
    io::Seek::seek(&mut &file, io::SeekFrom::Start(keep))?;
    io::copy(&mut &file, &mut aside)?;
    aside.sync_all()?;
    file.set_len(keep)?;
    file.sync_all()
}

/// What a test makes go wrong: after so many further operations, for so many operations.
#[cfg(test)]
#[derive(Default)]
pub struct Fault {
    pub after: u32,
    pub times: u32,
}

#[cfg(test)]
impl Fault {
    fn check(&mut self) -> io::Result<()> {
        if self.times == 0 {
            return Ok(());
        }
        if self.after > 0 {
            self.after -= 1;
            return Ok(());
        }
        self.times -= 1;
        Err(io::Error::from_raw_os_error(28))
    }

    /// A write that fails has written a part.
    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check().inspect_err(|_| file.write_all_at(&bytes[..bytes.len() * 2 / 3], at).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::search::verify;

    fn open(directory: &Path) -> (Found, LineWriter) {
        let mut lines = LineWriter::new(|_| None);
        (AuditFile::open(directory, &mut lines, 0).unwrap(), lines)
    }

    fn put(file: &mut AuditFile, lines: &mut LineWriter, sequence: u64) {
        file.line(|out| {
            lines.begin(out, sequence, 0);
            out.extend_from_slice(b",\"event\":\"x\"");
        })
        .unwrap();
    }

    fn first(directory: &Path) -> PathBuf {
        directory.join("audit-000001.jsonl")
    }

    #[test]
    fn the_chain_goes_on_after_a_restart_and_over_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut found, mut lines) = open(path);
        assert_eq!(found.highest, 1);
        put(&mut found.file, &mut lines, 2);
        found.file.sync().unwrap();
        put(&mut found.file, &mut lines, 3);
        drop(found);
        let (mut found, mut lines) = open(path);
        assert_eq!(found.highest, 2, "what was not synced was only in memory");
        found.file.rotate(FileStart { sequence: 3, micros: 0, damage: None }, &mut lines).unwrap();
        put(&mut found.file, &mut lines, 4);
        found.file.sync().unwrap();
        assert_eq!(found.file.name().to_string(), "audit-000002.jsonl");
        let verified = verify(path).unwrap();
        assert_eq!((verified.lines, verified.files, verified.first, verified.last), (4, 2, 1, 4));
        assert_eq!(open(path).0.highest, 4);
        // Older files may be put away.
        std::fs::remove_file(first(path)).unwrap();
        assert_eq!(verify(path).unwrap().first, 3);
    }

    #[test]
    fn a_torn_line_is_moved_aside_at_every_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut found, mut lines) = open(path);
        let start = found.file.length();
        put(&mut found.file, &mut lines, 2);
        found.file.sync().unwrap();
        let whole = std::fs::read(first(path)).unwrap();
        for length in start as usize..whole.len() {
            std::fs::write(first(path), &whole[..length]).unwrap();
            let (found, _) = open(path);
            assert_eq!((found.highest, found.file.length()), (1, start), "{length}");
            assert_eq!(std::fs::metadata(first(path)).unwrap().len(), start);
        }
        let aside = std::fs::read(path.join(format!("audit-000001.jsonl.{start}.torn"))).unwrap();
        assert_eq!(aside, &whole[start as usize..whole.len() - 1]);
        // A file that never had a whole line is begun again.
        std::fs::write(first(path), &whole[..9]).unwrap();
        assert_eq!(open(path).0.highest, 1);
        verify(path).unwrap();
    }

    #[test]
    fn damage_is_kept_as_evidence_and_said_in_the_next_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut found, mut lines) = open(path);
        (2..6).for_each(|sequence| put(&mut found.file, &mut lines, sequence));
        found.file.sync().unwrap();
        let damaged = std::fs::read_to_string(first(path)).unwrap().replace("{\"seq\":3,", "{\"seq\":3 ,");
        std::fs::write(first(path), &damaged).unwrap();
        let (found, _) = open(path);
        assert_eq!(found.highest, 6);
        assert_eq!(std::fs::read_to_string(first(path)).unwrap(), damaged);
        let next = std::fs::read_to_string(path.join("audit-000002.jsonl")).unwrap();
        assert!(next.contains("\"previous_damage\":\"line 3: "), "{next}");
        let broken = verify(path).unwrap_err();
        assert_eq!((broken.file.as_str(), broken.line), ("audit-000001.jsonl", 3));
        // And that file goes on as usual.
        assert_eq!(open(path).0.highest, 6);
    }

    #[test]
    fn a_failed_write_is_rolled_back_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (mut found, mut lines) = open(path);
        for after in 0..2 {
            let before = std::fs::read(first(path)).unwrap();
            put(&mut found.file, &mut lines, 2 + u64::from(after));
            found.file.fault = Fault { after, times: 1 };
            assert!(found.file.sync().is_err());
            assert_ne!(std::fs::read(first(path)).unwrap(), before);
            found.file.roll_back().unwrap();
            assert_eq!(std::fs::read(first(path)).unwrap(), before);
            put(&mut found.file, &mut lines, 2 + u64::from(after));
            found.file.sync().unwrap();
            assert_eq!(verify(path).unwrap().last, 2 + u64::from(after));
        }
    }
}
