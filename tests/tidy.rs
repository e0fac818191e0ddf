//! What must never drift and no compiler checks: the order of the layers, who makes the proofs, what
//! has no place in the tree. Every rule reads the tracked sources as text, and has a test of its own
//! that shows it a bad snippet.

// Helpers of tests are tests, which clippy cannot see.
#![allow(clippy::expect_used)]

#[path = "tidy/limits.rs"]
mod limits;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The layers of `src/lib.rs`, lowest first.
const LAYERS: [&[&str]; 8] = [
    &["model"],
    &["credential", "grant"],
    &["protocol"],
    &["store", "secret", "tls", "config"],
    &["pool", "observe", "identity"],
    &["proxy"],
    &["admin"],
    &["cli", "main"],
];
const COLUMNS_MAX: usize = 120;
/// A SAFETY comment stands at most this many lines above its block.
const SAFETY_LINES: usize = 3;

// ---------------------------------------------------------------------------------------------
// The rules on the real tree

#[test]
fn imports_follow_the_order_of_the_layers() {
    check(layers);
}

#[test]
fn proofs_are_made_in_their_modules_only() {
    check(proofs);
}

#[test]
fn nothing_unfinished_is_left_in_the_sources() {
    check(unfinished);
}

#[test]
fn every_source_file_is_named_by_a_module() {
    check(orphans);
}

#[test]
fn lines_fit_on_a_screen() {
    check(long_lines);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    check(unsafe_without_reason);
}

#[test]
fn every_protocol_has_golden_bytes_and_a_fuzz_target() {
    check(protocol_folders);
}

#[test]
fn the_repository_speaks_of_itself_alone() {
    check(banned_words);
}

fn check(rule: fn(&[File]) -> Vec<String>) {
    let found = rule(&tree());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

struct File {
    path: String,
    text: String,
    /// Where comments and literals are blanks; lines and columns are the same.
    code: String,
    /// `code` where test code is blank as well.
    shipped: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { mask(text) } else { String::new() };
        let shipped = if is_test_file(path) { String::new() } else { without_tests(&code, text) };
        Self { path: path.into(), text: text.into(), code, shipped }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The top-level module that a file under `src` belongs to.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split('/').next()?.trim_end_matches(".rs"))
    }
}

fn is_test_file(path: &str) -> bool {
    !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// All text files that are tracked, or would be.
fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git lists the files of the tree");
    assert!(listed.status.success(), "not a git work tree: {}", String::from_utf8_lossy(&listed.stderr));
    let files: Vec<File> = String::from_utf8(listed.stdout)
        .expect("paths are UTF-8")
        .split_terminator('\0')
        .filter_map(|path| Some(File::new(path, &std::fs::read_to_string(root.join(path)).ok()?)))
        .collect();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the tree is not the repository");
    files
}

fn at(file: &File, offset: usize) -> String {
    let line = file.code[..offset].matches('\n').count() + 1;
    format!("{}:{line}", file.path)
}

// ---------------------------------------------------------------------------------------------
// Rules

