use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong in a file, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub file: PathBuf,
    /// Counted from 1; `None` where the mistake is about the file as a whole.
    pub line: Option<usize>,
    /// The key with its tables, `target.tls`, and the value as it stands in the file where there is
    /// one: `target.tls = "verify"`. Empty where no key is to blame.
    pub key: String,
    /// What is wrong, then what would be right.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.what)
    }
}

impl std::error::Error for Mistake {}
