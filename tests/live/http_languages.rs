//! EQL and ES|QL. No Elasticsearch that has them is published whole, so what is seen here is what a target is sent, and
//! what it is not; and that the vendor's own grammars, which are published, find no name in a query that is sent on
//! which the proxy did not find.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use tidegate::model::Reach;
use tidegate::protocol::http::{Path, api};

use crate::clients::{client, installed, source};
use crate::support::http::{Answer, HttpPlace, Seen};
use crate::support::{Node, Person, field, text, wait_until};

fn of(person: &Person) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", person.name, person.secret)))
}

/// Alice with `logs-*`; beside that an alias of a secret, and one of her own.
fn node() -> (Node<HttpPlace>, Person) {
    let node = Node::opensearch();
    let alice = node.user("alice");
    node.grant("alice", "read", "1h", &["--database", "logs-*"]);
    node.place.set_indices(&["logs-1", "logs-2", "secret"]);
    node.place.set_aliases(r#"{"secret":{"aliases":{"logs-both":{}}},"logs-1":{"aliases":{"logs-all":{}}}}"#);
    (node, alice)
}

fn last(node: &Node<HttpPlace>) -> Seen {
    node.place.seen().pop().expect("something was sent")
}

fn member(answer: &Answer, name: &str) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    body[name].as_str().unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_owned()
}