fn layers(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let mut imports = BTreeSet::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(own) = file.module().filter(|own| *own != "lib") else { continue };
        let Some(own_layer) = layer(own) else {
            found.push(format!("{}: the module {own} is in no layer of {}", file.path, file!()));
            continue;
        };
        for (offset, other) in paths(file) {
            let Some(other_layer) = layer(&other).filter(|_| other != own) else { continue };
            if other_layer > own_layer {
                found.push(format!(
                    "{}: {own} (layer {own_layer}) imports {other} (layer {other_layer})",
                    at(file, offset)
                ));
            }
            imports.insert((own.to_owned(), other));
        }
    }
    for (one, other) in &imports {
        if one < other && imports.contains(&(other.clone(), one.clone())) && layer(one) == layer(other) {
            found.push(format!("{one} and {other} import each other"));
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Every first module of a path that starts at the crate, with its place: `crate::a::…`,
/// `crate::{a::…, b}`, and `super::…` that climbs up to the crate.
fn paths(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (offset, _) in file.code.match_indices("crate::").filter(|(o, _)| starts_word(&file.code, *o)) {
        let rest = &file.code[offset + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push((offset, word(rest))),
            Some(group) => found.extend(heads(group).into_iter().map(|head| (offset, head))),
        }
    }
    let inside = file.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inside.split('/').count();
    for (offset, _) in file.code.match_indices("super::").filter(|(o, _)| starts_word(&file.code, *o)) {
        let mut rest = &file.code[offset..];
        let mut climbed = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            climbed += 1;
        }
        if climbed >= depth && !file.code[..offset].ends_with("super::") {
            found.push((offset, word(rest)));
        }
    }
    found
}

/// The first words of the members of a `{…}` group whose brace is already taken off.
fn heads(group: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut depth, mut fresh) = (1, true);
    for (offset, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            c if fresh && (c.is_alphanumeric() || c == '_') => {
                found.push(word(&group[offset..]));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// Who may make what. The last column names test code that may as well, beside `#[cfg(test)]`.
const PROOFS: [(&str, &[&str], &[&str]); 4] = [
    ("Identity", &["::proven(", "{"], &["src/credential/"]),
    ("Admission", &["{"], &["src/grant/"]),
    ("Upkeep", &["::new("], &["src/pool/", "src/protocol/kit"]),
    ("Clean", &["::new(", "{", "("], &["src/pool/"]),
];

fn proofs(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (proof, makers, homes) in PROOFS {
        for file in files.iter().filter(|file| !homes.iter().any(|home| file.path.starts_with(home))) {
            for (offset, _) in file.shipped.match_indices(proof) {
                let after = file.shipped[offset + proof.len()..].trim_start();
                let made = makers.iter().any(|maker| after.starts_with(maker));
                if made && starts_word(&file.shipped, offset) && !names_a_type(&file.shipped[..offset]) {
                    found.push(format!("{}: {proof} is only made in {}", at(file, offset), homes[0]));
                }
            }
        }
    }
    found
}

/// Does the text before a name end in a way that makes it a type and not a value, such as
/// `impl … for NAME {` or `-> NAME {`?
fn names_a_type(before: &str) -> bool {
    let mut before = before.trim_end();
    // A path in front of the name says nothing.
    while let Some(path) = before.strip_suffix("::") {
        before = path.trim_end_matches(is_word);
    }
    // Nor does a reference to it.
    let before = before.trim_end().trim_end_matches('&').trim_end();
    ["impl", "for", "struct", "enum", "trait", "->"].iter().any(|word| before.ends_with(word))
}

fn unfinished(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            for (offset, _) in
                file.shipped.match_indices(word).filter(|(o, _)| starts_word(&file.shipped, *o))
            {
                found.push(format!("{}: {word} is left", at(file, offset)));
            }
        }
    }
    found
}

fn orphans(files: &[File]) -> Vec<String> {
    let declares = |parent: &str, name: &str| {
        files.iter().any(|file| {
            file.path == parent
                && file.code.match_indices("mod ").any(|(o, _)| {
                    let rest = &file.code[o + 4..];
                    starts_word(&file.code, o) && word(rest) == name && rest[name.len()..].starts_with(';')
                })
        })
    };
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && file.path.starts_with("src/")) {
        if ["src/lib.rs", "src/main.rs"].contains(&file.path.as_str()) {
            continue;
        }
        let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let Some((folder, name)) = stem.rsplit_once('/') else { continue };
        let parents = match folder {
            "src" => vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()],
            _ => vec![format!("{folder}/mod.rs"), format!("{folder}.rs")],
        };
        if !parents.iter().any(|parent| declares(parent, name)) {
            found.push(format!("{}: no module names this file", file.path));
        }
    }
    found
}

fn long_lines(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() || file.path.starts_with("scripts/")) {
        // Text in quotes and tables in documentation are what they are; the formatter leaves both alone.
        let shown = if file.is_rust() { blank(&file.text, false) } else { file.text.clone() };
        for (number, line) in shown.lines().enumerate() {
            let columns = line.chars().filter(|c| *c != BLANK_LITERAL).count();
            if columns > COLUMNS_MAX && !line.trim_start().starts_with("//! |") {
                found.push(format!("{}:{}: {columns} columns, over {COLUMNS_MAX}", file.path, number + 1));
            }
        }
    }
    found
}

