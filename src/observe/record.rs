//! One record of the journal: a head of 48 bytes, the session's context, the payload, padded to eight
//! bytes. It lives only between a process and its own writer, or the next process of the same program.
//!
//! ```text
//!   0 check      8 total   12 kind   16 context   20 payload   24 sequence   32 lines   40 micros   48 …
//! ```

/// Bytes before context and payload.
pub const HEAD_BYTES: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Encoded notes of one session.
    Notes = 1,
    /// An event as a JSON object.
    Event = 2,
}

/// A record that has no sequence number yet.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub kind: Kind,
    /// How many lines it becomes: that many sequence numbers are its own.
    pub lines: u32,
    /// Wall time in microseconds since 1970.
    pub micros: i64,
    /// Members of a JSON object without the braces; empty for an event, which has its own.
    pub context: &'a [u8],
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    /// Of its first line.
    pub sequence: u64,
    pub lines: u32,
    pub micros: i64,
    pub context: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Draft<'a> {
    /// The record with its number.
    pub fn at(&self, sequence: u64) -> Record<'a> {
        let Self { kind, lines, micros, context, payload } = *self;
        Record { kind, sequence, lines, micros, context, payload }
    }

    /// What it takes of a segment, padding included.
    pub fn size(&self) -> usize {
        (HEAD_BYTES + self.context.len() + self.payload.len()).next_multiple_of(8)
    }

    /// The head, whose check binds the rest and the use of the segment. Only for records within
    /// [`crate::model::limits::AUDIT_RECORD_BYTES_MAX`]: lengths have 32 bits.
    pub fn head(&self, sequence: u64, generation: u64) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[8..12].copy_from_slice(&(self.size() as u32).to_le_bytes());
        head[12..16].copy_from_slice(&(self.kind as u32).to_le_bytes());
        head[16..20].copy_from_slice(&(self.context.len() as u32).to_le_bytes());
        head[20..24].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        head[24..32].copy_from_slice(&sequence.to_le_bytes());
        head[32..36].copy_from_slice(&self.lines.to_le_bytes());
        head[40..48].copy_from_slice(&self.micros.to_le_bytes());
        let check = check(&head, generation, self.context, self.payload);
        head[..8].copy_from_slice(&check.to_le_bytes());
        head
    }
}

impl<'a> Record<'a> {
    /// The record at the front and its size, if it is whole. Trusts the bytes otherwise: for what this
    /// very process has committed.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let short = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let size = short(8)? as usize;
        let kind = match short(12)? {
            1 => Kind::Notes,
            2 => Kind::Event,
            _ => return None,
        };
        let rest = bytes.get(HEAD_BYTES..size)?;
        let (context, rest) = rest.split_at_checked(short(16)? as usize)?;
        let payload = rest.get(..short(20)? as usize)?;
        let record =
            Self { kind, sequence: long(24)?, lines: short(32)?, micros: long(40)? as i64, context, payload };
        // No sequence number can be near the end of its range; sums of it must not overflow.
        (size.is_multiple_of(8) && record.sequence < u64::MAX >> 1).then_some((record, size))
    }

    /// The same for bytes of another process, perhaps after a power loss: whole and as committed in this
    /// use of the segment.
    pub fn parse_checked(bytes: &'a [u8], generation: u64) -> Option<(Self, usize)> {
        let (record, size) = Self::parse(bytes)?;
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let stated = u64::from_le_bytes(*head.first_chunk()?);
        (stated == check(head, generation, record.context, record.payload)).then_some((record, size))
    }
}

fn check(head: &[u8; HEAD_BYTES], generation: u64, context: &[u8], payload: &[u8]) -> u64 {
    hash(hash(hash(generation, &head[8..]), context), payload)
}

/// A quick 64 bit hash that tells torn from whole; no defence against somebody who wants to deceive.
/// Every step is a bijection of the state and of the word, so no change of a single word goes unseen.
/// Four lanes, because one would wait for each multiplication.
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |state: u64, word: u64| (state.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let word = |bytes: &[u8]| {
        let mut buffer = [0; 8];
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(buffer)
    };
    let mut state = step(seed, bytes.len() as u64);
    let (blocks, rest) = bytes.as_chunks::<32>();
    if !blocks.is_empty() {
        let mut lanes = [state, !state, state.rotate_left(17), state.rotate_left(43)];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, bytes) in lanes.iter_mut().zip(words) {
                *lane = step(*lane, u64::from_le_bytes(*bytes));
            }
        }
        state = lanes.into_iter().fold(0, step);
    }
    let (words, tail) = rest.as_chunks::<8>();
    for bytes in words {
        state = step(state, u64::from_le_bytes(*bytes));
    }
    state = step(state, word(tail));
    state ^ state >> 29
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(draft: &Draft<'_>, sequence: u64, generation: u64) -> Vec<u8> {
        let mut bytes = draft.head(sequence, generation).to_vec();
        bytes.extend_from_slice(draft.context);
        bytes.extend_from_slice(draft.payload);
        bytes.resize(draft.size(), 0);
        bytes
    }

    proptest! {
        #[test]
        fn a_record_survives_and_no_damage_goes_unseen(
            context in proptest::collection::vec(any::<u8>(), 0..90),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            sequence in 0u64..1 << 60, lines in any::<u32>(), micros in any::<i64>(),
            generation in any::<u64>(), place in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            let draft = Draft { kind: Kind::Notes, lines, micros, context: &context, payload: &payload };
            let bytes = encoded(&draft, sequence, generation);
            let whole = Record { kind: Kind::Notes, sequence, lines, micros, context: &context, payload: &payload };
            prop_assert_eq!(Record::parse_checked(&bytes, generation), Some((whole, bytes.len())));
            prop_assert_eq!(Record::parse_checked(&bytes, generation.wrapping_add(1)), None);
            let unpadded = HEAD_BYTES + context.len() + payload.len();
            let at = place.index(unpadded);
            prop_assert_eq!(Record::parse_checked(&bytes[..at], generation), None);
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            prop_assert_eq!(Record::parse_checked(&damaged, generation), None);
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&bytes);
            prop_assert_eq!(Record::parse_checked(&bytes, 1), None);
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(Record::parse(&[0; 4096]), None);
    }
}
