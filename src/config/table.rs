//! Reads TOML tables and remembers where everything stands, so that each mistake can name its line.
//!
//! A reader asks a [`Table`] for the keys it knows; what nobody asked for is an unknown key. A mistake
//! is noted in the [`Document`] and reading goes on, so that all of them are found in one run.

use std::cell::RefCell;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::de::{DeArray, DeTable, DeValue};

use super::Mistake;
use crate::model::Time;
use crate::model::limits::CONFIG_FILE_BYTES_MAX;

/// What a mistake shows of a value at most, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// One file and what was found wrong in it.
pub(super) struct Document {
    path: PathBuf,
    text: String,
    mistakes: RefCell<Vec<Mistake>>,
}

/// Reads the file at `path` with `read`. `None`: it cannot be read, or is not TOML, or `read` gave none.
pub(super) fn read_file<T>(
    path: &Path,
    mistakes: &mut Vec<Mistake>,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Option<T> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(what) => {
            mistakes.push(Mistake { file: path.to_owned(), line: None, key: String::new(), what });
            return None;
        }
    };
    let document = Document { path: path.to_owned(), text, mistakes: RefCell::default() };
    let given = match DeTable::parse(&document.text) {
        Ok(root) => Table::visit(&document, String::new(), root.get_ref(), None, read),
        Err(error) => {
            // The error's own text would quote the line, which may hold a secret.
            let at = error.span().map_or(document.text.len(), |span| span.start);
            document.note(Some(at), String::new(), format!("not TOML: {}", error.message()));
            None
        }
    };
    let mut found = document.mistakes.into_inner();
    found.sort_by_key(|mistake| mistake.line);
    mistakes.append(&mut found);
    given
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(CONFIG_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(format!("larger than {CONFIG_FILE_BYTES_MAX} bytes; a configuration file is not"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text; TOML files are".to_owned())
}

impl Document {
    fn note(&self, at: Option<usize>, key: String, what: String) {
        let line = at.map(|at| self.line(at));
        self.mistakes.borrow_mut().push(Mistake { file: self.path.clone(), line, key, what });
    }

    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// A value as it stands in the file: one line of it, cut.
    fn shown(&self, span: Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default().trim_end();
        let cut: String = text.lines().next().unwrap_or_default().chars().take(SHOWN_CHARS_MAX).collect();
        if cut.len() < text.len() { format!("{cut}…") } else { cut }
    }
}

/// One table of the file.
pub(super) struct Table<'a> {
    document: &'a Document,
    /// `target.pool`; empty for the file itself.
    path: String,
    entries: &'a DeTable<'a>,
    /// Where it begins, in bytes; `None` for the file itself.
    at: Option<usize>,
    asked: RefCell<Vec<&'static str>>,
    refused: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    fn visit<T>(
        document: &'a Document,
        path: String,
        entries: &'a DeTable<'a>,
        at: Option<usize>,
        read: impl FnOnce(&Table<'a>) -> T,
    ) -> T {
        let table =
            Self { document, path, entries, at, asked: RefCell::default(), refused: RefCell::default() };
        let given = read(&table);
        table.note_unknown_keys();
        given
    }

    /// The value of `key` where it is there and `parse` takes it.
    pub fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&Value<'a>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        parse(&value).map_err(|what| value.mistake(what)).ok()
    }

    /// The same with what holds where the key is not there.
    pub fn read_or<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Value<'a>) -> Result<T, String>,
    ) -> T {
        self.read(key, parse).unwrap_or(default)
    }

    /// The same for a key that must be there; `example` is what it could be.
    pub fn need<T>(
        &self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&Value<'a>) -> Result<T, String>,
    ) -> Option<T> {
        if !self.entries.contains_key(key) {
            self.asked.borrow_mut().push(key);
            self.document.note(self.at, self.key(key), format!("missing; such as {key} = {example}"));
            return None;
        }
        self.read(key, parse)
    }

    pub fn value(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        let value = self.entries.get(key)?;
        Some(Value {
            document: self.document,
            key: self.key(key),
            span: value.span(),
            value: value.get_ref(),
            hidden: false,
        })
    }

    /// The table `[key]`; an empty one where it is not there.
    pub fn section<T>(&self, key: &'static str, read: impl FnOnce(&Table<'_>) -> T) -> T {
        let path = self.key(key);
        match self.value(key) {
            Some(Value { value: DeValue::Table(entries), span, .. }) => {
                Table::visit(self.document, path, entries, Some(span.start), read)
            }
            Some(value) => {
                value.mistake(format!("must be a table: [{path}]"));
                Table::visit(self.document, path, &DeTable::new(), self.at, read)
            }
            None => Table::visit(self.document, path, &DeTable::new(), self.at, read),
        }
    }

    /// The tables `[[key]]`.
    pub fn list<T>(&self, key: &'static str, mut read: impl FnMut(&Table<'_>) -> Option<T>) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.value else {
            value.mistake(format!("must be a list of tables: [[{key}]], with two brackets"));
            return Vec::new();
        };
        let each = items.iter().filter_map(|item| match item.get_ref() {
            DeValue::Table(entries) => {
                Table::visit(self.document, self.key(key), entries, Some(item.span().start), &mut read)
            }
            _ => {
                value.mistake(format!("must be a list of tables: [[{key}]]"));
                None
            }
        });
        each.collect()
    }

    /// The tables `[key.NAME]` with their names and where each stands.
    pub fn named<T>(&self, key: &'static str, mut read: impl FnMut(&str, &Table<'_>) -> Option<T>) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Table(entries) = value.value else {
            let what = format!("must be tables: [{}.NAME]", value.key);
            value.hidden().mistake(what);
            return Vec::new();
        };
        let each = entries.iter().filter_map(|(name, item)| {
            let path = format!("{}.{}", value.key, name.get_ref());
            match item.get_ref() {
                DeValue::Table(entries) => {
                    Table::visit(self.document, path, entries, Some(name.span().start), |table| {
                        read(name.get_ref(), table)
                    })
                }
                _ => {
                    // Somebody may have written the secret itself here: the value is not shown.
                    let what = format!("must be a table: [{path}]");
                    self.document.note(Some(name.span().start), path, what);
                    None
                }
            }
        });
        each.collect()
    }

    /// Whether `key` stands here; it counts as known then.
    pub fn has(&self, key: &'static str) -> bool {
        self.asked.borrow_mut().push(key);
        self.entries.contains_key(key)
    }

    /// A key that must not stand here, and why; better than calling it unknown. Its value is not shown.
    pub fn refuse(&self, key: &'static str, what: &str) {
        self.refused.borrow_mut().push(key);
        if self.entries.contains_key(key) {
            self.mistake(key, what);
        }
    }

    /// Something is wrong with `key`, or with the table where it has no such key. The value is not shown.
    pub fn mistake(&self, key: &str, what: impl Into<String>) {
        let key_at = self.entries.get_key_value(key).map(|(key, _)| key.span().start);
        let name = if key.is_empty() { self.path.clone() } else { self.key(key) };
        self.document.note(key_at.or(self.at), name, what.into());
    }

    /// Where the table stands: `file:line`.
    pub fn place(&self) -> String {
        let line = self.at.map_or(1, |at| self.document.line(at));
        format!("{}:{line}", self.document.path.display())
    }

    /// A mistake about `key` that is not noted yet: what is wrong with it may show only once all files
    /// are read.
    pub fn possible_mistake(&self, key: &str) -> Mistake {
        let entry = self.entries.get_key_value(key);
        let at = entry.as_ref().map(|(key, _)| key.span().start).or(self.at);
        let shown =
            entry.map_or_else(String::new, |(_, value)| format!(" = {}", self.document.shown(value.span())));
        Mistake {
            file: self.document.path.clone(),
            line: at.map(|at| self.document.line(at)),
            key: format!("{}{shown}", self.key(key)),
            what: String::new(),
        }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn note_unknown_keys(&self) {
        let (mut asked, refused) = (self.asked.borrow().clone(), self.refused.borrow());
        asked.sort_unstable();
        asked.dedup();
        for (key, _) in self.entries.iter() {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) || refused.contains(&name) {
                continue;
            }
            let what = match nearest(name, &asked) {
                Some(near) => format!("not a key that exists here; did you mean {near}?"),
                None => format!("not a key that exists here; there are {}", listed(&asked)),
            };
            self.document.note(Some(key.span().start), self.key(name), what);
        }
    }
}

