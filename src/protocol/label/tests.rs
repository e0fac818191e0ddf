use proptest::prelude::*;

use super::*;
use crate::protocol::postgres::label_statement;

fn label(text: &str) -> Label {
    label_statement(text.as_bytes(), true)
}

/// In one line: verbs, then `<` what is read, `>` what is written, `()` what is called, `!` why.
fn line(text: &str) -> String {
    shown(label(text))
}

fn shown(label: Label) -> String {
    let Label { verbs, reads, writes, calls, why } = label;
    let mut line = verbs.join(" ");
    for (mark, names) in [(" <", reads), (" >", writes), (" ()", calls)] {
        if !names.is_empty() {
            line += &format!("{mark}{}", names.join(","));
        }
    }
    line + &why.map(|why| format!(" !{why}")).unwrap_or_default()
}

#[test]
fn verbs_and_tables_are_named() {
    let mut wrong = String::new();
    for (text, expected) in [
        ("select 1", "SELECT"),
        ("", ""),
        (" ; ;", ""),
        (
            "SELECT * FROM Orders o, public.items WHERE id IN (SELECT 1 FROM \"Customers\")",
            "SELECT <orders,public.items,Customers",
        ),
        ("(select 1 from a) union table b", "SELECT <a,b"),
        ("values (1)", "VALUES"),
        ("insert into a (x) select y from b on conflict do nothing returning x", "INSERT <b >a"),
        ("insert into a select * from a", "INSERT <a >a"),
        ("update a set x = b.y from b where a.id = b.id", "UPDATE <b >a"),
        ("delete from only a using b where a.id = b.id", "DELETE <b >a"),
        ("merge into a using b on a.id = b.id when matched then delete", "MERGE <b >a"),
        ("with x as (delete from a returning *) select * from x", "SELECT DELETE >a"),
        ("with x as (select * from b) delete from a using x", "DELETE <b >a"),
        // The name of a common table hides a table only where it can be seen.
        ("with a as (select * from a) select * from a", "SELECT <a"),
        ("with recursive a as (select 1 union select * from a) select * from a", "SELECT"),
        ("with a as (select 1) select * from public.a", "SELECT <public.a"),
        ("select (with a as (select 1) select 1 from a) from a", "SELECT <a"),
        ("with x as (select 1) insert into x select * from x", "INSERT >x"),
        ("copy a (x, y) from stdin", "COPY >a"),
        ("COPY a TO STDOUT (format csv)", "COPY <a"),
        ("copy (select * from a) to stdout", "COPY <a"),
        ("copy a from stdin; delete from b", "COPY DELETE >a,b"),
        ("explain analyze delete from a", "EXPLAIN DELETE >a"),
        ("explain (analyze, buffers) update a set x = 1", "EXPLAIN UPDATE >a"),
        ("explain (analyze false) update a set x = 1", "EXPLAIN <a"),
        ("explain (analyze off) update a set x = 1", "EXPLAIN <a"),
        ("explain (analyze 'off') update a set x = 1", "EXPLAIN UPDATE >a"),
        ("explain (analyze 0) update a set x = 1", "EXPLAIN UPDATE >a"),
        ("delete from 'x'", "DELETE >?"),
        ("explain delete from a", "EXPLAIN <a"),
        ("create table a as select * from b", "CREATE <b >a"),
        ("create table a (x int)", "CREATE >a"),
        ("create view v as select * from a", "CREATE <a >v"),
        ("create index i on a (x)", "CREATE >a"),
        ("alter table a add column x int", "ALTER >a"),
        ("drop table a, b", "DROP >a,b"),
        ("drop role a", "DROP"),
        ("truncate a, only b", "TRUNCATE >a,b"),
        ("grant select on a to bob", "GRANT >a"),
        ("lock table a in access exclusive mode", "LOCK <a"),
        ("vacuum a", "VACUUM >a"),
        ("select * into a from b", "SELECT <b >a"),
        ("table a", "SELECT <a"),
        ("select * from only a join only b on true, only c fetch first 1 rows only", "SELECT <a,b,c"),
        ("update only a set x = 1", "UPDATE >a"),
        ("prepare p as delete from a where id = $1", "PREPARE DELETE >a"),
        ("execute p (1)", "EXECUTE"),
        (
            "select pg_read_file('x'), lower(y) from generate_series(1, 2), a",
            "SELECT <a ()pg_read_file,lower,generate_series",
        ),
        ("call p(1)", "CALL ()p"),
        ("begin; update a set x = 1; select x from b; commit", "BEGIN UPDATE SELECT COMMIT <b >a"),
        ("set search_path = x", "SET"),
        ("show server_version", "SHOW"),
        ("discard all", "DISCARD"),
        ("do $$ begin delete from a; end $$", "unparsed DO"),
        ("refresh materialized view v", "unparsed REFRESH"),
        ("delete frm a", "unparsed DELETE"),
        ("delete from a; frobnicate b", "unparsed DELETE FROBNICATE >a"),
        ("select 'not closed", "unparsed SELECT"),
    ] {
        let found = line(text);
        if found != expected {
            wrong += &format!("{text}\n   is {found}\n  not {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_beyond_the_limits_is_said() {
    let long = format!("delete from a where x = '{}'", "y".repeat(LABEL_TEXT_BYTES_MAX));
    assert_eq!(line(&long), "skipped DELETE !too long");
    assert_eq!(label_statement(b"delete from a wh", false).verbs, ["skipped", "DELETE"]);
    let many = format!("select 1{}", ",1".repeat(LABEL_TOKENS_MAX));
    assert_eq!(line(&many), "skipped SELECT !too long");
    let deep = |depth| format!("select {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(line(&deep(LABEL_DEPTH_MAX + 1)), "skipped SELECT !too deep");
    assert_eq!(line(&deep(8)), "SELECT");
    let nots = format!("select {} true", "not ".repeat(LABEL_DEPTH_MAX * 2));
    assert_eq!(label(&nots).verbs[1..], ["SELECT"]);
    let names: Vec<_> = (0..LABEL_NAMES_MAX + 1).map(|number| format!("t{number}")).collect();
    let label = label(&format!("drop table {}, {}", names.join(","), "x".repeat(4_000)));
    assert_eq!(label.writes.len(), LABEL_NAMES_MAX);
    assert_eq!(label.why, Some("more names than a label holds"));
    let name =
        super::super::postgres::label_statement(format!("drop table {}", "é".repeat(500)).as_bytes(), true);
    assert_eq!(name.writes[0].len(), LABEL_NAME_BYTES_MAX / 2 * 2);
    assert_eq!(label_statement(b"select * from caf\xe9", true).reads, ["caf\u{fffd}"]);
}

/// The longest chains that the limits let through become the deepest trees. Here on a fraction of the
/// stack that the trail's writer has, and without the optimiser's help.
#[test]
fn the_deepest_trees_fit_a_part_of_the_stack() {
    let chain = |head: &str, link: &str, tail: &str| {
        let links = (LABEL_TOKENS_MAX - 40) / Tokenizer::new(&PG, link).tokenize().unwrap().len().max(1);
        format!("{head}{}{tail}", link.repeat(links))
    };
    const PG: sqlparser::dialect::PostgreSqlDialect = sqlparser::dialect::PostgreSqlDialect {};
    let texts: Vec<String> = [
        ("select 1", "+1", " from t"),
        ("select a", " and f(b)", " from t"),
        ("select a", "::int", " from t"),
        ("select a::int", "[]", " from t"),
        ("select a", "[1]", " from t"),
        ("select a", " is null", " from t"),
        ("select a", " collate c", " from t"),
        ("select a", " at time zone b", " from t"),
        ("select a", "->b", " from t"),
        ("select a", "||b", " from t"),
        ("select a", ".b", " from t"),
        ("select a", " between 1 and 2", " from t"),
        ("select a", " like 'x'", " from t"),
        ("select a", "!", " from t"),
        ("select 1", " union select 1", ""),
        ("select 1", " except table t", ""),
        ("select * from a", " join b on true", ""),
        ("select * from a", " natural join b", ""),
        ("select * from a", ",b", ""),
        ("select -", "-", "1"),
        ("select ", "@", "1"),
        ("select interval ", "interval ", "'1'"),
        ("", "explain ", "select 1"),
        ("", "select 1;", ""),
        ("select case when 1 then 1 ", "when 1 then 1 ", "end"),
    ]
    .map(|(head, link, tail)| chain(head, link, tail))
    .into();
    let walk = move || texts.iter().map(|text| label(text).verbs.len()).sum::<usize>();
    let thread = std::thread::Builder::new().stack_size(crate::model::limits::LABEL_STACK_BYTES / 4);
    assert!(thread.spawn(walk).unwrap().join().unwrap() >= 25);
}

const PIECES: &[&str] = &[
    "select",
    "*",
    "from",
    "orders",
    "a",
    "b.c",
    "\"Q\"",
    "where",
    "and",
    "or",
    "not",
    "in",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ".",
    "=",
    "<",
    "+",
    "-",
    "::",
    "->",
    "||",
    "@",
    "!",
    "$1",
    "1",
    "2.5",
    "'x'",
    "e'\\''",
    "$$y$$",
    "u&'z'",
    "--c\n",
    "/*",
    "*/",
    "insert",
    "into",
    "values",
    "update",
    "set",
    "delete",
    "using",
    "merge",
    "when",
    "matched",
    "then",
    "with",
    "recursive",
    "as",
    "materialized",
    "union",
    "all",
    "except",
    "join",
    "left",
    "on",
    "lateral",
    "group",
    "by",
    "rollup",
    "having",
    "order",
    "limit",
    "offset",
    "for",
    "case",
    "end",
    "cast",
    "interval",
    "array",
    "row",
    "exists",
    "any",
    "between",
    "like",
    "is",
    "null",
    "create",
    "table",
    "view",
    "index",
    "function",
    "trigger",
    "policy",
    "alter",
    "drop",
    "column",
    "grant",
    "revoke",
    "to",
    "copy",
    "stdin",
    "explain",
    "analyze",
    "prepare",
    "execute",
    "declare",
    "cursor",
    "begin",
    "commit",
    "if",
    "do",
    "over",
    "partition",
    "filter",
    "unnest",
    "tablesample",
    "extract",
    "substring",
    "position",
    "overlay",
    "trim",
    "timestamp",
    "xmltable",
    "json_object",
    "struct",
    "map",
    "pivot",
    "returning",
    "\u{e9}",
    "\u{1f600}",
    "\0",
    "\\",
    "'",
    "\"",
    "$t$",
    "?",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_500 } else { 100_000 }))]

    #[test]
    fn no_soup_of_words_breaks_it(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60),
        repeat in 1usize..6, glue in proptest::sample::select(&[" ", "", "\n"][..])) {
        let text = pieces.join(glue).repeat(repeat);
        let label = label(&text);
        for names in [&label.verbs, &label.reads, &label.writes, &label.calls] {
            prop_assert!(names.len() <= LABEL_NAMES_MAX && names.iter().all(|name| name.len() <= LABEL_NAME_BYTES_MAX));
        }
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_whole: bool) {
        label_statement(&bytes, is_whole);
    }
}