#[test]
fn a_query_is_sent_with_what_the_grant_covers() {
    let (node, alice) = node();
    let mut client = node.client();
    let alices = of(&alice);
    for (query, sent) in [
        ("FROM logs-1 | LIMIT 1", "FROM logs-1 | LIMIT 1"),
        ("FROM logs-all | LOOKUP JOIN logs-2 ON x", "FROM logs-all | LOOKUP JOIN logs-2 ON x"),
        ("FROM logs-* | WHERE x == \"logs-*\"", "FROM logs-1, logs-2 | WHERE x == \"logs-*\""),
        ("FROM * | LIMIT 1", "FROM logs-1, logs-2 | LIMIT 1"),
        ("FROM \"*,-logs-1\" METADATA _id", "FROM logs-2 METADATA _id"),
        ("FROM logs-1*, (FROM s*, l*2)", "FROM logs-1, (FROM logs-2)"),
        ("ROW a = \"FROM secret\"", "ROW a = \"FROM secret\""),
    ] {
        let body = json!({"query": query, "params": ["secret"], "columnar": true});
        let answer = client.ask(&alices, "POST /_query?format=csv", &body.to_string());
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let seen = last(&node);
        let body: Value = serde_json::from_str(&seen.body).expect("JSON");
        let wanted = json!({"query": sent, "params": ["secret"], "columnar": true});
        assert_eq!((seen.line.as_str(), body), ("POST /_query?format=csv HTTP/1.1", wanted));
    }
    let answer =
        client.ask(&alices, "GET /logs-*/_eql/search", r#"{"query":"any where index == \"secret\""}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(last(&node).line, "GET /logs-1,logs-2/_eql/search HTTP/1.1");
}

#[test]
fn what_a_query_hides_is_not_sent() {
    let (node, alice) = node();
    let mut client = node.client();
    let alices = of(&alice);
    let sent = node.place.seen().len();
    let query = |query: &str| ("POST /_query".to_owned(), json!({"query": query}).to_string());
    let eql = |index: &str, more: Value| {
        let mut body = json!({"query": "any where true"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        (format!("POST /{index}/_eql/search"), body.to_string())
    };
    let lookup = json!({"terms": {"f": {"index": "secret", "id": "1", "path": "p"}}});
    for (line, body) in [
        query("FROM secret"),
        query("from\n/* logs-1 */ SECRET, secret"),
        query("FROM logs-1, secret"),
        query("FROM logs-1,secret | LIMIT 1"),
        query("FROM \"secret\""),
        query("FROM \"\"\"secret\"\"\""),
        query("FROM \"logs-1,secret\""),
        query("FROM logs-both"),
        query("FROM s*"),
        query("FROM logs-b*"),
        query("FROM logs-1 | LOOKUP JOIN secret ON x"),
        query("FROM logs-1 | lookup /* x */ join \"secret\" on x"),
        query("FROM logs-1 | LOOKUP JOIN logs-both ON x"),
        query("FROM logs-1 | WHERE x == \"\\\\\" | LOOKUP JOIN secret ON y // \""),
        query("FROM logs-1, (FROM secret)"),
        query("FROM logs-1 | FORK (LIMIT 1) (LOOKUP JOIN secret ON x)"),
        query("FROM logs-1 | WHERE x IN (FROM secret | KEEP x)"),
        query("FROM logs-1 | WHERE x IN (FROM s* | KEEP x)"),
        query("FROM logs-1 | ENRICH policy ON x"),
        query("FROM logs-1 | COMPLETION \"x\" WITH {\"inference_id\": \"y\"}"),
        query("FROM far:logs-1"),
        query("FROM *:logs-1"),
        query("FROM logs-1::failures"),
        query("FROM \"<secret>\""),
        query("FROM <secret>"),
        query("FROM ?x"),
        query("FROM logs-1; FROM secret"),
        query("FROM logs-1 | EVAL x = TEXT_EMBEDDING(\"a\", \"b\")"),
        query("EXPLAIN [FROM secret]"),
        query("PROMQL index=secret x"),
        // There is no such index: it may be a view.
        query("FROM logs-view"),
        query("FROM logs-1, logs-view"),
        query("FROM logs-*, logs-view"),
        ("POST /_query".to_owned(), json!({"query": "FROM logs-1", "filter": lookup}).to_string()),
        ("POST /_query".to_owned(), json!({"query": "FROM logs-1", "tables": {}}).to_string()),
        ("POST /_query".to_owned(), r#"{"query":"FROM logs-1","query":"FROM secret"}"#.to_owned()),
        ("POST /_query/async".to_owned(), json!({"query": "FROM secret"}).to_string()),
        ("PUT /_query/view/logs-1".to_owned(), json!({"query": "FROM secret"}).to_string()),
        ("GET /_query/view".to_owned(), String::new()),
        ("GET /_query/queries".to_owned(), String::new()),
        eql("secret", json!({})),
        eql("logs-1,secret", json!({})),
        eql("logs-both", json!({})),
        eql("far:logs-1", json!({})),
        eql("logs-1", json!({"filter": lookup})),
        eql("logs-1", json!({"filter": {"script": {"script": "x"}}})),
        eql("logs-1", json!({"runtime_mappings": {"x": {"type": "lookup", "target_index": "secret"}}})),
        eql("logs-1", json!({"index": "secret"})),
        ("POST /_sql".to_owned(), json!({"query": "SELECT * FROM secret"}).to_string()),
        ("POST /_sql/translate".to_owned(), json!({"query": "SELECT * FROM \"logs-1\""}).to_string()),
        ("POST /_plugins/_sql".to_owned(), json!({"query": "SELECT * FROM secret"}).to_string()),
        ("POST /_plugins/_ppl".to_owned(), json!({"query": "source=secret"}).to_string()),
        ("POST /_plugins/_ppl/_explain".to_owned(), json!({"query": "source=secret"}).to_string()),
    ] {
        let answer = client.ask(&alices, &line, &body);
        assert!(matches!(answer.status, 400 | 403), "{line} {body}: {answer:?}");
    }
    assert_eq!(node.place.seen().len(), sent);
    // Who may do everything is not asked what there is.
    let root = node.user("root");
    node.grant("root", "read", "1h", &["--database", "*"]);
    for query in ["FROM logs-view, far:*, s*", "FROM secret | ENRICH policy ON x", "FROM \"<a-{now/d}>\""] {
        let body = json!({"query": query}).to_string();
        assert_eq!(client.ask(&of(&root), "POST /_query", &body).status, 200, "{query}");
        assert_eq!(last(&node).body, body);
    }
    let answer = client.ask(&of(&root), "POST /_query", &json!({"query": "FROM .security-7"}).to_string());
    assert_eq!(answer.status, 403, "{answer:?}");
}

/// What goes on at the target is somebody's, and ends with their grant.
#[test]
fn a_query_that_goes_on_is_its_owners() {
    let (node, alice) = node();
    let bob = node.user("bob");
    node.grant("bob", "read", "1h", &["--database", "logs-*"]);
    let mut client = node.client();
    let query =
        json!({"query": "FROM logs-*", "wait_for_completion_timeout": "1ms", "keep_alive": "1h"}).to_string();
    let esql = member(&client.ask(&of(&alice), "POST /_query/async", &query), "id");
    let search =
        json!({"query": "any where true", "keep_on_completion": true, "keep_alive": "1h"}).to_string();
    let eql = member(&client.ask(&of(&alice), "POST /logs-1/_eql/search", &search), "id");
    assert!(![esql.as_str(), eql.as_str()].iter().any(|id| id.starts_with("raw")));
    for (line, sent) in [
        (format!("GET /_query/async/{esql}?keep_alive=1h"), "GET /_query/async/raw-esql?keep_alive=1h"),
        (format!("POST /_query/async/{esql}/stop"), "POST /_query/async/raw-esql/stop"),
        (format!("GET /_eql/search/{eql}"), "GET /_eql/search/raw-eql"),
        (format!("GET /_eql/search/status/{eql}"), "GET /_eql/search/status/raw-eql"),
    ] {
        let count = node.place.seen().len();
        let theirs = client.ask(&of(&bob), &line, "");
        assert!(theirs.status == 403 && theirs.body.contains("TG009"), "{line}: {theirs:?}");
        assert_eq!(node.place.seen().len(), count);
        let hers = client.ask(&of(&alice), &line, "");
        assert_eq!(hers.status, 200, "{line}: {hers:?}");
        assert!(!hers.body.contains("raw"), "{line}: {hers:?}");
        assert_eq!(last(&node).line, format!("{sent} HTTP/1.1"));
    }
    for raw in ["GET /_query/async/raw-esql", "GET /_eql/search/raw-eql", "DELETE /_query/async/raw-esql"] {
        assert_eq!(client.ask(&of(&alice), raw, "").status, 403, "{raw}");
    }
    let grants = node.json(&["grant", "list"]);
    let grants = grants.as_array().expect("a list");
    let hers = grants.iter().find(|grant| grant["subject"]["user"] == "alice").expect("hers");
    let sent = node.place.seen().len();
    node.done(&["grant", "revoke", &field(hers, "id")]);
    wait_until("both are closed at the target", Duration::from_secs(3), || {
        node.place.seen().len() >= sent + 2
    });
    let mut closed: Vec<_> = node.place.seen().split_off(sent).into_iter().map(|seen| seen.line).collect();
    closed.sort();
    assert_eq!(closed, ["DELETE /_eql/search/raw-eql HTTP/1.1", "DELETE /_query/async/raw-esql HTTP/1.1"]);
    assert_eq!(client.ask(&of(&alice), &format!("GET /_query/async/{esql}"), "").status, 403);
}

/// By version of the grammar what it finds in a query; `None`: it is no query to it.
type Found = BTreeMap<String, Option<BTreeSet<String>>>;

/// What the vendor's grammars find in each of these.
fn found_by_grammars(queries: &[String]) -> Vec<Found> {
    let file =
        std::env::temp_dir().join(format!("tidegate-queries-{}-{}", std::process::id(), queries.len()));
    let lines: Vec<String> = queries.iter().map(|query| json!(query).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let mut command = client(installed("http-grammars/bin/python"));
    let output = command.arg(source("http/grammars/names.py")).arg(&file).output().expect("it runs");
    std::fs::remove_file(&file).expect("it is there");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let found: Vec<Found> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found.len(), queries.len());
    assert!(found.iter().all(|found| found.len() >= 5), "the versions of the grammar");
    found
}

/// The names that a grammar finds and the proxy does not. What is taken away is no name.
fn missed<'a>(ours: &BTreeSet<String>, theirs: &'a BTreeSet<String>) -> Vec<&'a String> {
    theirs.iter().filter(|name| !ours.contains(*name) && !name.starts_with('-') && *name != "_all").collect()
}

/// Queries of all kinds that a person may send, from which others are made.
const QUERIES: [&str; 26] = [
    "FROM a",
    "from a, b*, -b1 METADATA _id, _index | KEEP _id, c* | LIMIT 10",
    "FROM \"a\", \"\"\"b*\"\"\", \"c,d\" | SORT e DESC NULLS LAST, f",
    "FROM a // , b\n, c /* , d */ | WHERE e == \"/* , f\" // | x",
    "FROM a | LOOKUP JOIN b ON c, d | LOOKUP JOIN \"e\" ON f == g",
    "FROM a, (FROM b | WHERE c > 1 | LOOKUP JOIN d ON e), f",
    "FROM a | WHERE b IN (FROM c | KEEP d) AND e NOT IN (1, 2, 3)",
    "FROM a | FORK (WHERE b == \"|\" | LIMIT 1) (LOOKUP JOIN c ON d | SORT e) | FUSE",
    "FROM a | EVAL b = ABS(c) + 1.5e3, d = `e f`.g, h = \"i\\\"j\", k = [1, 2] | DROP l",
    "FROM a | STATS b = COUNT(*), c = MAX(d) WHERE e > 2 BY f, g = BUCKET(h, 1 day)",
    "FROM a | INLINE STATS b = COUNT(*) BY c | WHERE NOT (d LIKE \"e*\" OR f RLIKE \"g.*\")",
    "FROM a | DISSECT b \"%{c} %{d}\" APPEND_SEPARATOR=\":\" | GROK e \"\"\"%{WORD:f} \"g\" \"\"\" | RENAME h AS i, j = k",
    "FROM a | WHERE b == ?c AND d == ?1 OR e == ? | EVAL ??f = g::long, h = ??i",
    "FROM a | WHERE MATCH(b, \"c\", {\"operator\": \"AND\"}) OR d : \"e\" OR QSTR(\"f: g\")",
    "FROM a | MV_EXPAND b | CHANGE_POINT c ON d AS e, f | SAMPLE 0.1",
    "TS a | STATS b = SUM(RATE(c)) BY TBUCKET(1 hour), d",
    "ROW a = 1, b = \"FROM c\", d = null | EVAL e = CASE(f IS NOT NULL, g, h)",
    "SHOW INFO",
    "SET time_zone = \"UTC\"; FROM a | EVAL b = DATE_TRUNC(1 month, c)",
    "FROM .ds-a-2026.11.29-000001, b_c, d+e | LIMIT 1",
    "FROM a/**/| WHERE b/c/**/>/**/d // e",
    "FROM (FROM a METADATA _id | WHERE b IN (FROM c)), (TS d | LIMIT 1)",
    "FROM a | WHERE b > -1 AND c % 2 != 0 AND d <= 5 | EVAL e = f - g * (h / i)",
    "FROM a | URI_PARTS b = c | REGISTERED_DOMAIN d = e | USER_AGENT f = g",
    "FROM a | EVAL b = \"\"\"c | LOOKUP JOIN d ON e\"\"\", f = \"\" | KEEP `g``h`, i*.j",
    "FROM a | WHERE CIDR_MATCH(b, \"10.0.0.0/8\", \"::1/128\") // \"\n | LIMIT 3",
];

/// What is put into them, taken out of them, or moved.
const PIECES: [&str; 56] = [
    " ",
    "\n",
    "\r",
    "\t",
    ",",
    "|",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\"\"\"",
    "`",
    "``",
    "'",
    "/",
    "//",
    "/*",
    "*/",
    "\\",
    "\\\"",
    ":",
    "::",
    ";",
    "?",
    "??",
    "*",
    "-",
    "+",
    "=",
    "<",
    ">",
    ".",
    "@",
    "_",
    "s",
    "FROM s",
    "from s",
    "(FROM s)",
    " IN (FROM s | KEEP t)",
    " IN (",
    "| LOOKUP JOIN s ON t",
    "| lookup join \"s\" on t",
    "| ENRICH s",
    "| FORK (LIMIT 1) (",
    " METADATA ",
    " METADATA _id",
    ", s",
    ",\"s\"",
    ", (FROM s | LIMIT 1)",
    " ON ",
    "| LIMIT 1",
    "PROMQL index=s t",
    "é",
];

/// The same on each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides.max(1)
    }
}

