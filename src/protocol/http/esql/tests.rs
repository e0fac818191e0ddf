//! What queries touch, and which of them are not read.

use proptest::prelude::*;

use super::super::Catalog;
use super::super::routes::Routed;
use super::*;
use crate::grant::Scope;
use crate::model::{Reach, Wildcards};
use crate::protocol::http::Path;

fn asked(body: &str) -> Result<Asked, Wrong> {
    Routed::of("POST", &Path::parse("/_query").unwrap()).unwrap().asked(body.as_bytes())
}

fn said(text: &str) -> Result<Asked, Wrong> {
    asked(&serde_json::json!({"query": text}).to_string())
}

/// The names, then the wildcards.
fn found(text: &str) -> String {
    let asked = said(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
    assert!(asked.wants_indices());
    let Reach::Names(names) = asked.named().reach else { panic!("{text}: {asked:?}") };
    let wildcards = asked.wildcards();
    names.into_iter().chain(wildcards).collect::<Vec<_>>().join(" ")
}

#[test]
fn queries_touch_what_they_name() {
    for (text, touched) in [
        ("FROM a", "a"),
        ("from a", "a"),
        ("FrOm\ta\r\n|\nLIMIT 1", "a"),
        ("FROM a,b , c", "a b c"),
        ("FROM \"a\", \"\"\"b\"\"\"", "a b"),
        ("FROM \"a,b\"", "a b"),
        ("FROM a METADATA _index, _id | KEEP _id", "a"),
        ("TS a | STATS x = SUM(RATE(y)) BY TBUCKET(1 hour)", "a"),
        ("FROM logs-*", "logs-*"),
        ("FROM a, logs-*, -logs-1*", "a logs-*"),
        ("FROM _all", "*"),
        ("FROM .ds-logs-2026.11.29-000001", ".ds-logs-2026.11.29-000001"),
        ("ROW a = 1, b = \"FROM secret\"", ""),
        ("SHOW INFO", ""),
        ("// FROM secret\nFROM a", "a"),
        ("// x\rFROM a", "a"),
        ("/* FROM secret */ FROM /**/ a/* , secret */ | WHERE x == 1 // , secret", "a"),
        ("FROM a// , secret\n, b", "a b"),
        ("FROM a | LOOKUP JOIN b ON c", "a b"),
        ("FROM a | lookup\njoin \"b\" ON c, d == e | LIMIT 1", "a b"),
        ("FROM a, (FROM b | WHERE x > 1 | LOOKUP JOIN c ON d), e", "a b c e"),
        ("FROM (FROM a | LIMIT 1), (FROM b METADATA _id)", "a b"),
        ("FROM a | FORK (WHERE x == \"|\" | LIMIT 1) ( LOOKUP JOIN b ON c ) | SORT _fork", "a b"),
        ("FROM a | WHERE b IN (1, 2) AND NOT (c LIKE \"x*\" OR d RLIKE (\"y\", \"z\"))", "a"),
        (
            "FROM a | WHERE b IN (FROM c | KEEP d) AND e NOT IN ( /* x */ from\n f METADATA _id) | LIMIT 1",
            "a c f",
        ),
        (
            "FROM a | WHERE b IN (TS c | LOOKUP JOIN d ON e) OR f IN (ROW g = 1 | WHERE h IN (FROM i))",
            "a c d i",
        ),
        ("FROM a | EVAL `from` = 1, x = [1, 2, 3], y = z::long, w = ?p, v = ?1, u = ??f", "a"),
        ("FROM a | STATS n = COUNT(*) WHERE (b > 1), m = MAX(c) BY d = BUCKET(e, 1 day)", "a"),
        ("FROM a | INLINE STATS n = COUNT(*) BY b | INLINESTATS m = MAX(c)", "a"),
        ("FROM a | WHERE MATCH(b, \"c\", {\"operator\": \"AND\"}) AND QSTR(\"d: e\") AND f : \"g\"", "a"),
        ("FROM a | DISSECT b \"%{c}|%{d}\" | GROK e \"\"\"%{WORD:f} \"g\" \"\"\"", "a"),
        ("FROM a | DROP b* | KEEP `c d`, e.`f``g` | RENAME h AS i | MV_EXPAND j | SAMPLE 0.1", "a"),
        (
            "FROM a | WHERE b IS NOT NULL AND NOT c IS NULL | SORT d DESC NULLS LAST, e ASC | LIMIT 1 BY f",
            "a",
        ),
        ("FROM a | MMR ?b ON c LIMIT 5 | FUSE LINEAR SCORE BY d KEY BY e, f GROUP BY g", "a"),
        ("FROM a | CHANGE_POINT b ON c AS d, e | FUSE RRF SCORE BY f WITH {\"rank_constant\": 1}", "a"),
        ("SET time_zone = \"Europe/Berlin\"; SET unmapped_fields=\"load\";\nFROM a", "a"),
        ("FROM a | WHERE `x` == \"\\\"| LOOKUP JOIN secret ON y\\\"\"", "a"),
        ("FROM a | EVAL b = `FIRST`(c), d = Abs (e), f = 1.5e-3 / 2", "a"),
        ("FROM ü | LIMIT 1".replace('ü', "\"ü\"").as_str(), "ü"),
    ] {
        assert_eq!(found(text), touched, "{text}");
    }
}

#[test]
fn what_reaches_further_is_for_who_may_do_everything() {
    for (text, why) in [
        ("FROM far:logs-1", "the name of another cluster"),
        ("FROM *:a", "the name of another cluster"),
        ("FROM a::failures", "the name of another cluster"),
        ("FROM \"a::failures\"", "the name of another cluster"),
        ("FROM \"<logs-{now/d}>\"", "a date in an index name"),
        ("FROM -a", "an exclusion"),
        ("FROM a, -b", "an exclusion"),
        ("FROM (FROM a), -b", "an exclusion"),
        ("FROM a*, _all", "_all beside others"),
        ("FROM a | LOOKUP JOIN b* ON c", "a wildcard"),
        ("FROM a | LOOKUP JOIN far:b ON c", "the name of another cluster"),
        ("FROM a | ENRICH policy ON b WITH c", "ENRICH, whose policy names indices of its own"),
        ("FROM a | FORK (ENRICH policy) (LIMIT 1)", "ENRICH, whose policy names indices of its own"),
        (
            "FROM a | COMPLETION b = \"c\" WITH {\"inference_id\": \"d\"}",
            "a model or a database that is asked",
        ),
        ("FROM a | RERANK \"b\" ON c WITH {\"inference_id\": \"d\"}", "a model or a database that is asked"),
        ("ROW a = TEXT_EMBEDDING(\"b\", \"c\")", "a function that the proxy does not know"),
        ("FROM a | EVAL b = `text_embedding`(\"c\", \"d\")", "a function that the proxy does not know"),
        ("FROM a | EVAL b = ?f(c)", "a function that the proxy does not know"),
        ("FROM a | EVAL b = ??f (c)", "a function that the proxy does not know"),
        ("FROM a | WHERE unheard_of(b)", "a function that the proxy does not know"),
        ("SET project_routing = \"_alias:x\"; FROM a", "a setting of the query that the proxy does not know"),
    ] {
        let asked = said(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
        assert_eq!(asked.touch().reach, Reach::Everything(why), "{text}");
    }
    for body in [
        r#"{"query":"FROM a","tables":{"t":{}}}"#,
        r#"{"query":"FROM a","pragma":{}}"#,
        r#"{"query":"FROM a","settings":{"project_routing":"x"}}"#,
        r#"{"query":"FROM a","filter":{"script":{"script":"x"}}}"#,
        r#"{"query":"FROM a","columnar":{"x":1}}"#,
    ] {
        let asked = asked(body).unwrap_or_else(|wrong| panic!("{body}: {wrong:?}"));
        assert!(matches!(asked.touch().reach, Reach::Everything(_)), "{body}");
    }
}

#[test]
fn a_filter_touches_what_it_looks_up() {
    let body = r#"{"query":"FROM a | WHERE b == ?c","params":[{"c":"secret"}],"columnar":true,
        "filter":{"terms":{"f":{"index":"other","id":"1","path":"p"}}}}"#;
    assert_eq!(asked(body).unwrap().touch().reach, Reach::Names(["a".to_owned(), "other".to_owned()].into()));
}

/// What might hide a name from the proxy that the cluster sees.
#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for text in [
        "",
        " ",
        ";",
        "FROM",
        "FROM ",
        "FROM |",
        "FROM a,",
        "FROM ,a",
        "FROM a b",
        "FROM a secret",
        "FROM a; FROM secret",
        "FROM a;",
        "FROM a\nFROM secret",
        "FROM a | FROM secret",
        "FROM a | TS secret",
        "FROM a || LIMIT 1",
        "FROM a |",
        "LIMIT 1",
        "EXPLAIN [FROM secret]",
        "EXPLAIN (FROM secret)",
        "PROMQL index=secret step=1m (sum(x))",
        "METRICS secret x",
        "EXTERNAL \"s3://secret/x\"",
        "META FUNCTIONS",
        "SHOW FUNCTIONS",
        "EQL secret [any where true]",
        "FROM a | JOIN secret ON x",
        "FROM a | LEFT JOIN secret ON x",
        "FROM a | LOOKUP secret ON x",
        "FROM a | LOOKUP JOIN secret",
        "FROM a | LOOKUP JOIN a, secret ON x",
        "FROM a | LOOKUP JOIN \"a,secret\" ON x",
        "FROM a | LOOKUP JOIN secret AS b ON x",
        "FROM a | LOOKUP JOIN ?b ON x",
        "FROM ?a",
        "FROM ??a",
        "FROM a, ?b",
        "FROM `secret`",
        "FROM a`,secret`",
        "FROM 'secret'",
        "FROM a=secret",
        "FROM a[secret]",
        "FROM a [METADATA _id], secret",
        "FROM a METADATA _id, | LIMIT 1",
        "FROM a METADATA \"_id\"",
        "FROM a METADATA _id secret",
        "FROM a OPTIONS \"x\"=\"y\"",
        "FROM <logs-{now/d}>",
        "FROM a/b",
        "FROM a\\,secret",
        "FROM a\u{a0}, secret",
        "FROM a\u{2028}| LIMIT 1",
        "FROM a\u{b}, secret",
        "FROM a\0",
        "FROM \u{ff41}",
        "\u{feff}FROM a",
        "FRO\u{ff2d} a",
        "FROM a | LOO\u{212a}UP JOIN secret ON x",
        "FROM a | L\u{130}MIT 1",
        "FROM a | LOOKUP_\u{1f414} secret ON x",
        "FROM a | INSIST_\u{1f414} x",
        "FROM \"a\"secret",
        "FROM \"a\"\"secret\"",
        "FROM \"a\":secret",
        "FROM \"a\"::failures",
        "FROM a\"secret\"",
        "FROM \"a b\"",
        "FROM \" secret\"",
        "FROM \"a, secret\"",
        "FROM \"a|LIMIT 1\"",
        "FROM \"a`\"",
        "FROM \"a\\\"b\"",
        "FROM \"a",
        "FROM \"\"",
        "FROM \"\"\"a",
        "FROM \"\"\"a\n\"\"\"",
        "FROM \"\"\"a\"\"\"\"",
        "FROM a /* /* */ , secret /* */ */",
        "FROM a /*/* */ | LIMIT 1",
        "FROM a /* x /*/ , secret */",
        "FROM a /* , secret",
        "FROM a */",
        "FROM a | WHERE b == \"x\ny\"",
        "FROM a | WHERE b == \"x\\qy\"",
        "FROM a | WHERE b == \"x",
        "FROM a | WHERE b == 'x'",
        "FROM a | WHERE b == \"\"\"x\"\"\"\"\"\" | LOOKUP JOIN secret ON y",
        "FROM a | WHERE b == `x",
        "FROM a | WHERE b == ``",
        "FROM a | WHERE b IN (PROMQL index=secret x)",
        "FROM a | WHERE b IN (EQL secret [any where true])",
        "FROM a | WHERE EXISTS (FROM secret)",
        "FROM a | WHERE (FROM secret)",
        "FROM a | WHERE b == (from secret)",
        "FROM a | WHERE ABS(FROM secret)",
        "FROM a | WHERE b IN ((FROM secret))",
        "FROM a | WHERE b IN (c, FROM secret)",
        "FROM a | EVAL FROM secret",
        "FROM a | WHERE b AND c secret",
        "FROM a | WHERE b IN (from, secret)",
        "FROM a | WHERE b IN (FROM secret | KEEP c, d)) | LIMIT 1)",
        "FROM a | WHERE b == (c | LIMIT 1)",
        "FROM a | EVAL b = \"x\" (c)",
        "FROM a | EVAL b = (c",
        "FROM a | EVAL b = c)",
        "FROM a | EVAL b = (c]",
        "FROM a | EVAL b = {c)",
        "FROM a | EVAL b = c # d",
        "FROM a | EVAL b = c & d",
        "FROM a | EVAL b = $c",
        "FROM a | FORK",
        "FROM a | FORK WHERE x",
        "FROM a | FORK (FROM secret)",
        "FROM a | FORK ()",
        "FROM a | FORK (LIMIT 1 | FROM secret)",
        "FROM a | UNHEARD_OF secret",
        "FROM a | LOOKUPJOIN secret ON x",
        "FROM (secret)",
        "FROM (FROM a",
        "FROM (FROM a))",
        "FROM (LIMIT 1)",
        "FROM a (FROM secret)",
        "SET x = 1 FROM a",
        "SET x; FROM a",
        "SET x = 1",
        "SET time_zone = `;` FROM secret",
        "FROM .security-7",
        "FROM \".security-7\"",
        "FROM .secur*",
        "FROM a, \"<.secur{now{'ity'}}-7>\"",
        "FROM a | LOOKUP JOIN .security-7 ON x",
        "FROM a | ENRICH .security-7",
        "FROM (FROM .security-7)",
    ] {
        assert!(said(text).is_err(), "{text:?}: {:?}", said(text));
    }
    let nested = |depth| format!("{}FROM a{}", "FROM (".repeat(depth), ")".repeat(depth));
    assert!(said(&nested(limits::HTTP_SUBQUERIES_DEPTH_MAX)).is_ok());
    for depth in [limits::HTTP_SUBQUERIES_DEPTH_MAX + 1, 50_000] {
        assert!(said(&nested(depth)).is_err());
    }
    let grouped = |depth| format!("ROW a = {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(said(&grouped(limits::HTTP_JSON_DEPTH_MAX)).is_ok());
    assert!(said(&grouped(limits::HTTP_JSON_DEPTH_MAX + 1)).is_err());
    for body in [
        "",
        "{}",
        "[]",
        r#"{"query":1}"#,
        r#"{"query":["FROM a"]}"#,
        r#"{"query":"FROM a","query":"FROM secret"}"#,
    ] {
        assert!(asked(body).is_err(), "{body}");
    }
}