/// One value and where it stands.
pub(super) struct Value<'a> {
    document: &'a Document,
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
    hidden: bool,
}

impl<'a> Value<'a> {
    /// The same value, which no mistake will show.
    pub fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub fn mistake(&self, what: impl Into<String>) {
        let shown = self.document.shown(self.span.clone());
        let key = if self.hidden { self.key.clone() } else { format!("{} = {shown}", self.key) };
        self.document.note(Some(self.span.start), key, what.into());
    }

    pub fn text(&self) -> Result<&'a str, String> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err("must be text in quotes".to_owned()),
        }
    }

    /// A whole number within `range`.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64, String> {
        let number = match self.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }

    /// A list of texts, each through `parse`.
    pub fn texts<T>(&self, parse: impl Fn(&'a str) -> Result<T, String>) -> Result<Vec<T>, String> {
        let items = self.items().ok_or("must be a list of texts, such as [\"a\", \"b\"]")?;
        let each = items.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => parse(text),
            _ => Err("must be a list of texts, such as [\"a\", \"b\"]".to_owned()),
        });
        each.collect()
    }

    /// A list of whole numbers that fit 32 bits.
    pub fn numbers(&self) -> Result<Vec<u32>, String> {
        let items = self.items().ok_or("must be a list of whole numbers, such as [1000]")?;
        let each = items.iter().map(|item| match item.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| "must be a list of whole numbers from 0 to 4294967295".to_owned()),
            _ => Err("must be a list of whole numbers, such as [1000]".to_owned()),
        });
        each.collect()
    }

    /// A date and time with its offset.
    pub fn time(&self) -> Result<Time, String> {
        const RIGHT: &str = "must be a date, time and offset without quotes, such as 2026-11-22T08:00:00Z";
        match self.value {
            DeValue::Datetime(time) => time.to_string().parse().map_err(|_| RIGHT.to_owned()),
            _ => Err(RIGHT.to_owned()),
        }
    }

    fn items(&self) -> Option<&'a DeArray<'a>> {
        match self.value {
            DeValue::Array(items) => Some(items),
            _ => None,
        }
    }
}

