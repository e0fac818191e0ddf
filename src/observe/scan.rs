//! The audit files as they are read back: their names, and lines forwards and backwards with bounded
//! memory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::line::{Line, link, parse_hex};
use crate::model::limits::{AUDIT_LINE_BYTES_MAX, AUDIT_READ_BYTES};

/// `audit-000001.jsonl`, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName(u64);

impl FileName {
    pub const FIRST: Self = Self(1);

    fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
        let number = Self(digits.parse().ok()?);
        (number.to_string() == name).then_some(number)
    }

    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit-{:06}.jsonl", self.0)
    }
}

/// The audit files of a folder, oldest first.
pub fn files(directory: &Path) -> io::Result<Vec<FileName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().to_str().and_then(FileName::parse));
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads lines from the start.
pub struct Forward {
    file: BufReader<File>,
    line: Vec<u8>,
}

/// What [`Forward::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its newline.
    Line(&'a [u8]),
    /// The file ends without a newline, or a line is longer than [`AUDIT_LINE_BYTES_MAX`].
    Rest(&'a [u8]),
}

impl Forward {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::with_capacity(AUDIT_READ_BYTES, File::open(path)?), line: Vec::new() })
    }

    pub fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.line.clear();
        (&mut self.file).take(AUDIT_LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.line)?;
        Ok(match self.line.as_slice() {
            [] => None,
            [line @ .., b'\n'] => Some(Piece::Line(line)),
            rest => Some(Piece::Rest(rest)),
        })
    }
}

/// Reads lines from the end. What lies behind the last newline does not count.
pub struct Backward {
    file: File,
    /// Where in the file the buffer begins.
    position: u64,
    buffer: Vec<u8>,
    /// The end of the line to be shown next, its newline included.
    end: usize,
}

impl Backward {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let position = file.metadata()?.len();
        let mut backward = Self { file, position, buffer: Vec::new(), end: 0 };
        while backward.load()? {
            if let Some(at) = backward.buffer.iter().rposition(|byte| *byte == b'\n') {
                backward.end = at + 1;
                break;
            }
            backward.end = backward.buffer.len();
        }
        if backward.buffer.get(..backward.end).is_none_or(|lines| !lines.ends_with(b"\n")) {
            backward.end = 0;
        }
        Ok(backward)
    }

    /// Where the line lies in the file, and the line without its newline.
    pub fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        if self.end == 0 && self.position == 0 {
            return Ok(None);
        }
        if self.end == 0 && !self.load()? {
            return Ok(None);
        }
        let start = loop {
            let before = &self.buffer[..self.end.saturating_sub(1)];
            match before.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => break at + 1,
                None if self.load()? => {}
                None => break 0,
            }
        };
        let line = start..self.end.saturating_sub(1);
        self.end = start;
        Ok(Some((self.position + line.start as u64, &self.buffer[line])))
    }

    /// Puts more in front of what is not yet shown: as much again for a long line, so that the work stays
    /// linear. False at the start of the file.
    fn load(&mut self) -> io::Result<bool> {
        if self.end > AUDIT_LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an audit line is too long"));
        }
        let count = self.position.min(self.end.max(AUDIT_READ_BYTES) as u64) as usize;
        let mut buffer = vec![0; count + self.end];
        self.file.read_exact_at(&mut buffer[..count], self.position - count as u64)?;
        buffer[count..].copy_from_slice(&self.buffer[..self.end]);
        self.position -= count as u64;
        self.end = buffer.len();
        self.buffer = buffer;
        Ok(count > 0)
    }
}

/// The check of one file by its own chain.
#[derive(Debug, Default)]
pub struct Scan {
    /// Lines from the start that are right.
    pub lines: u64,
    /// Where the last of them ends.
    pub good_bytes: u64,
    /// Its chain value.
    pub chain: [u8; 32],
    /// The highest sequence number of any line that can be read.
    pub highest: u64,
    /// The chain value that the last readable line states.
    pub last_chain: [u8; 32],
    /// What is wrong with the line after the last right one.
    wrong: Option<&'static str>,
    /// Whether lines follow the wrong one that look like ours.
    goes_on: bool,
}

impl Scan {
    pub fn file(path: &Path) -> io::Result<Self> {
        let mut scan = Self::default();
        let mut reader = Forward::open(path)?;
        let mut check = Check::default();
        while let Some(piece) = reader.next()? {
            let line = match piece {
                Piece::Line(line) => Line::parse(line),
                Piece::Rest(_) => None,
            };
            if let Some(line) = line {
                scan.highest = scan.highest.max(line.sequence);
                scan.last_chain = line.chain;
                scan.goes_on |= scan.wrong.is_some();
            }
            if scan.wrong.is_some() {
                continue;
            }
            match check.line(piece) {
                Ok(line) => {
                    scan.lines += 1;
                    scan.chain = line.chain;
                    scan.good_bytes += line.body.len() as u64 + Line::TAIL_BYTES as u64 + 1;
                }
                Err(what) => {
                    scan.wrong = Some(what);
                    // A line that is whole but does not fit its place is no torn one.
                    scan.goes_on |= line.is_some();
                }
            }
        }
        Ok(scan)
    }