fn unsafe_without_reason(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in file.code.lines().enumerate() {
            let is_unsafe = line
                .match_indices("unsafe")
                .any(|(o, _)| starts_word(line, o) && word(&line[o..]) == "unsafe");
            let said = lines[number.saturating_sub(SAFETY_LINES)..=number]
                .iter()
                .any(|line| line.contains("SAFETY:"));
            if is_unsafe && !said {
                found.push(format!("{}:{}: unsafe without a SAFETY comment above it", file.path, number + 1));
            }
        }
    }
    found
}

fn protocol_folders(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let Some(name) =
            file.path.strip_prefix("src/protocol/").and_then(|rest| rest.strip_suffix("/mod.rs"))
        else {
            continue;
        };
        if name.contains('/') || name == "kit" {
            continue;
        }
        if !files.iter().any(|other| other.path.starts_with(&format!("src/protocol/{name}/golden/"))) {
            found.push(format!("src/protocol/{name}: no golden bytes in golden/"));
        }
        let fuzzed = |other: &File| other.path.starts_with("fuzz/fuzz_targets/") && other.text.contains(name);
        if !files.iter().any(fuzzed) {
            found.push(format!("src/protocol/{name}: no target in fuzz/fuzz_targets/ names it"));
        }
    }
    found
}

/// Written in two parts, so that this file does not hold them.
const BANNED: [(&str, &str); 14] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("registry.npm", "js.org"),
    ("repo1.ma", "ven.org"),
    ("repo.maven.ap", "ache.org"),
    ("deb.deb", "ian.org"),
    ("archive.ubu", "ntu.com"),
    ("py", "pi.org"),
    ("python", "hosted.org"),
    ("static.cra", "tes.io"),
    ("index.cra", "tes.io"),
    ("proxy.gol", "ang.org"),
    ("static.rust-", "lang.org"),
    ("pkg", ".dev/"),
];

fn banned_words(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            for banned in BANNED.map(|(one, other)| format!("{one}{other}")) {
                if line.contains(&banned) {
                    found.push(format!("{}:{}: {banned} has no place here", file.path, number + 1));
                }
            }
        }
    }
    found
}

// ---------------------------------------------------------------------------------------------
// Reading Rust as text

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn starts_word(text: &str, offset: usize) -> bool {
    !text[..offset].ends_with(is_word)
}

/// Blanks comments, strings and characters, byte for byte, so that places stay what they were.
fn mask(text: &str) -> String {
    blank(text, true)
}

/// Stands for a byte of a literal where only those are blanked.
const BLANK_LITERAL: char = '\u{1}';

fn blank(text: &str, comments: bool) -> String {
    let bytes = text.as_bytes();
    let mut masked = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => until(bytes, i, b"\n"),
            b'/' if bytes.get(i + 1) == Some(&b'*') => comment(bytes, i),
            b'"' => string(bytes, i),
            b'r' if !text[..i].ends_with(|c: char| is_word(c) && c != 'b') => raw_string(bytes, i),
            b'\'' => character(bytes, i),
            _ => i,
        };
        let is_comment = bytes[i] == b'/';
        for byte in &mut masked[i..end] {
            if *byte != b'\n' && (comments || !is_comment) {
                *byte = if comments { b' ' } else { BLANK_LITERAL as u8 };
            }
        }
        i = end.max(i + 1);
    }
    String::from_utf8(masked).expect("only whole literals were blanked")
}

fn until(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    bytes[from..].windows(end.len()).position(|window| window == end).map_or(bytes.len(), |at| from + at)
}