/// A query with one to three changes in it.
fn changed(query: &str, dice: &mut Dice) -> String {
    let mut chars: Vec<char> = query.chars().collect();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(chars.len() + 1);
        let piece = PIECES[dice.roll(PIECES.len())];
        match dice.roll(4) {
            0 => drop(chars.drain(at..(at + 1 + dice.roll(8)).min(chars.len()).max(at))),
            1 => {
                let end = (at + 1 + dice.roll(4)).min(chars.len()).max(at);
                drop(chars.splice(at..end, piece.chars()));
            }
            _ => drop(chars.splice(at..at, piece.chars())),
        }
    }
    chars.into_iter().collect()
}

/// The names and wildcards that a query is read to have. `None`: it is refused, or only for who may read everything.
fn esql_names(text: &str) -> Option<BTreeSet<String>> {
    let api = api("elasticsearch").expect("it is known");
    let routed = api.route("POST", &Path::parse("/_query").expect("a path")).ok()?;
    let asked = routed.asked(json!({"query": text}).to_string().as_bytes()).ok()?;
    match asked.named().reach {
        Reach::Names(names) => Some(&names | &asked.wildcards()),
        Reach::Everything(_) => None,
    }
}

/// Whatever is sent on, no version of the vendor's grammar finds a name in it that the proxy has not found.
#[test]
fn no_grammar_finds_a_name_that_is_not_looked_at() {
    const TEXTS: usize = 500;
    let plain: Vec<String> = QUERIES.map(str::to_owned).to_vec();
    for (query, found) in plain.iter().zip(found_by_grammars(&plain)) {
        let ours = esql_names(query).unwrap_or_else(|| panic!("{query} is not read"));
        assert!(found.values().any(Option::is_some), "{query} is none to the vendor");
        for (version, theirs) in found {
            let Some(theirs) = theirs else { continue };
            let theirs = theirs.into_iter().filter(|name| !name.starts_with('-')).collect();
            assert_eq!(ours, theirs, "{version}: {query}");
        }
    }
    let (mut dice, mut texts, mut made) = (Dice(20_261_129), BTreeSet::new(), 0);
    while texts.len() < TEXTS {
        let text = changed(QUERIES[dice.roll(QUERIES.len())], &mut dice);
        made += 1;
        if esql_names(&text).is_some() && !QUERIES.contains(&text.as_str()) {
            texts.insert(text);
        }
    }
    let texts: Vec<String> = texts.into_iter().collect();
    let mut queries = 0;
    for (text, found) in texts.iter().zip(found_by_grammars(&texts)) {
        let ours = esql_names(text).expect("it was read before");
        queries += usize::from(found.values().any(Option::is_some));
        for (version, theirs) in &found {
            let missed = theirs.as_ref().map(|theirs| missed(&ours, theirs)).unwrap_or_default();
            assert!(missed.is_empty(), "{version} finds {missed:?} in {text:?}, the proxy {ours:?}");
        }
    }
    println!("of {made} texts {TEXTS} are read, {queries} of them are queries to the vendor");
    assert!(queries > TEXTS / 4);
}