fn catalog() -> Catalog {
    let aliases = br#"{"logs-1":{"aliases":{"logs-all":{},"x":{}}},"secret":{"aliases":{"x":{}}}}"#;
    let indices = br#"{"indices":[{"name":"logs-1","attributes":["open"]},{"name":"logs-2","attributes":["open"]},
        {"name":"logs-\u00fc","attributes":["open"]},{"name":"secret","attributes":["open"]}],"data_streams":[]}"#;
    Catalog::of_aliases(aliases).unwrap().with_indices(indices).unwrap()
}

/// The query that is sent for who has this scope, if one is.
fn sent(text: &str, wildcards: Wildcards) -> Option<String> {
    let body = serde_json::json!({"query": text, "columnar": true}).to_string();
    let asked = asked(&body).unwrap();
    let narrowed = asked.narrowed(&catalog(), wildcards, &[Scope::of(&["logs-*"])]).unwrap()?;
    let sent = narrowed.body(body.as_bytes()).unwrap().unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["columnar"], true);
    assert_eq!(narrowed.path(&Path::parse("/_query").unwrap()).unwrap().render(), "/_query");
    Some(sent["query"].as_str().unwrap().to_owned())
}

#[test]
fn names_are_put_where_wildcards_stood() {
    for (text, wanted) in [
        ("FROM logs-* | LIMIT 1", Some("FROM logs-1, logs-2, \"logs-ü\" | LIMIT 1")),
        ("FROM *", Some("FROM logs-1, logs-2, \"logs-ü\"")),
        ("FROM*", Some("FROM logs-1, logs-2, \"logs-ü\"")),
        ("FROM \"logs-1*\"/* x */METADATA _id", Some("FROM logs-1/* x */METADATA _id")),
        ("FROM *,-logs-1, -\"logs-2\"", None),
        ("FROM *,-logs-1, \"-logs-ü\"", Some("FROM logs-2")),
        ("FROM secret, logs-1*", Some("FROM logs-1, secret")),
        ("FROM logs-1*, (FROM l*2 | LIMIT 1), logs-2", Some("FROM logs-1, (FROM logs-2 | LIMIT 1), logs-2")),
        (
            "FROM logs-1 | WHERE a IN (FROM logs-2* | KEEP b)",
            Some("FROM logs-1 | WHERE a IN (FROM logs-2 | KEEP b)"),
        ),
        ("FROM logs-1 | WHERE a IN (FROM sec*)", None),
        ("FROM sec*", None),
        ("FROM x*", None),
        ("FROM logs-9*", None),
        ("FROM logs-1, (FROM sec*)", None),
    ] {
        let narrowed = match said(text) {
            Ok(_) => sent(text, Wildcards::Narrow),
            Err(_) => None,
        };
        assert_eq!(narrowed.as_deref(), wanted, "{text}");
    }
    assert_eq!(sent("FROM logs-1*", Wildcards::Resolve).as_deref(), Some("FROM logs-1"));
    assert_eq!(sent("FROM *", Wildcards::Resolve), None);
    assert!(catalog().has(&Reach::Names(["logs-1".to_owned(), "x".to_owned()].into())));
    assert!(!catalog().has(&Reach::Names(["logs-1".to_owned(), "logs-view".to_owned()].into())));
    assert!(!Catalog::default().has(&Reach::Names(["logs-1".to_owned()].into())), "nothing is known");
}

