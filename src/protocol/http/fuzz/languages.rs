//! What a server would touch for a query in ES|QL. It shares no code with `esql.rs`: it takes a text apart into words
//! and looks at what stands behind those that bring in an index.

use super::server::Names;

/// The words of a text: what stands in double quotes begins with one.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let is = |at: usize, wanted: &str| wanted.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    let (mut words, mut at) = (Vec::new(), 0);
    while let Some(&c) = chars.get(at) {
        if is(at, "//") {
            while chars.get(at).is_some_and(|c| !matches!(c, '\r' | '\n')) {
                at += 1;
            }
        } else if is(at, "/*") {
            let mut open = 0;
            while at < chars.len() {
                let (begins, ends) = (is(at, "/*"), is(at, "*/"));
                at += if begins || ends { 2 } else { 1 };
                open += i32::from(begins) - i32::from(ends);
                if open == 0 {
                    break;
                }
            }
        } else if is(at, "\"\"\"") {
            let end = (at + 3..chars.len()).find(|end| is(*end, "\"\"\"")).unwrap_or(chars.len());
            words.push(format!("\"{}", chars[at + 3..end].iter().collect::<String>()));
            at = end + 3;
        } else if c == '"' {
            let mut said = String::from('"');
            at += 1;
            while let Some(&c) = chars.get(at).filter(|c| **c != '"') {
                at += usize::from(c == '\\');
                said.extend(chars.get(at));
                at += 1;
            }
            words.push(said);
            at += 1;
        } else if c == '`' {
            let end = (at + 1..chars.len()).find(|end| chars[*end] == '`').unwrap_or(chars.len());
            words.push("`".into());
            at = end + 1;
        } else if c.is_whitespace() {
            at += 1;
        } else if ",|()[]{}=;?".contains(c) {
            words.push(c.into());
            at += 1;
        } else {
            let ends = |c: &char| c.is_whitespace() || ",|()[]{}=;?\"`".contains(*c);
            let comment = |end: usize| is(end, "//") || is(end, "/*");
            let end = (at + 1..chars.len()).find(|end| ends(&chars[*end]) || comment(*end));
            let end = end.unwrap_or(chars.len());
            words.push(chars[at..end].iter().collect());
            at = end;
        }
    }
    words
}

/// Adds what it names. `everything`: the name of what reaches further.
pub(super) fn esql(text: &str, everything: &str, names: &mut Names) {
    let words = words(text);
    let is = |at: Option<usize>, known: &[&str]| {
        at.and_then(|at| words.get(at))
            .is_some_and(|word| known.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    let add = |at: usize, names: &mut Names| {
        let text = words.get(at).map(|word| word.trim_start_matches('"')).unwrap_or_default();
        names.extend(text.split(',').map(|name| name.trim().to_owned()));
    };
    for at in 0..words.len() {
        let before = at.checked_sub(1);
        let begins = before.is_none() || is(before, &["(", ";", "|"]);
        if begins && is(Some(at), &["from", "ts"]) {
            let mut next = at + 1;
            loop {
                match is(Some(next), &["("]) {
                    // It is looked at by itself.
                    true => {
                        let mut open = 0;
                        while next < words.len() {
                            open += i32::from(is(Some(next), &["("])) - i32::from(is(Some(next), &[")"]));
                            if open == 0 {
                                break;
                            }
                            next += 1;
                        }
                    }
                    false => add(next, names),
                }
                if !is(Some(next + 1), &[","]) {
                    break;
                }
                next += 2;
            }
        }
        if is(Some(at), &["join"]) && is(before, &["lookup"]) {
            add(at + 1, names);
        }
        if begins && is(Some(at), &["enrich", "promql", "external", "eql", "completion", "rerank"]) {
            names.insert(everything.into());
        }
    }
}
