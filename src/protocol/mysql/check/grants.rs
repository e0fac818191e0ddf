//! The lines of SHOW GRANTS, as both servers write them.

use std::fmt;

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    /// `*.*`
    Everything,
    /// `db.*`; the name may be a pattern.
    Database(String),
    /// A table, a routine or whatever else, as the server writes it.
    Other(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("*.*"),
            Self::Database(name) => write!(f, "`{}`.*", name.replace('`', "``")),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Object {
    fn parse(text: &str) -> Self {
        if text == "*.*" {
            return Self::Everything;
        }
        match text.strip_suffix(".*") {
            Some(name) => Self::Database(unquoted(name)),
            None => Self::Other(text.to_owned()),
        }
    }

    pub fn covers(&self, database: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Database(name) => name == database || name == "%",
            Self::Other(text) => {
                let name = text.split_once('.').map(|(name, _)| unquoted(name));
                name.is_some_and(|name| name == database)
            }
        }
    }
}

fn unquoted(name: &str) -> String {
    let name = name.trim();
    let inner = name.strip_prefix(['`', '"', '\'']).and_then(|rest| rest.strip_suffix(['`', '"', '\'']));
    inner.unwrap_or(name).replace("``", "`").replace("\\_", "_")
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// Rights, in capitals, without their columns.
    rights: Vec<String>,
    /// Every right there is on the object but GRANT OPTION.
    pub all: bool,
    pub object: Object,
    /// They may be given on.
    pub with_grant: bool,
    /// Roles that may be taken on; there are no rights then.
    pub roles: Vec<String>,
}

impl Grant {
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("GRANT ")?;
        let with_grant = rest.contains(" WITH GRANT OPTION") || rest.contains(" WITH ADMIN OPTION");
        let (what, to) = split_outside(rest, " TO ")?;
        let Some((rights, object)) = split_outside(what, " ON ") else {
            // MariaDB says of a role's own line to whom it belongs.
            let roles = list(what).into_iter().map(|role| role_name(&role)).collect();
            let _ = to;
            return Some(Self {
                rights: Vec::new(),
                all: false,
                object: Object::Other(String::new()),
                with_grant,
                roles,
            });
        };
        let rights: Vec<String> = list(rights)
            .into_iter()
            .map(|right| right.split('(').next().unwrap_or_default().trim().to_ascii_uppercase())
            .filter(|right| right != "USAGE" && !right.is_empty())
            .collect();
        let all = rights.iter().any(|right| right == "ALL PRIVILEGES" || right == "ALL");
        Some(Self { rights, all, object: Object::parse(object.trim()), with_grant, roles: Vec::new() })
    }

    /// It gives this right, by its name or as one of all.
    pub fn has(&self, right: &str) -> bool {
        self.all || self.names(right)
    }

    pub fn names(&self, right: &str) -> bool {
        self.rights.iter().any(|known| known == right)
    }

    pub fn is_empty(&self) -> bool {
        self.rights.is_empty()
    }

    pub fn line(&self) -> String {
        format!("GRANT {} ON {}", self.rights.join(", "), self.object)
    }
}

/// `r1`, or `r1@%` where the host says something.
fn role_name(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while let Some((part, behind)) = split_outside(rest, "@") {
        parts.push(unquoted(part));
        rest = behind;
    }
    parts.push(unquoted(rest));
    parts.join("@")
}

/// Splits at the first place that is in no quotes.
fn split_outside<'a>(text: &'a str, at: &str) -> Option<(&'a str, &'a str)> {
    let mut quote = None;
    for (place, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text[place..].starts_with(at) => {
                return Some((&text[..place], &text[place + at.len()..]));
            }
            None if matches!(c, '`' | '"' | '\'') => quote = Some(c),
            None => {}
        }
    }
    None
}

/// The parts between commas that are in no quotes and no brackets.
fn list(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quote, mut depth) = (Vec::new(), String::new(), None, 0u32);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '`' | '"' | '\'') => quote = Some(c),
            None if c == '(' => depth += 1,
            None if c == ')' => depth = depth.saturating_sub(1),
            None if c == ',' && depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_servers_are_read() {
        let grant = Grant::parse(
            "GRANT SELECT, INSERT (`a`, `b`), SHOW VIEW ON `a b`.* TO `u`@`%` WITH GRANT OPTION",
        );
        let grant = grant.unwrap();
        assert_eq!(grant.rights, ["SELECT", "INSERT", "SHOW VIEW"]);
        assert!(grant.with_grant && grant.object.covers("a b") && !grant.object.covers("a"));
        let usage = Grant::parse("GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*94 TO 0'").unwrap();
        assert!(usage.is_empty() && usage.object == Object::Everything);
        assert!(Grant::parse("GRANT ALL PRIVILEGES ON `shop`.`t` TO `u`@`%`").unwrap().has("DROP"));
        assert_eq!(Grant::parse("GRANT `r``1`@`%`, r2 TO `u`@`%`").unwrap().roles, ["r`1@%", "r2"]);
        assert_eq!(Grant::parse("GRANT `shop\\_x`.* "), None);
        assert_eq!(Grant::parse("SET DEFAULT ROLE `r1` FOR `u`@`%`"), None);
        let pattern = Grant::parse("GRANT SELECT ON `shop\\_x`.* TO `u`@`%`").unwrap();
        assert!(pattern.object.covers("shop_x"));
    }
}