/// Ways to a name that the vendor's grammar knows, or knew: none of them is read as something without it.
#[test]
fn what_a_grammar_reads_otherwise_is_not_sent() {
    let harmful = [
        "FROM secret",
        "FrOm\tSECRET, secret",
        "FROM a,secret",
        "FROM a , \"secret\"",
        "FROM \"a,secret\"",
        "FROM \"a, secret\"",
        "FROM \"a\\t,\\tsecret\"",
        "FROM \"\"\"a,secret\"\"\"",
        "FROM \"\"\" secret\"\"\"",
        "TS a, secret",
        "FROM a/* /* */ */, secret",
        "FROM a // x\r, secret",
        "FROM secret:a",
        "FROM secret::failures",
        "FROM a | LOOKUP JOIN secret ON b",
        "FROM a | lookup\n/**/JOIN\"secret\"ON b",
        "FROM a | WHERE b == \"\\\\\" | LOOKUP JOIN secret ON c // \"",
        "FROM a | WHERE b == \"\"\"\\\"\"\" | LOOKUP JOIN secret ON c",
        "FROM a | WHERE b == `c``` | LOOKUP JOIN secret ON d",
        "FROM a, (FROM secret)",
        "FROM (FROM (FROM secret))",
        "FROM a | WHERE b IN (FROM secret | KEEP c)",
        "FROM a | WHERE b IN (/* ( */FROM secret | KEEP c)",
        "FROM a | WHERE b NOT IN (TS secret)",
        "FROM a | FORK (LIMIT 1) (LOOKUP JOIN secret ON b)",
        "SET time_zone = \"FROM a\"; FROM secret",
        "FROM a | ENRICH secret ON b",
        "FROM a | ENRICH \"secret\"",
        "PROMQL index=secret step=1m x=(sum(y))",
        "FROM a$secret, secret",
        "FROM a<secret, secret",
        "FROM a/secret, secret",
        "FROM a'secret', secret",
        "FROM a`, secret",
        "FROM a;secret, secret",
        "FROM é, secret",
    ];
    let texts = harmful.map(str::to_owned).to_vec();
    for (text, found) in texts.iter().zip(found_by_grammars(&texts)) {
        let theirs: BTreeSet<String> = found.into_values().flatten().flatten().collect();
        assert!(theirs.iter().any(|name| name.contains("secret")), "{text:?} does no harm: {theirs:?}");
        let ours = esql_names(text);
        assert!(ours.as_ref().is_none_or(|ours| ours.contains("secret")), "{text:?}: {ours:?}");
    }
}
