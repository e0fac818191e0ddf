use std::path::{Component, Path, PathBuf};

/// Environment variables of secrets begin like this, so that a resource file cannot ask for any other
/// variable of the process (design 1.2).
pub const ENVIRONMENT_PREFIX: &str = "TIDEGATE_SECRET_";

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// Below the secret directory.
    File(PathBuf),
    Environment(String),
}

impl Reference {
    /// Takes `file:NAME` and `env:TIDEGATE_SECRET_…`. The error never shows the text, which may be a
    /// password that somebody wrote in the wrong place.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return file(path);
        }
        if let Some(name) = text.strip_prefix("env:") {
            return environment(name);
        }
        Err(format!(
            "not a reference to a secret; write \"file:NAME\" for a file in the secret directory, or \
             \"env:{ENVIRONMENT_PREFIX}NAME\", and never the secret itself"
        ))
    }
}

fn file(path: &str) -> Result<Reference, String> {
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    // `components` drops a "." in the middle and a trailing slash; neither names a file here.
    let untidy = path.ends_with('/') || path.contains('\0') || path.split('/').any(|part| part == ".");
    if path.is_empty() || untidy || !Path::new(path).components().all(plain) {
        return Err("must stay below the secret directory: a relative path without \"..\", such as \
             \"file:orders-read.json\""
            .to_owned());
    }
    Ok(Reference::File(PathBuf::from(path)))
}

fn environment(name: &str) -> Result<Reference, String> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if rest.is_empty() || !rest.chars().all(allowed) {
        return Err(format!(
            "only environment variables that begin with {ENVIRONMENT_PREFIX} and go on with A-Z, 0-9 and _ are \
             read, such as \"env:{ENVIRONMENT_PREFIX}ORDERS_READ\""
        ));
    }
    Ok(Reference::Environment(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_files_below_and_variables_of_ours() {
        assert_eq!(Reference::parse("file:a/b.json"), Ok(Reference::File("a/b.json".into())));
        assert_eq!(
            Reference::parse("env:TIDEGATE_SECRET_ORDERS_1"),
            Ok(Reference::Environment("TIDEGATE_SECRET_ORDERS_1".to_owned()))
        );
        for bad in [
            "",
            "hunter2",
            "file:",
            "file:/etc/shadow",
            "file:../x",
            "file:a/../../x",
            "file:./x",
            "file:a/./b",
            "file:a/",
            "file:a\0b",
            "file:..",
            "env:",
            "env:PATH",
            "env:TIDEGATE_SECRET_",
            "env:TIDEGATE_SECRET_a",
            "env:TIDEGATE_SECRET_A=B",
            "ENV:TIDEGATE_SECRET_A",
        ] {
            let error = Reference::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("shadow"), "{error}");
        }
    }
}