#[derive(Debug, Clone)]
enum Part {
    Name(String),
    Query(Box<Query>),
}

/// A query whose names are known.
#[derive(Debug, Clone)]
struct Query {
    parts: Vec<Part>,
    joins: Vec<String>,
}

fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(" ".to_owned()),
        Just("\t\r\n ".to_owned()),
        Just(" /* FROM no, \" ` ( */ ".to_owned()),
        Just(" // | LOOKUP JOIN no ON x \"\n".to_owned()),
        Just("/**/\n".to_owned()),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let name = "[a-z][a-z0-9_.-]{0,5}";
    let joins = move || proptest::collection::vec(name, 0..3);
    let leaf = (proptest::collection::vec(name.prop_map(Part::Name), 1..4), joins())
        .prop_map(|(parts, joins)| Query { parts, joins });
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let part =
            prop_oneof![name.prop_map(Part::Name), inner.prop_map(|query| Part::Query(Box::new(query)))];
        (proptest::collection::vec(part, 1..4), joins()).prop_map(|(parts, joins)| Query { parts, joins })
    })
}

impl Query {
    /// Writes it with what means nothing between its words, and notes its names.
    fn write(
        &self,
        noise: &mut dyn Iterator<Item = String>,
        names: &mut std::collections::BTreeSet<String>,
    ) -> String {
        let mut blank = || noise.next().unwrap_or(" ".into());
        let mut text = format!("{}FrOm{}", blank(), blank());
        for (number, part) in self.parts.iter().enumerate() {
            if number > 0 {
                text.push_str(&format!("{},{}", blank(), blank()));
            }
            match part {
                Part::Name(name) => {
                    names.insert(name.clone());
                    match name.len() % 3 {
                        0 => text.push_str(&format!("\"{name}\"")),
                        1 => text.push_str(&format!("\"\"\"{name}\"\"\"")),
                        _ => text.push_str(name),
                    }
                }
                Part::Query(query) => {
                    let mut more = std::iter::from_fn(|| Some(blank()));
                    let inner = query.write(&mut more, names);
                    text.push_str(&format!("({inner})"));
                }
            }
        }
        for join in &self.joins {
            names.insert(join.clone());
            let strange = "WHERE x == \"| FROM no\" AND `, no` IN (\"\"\"(FROM no)\"\"\", ?p)";
            text.push_str(&format!("{}|{}{strange}{}|", blank(), blank(), blank()));
            text.push_str(&format!(
                "{}LooKup{}JOIN{}{join}{}on{}x",
                blank(),
                blank(),
                blank(),
                blank(),
                blank()
            ));
        }
        text
    }
}

