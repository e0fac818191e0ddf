//! Index expressions: comma lists of names, and everything that is more than a name.

use super::Wrong;
use crate::model::{Reach, pattern};

/// What no level reaches: the cluster's own accounts, whatever they are called there.
const SEALED: [&str; 3] = [".security", ".opendistro_security", ".opendistro-security"];
pub(super) const ACCOUNTS: Wrong =
    Wrong::Denied("the cluster's own accounts are not reached through the proxy");
/// What Elasticsearch allows for the name of an index.
const NAME_BYTES_MAX: usize = 255;

/// What one part of an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Name,
    Wildcard,
    All,
    /// What no look at this cluster says, for this reason.
    Elsewhere(&'static str),
}

/// A comma is part of no name. What nobody may reach is refused in every shape.
pub(super) fn shape(name: &str) -> Result<Shape, Wrong> {
    unsealed(name)?;
    Ok(match name {
        "" => return Err(Wrong::Bad("an empty index name")),
        "_all" => Shape::All,
        _ if name.starts_with('<') => Shape::Elsewhere("a date in an index name"),
        _ if name.contains(':') => Shape::Elsewhere("the name of another cluster"),
        _ if name.starts_with('-') => Shape::Elsewhere("an exclusion"),
        _ if name.contains('*') && is_plain(&name.replace('*', "x")) => Shape::Wildcard,
        _ if is_plain(name) => Shape::Name,
        _ => return Err(Wrong::Bad("this cannot be the name of an index")),
    })
}

/// Whether it names one of them, or is a pattern that was made to stand for one. `*` and `.*` were not: they are
/// everything there is, which a cluster's own guard of its accounts has to know.
pub(super) fn is_sealed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A date may have words of its own, in quotes or one by one, and by that be any name.
    let spelt = |date: &str| date.contains(['\'', '\\']) || means_accounts(&undated(date));
    means_accounts(&name) || name.split(',').any(|part| part.find('<').is_some_and(|at| spelt(&part[at..])))
}

/// What a date in a name may become, as a wildcard: what a format in braces prints is anything.
pub(super) fn undated(text: &str) -> String {
    let (mut plain, mut depth) = (String::new(), 0_usize);
    for c in text.chars() {
        match c {
            '{' => {
                if depth == 0 {
                    plain.push('*');
                }
                depth += 1;
            }
            '}' if depth > 0 => depth -= 1,
            '<' | '>' => {}
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}

/// `name`: in lower case.
fn means_accounts(name: &str) -> bool {
    let meant = |sealed: &str| match name.starts_with('.') {
        _ if is_all(name) => false,
        true => fits(name, sealed),
        false => name.starts_with('*') && name.contains("security"),
    };
    SEALED.iter().any(|sealed| name.contains(sealed) || (name.contains('*') && meant(sealed)))
}

/// What an index of the cluster's accounts may be called, behind the words of [`SEALED`].
const ENDS: [&str; 6] = ["", "-6", "-7", "-8", "-tokens-7", "-profile-8"];

/// Whether a pattern in lower case is one for an index that is called by this word.
fn fits(pattern: &str, sealed: &str) -> bool {
    ENDS.iter().any(|end| pattern::matches(pattern, &format!("{sealed}{end}")))
}

/// For a pattern by which indices to come are told: one that such a name would fit is refused, but not `*` and `.*`.
pub(super) fn unmatched(pattern: &str) -> Result<(), Wrong> {
    unsealed(pattern)?;
    let pattern = pattern.trim().to_ascii_lowercase();
    let fits = SEALED.iter().any(|sealed| fits(&pattern, sealed));
    match !is_all(&pattern) && pattern.contains('*') && fits {
        true => Err(ACCOUNTS),
        false => Ok(()),
    }
}

/// Whether a wildcard is for everything there is, or all that begins with a dot.
pub(super) fn is_all(wildcard: &str) -> bool {
    wildcard.chars().all(|c| matches!(c, '.' | '*'))
}

/// Adds what an expression stands for. A wildcard, an exclusion, `_all`, date math, another cluster's name and the
/// parts of a data stream stand for what only the cluster knows.
pub(super) fn expression(text: &str, reach: &mut Reach) -> Result<(), Wrong> {
    for name in text.split(',') {
        self::name(name, reach)?;
    }
    Ok(())
}

/// The same for one that must not be a list: a comma is part of no name.
pub(super) fn name(name: &str, reach: &mut Reach) -> Result<(), Wrong> {
    match shape(name)? {
        Shape::Name => reach.add(name),
        Shape::Wildcard => reach.everything("a wildcard"),
        Shape::All => reach.everything("_all"),
        Shape::Elsewhere(why) => reach.everything(why),
    }
    Ok(())
}

/// The cluster's own accounts are not named, whoever asks.
pub(super) fn unsealed(text: &str) -> Result<(), Wrong> {
    match is_sealed(text) {
        true => Err(ACCOUNTS),
        false => Ok(()),
    }
}

/// <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-create>
fn is_plain(name: &str) -> bool {
    let forbidden = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || matches!(c, '\\' | '/' | '*' | '?' | '"' | '<' | '>' | '|' | ',' | '#' | ':' | '%' | '{' | '}')
    };
    !name.starts_with(['-', '_', '+'])
        && name.len() <= NAME_BYTES_MAX
        && !matches!(name, "." | "..")
        && !name.contains(forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Reach, Wrong> {
        let mut reach = Reach::nothing();
        expression(text, &mut reach).map(|()| reach)
    }

    #[test]
    fn names_are_names_and_everything_else_is_more() {
        let Reach::Names(names) = of("logs-1,.kibana_1,ü").unwrap() else { panic!() };
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [".kibana_1", "logs-1", "ü"]);
        for more in [
            "*",
            "_all",
            "logs-*",
            "a,-b",
            "-a",
            "<logs-{now/d}>",
            "<secret>",
            "other:logs",
            "logs::failures",
            "a,*:b",
            "*,a",
        ] {
            assert!(matches!(of(more), Ok(Reach::Everything(_))), "{more}");
        }
        for bad in
            ["", ",", "a,", ",a", "a,,b", "_x", "+a", "a b", "a/b", "a%2cb", "a?b", "a#", "..", "a\"", "{a}"]
        {
            assert!(matches!(of(bad), Err(Wrong::Bad(_))), "{bad}");
        }
        assert!(of(&"a".repeat(256)).is_err());
        for sealed in [
            ".security-7",
            "a,.opendistro_security",
            "*.security",
            ".SECURITY",
            "c:.security-7",
            ".sec*",
            "*security-7",
            ".*-7",
            ".open*",
            "<.secur{now{'ity'}}-7>",
            "a,<.secur{now/d{'ity'}}-7>",
            "<.secur\\ity-7>",
            "<{now{.}}security-7>",
            "<.sec{now{[]}}urity-7>",
            "<.sec{now{yyyy,MM}}urity-7>",
            "c:<.secur\\ity-7>",
            "-<.secur\\ity-7>",
        ] {
            assert!(matches!(of(sealed), Err(Wrong::Denied(_))), "{sealed}");
        }
    }
}
