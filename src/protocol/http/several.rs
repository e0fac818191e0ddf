//! `_msearch`, read search by search, so that who reads a long one can let others have their turn in between: a line
//! with the head of a search, then one with the search.

use super::asked::{Asked, At};
use super::body::{Place, object};
use super::expression::{Expand, Expression};
use super::json::{Json, Members};
use super::{Wrong, query};

/// An `_msearch` as far as it was read.
#[derive(Debug)]
pub struct Several {
    asked: Asked,
    place: Place,
    /// Lines that were read.
    lines: usize,
}

/// What the head of a search of `_msearch` may say besides `index`.
const HEAD: [&str; 9] = [
    "search_type",
    "preference",
    "routing",
    "request_cache",
    "ignore_unavailable",
    "allow_no_indices",
    "expand_wildcards",
    "ccs_minimize_roundtrips",
    "allow_partial_search_results",
];

impl Several {
    pub(super) fn new(asked: Asked, place: Place) -> Self {
        Self { asked, place, lines: 0 }
    }

    /// Reads the first search of what is left of the body. What is left behind it.
    pub fn read<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8], Wrong> {
        let (head, rest) = line(rest)?;
        self.head(&object(head)?)?;
        let (search, rest) = match rest {
            [] => return Err(Wrong::Bad("a head of _msearch has no search")),
            rest => line(rest)?,
        };
        let search = object(search)?;
        if search.contains_key("pit") {
            return Err(Wrong::Denied("a point in time among many searches"));
        }
        query::search(&search, &mut self.asked.reach)?;
        self.lines += 2;
        Ok(rest)
    }

    /// All of it has been read.
    pub fn finish(self) -> Result<Asked, Wrong> {
        match self.lines {
            0 => Err(Wrong::Bad("the body must end with a new line")),
            _ => Ok(self.asked),
        }
    }

    /// Reads all of it at once.
    pub(super) fn whole(mut self, body: &[u8]) -> Result<Asked, Wrong> {
        let mut rest = body;
        while !rest.is_empty() {
            rest = self.read(rest)?;
        }
        self.finish()
    }

    fn head(&mut self, head: &Members<'_>) -> Result<(), Wrong> {
        const TEXTS: Wrong = Wrong::Bad("index must be a text or a list of texts");
        if head.keys().any(|name| name != "index" && !HEAD.contains(&name.as_ref())) {
            return Err(Wrong::Bad("a head of _msearch says something that the proxy does not know"));
        }
        let expand = expand(head.get("expand_wildcards"), self.place.expand)?;
        let reach = &mut self.asked.reach;
        let expression = match head.get("index") {
            Some(Json::Text(text)) => Expression::parse(text, expand, reach)?,
            Some(Json::List(list)) if !list.is_empty() => {
                let texts: Option<Vec<&str>> = list.iter().map(Json::text).collect();
                let texts = texts.ok_or(TEXTS)?;
                let parts = texts.iter().flat_map(|text| text.split(','));
                Expression::of(parts, expand, reach)?
            }
            None if self.place.named => None,
            Some(Json::List(_)) | None => Some(Expression::everything(expand)),
            Some(_) => return Err(TEXTS),
        };
        self.asked.place(At::Line(self.lines), expression)
    }
}

/// A line without its end, and what is behind it.
fn line(rest: &[u8]) -> Result<(&[u8], &[u8]), Wrong> {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or(Wrong::Bad("the body must end with a new line"))?;
    let (line, rest) = (&rest[..end], &rest[end + 1..]);
    match line.contains(&b'\r') {
        true => Err(Wrong::Bad("the body's lines must end with \\n alone")),
        false => Ok((line, rest)),
    }
}

/// `expand_wildcards` of a head: a text, or a list of texts.
fn expand(said: Option<&Json>, default: Expand) -> Result<Expand, Wrong> {
    const WRONG: Wrong = Wrong::Bad("expand_wildcards must be a text or a list of texts");
    match said {
        None => Ok(default),
        Some(Json::Text(text)) => default.said(text),
        Some(Json::List(list)) => {
            let texts: Option<Vec<&str>> = list.iter().map(Json::text).collect();
            default.said(&texts.filter(|texts| !texts.is_empty()).ok_or(WRONG)?.join(","))
        }
        Some(_) => Err(WRONG),
    }
}