/// Block comments nest.
fn comment(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn string(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"` or `r#"…"#`, or `from` where there is none.
fn raw_string(bytes: &[u8], from: usize) -> usize {
    let hashes = bytes[from + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = from + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return from;
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    (until(bytes, open + 1, &close) + close.len()).min(bytes.len())
}

/// The end of a character literal, or `from` for a lifetime.
fn character(bytes: &[u8], from: usize) -> usize {
    let inside = &bytes[from + 1..];
    match inside.first() {
        Some(b'\\') => {
            // The escaped character itself may be a quote.
            until(bytes, from + 3, b"'") + 1
        }
        Some(first) => {
            let width = std::str::from_utf8(&inside[..inside.len().min(4)])
                .map_or_else(|error| error.valid_up_to(), str::len);
            let first_width = if first.is_ascii() { 1 } else { width.max(1) };
            match (1..=first_width).find(|width| inside.get(*width) == Some(&b'\'')) {
                Some(width) => from + width + 2,
                None => from,
            }
        }
        None => from,
    }
}

/// Blanks what stands behind `#[cfg(test)]` or the kit's feature: up to the end of its block, or of
/// its statement where it has none.
fn without_tests(code: &str, text: &str) -> String {
    let mut shipped = code.to_owned();
    for mark in ["#[cfg(test)]", "#[cfg(any(test,"] {
        // Looked for in the text, because the kit's feature is named by a string; not in a comment.
        for (offset, _) in text.match_indices(mark).filter(|(o, _)| code.as_bytes()[*o] == b'#') {
            let mut depth = 0;
            let mut end = code.len();
            for (at, c) in code[offset + mark.len()..].char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && matches!(c, '}' | ';') {
                    end = offset + mark.len() + at + 1;
                    break;
                }
            }
            let blank: String =
                code[offset..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            // Only ASCII is left outside of literals and comments, mostly; where it is not, keep the text.
            if blank.len() == end - offset {
                shipped.replace_range(offset..end, &blank);
            }
        }
    }
    shipped
}

// ---------------------------------------------------------------------------------------------
// Every rule is shown something bad

/// The rule finds something in the bad files and nothing in the good ones.
fn shown(rule: fn(&[File]) -> Vec<String>, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    let files =
        |list: &[(&str, &str)]| list.iter().map(|(path, text)| File::new(path, text)).collect::<Vec<_>>();
    for one in bad {
        let found = rule(&files(std::slice::from_ref(one)));
        assert!(!found.is_empty(), "nothing is found in {one:?}");
    }
    let found = rule(&files(good));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn an_import_against_the_order_is_found() {
    shown(
        layers,
        &[
            ("src/model/a.rs", "use crate::grant::Book;"),
            ("src/protocol/x/a.rs", "fn f() { crate::pool::Pool::new(); }"),
            ("src/pool/mod.rs", "use crate::{model::Name,\n    proxy::{Registry, x}};"),
            ("src/store/mod.rs", "use super::pool;"),
            ("src/store/a.rs", "use super::super::pool;"),
            ("src/thing/mod.rs", ""),
        ],
        &[
            ("src/proxy/mod.rs", "use crate::{pool::Pool, model::{Name, pool}};\n// crate::admin::x"),
            ("src/pool/mod.rs", "use super::store; const A: &str = \"crate::proxy\"; use self::proxy::x;"),
            ("src/pool/a.rs", "use super::proxy; use mycrate::proxy;"),
            ("src/main.rs", "use tidegate::cli;"),
        ],
    );
    let both =
        [("src/credential/a.rs", "use crate::grant::B;"), ("src/grant/a.rs", "use crate::credential::B;")];
    assert_eq!(layers(&both.map(|(path, text)| File::new(path, text))).len(), 1);
}

#[test]
fn a_second_maker_of_a_proof_is_found() {
    shown(
        proofs,
        &[
            ("src/proxy/a.rs", "let i = Identity::proven(a);"),
            ("src/proxy/a.rs", "let i = Identity { user };"),
            ("src/pool/a.rs", "Some(Admission{user})"),
            ("src/protocol/postgres/a.rs", "let u = Upkeep::new();"),
            ("src/proxy/a.rs", "let c = pool::Clean (());"),
            ("src/proxy/a.rs", "#[cfg(test)]\nmod tests { }\nfn f() { Upkeep::new(); }"),
        ],
        &[
            ("src/credential/a.rs", "Identity::proven(a); impl Identity { }"),
            (
                "src/proxy/a.rs",
                "fn f() -> credential::Identity { g() }\nimpl A for Admission {}\nstruct CleanUp {}",
            ),
            ("src/pool/lease.rs", "Upkeep::new(); Clean {}"),
            ("src/protocol/postgres/a.rs", "#[cfg(test)]\nmod tests {\n    fn f() { Upkeep::new(); }\n}\n"),
            ("src/protocol/kit.rs", "Upkeep::new()"),
        ],
    );
}

#[test]
fn unfinished_work_is_found() {
    let stub = concat!("fn f() { to", "do!() }");
    shown(
        unfinished,
        &[
            ("src/a.rs", stub),
            ("src/a.rs", "fn f() { unimplemented!(\"later\") }"),
            ("src/a.rs", "#[cfg(test)]\nmod tests;\nfn f() { dbg!(1); }"),
        ],
        &[
            ("src/a.rs", "// todo! in words\nconst A: &str = r#\"dbg!\"#; const B: char = '\"';"),
            ("src/a.rs", "#[cfg(test)]\nmod tests {\n    fn f() { dbg!(1); }\n}\n"),
            ("src/a/tests.rs", stub),
        ],
    );
}

#[test]
fn a_file_that_no_module_names_is_found() {
    shown(
        orphans,
        &[("src/lost.rs", ""), ("src/pool/lost.rs", ""), ("src/pool/deep/mod.rs", "")],
        &[
            ("src/lib.rs", "pub mod pool;\nmod /* here */ x;"),
            ("src/pool/mod.rs", "mod lease;\npub(crate) mod deep;"),
            ("src/pool/lease.rs", ""),
            ("src/pool/deep/mod.rs", ""),
        ],
    );
    let commented =
        [("src/pool/mod.rs", "// mod lease;"), ("src/pool/lease.rs", ""), ("src/lib.rs", "mod pool;")];
    assert_eq!(orphans(&commented.map(|(path, text)| File::new(path, text))).len(), 1);
}

#[test]
fn a_long_line_is_found() {
    let (long, fits) = ("a".repeat(COLUMNS_MAX + 1), "ä".repeat(COLUMNS_MAX));
    let (quoted, comment) = (format!("f(\"{long}\");"), format!("// {long}"));
    shown(
        long_lines,
        &[("src/a.rs", &long), ("scripts/a", &long), ("src/a.rs", &comment)],
        &[("src/a.rs", &fits), ("src/b.rs", &quoted), ("Cargo.lock", &long)],
    );
}

#[test]
fn unsafe_code_without_a_reason_is_found() {
    shown(
        unsafe_without_reason,
        &[("src/a.rs", "let a = unsafe { b() };"), ("src/a.rs", "// SAFETY: far\n\n\n\n\nunsafe fn f() {}")],
        &[(
            "src/a.rs",
            "// SAFETY: b is sound here because\n// of this.\nlet a = unsafe { b() };\n#![deny(unsafe_code)]",
        )],
    );
}

#[test]
fn a_protocol_without_its_kit_is_found() {
    let bare = [("src/protocol/tds/mod.rs", "")];
    shown(
        protocol_folders,
        &bare,
        &[
            ("src/protocol/tds/mod.rs", ""),
            ("src/protocol/tds/golden/login.hex", ""),
            ("fuzz/fuzz_targets/accept.rs", "use tidegate::protocol::tds::Tds;"),
        ],
    );
    assert_eq!(protocol_folders(&bare.map(|(path, text)| File::new(path, text))).len(), 2);
}

#[test]
fn a_banned_word_is_found() {
    let bad = BANNED.map(|(one, other)| format!("see {one}{other}x"));
    for text in &bad {
        shown(banned_words, &[("docs/a.md", text)], &[]);
    }
    shown(banned_words, &[], &[("docs/a.md", "the work of roots")]);
}