proptest! {
    /// However it is written, all of its names are found, and no others.
    #[test]
    fn all_names_of_a_query_are_found(
        query in query(),
        noise in proptest::collection::vec(noise(), 1..8),
    ) {
        let mut names = std::collections::BTreeSet::new();
        let text = query.write(&mut noise.iter().cloned().cycle(), &mut names);
        let asked = said(&text);
        let asked = asked.map_err(|wrong| TestCaseError::fail(format!("{text:?}: {wrong:?}")))?;
        prop_assert_eq!(asked.named().reach, Reach::Names(names), "{}", text);
        prop_assert!(!asked.has_wildcards());
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,80}", head in "(FROM a(\\*)?( \\| |, |\\())?") {
        crate::protocol::http::fuzz::esql(text.as_bytes());
        crate::protocol::http::fuzz::esql(format!("{head}{text}").as_bytes());
    }

    #[test]
    fn whatever_is_sent_reads_as_what_is_granted(
        text in "FROM (\\(FROM )?([gms]?[*a-z1-2-]{1,6}(,|, |/\\*\\*/,)){0,3}(\"g\\*\"|granted-\\*|mine|\\*)\
                 (\\))?( \\| LIMIT 1| METADATA _id| \\| LOOKUP JOIN (mine|secret) ON a)?",
    ) {
        crate::protocol::http::fuzz::esql(text.as_bytes());
    }
}