#[test]
fn mysql_has_its_own_words() {
    let line = |text: &str| shown(crate::protocol::mysql::label_statement(text.as_bytes(), true));
    let mut wrong = String::new();
    for (text, expected) in [
        ("select Count(*) from Shop.Orders", "SELECT <Shop.Orders ()count"),
        ("select `a b`.`C` from `shop`.`Orders` # x", "SELECT <shop.Orders"),
        ("insert into t (a) values (1) on duplicate key update a = values(a)", "INSERT >t ()values"),
        ("replace into t select * from u", "REPLACE <u >t"),
        ("insert ignore into t set a = 1", "INSERT >t"),
        ("update t join u on t.a = u.a set t.b = 1", "UPDATE <u >t"),
        ("delete from t where a = 1 limit 1", "DELETE >t"),
        ("delete t from t join u on t.a = u.a", "DELETE <u >t"),
        ("select * from t force index (i) limit 1, 2", "SELECT <t"),
        ("call p(1, @x)", "CALL ()p"),
        ("show tables", "SHOW"),
        ("show create table t", "SHOW"),
        ("explain select * from t", "EXPLAIN <t"),
        ("describe t", "DESCRIBE <t"),
        ("set names utf8mb4", "SET"),
        ("set @a = 1, @@session.sql_mode = ''", "SET"),
        ("use shop", "USE"),
        ("start transaction", "START"),
        ("truncate table t", "TRUNCATE >t"),
        ("create table t (a int auto_increment primary key) engine=InnoDB", "CREATE >t"),
        ("load data local infile 'x' into table t", "unparsed LOAD"),
        ("kill 5", "KILL"),
        ("lock tables t read", "LOCK"),
        ("optimize table t", "unparsed OPTIMIZE"),
        ("select sql_no_cache straight_join * from a straight_join b", "SELECT <a,b"),
    ] {
        let found = line(text);
        if found != expected {
            wrong += &format!("{text}\n  {found}\n  {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
