//! What a client was last told of the server's settings. Sessions that sit there and do nothing keep it, so what
//! all sessions of a connection were told alike is theirs together.

use super::super::facts::Parameters;
use super::super::frame;
use crate::model::limits::PARAMETERS_MAX;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// As the connection that the session began on reported them after its login.
    dialled: Parameters,
    /// What differs from that: names and values, each with a zero byte behind it.
    text: Vec<u8>,
    /// Of the names in `text`, those that are not in `dialled`.
    count: usize,
}

impl Known {
    /// Where nothing was told otherwise yet.
    pub fn new(dialled: Parameters) -> Self {
        Self { dialled, ..Self::default() }
    }

    pub fn value(&self, wanted: &[u8]) -> Option<&[u8]> {
        self.find(wanted).map(|(_, value)| &self.text[value]).or_else(|| self.dialled(wanted))
    }

    fn dialled(&self, wanted: &[u8]) -> Option<&[u8]> {
        let mut dialled = self.dialled.iter();
        dialled.find(|(name, _)| name.as_bytes() == wanted).map(|(_, value)| value.as_bytes())
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
        if self.value(name) == Some(value) {
            return false;
        }
        let dialled = self.dialled(name);
        let (is_extra, is_back) = (dialled.is_none(), dialled == Some(value));
        match self.find(name) {
            Some((start, at)) => {
                self.text.drain(start..=at.end);
            }
            None if is_extra && self.dialled.len() + self.count >= PARAMETERS_MAX => return true,
            None => self.count += usize::from(is_extra),
        }
        if !is_back {
            self.text.reserve_exact(name.len() + value.len() + 2);
            for part in [name, value] {
                self.text.extend_from_slice(part);
                self.text.push(0);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialled(settings: &[(&str, &str)]) -> Known {
        Known::new(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

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

    #[test]
    fn only_what_differs_is_kept() {
        let mut known = dialled(&[("TimeZone", "UTC"), ("DateStyle", "ISO")]);
        assert!(!known.put(b"TimeZone", b"UTC") && known.text.is_empty());
        assert!(known.put(b"TimeZone", b"Europe/Berlin") && known.put(b"x.y", b"1"));
        assert!(!known.put(b"TimeZone", b"Europe/Berlin"));
        let values = [&b"TimeZone"[..], b"DateStyle", b"x.y"].map(|name| known.value(name));
        assert_eq!(values, [Some(&b"Europe/Berlin"[..]), Some(b"ISO"), Some(b"1")]);
        // Back to what it was.
        assert!(known.put(b"TimeZone", b"UTC") && known.value(b"TimeZone") == Some(b"UTC"));
        assert_eq!((&known.text[..], known.count), (&b"x.y\x001\0"[..], 1));
        // Those that were there from the beginning count against the limit too.
        for at in 0..2 * PARAMETERS_MAX {
            known.put(at.to_string().as_bytes(), b"x");
        }
        assert_eq!(known.count, PARAMETERS_MAX - 2);
        assert!(known.put(b"DateStyle", b"German") && !known.put(b"DateStyle", b"German"));
    }
}