/// `a, b and c`, for sentences.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// The candidate that was most likely meant, where one is near enough.
pub(super) fn nearest<'c>(name: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let near = candidates.iter().map(|candidate| (distance(name, candidate), *candidate)).min()?;
    (near.0 <= 1 + near.1.chars().count() / 4).then_some(near.1)
}

/// How many letters must be put, taken, replaced or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    // Longer than any key of ours: nothing is near it, and the cost stays small.
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                        .then(|| rows[i - 2][j - 2] + 1);
                    let moved = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    moved.min(replaced).min(swapped.unwrap_or(usize::MAX))
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_near() {
        let keys = ["address", "tls", "tls_ca", "database", "databases"];
        assert_eq!(nearest("adress", &keys), Some("address"));
        assert_eq!(nearest("tsl", &keys), Some("tls"));
        assert_eq!(nearest("datbase", &keys), Some("database"));
        assert_eq!(nearest("password", &keys), None);
        assert_eq!(nearest(&"x".repeat(5_000), &keys), None);
    }

    #[test]
    fn a_file_that_is_not_toml_gives_one_line_and_no_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, "a = 1\npassword = \"hunter2\nb = 2\n").unwrap();
        let mut mistakes = Vec::new();
        assert!(read_file(&path, &mut mistakes, |_| Some(())).is_none());
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert_eq!(mistakes[0].line, Some(2), "{mistakes:?}");
        assert!(!mistakes[0].to_string().contains("hunter2"), "{}", mistakes[0]);
    }

    #[test]
    fn files_that_cannot_be_read_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut mistakes = Vec::new();
        read_file(&folder.path().join("none.toml"), &mut mistakes, |_| Some(()));
        read_file(folder.path(), &mut mistakes, |_| Some(()));
        std::fs::write(folder.path().join("latin"), [b'a', 0xff]).unwrap();
        read_file(&folder.path().join("latin"), &mut mistakes, |_| Some(()));
        let said: Vec<_> = mistakes.iter().map(|mistake| mistake.what.as_str()).collect();
        assert!(said[0].starts_with("cannot be read: No such file"), "{said:?}");
        assert!(said[1].starts_with("cannot be read: Is a directory"), "{said:?}");
        assert_eq!(said[2], "not UTF-8 text; TOML files are");
    }
}
