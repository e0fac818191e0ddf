//! `_bulk`, read as it comes, however it is cut into pieces: a line with an action, then, unless it deletes, one with a
//! document. The document is never looked into, and nothing of it is kept: the cluster ends it at the same byte.

use super::{Asked, Wrong, body};
use crate::model::{Reach, Touch, limits};

/// What an action may say besides `_index`. A pipeline may write elsewhere.
const ACTION: [&str; 8] = [
    "_id",
    "routing",
    "version",
    "version_type",
    "if_seq_no",
    "if_primary_term",
    "retry_on_conflict",
    "require_alias",
];

/// A `_bulk` as far as it has come.
#[derive(Debug)]
pub struct Bulk {
    asked: Asked,
    /// The path names what an action leaves out.
    named: bool,
    /// What has come of an action and has not been read.
    begun: Vec<u8>,
    /// Actions that were read.
    actions: u64,
    next: Next,
}

/// What the next bytes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Action,
    Document { begun: bool, is_object: bool },
}

impl Bulk {
    pub(super) fn new(asked: Asked, named: bool) -> Self {
        Self { asked, named, begun: Vec::new(), actions: 0, next: Next::Action }
    }

    /// Reads more of it.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), Wrong> {
        if piece.contains(&b'\r') {
            return Err(Wrong::Bad("the body's lines must end with \\n alone"));
        }
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.end_line(&piece[..end])?;
            piece = &piece[end + 1..];
        }
        match self.next {
            Next::Action => self.keep(piece),
            Next::Document { .. } => self.document(piece),
        }
    }

    /// How many of the bytes that came have not been read yet. What all before them touch is known.
    pub fn unread(&self) -> usize {
        self.begun.len()
    }

    /// What is touched by what was read so far.
    pub fn touch(&self) -> Touch {
        self.asked.touch()
    }

    /// What is asked for by what was read so far.
    pub fn so_far(&self) -> Asked {
        let mut asked = Asked::new(self.asked.level.clone());
        asked.reach = self.asked.reach.clone();
        asked
    }

    /// How many names there are in that; `None`: it is more than names can say.
    pub fn names(&self) -> Option<usize> {
        match &self.asked.reach {
            Reach::Names(names) => Some(names.len()),
            Reach::Everything(_) => None,
        }
    }

    /// It has come whole.
    pub fn finish(self) -> Result<Asked, Wrong> {
        match self.next {
            Next::Action if self.actions > 0 && self.begun.is_empty() => Ok(self.asked),
            Next::Document { begun: false, .. } => Err(Wrong::Bad("an action of _bulk has no document")),
            _ => Err(Wrong::Bad("the body must end with a new line")),
        }
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), Wrong> {
        if self.begun.len() + piece.len() > limits::HTTP_QUERY_BYTES_MAX {
            return Err(Wrong::Bad("a line of the body is longer than what the proxy reads for names"));
        }
        self.begun.extend_from_slice(piece);
        Ok(())
    }

    fn document(&mut self, piece: &[u8]) -> Result<(), Wrong> {
        let Next::Document { begun, is_object } = &mut self.next else { return Ok(()) };
        *begun |= !piece.is_empty();
        match piece.trim_ascii_start().first() {
            Some(_) if *is_object => {}
            Some(b'{') => *is_object = true,
            Some(_) => return Err(Wrong::Bad("a document of _bulk must be an object")),
            None => {}
        }
        Ok(())
    }

    /// `rest`: of the line, behind what has come of it before.
    fn end_line(&mut self, rest: &[u8]) -> Result<(), Wrong> {
        if let Next::Document { .. } = self.next {
            self.document(rest)?;
            return match std::mem::replace(&mut self.next, Next::Action) {
                Next::Document { is_object: false, .. } => {
                    Err(Wrong::Bad("a document of _bulk must be an object"))
                }
                _ => Ok(()),
            };
        }
        if self.begun.is_empty() {
            return self.action(rest);
        }
        self.keep(rest)?;
        let line = std::mem::take(&mut self.begun);
        self.action(&line)
    }

    fn action(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let (action, reach) = (body::object(line)?, &mut self.asked.reach);
        let mut members = action.iter();
        let (Some((verb, meta)), None) = (members.next(), members.next()) else {
            return Err(Wrong::Bad("an action of _bulk must have one member"));
        };
        let meta = meta.object().ok_or(Wrong::Bad("an action of _bulk must be an object"))?;
        for name in meta.keys().filter(|name| *name != "_index") {
            match name.as_str() {
                "pipeline" => reach.everything("a pipeline"),
                name if ACTION.contains(&name) => {}
                _ => {
                    return Err(Wrong::Bad("an action of _bulk says something that the proxy does not know"));
                }
            }
        }
        body::one_index(meta.get("_index"), self.named, reach)?;
        if matches!(reach, Reach::Names(names) if names.len() > limits::HTTP_NAMES_MAX) {
            return Err(Wrong::Bad("the body names too many indices"));
        }
        self.actions += 1;
        self.next = match verb.as_str() {
            "index" | "create" | "update" => Next::Document { begun: false, is_object: false },
            "delete" => Next::Action,
            _ => return Err(Wrong::Bad("an action of _bulk is none of index, create, update and delete")),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccessLevel;

    fn bulk() -> Bulk {
        Bulk::new(Asked::new(AccessLevel::ReadWrite), true)
    }

    #[test]
    fn what_is_kept_and_named_is_bounded() {
        let action = |name: usize| format!("{{\"delete\":{{\"_index\":\"a{name}\"}}}}\n");
        let body: String = (0..limits::HTTP_NAMES_MAX).map(action).collect();
        let mut many = bulk();
        many.push(body.as_bytes()).unwrap();
        assert_eq!(many.names(), Some(limits::HTTP_NAMES_MAX));
        many.push(action(limits::HTTP_NAMES_MAX).as_bytes()).unwrap_err();
        // Of documents nothing is kept, however long they are; of an action no more than the limit.
        let long = " ".repeat(limits::HTTP_QUERY_BYTES_MAX);
        let mut read = bulk();
        read.push(b"{\"index\":{}}\n  ").unwrap();
        read.push(format!("{{{long}").as_bytes()).unwrap();
        assert_eq!(read.unread(), 0);
        read.push(b"}\n{\"delete\":{}").unwrap();
        assert_eq!(read.unread(), 12);
        read.push(b"}\n").unwrap();
        assert_eq!(read.unread(), 0);
        read.push(long.as_bytes()).unwrap();
        read.push(b"{").unwrap_err();
    }
}
