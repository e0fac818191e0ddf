//! Names that stand for many: what a grant says of the indices that it covers.

/// Whether the pattern stands for this name. `*` is any number of characters; everything else is itself. A name that
/// begins with a dot belongs to the server or is hidden: only a pattern that begins with a dot stands for it.
pub fn fits(pattern: &str, name: &str) -> bool {
    (pattern.starts_with('.') || !name.starts_with('.')) && matches(pattern, name)
}

/// The same without the rule about dots: what a wildcard of a request stands for.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // The last star, and how much of the name it has been given.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match (pattern.get(of), star) {
            (Some(b'*'), _) => {
                star = Some((of, at));
                of += 1;
            }
            (Some(byte), _) if *byte == name[at] => {
                at += 1;
                of += 1;
            }
            (_, Some((place, given))) => {
                star = Some((place, given + 1));
                at = given + 1;
                of = place + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[of..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_anything_but_the_first_dot() {
        for (pattern, name) in [
            ("logs", "logs"),
            ("logs-*", "logs-"),
            ("logs-*", "logs-2026.11"),
            ("*-a-*", "x-a-a-b"),
            ("**", "x"),
            ("*", "logs"),
            (".kibana*", ".kibana_1"),
            ("a*b*c", "abbbcc"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("logs", "logs2"),
            ("logs-*", "logs"),
            ("logs-*", "xlogs-1"),
            ("*", ".security-7"),
            ("*security*", ".security-7"),
            ("a*b*c", "abbbccd"),
            ("", "a"),
            ("logs?", "logs1"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        /// The plain definition: a star stands for some prefix of what is left.
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|given| plain(rest, &name[given..])),
                    Some((byte, rest)) => name.first() == Some(byte) && plain(rest, &name[1..]),
                }
            }
            prop_assert_eq!(fits(&pattern, &name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
