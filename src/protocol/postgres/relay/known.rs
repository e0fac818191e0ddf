//! What a client was last told of the server's settings, in one piece of memory: it is kept by sessions that sit
//! there and do nothing.

use super::super::frame;
use crate::model::limits::PARAMETERS_MAX;

/// Names and values, each with a zero byte behind it.
#[derive(Debug, Default)]
pub(super) struct Known {
    text: Vec<u8>,
    count: usize,
}

impl Known {
    /// With room for these, and no more.
    pub fn for_all<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let bytes = settings.take(PARAMETERS_MAX).map(|(name, value)| name.len() + value.len() + 2).sum();
        Self { text: Vec::with_capacity(bytes), count: 0 }
    }

    pub fn value(&self, wanted: &[u8]) -> Option<&[u8]> {
        self.find(wanted).map(|(_, value)| &self.text[value])
    }

    /// Where an entry begins, and its value without the zero byte.
    fn find(&self, wanted: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
        let mut rest = &self.text[..];
        while !rest.is_empty() {
            let start = self.text.len() - rest.len();
            let name = frame::take_string(&mut rest)?;
            let from = self.text.len() - rest.len();
            let value = frame::take_string(&mut rest)?;
            if name == wanted {
                return Some((start, from..from + value.len()));
            }
        }
        None
    }

    /// False where it is what we knew. A name too many is not kept, so it is always news.
    pub fn put(&mut self, name: &[u8], value: &[u8]) -> bool {
        // Settings of a server have no zero bytes: they came as strings that end with one.
        let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
        match self.find(name) {
            Some((_, at)) if &self.text[at.clone()] == value => return false,
            Some((start, at)) => {
                self.text.drain(start..=at.end);
            }
            None if self.count >= PARAMETERS_MAX => return true,
            None => self.count += 1,
        }
        let more = name.len() + value.len() + 2;
        self.text.reserve_exact(more);
        for part in [name, value] {
            self.text.extend_from_slice(part);
            self.text.push(0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_is_known() {
        let mut known = Known::default();
        assert!(known.put(b"a", b"1") && known.put(b"bb", b"") && known.put(b"c", b"3"));
        assert!(!known.put(b"a", b"1") && !known.put(b"bb", b""));
        assert!(known.put(b"bb", b"long") && known.put(b"a", b""));
        let values = [&b"a"[..], b"bb", b"c", b"d"].map(|name| known.value(name));
        assert_eq!(values, [Some(&b""[..]), Some(b"long"), Some(b"3"), None]);
        for at in 0..2 * PARAMETERS_MAX {
            known.put(at.to_string().as_bytes(), b"x");
        }
        assert_eq!(known.count, PARAMETERS_MAX);
        assert!(known.put(b"one more", b"x") && known.value(b"one more").is_none());
    }
}
