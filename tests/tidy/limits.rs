//! `docs/limits.md` says what the sources and the commented configuration say: every limit is in it, with
//! the value that it has.

use std::collections::BTreeMap;

const DOCUMENT: &str = "docs/limits.md";
const LIMITS: &str = "src/model/limits.rs";
/// Where keys stand with their defaults, and what precedes the section in their names.
const CONFIGURATION: [(&str, &str); 2] =
    [("config/tidegate.toml", ""), ("config/examples/orders.toml", "target.pool")];

#[test]
fn every_limit_is_in_the_documents_with_its_value() {
    let found = drift(|path| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(root.join(path)).expect("a tracked file")
    });
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn drift(read: impl Fn(&str) -> String) -> Vec<String> {
    let (document, codes) = (read(DOCUMENT), read("docs/codes.md"));
    let mut known = constants(&read(LIMITS));
    let mut keys = BTreeMap::new();
    for (file, only) in CONFIGURATION {
        let limits = |(key, _): &(String, String)| key.starts_with(only) && is_limit(key);
        keys.extend(defaults(&read(file)).into_iter().filter(limits));
    }
    let mut found = Vec::new();
    let mut told = |what: String| found.push(format!("{DOCUMENT}: {what}"));
    for (name, value) in rows(&document) {
        let Some(right) = known.get(&name).or(keys.get(&name)) else {
            told(format!("there is no {name}"));
            continue;
        };
        // `0 (none)`: what stands in brackets is for people.
        if value.split(" (").next() != Some(right) {
            told(format!("{name} is {value:?} and should be {right:?}"));
        }
        keys.remove(&name);
    }
    for key in keys.keys() {
        told(format!("{key} is missing"));
    }
    let named = |name: &str| document.contains(&format!("`{name}`"));
    known.retain(|name, _| !named(name));
    for name in known.keys() {
        told(format!("{name} is missing: a row, or a word under \"Inside\""));
    }
    for word in document.split(|c: char| !c.is_ascii_alphanumeric()) {
        if word.len() == 5 && word.starts_with("TG0") && !codes.contains(word) {
            told(format!("there is no code {word}"));
        }
    }
    found
}

/// Keys with a number that is no limit are a few, such as the number of a group.
fn is_limit(key: &str) -> bool {
    ["seconds", "_ms", "max", "min", "bytes", "workers"].iter().any(|part| key.contains(part))
        || key.starts_with("limits.")
}

/// Second and third cell of the rows whose second cell is one name in backticks.
fn rows(document: &str) -> Vec<(String, String)> {
    let cells = document.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), (*cells.get(2)?).to_owned()))
    });
    cells.collect()
}

/// The constants by name, in the form of the document.
fn constants(source: &str) -> BTreeMap<String, String> {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let mut shown = BTreeMap::new();
    for line in source.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let (name, rest) = line.split_once(':').expect("a constant has a type");
        let (kind, value) = rest.trim_end_matches(';').split_once('=').expect("a constant has a value");
        let (number, text) = match value.trim().strip_prefix("Duration::from_") {
            Some(duration) => {
                let (unit, value) = duration.trim_end_matches(')').split_once('(').expect("a duration");
                let number = number(value, &numbers) * if unit == "secs" { 1_000 } else { 1 };
                (number, time(number))
            }
            None => {
                assert!(!kind.contains("Duration"), "{line}");
                let number = number(value, &numbers);
                (number, amount(name, number))
            }
        };
        numbers.insert(name.to_owned(), number);
        shown.insert(name.to_owned(), text);
    }
    shown
}

/// `64 << 10`, `30 * 24 * 3_600`, `OTHER - 4_096`.
fn number(text: &str, known: &BTreeMap<String, u64>) -> u64 {
    let text = text.trim();
    let of = |text| number(text, known);
    if let Some((one, other)) = text.split_once(" - ") {
        of(one) - of(other)
    } else if let Some((one, other)) = text.split_once(" << ") {
        of(one) << of(other)
    } else if let Some((one, other)) = text.split_once(" * ") {
        of(one) * of(other)
    } else {
        let digits = text.replace('_', "").parse();
        digits.unwrap_or_else(|_| *known.get(text).unwrap_or_else(|| panic!("{text:?} is no number")))
    }
}

fn time(millis: u64) -> String {
    const DAY: u64 = 86_400_000;
    match millis {
        _ if millis.is_multiple_of(DAY) => format!("{} days", millis / DAY),
        _ if millis.is_multiple_of(1_000) => format!("{} s", millis / 1_000),
        _ => format!("{millis} ms"),
    }
}

fn amount(name: &str, number: u64) -> String {
    if name.contains("_SECONDS_") {
        time(number * 1_000)
    } else if name.contains("_CHARS") {
        format!("{} characters", grouped(number))
    } else if !name.contains("_BYTES") {
        grouped(number)
    } else if number >= 1 << 20 && number.is_multiple_of(1 << 20) {
        format!("{} MiB", number >> 20)
    } else if number >= 1 << 10 && number.is_multiple_of(1 << 10) {
        format!("{} KiB", number >> 10)
    } else {
        format!("{} bytes", grouped(number))
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Keys with a number for a value, commented or not, with the section before them.
fn defaults(file: &str) -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut found = BTreeMap::new();
    for line in file.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && value.chars().all(|c| c.is_ascii_digit())
        {
            found.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    found
}

#[test]
fn what_drifts_is_found() {
    let read = |document: &'static str| {
        move |path: &str| {
            let text = match path {
                DOCUMENT => document,
                LIMITS => {
                    "pub const A_BYTES: usize = 64 << 10;\npub const B: Duration = Duration::from_secs(2 * 86_400);"
                }
                "docs/codes.md" => "TG001",
                "config/tidegate.toml" => {
                    "[listener]\ngid = 1\n[limits]\n# Ten = 10 of them.\n#x_seconds = 10\n#level = \"a\""
                }
                _ => "[target.pool]\nsize_max = 5\n[target]\nother = 6",
            };
            text.to_owned()
        }
    };
    let right =
        "|a|`A_BYTES`|64 KiB|TG001|\n|b|`limits.x_seconds`|10 (ten)||\n|c|`target.pool.size_max`|5||\n`B`";
    assert_eq!(drift(read(right)), Vec::<String>::new());
    for (wrong, said) in [
        (
            "|a|`A_BYTES`|65 KiB||\n`B` |b|`limits.x_seconds`|10||\n|c|`target.pool.size_max`|5||",
            "limits.x_seconds is missing",
        ),
        ("|a|`A_BYTES`|65 KiB||", "A_BYTES is \"65 KiB\" and should be \"64 KiB\""),
        ("|a|`A_BYTES`|64 KiB||", "B is missing"),
        ("|a|`B`|2 s||", "B is \"2 s\" and should be \"2 days\""),
        ("|a|`C`|1||", "there is no C"),
        ("|a|`target.pool.size_max`|6||", "target.pool.size_max is \"6\""),
        ("TG002", "there is no code TG002"),
    ] {
        let found = drift(read(wrong));
        assert!(found.iter().any(|one| one.contains(said)), "{wrong}: {found:?}");
    }
}
