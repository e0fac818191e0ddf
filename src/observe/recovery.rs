//! What a dead process left in its journal. Reads segment files as plain bytes, which may be anything:
//! torn after a power loss, of another size, or not ours at all.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::journal::Start;
use super::record::Record;
use super::region::{DATA_AT, Header};

/// What was found.
#[derive(Debug)]
pub struct Leftover {
    /// Committed records with at least one line above `after`, in order of sequence.
    pub records: Vec<Owned>,
    /// Numbers for the next journal: above everything found.
    pub start: Start,
    /// Every segment file, to be removed once the records are safe.
    pub files: Vec<PathBuf>,
}

/// A record's bytes with its place in the order.
#[derive(Debug)]
pub struct Owned {
    pub sequence: u64,
    bytes: Box<[u8]>,
}

impl Owned {
    pub fn record(&self) -> Option<Record<'_>> {
        Record::parse(&self.bytes).map(|(record, _)| record)
    }
}

/// Reads the segments of a folder. `after` is the highest sequence number that the audit file has.
///
/// Records at or below it are in the file already, however many segments still hold them (a segment is
/// only emptied when it is full): the argument is in [`super::journal`]. A record of which some lines
/// are in the file is found, its lines are told apart later.
pub fn read(directory: &Path, after: u64) -> io::Result<Leftover> {
    let mut left = Leftover {
        records: Vec::new(),
        start: Start { sequence: after + 1, generation: 1, number: 1 },
        files: Vec::new(),
    };
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        if let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()) {
            left.start.number = left.start.number.max(number.saturating_add(1));
        }
        segment(&path, after, &mut left)?;
        left.files.push(path);
    }
    left.records.sort_unstable_by_key(|record| record.sequence);
    Ok(left)
}

fn segment(path: &Path, after: u64, left: &mut Leftover) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut head = [0; DATA_AT];
    match file.read_exact(&mut head) {
        // It died while it made the file.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        other => other?,
    }
    let Some((header, committed)) = Header::decode(&head) else { return Ok(()) };
    left.start.generation = left.start.generation.max(header.generation.saturating_add(1));
    if header.sequence < u64::MAX >> 1 {
        left.start.sequence = left.start.sequence.max(header.sequence);
    }
    // Never more than the file has, whatever its header says.
    let mut bytes = Vec::new();
    file.take(committed).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    while let Some((record, size)) = Record::parse_checked(rest, header.generation) {
        let (whole, next) = rest.split_at(size);
        let end = record.sequence + u64::from(record.lines);
        left.start.sequence = left.start.sequence.max(end);
        if end > after + 1 {
            left.records.push(Owned { sequence: record.sequence, bytes: whole.into() });
        }
        rest = next;
    }
    if !rest.is_empty() {
        // Committed and not whole: only a power loss does that, and what it may cost is documented.
        tracing::warn!(segment = %path.display(), bytes = rest.len(), "the end of a journal segment was lost");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::record::{Draft, Kind};
    use crate::observe::region::Region;

    fn draft(payload: &[u8], lines: u32) -> Draft<'_> {
        Draft { kind: Kind::Event, lines, micros: 5, context: b"", payload }
    }

    fn write(path: &Path, header: Header, records: &[(u64, u32)]) {
        let mut appender = Region::create(path, 64 << 10, header).unwrap();
        for (sequence, lines) in records {
            let draft = draft(b"{}", *lines);
            assert!(appender.append([
                &draft.head(*sequence, header.generation),
                draft.context,
                draft.payload
            ]));
        }
    }

    fn found(directory: &Path, after: u64) -> (Vec<u64>, Leftover) {
        let left = read(directory, after).unwrap();
        (left.records.iter().map(|r| r.record().unwrap().sequence).collect(), left)
    }

    #[test]
    fn records_of_all_segments_come_in_order_and_only_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        write(&path("000003.seg"), Header { generation: 8, sequence: 1 }, &[(2, 1), (5, 2), (9, 1)]);
        write(&path("000011.seg"), Header { generation: 4, sequence: 1 }, &[(3, 2), (8, 1)]);
        std::fs::write(path("lock"), b"").unwrap();
        assert_eq!(found(directory.path(), 0).0, [2, 3, 5, 8, 9]);
        // One of the two lines of record 5 is there already.
        let (sequences, left) = found(directory.path(), 5);
        assert_eq!(sequences, [5, 8, 9]);
        assert_eq!((left.start.sequence, left.start.generation, left.start.number), (10, 9, 12));
        assert_eq!(left.files.len(), 2);
        assert_eq!(found(directory.path(), 9).0, [0u64; 0]);
        assert_eq!(found(directory.path(), 20).1.start.sequence, 21);
    }

    #[test]
    fn an_empty_journal_keeps_the_sequence() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("000001.seg"), Header { generation: 1, sequence: 77 }, &[]);
        assert_eq!(found(directory.path(), 0).1.start.sequence, 77);
    }

    #[test]
    fn records_of_an_earlier_use_are_not_taken_for_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("000001.seg");
        write(&path, Header { generation: 1, sequence: 1 }, &[(1, 1), (2, 1)]);
        let old = std::fs::read(&path).unwrap();
        write(&path, Header { generation: 2, sequence: 3 }, &[(3, 1)]);
        let mut mixed = std::fs::read(&path).unwrap();
        // A power loss: the committed length is there, the second record's page is the old one.
        let size = draft(b"{}", 1).size();
        mixed[DATA_AT + size..].copy_from_slice(&old[DATA_AT + size..]);
        mixed[64..72].copy_from_slice(&old[64..72]);
        std::fs::write(&path, mixed).unwrap();
        assert_eq!(found(directory.path(), 0).0, [3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_in_a_segment_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
            after in 0u64..1 << 40,
        ) {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("000001.seg"), &bytes).unwrap();
            prop_assert_eq!(found(directory.path(), after).0.len(), 0);
        }

        #[test]
        fn damage_costs_at_most_what_lies_behind_it(
            place in any::<prop::sample::Index>(), flip in 1u8.., truncate in any::<bool>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("000001.seg");
            write(&path, Header { generation: 3, sequence: 1 }, &[(1, 1), (2, 1), (3, 1)]);
            let size = draft(b"{}", 1).size();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = place.index(DATA_AT + 3 * size);
            if truncate { bytes.truncate(at) } else { bytes[at] ^= flip }
            std::fs::write(&path, bytes).unwrap();
            let (sequences, _) = found(directory.path(), 0);
            prop_assert!([&[][..], &[1], &[1, 2], &[1, 2, 3]].contains(&sequences.as_slice()));
            if let Some(damaged) = at.checked_sub(DATA_AT) {
                prop_assert!(sequences.len() >= damaged / size);
            }
        }
    }
}