    /// Only the end is missing or unreadable.
    pub fn torn(&self) -> bool {
        self.wrong.is_some() && !self.goes_on
    }

    pub fn damaged(&self) -> bool {
        self.goes_on
    }

    pub fn describe(&self) -> String {
        format!("line {}: {}", self.lines + 1, self.wrong.unwrap_or("nothing is wrong"))
    }
}

/// Follows the chain through one file.
#[derive(Debug, Default)]
pub struct Check {
    /// The chain value and number of the line before.
    before: Option<([u8; 32], u64)>,
}

impl Check {
    /// Checks the next line. The first must be a `file_start`, and is taken at its word about the chain
    /// that it carries on.
    pub fn line<'a>(&mut self, piece: Piece<'a>) -> Result<Line<'a>, &'static str> {
        let Piece::Line(bytes) = piece else { return Err("it has no end") };
        let line = Line::parse(bytes).ok_or("it is not a line of the trail")?;
        let previous = match self.before {
            Some((_, sequence)) if line.sequence <= sequence => {
                return Err("its number is not above that of the line before");
            }
            Some((chain, _)) => chain,
            None => start_of(&line).ok_or("a file begins with file_start")?.previous_chain,
        };
        if link(&previous, line.body) != line.chain {
            return Err("its chain value does not fit: it, or the line before, was changed");
        }
        self.before = Some((line.chain, line.sequence));
        Ok(line)
    }
}

/// What a file's first line says of the file before.
#[derive(Debug)]
pub struct Carried {
    pub previous: Option<String>,
    pub previous_chain: [u8; 32],
}

/// Reads a `file_start`.
pub fn start_of(line: &Line<'_>) -> Option<Carried> {
    #[derive(serde::Deserialize)]
    struct Start {
        event: String,
        previous: Option<String>,
        previous_chain: String,
    }
    let mut text = line.body.to_vec();
    text.push(b'}');
    let start: Start = serde_json::from_slice(&text).ok()?;
    let previous_chain = parse_hex(start.previous_chain.as_bytes())?;
    (start.event == "file_start").then_some(Carried { previous: start.previous, previous_chain })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(FileName(7).to_string(), "audit-000007.jsonl");
        assert_eq!(FileName::parse("audit-1234567.jsonl"), Some(FileName(1_234_567)));
        for other in ["audit-7.jsonl", "audit-000007.jsonl.9.torn", "audit-+00007.jsonl", "audit-.jsonl"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }

    fn backwards(path: &Path) -> Vec<(u64, Vec<u8>)> {
        let mut reader = Backward::open(path).unwrap();
        let mut lines = Vec::new();
        while let Some((at, line)) = reader.next().unwrap() {
            lines.push((at, line.to_vec()));
        }
        lines
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn both_directions_see_the_same_lines(
            lengths in proptest::collection::vec(
                prop_oneof![6 => 0usize..200, 1 => 60_000usize..200_000], 0..12),
            rest in prop_oneof![Just(0usize), 1usize..100, Just(150_000)],
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("lines");
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (i, length) in lengths.iter().enumerate() {
                let line = vec![b'a' + i as u8; *length];
                expected.push((bytes.len() as u64, line.clone()));
                bytes.extend_from_slice(&line);
                bytes.push(b'\n');
            }
            bytes.extend(std::iter::repeat_n(b'z', rest));
            std::fs::write(&path, &bytes).unwrap();
            let mut forward = Forward::open(&path).unwrap();
            for (_, line) in &expected {
                prop_assert_eq!(forward.next().unwrap(), Some(Piece::Line(line)));
            }
            let last = forward.next().unwrap();
            prop_assert_eq!(last.is_some(), rest > 0);
            prop_assert!(last.is_none_or(|piece| matches!(piece, Piece::Rest(bytes) if bytes.len() == rest)));
            expected.reverse();
            prop_assert_eq!(backwards(&path), expected);
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("lines");
            std::fs::write(&path, &bytes).unwrap();
            let scan = Scan::file(&path).unwrap();
            prop_assert_eq!(scan.lines, 0);
            prop_assert_eq!(scan.torn(), !bytes.is_empty());
            backwards(&path);
        }
    }
}
