//! What a session with PostgreSQL can leave behind.

use super::super::reset::{Met, Trace};
use super::{Hand, Postgres, extended};
use crate::support::Version;
use crate::support::wire::{packet, string};

type Row = Trace<Postgres>;

pub fn all(version: Version) -> Vec<Row> {
    [
        transactions(),
        statements(),
        settings(),
        roles(),
        locks_and_channels(),
        temporary_objects(),
        generators(),
        copies(),
        pipelines(),
        half_messages(),
        outliving(),
        shared(),
        refused(),
        stateful(version),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn row(name: &'static str, met: Met) -> Row {
    Trace::new(name, met)
}

fn clean(name: &'static str) -> Row {
    row(name, Met::Clean)
}

fn closed(name: &'static str) -> Row {
    row(name, Met::Closed)
}

const ITEM: &str = "select count(*) from items where id = 5000";

fn transactions() -> Vec<Row> {
    let insert = "begin; insert into items values (5000, 'never committed')";
    vec![
        clean("an open transaction").says(&[insert]).asked(&[ITEM]),
        clean("an open transaction of who vanishes").says(&[insert]).asked(&[ITEM]).vanishing(),
        clean("a failed transaction")
            .says(&[insert])
            .fails("select nonsense", "42703")
            .asked(&[ITEM, "select 'it works'"])
            .unseen(),
        clean("a savepoint").says(&[insert, "savepoint leftover"]).asked(&["rollback to leftover", ITEM]),
        clean("the mode of a transaction")
            .says(&["begin isolation level serializable read only deferrable"])
            .asked(&[
                "show transaction_isolation",
                "show transaction_read_only",
                "show transaction_deferrable",
            ]),
        clean("the modes of all transactions")
            .says(&["set session characteristics as transaction isolation level serializable, read only"])
            .asked(&["show default_transaction_isolation", "show default_transaction_read_only"]),
        clean("a large object that is open")
            .says(&["begin", "select lo_open(lo_create(4711), 131072 + 262144)"])
            .asked(&["select loread(0, 1)"]),
        clean("a lock on a table").says(&["begin; lock table items in share mode"]).asked(&[
            "select count(*) from pg_locks where relation = 'items'::regclass and mode = 'ShareLock'",
        ]),
        clean("a snapshot that was exported")
            .says(&["begin isolation level repeatable read; select pg_export_snapshot()"])
            .asked(&["show transaction_isolation"]),
    ]
}

fn statements() -> Vec<Row> {
    vec![
        clean("a statement prepared by SQL")
            .says(&["prepare leftover as select 1"])
            .asked(&["execute leftover", "select count(*) from pg_prepared_statements"]),
        clean("a statement prepared by protocol")
            .does(|_, _, client| {
                let parse = packet('P', &[&string("leftover")[..], &string("select 1"), &[0, 0]].concat());
                talk(client, &[parse, packet('S', &[])].concat(), "1Z");
            })
            .asked(&["execute leftover", "select count(*) from pg_prepared_statements"]),
        clean("a cursor that is held")
            .says(&["declare leftover cursor with hold for select id from items order by id"])
            .asked(&["fetch 1 from leftover", "select count(*) from pg_cursors where name = 'leftover'"]),
        clean("a portal that is read in parts")
            .does(|_, _, client| {
                let sql = string("select id from items order by id");
                let parse = packet('P', &[&[0][..], &sql, &[0, 0]].concat());
                let bind = packet('B', &[&string("leftover")[..], &[0, 0, 0, 0, 0, 0, 0]].concat());
                let execute = packet('E', &[&string("leftover")[..], &1u32.to_be_bytes()].concat());
                let begin = packet('Q', &string("begin"));
                talk(client, &begin, "CZ");
                talk(client, &[parse, bind, execute, packet('S', &[])].concat(), "12DsZ");
            })
            .asked(&["select count(*) from pg_cursors where name = 'leftover'"]),
        clean("a thousand statements and their memory")
            .says(&["do $$ begin for i in 1..1000 loop execute format('prepare s%s as select %s', i, i); end loop; end $$"])
            .asked(&["select count(*) from pg_prepared_statements", "execute s7"]),
    ]
}

fn settings() -> Vec<Row> {
    vec![
        clean("settings")
            .says(&["set work_mem = '7MB'; set enable_seqscan = off"])
            .asked(&["show work_mem", "show enable_seqscan"]),
        clean("time limits")
            .says(&[
                "set statement_timeout = '7s'; set lock_timeout = '7s'",
                "set idle_in_transaction_session_timeout = '7s'",
            ])
            .asked(&[
                "show statement_timeout",
                "show lock_timeout",
                "show idle_in_transaction_session_timeout",
            ]),
        clean("the server's watch on its client, off")
            .says(&["set client_connection_check_interval = 0"])
            .asked(&["show client_connection_check_interval"]),
        clean("only reading")
            .says(&["set default_transaction_read_only = on"])
            .asked(&["show default_transaction_read_only"]),
        clean("whose code runs").says(&["set search_path = evil, public"]).asked(&["show search_path"]),
        clean("how bytes and times are read")
            .says(&[
                "set datestyle = german; set timezone = 'Asia/Tokyo'; set intervalstyle = iso_8601",
                "set client_encoding = latin1; set bytea_output = escape",
            ])
            .asked(&[
                "show datestyle",
                "show timezone",
                "show intervalstyle",
                "show client_encoding",
                "show bytea_output",
            ]),
        clean("a setting of a code block")
            .says(&["do $$ begin perform set_config('work_mem', '7MB', false); end $$"])
            .asked(&["show work_mem"]),
        clean("a setting with a dot in its name")
            .says(&["set my.own = 'mine'", "select set_config('my.other', 'mine', false)"])
            .asked(&[
                "select nullif(current_setting('my.own', true), '')",
                "select nullif(current_setting('my.other', true), '')",
            ]),
        clean("settings of the start-up's options")
            .starts(&[("options", "-c work_mem=7MB -c my.start=mine --enable-seqscan=off")])
            .asked(&[
                "show work_mem",
                "select nullif(current_setting('my.start', true), '')",
                "show enable_seqscan",
            ]),
        clean("settings of the start-up")
            .starts(&[
                ("search_path", "pg_catalog"),
                ("TimeZone", "Asia/Tokyo"),
                ("DateStyle", "German"),
                ("client_encoding", "LATIN1"),
                ("extra_float_digits", "0"),
            ])
            .asked(&[
                "show search_path",
                "show timezone",
                "show datestyle",
                "show client_encoding",
                "show extra_float_digits",
            ]),
        clean("start-up settings that were set again and reset")
            .starts(&[("options", "-c work_mem=7MB")])
            .says(&["set work_mem = '8MB'", "reset all", "discard all"])
            .asked(&["show work_mem"]),
        clean("somebody else's name").says(&["set application_name = 'bob/s-0000000000000 forged'"]).asked(
            &[
                "select split_part(current_setting('application_name'), '/', 1)",
                "select current_setting('application_name') like '%forged%'",
            ],
        ),
        clean("the name of a start-up")
            .starts(&[("application_name", "leftover")])
            .asked(&["select current_setting('application_name') like '%leftover%'"]),
    ]
}

fn roles() -> Vec<Row> {
    let other =
        "create role {role}_other; grant {role}_other to {role}; grant select on items to {role}_other";
    let gone = "revoke select on items from {role}_other; drop role {role}_other";
    let who = &["select current_user", "select session_user", "show role"];
    vec![
        clean("another role")
            .prepared(other, gone)
            .says(&["set role {role}_other"])
            .asked(&["select current_user", "show role"]),
        clean("another role by a function")
            .prepared(other, gone)
            .says(&["select set_config('role', '{role}_other', false)"])
            .asked(&["select current_user"]),
        clean("another role in a transaction")
            .prepared(other, gone)
            .says(&["begin; set local role {role}_other"])
            .asked(&["select current_user"]),
        clean("another role that failed")
            .prepared(other, gone)
            .says(&["set role {role}_other; begin"])
            .fails("select nonsense", "42703")
            .asked(who)
            .unseen(),
        // Only a superuser may become another person altogether.
        clean("another session user")
            .at("admin")
            .prepared(
                "create role {role}_other; alter role {role} superuser",
                "alter role {role} nosuperuser; drop role {role}_other",
            )
            .says(&["set session authorization {role}_other"])
            .asked(&["select current_user", "select session_user"]),
        clean("triggers that are off")
            .at("admin")
            .prepared("alter role {role} superuser", "alter role {role} nosuperuser")
            .says(&["set session_replication_role = replica"])
            .asked(&["show session_replication_role"]),
    ]
}

fn locks_and_channels() -> Vec<Row> {
    let locks = "select count(*) from pg_locks where locktype = 'advisory' \
                 and database = (select oid from pg_database where datname = current_database())";
    let channels = "select count(*) from pg_listening_channels()";
    vec![
        clean("an advisory lock")
            .says(&["select pg_advisory_lock(4711), pg_advisory_lock(4711)"])
            .asked(&[locks]),
        clean("a shared advisory lock").says(&["select pg_advisory_lock_shared(47, 11)"]).asked(&[locks]),
        clean("an advisory lock of a transaction")
            .says(&["begin; select pg_advisory_xact_lock(4711)"])
            .asked(&[locks]),
        clean("a channel").says(&["listen leftover"]).asked(&[channels]),
        clean("a channel with something in it")
            .says(&["listen leftover", "begin"])
            .does(|_, node, client| {
                node.place.master().run("notify leftover, 'pending'");
                talk(client, &packet('Q', &string("select 1")), "TDCZ");
            })
            .asked(&[channels]),
        clean("a notification that is not sent yet")
            .says(&["begin; listen leftover; notify leftover, 'never'"])
            .asked(&[channels, "listen leftover", "select 'nothing'", "unlisten leftover"])
            .unseen(),
    ]
}

fn temporary_objects() -> Vec<Row> {
    vec![
        clean("a temporary table")
            .says(&["create temp table items as select 'hidden' as name"])
            .asked(&["select count(*) from items"]),
        clean("a temporary table that is in use")
            .says(&[
                "create temp table leftover (a int) on commit delete rows",
                "begin; insert into leftover values (1); declare held cursor for select * from leftover",
            ])
            .asked(&["select count(*) from leftover"]),
        clean("a temporary view in a catalog's place")
            .says(&["create temp view pg_stat_activity as select 'hidden' as query"])
            .asked(&["select count(*) from pg_class where relname = 'pg_stat_activity'"]),
        clean("a temporary function")
            .says(&["create function pg_temp.leftover() returns text language sql as $$ select 'mine' $$"])
            .asked(&["select to_regprocedure('pg_temp.leftover()') is null"]),
        clean("a temporary type and its domain")
            .says(&[
                "create type pg_temp.leftover as (a int)",
                "create domain pg_temp.watched as text check (length(value) > 3)",
            ])
            .asked(&[
                "select to_regtype('pg_temp.leftover') is null",
                "select to_regtype('pg_temp.watched') is null",
            ]),
        clean("a temporary operator")
            .says(&[
                "create function pg_temp.never(text, text) returns bool language sql as $$ select false $$",
                "create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.never)",
            ])
            .asked(&["select count(*) from pg_operator where oprnamespace = pg_my_temp_schema()"]),
        clean("a temporary sequence")
            .says(&["create temp sequence leftover"])
            .asked(&["select nextval('leftover')"]),
    ]
}

fn generators() -> Vec<Row> {
    vec![
        clean("the last value of a sequence")
            .prepared(
                "create sequence numbers; grant usage, select on numbers to {role}",
                "drop sequence numbers",
            )
            .says(&["select nextval('numbers')"])
            .asked(&["select lastval()", "select currval('numbers')"]),
        clean("values of a sequence that were taken ahead")
            .prepared(
                "create sequence numbers cache 50; grant usage, select on numbers to {role}",
                "drop sequence numbers",
            )
            .says(&["select nextval('numbers')"])
            .asked(&["select lastval()"]),
        // The second and third number are known in advance: who leaves it sees the second one.
        clean("random numbers that are known")
            .prepared("select 1", "update items set name = 'item ' || id where id < 4")
            .says(&[
                "select setseed(0.5)",
                "do $$ declare a text := random(); b text := random(); begin \
                 update items set name = a where id = 1; update items set name = b where id = 2; end $$",
                "select setseed(0.5)",
            ])
            .asked(&["select random()::text in (select name from items where id < 4)"]),
    ]
}

const COPIED: &str = "select count(*) from items where id >= 5000";

fn copies() -> Vec<Row> {
    let begin: fn(&Postgres, &crate::support::Node, &mut Hand) = |_, _, client| {
        let wire = client.wire();
        wire.query("copy items from stdin");
        assert_eq!(wire.read().expect("an answer").tag, 'G');
        wire.send(&packet('d', b"5000\thalf\n5001\tha"));
    };
    vec![
        clean("a COPY that its client gave up")
            .does(begin)
            .does(|_, _, client| talk(client, &packet('f', &string("no more")), "EZ"))
            .asked(&[COPIED])
            .unseen(),
        closed("a COPY without its end").does(begin).asked(&[COPIED]).unseen(),
        closed("a COPY whose client vanished").does(begin).asked(&[COPIED]).unseen().vanishing(),
        closed("a COPY that nobody reads any more")
            .does(|_, _, client| {
                let wire = client.wire();
                wire.query("copy (select repeat('x', 1000), generate_series(1, 1000000000)) to stdout");
                assert_eq!(wire.read().expect("an answer").tag, 'H');
            })
            .asked(&["select 1"])
            .unseen()
            .vanishing(),
    ]
}

fn pipelines() -> Vec<Row> {
    let insert = "insert into items values (5000, 'never committed')";
    vec![
        closed("a pipeline without its end")
            .does(|_, _, client| {
                let wire = client.wire();
                wire.send(&[extended("insert into items values (5000, 'x')"), packet('H', &[])].concat());
                let answers: String = (0..3).map(|_| wire.read().expect("an answer").tag).collect();
                assert_eq!(answers, "12C");
            })
            .asked(&[ITEM])
            .unseen(),
        closed("a pipeline without its end whose client vanished")
            .does(|_, _, client| client.wire().send(&extended("select 1")))
            .asked(&[ITEM])
            .unseen()
            .vanishing(),
        closed("a Parse and a Close without an end")
            .does(|_, _, client| {
                let parse = packet('P', &[&string("leftover")[..], &string("select 1"), &[0, 0]].concat());
                let close = packet('C', &[&b"S"[..], &string("leftover")].concat());
                client.wire().send(&[parse, close].concat());
            })
            .asked(&["select count(*) from pg_prepared_statements", "select 'in step'"])
            .unseen(),
        closed("an error in a pipeline without its end")
            .does(|_, _, client| {
                let wire = client.wire();
                let bad = extended("select 1 / (id - 1) from items where id = 1");
                wire.send(&[bad, extended("select 'never'"), packet('H', &[])].concat());
                let answers: String = (0..3).map(|_| wire.read().expect("an answer").tag).collect();
                assert_eq!(answers, "12E");
            })
            .asked(&["select 'in step'"])
            .unseen(),
        row("answers that were not waited for", Met::CleanOrClosed)
            .does(|_, _, client| {
                let one = [extended("select 'not waited for'"), packet('S', &[])].concat();
                client.wire().send(&one.repeat(20));
            })
            .asked(&["select 'in step'", ITEM])
            .unseen(),
        clean("an error in a pipeline with its end")
            .says(&["begin", insert])
            .does(|_, _, client| {
                let bad = extended("select 1 / (id - 1) from items where id = 1");
                talk(client, &[bad, extended("select 'never'"), packet('S', &[])].concat(), "12EZ");
            })
            .asked(&[ITEM, "select 'in step'"])
            .unseen(),
        clean("ends of pipelines that are too many")
            .does(|_, _, client| {
                let wire = client.wire();
                wire.send(&packet('S', &[]).repeat(3));
                assert_eq!([wire.tags(), wire.tags(), wire.tags()], ["Z", "Z", "Z"]);
            })
            .asked(&["select 'in step'"])
            .unseen(),
    ]
}

fn half_messages() -> Vec<Row> {
    let half: fn(&Postgres, &crate::support::Node, &mut Hand) = |_, _, client| {
        let query = packet('Q', &string("insert into items values (5000, 'half a message')"));
        client.wire().send(&query[..20]);
    };
    vec![
        // Nothing of it has left for the server.
        clean("half a message").does(half).asked(&[ITEM, "select 'in step'"]).unseen().vanishing(),
        closed("half a long message")
            .does(|_, node, client| {
                let long = format!("select length('{}')", "x".repeat(1_000_000));
                client.wire().send(&packet('Q', &string(&long))[..500_000]);
                // It has left when it is in the trail.
                node.wait_event("statement", |line| {
                    line["text"].as_str().is_some_and(|text| text.contains("xxx"))
                });
            })
            .asked(&["select 'in step'"])
            .unseen()
            .vanishing(),
    ]
}

/// Settings that the next session begins with.
fn outliving() -> Vec<Row> {
    vec![
        row("a setting of the role", Met::Suspended)
            .prepared("select 1", "alter role {role} reset all")
            .says(&["alter role current_user set search_path = evil, public"])
            .unseen(),
        row("a setting of the role in this database", Met::Suspended)
            .prepared("select 1", "alter role {role} in database {database} reset all")
            .says(&["alter role current_user in database {database} set statement_timeout = 1"])
            .unseen(),
        row("a setting of the role, by code that catches errors", Met::Suspended)
            .prepared("select 1", "alter role {role} reset all")
            .says(&["do $$ begin execute 'alter role current_user set work_mem = ''7MB'''; end $$"])
            .unseen(),
        row("a setting of the database", Met::Suspended)
            .at("admin")
            .prepared(
                "alter database {database} owner to {role}",
                "alter database {database} reset all; alter database {database} owner to postgres",
            )
            .says(&["alter database {database} set search_path = evil, public"])
            .unseen(),
    ]
}

/// What is the server's and not a session's.
fn shared() -> Vec<Row> {
    let words = "Objects in shared schemas belong to the connector's role";
    vec![
        row("a function in a shared schema", Met::Shared(words))
            .prepared("select 1", "drop function leftover()")
            .says(&["create function leftover() returns text language sql as $$ select 'shared' $$"])
            .asked(&["select leftover()"]),
        row("a table in a shared schema", Met::Shared(words))
            .prepared("select 1", "drop table leftover")
            .says(&["create table leftover as select 'shared' as a"])
            .asked(&["select a from leftover"]),
        row("a large object", Met::Shared(words))
            .prepared("select 1", "select lo_unlink(4711)")
            .says(&["select lo_create(4711)"])
            .asked(&["select count(*) from pg_largeobject_metadata where oid = 4711"]),
        row("default privileges", Met::Shared(words))
            .prepared("select 1", "alter default privileges for role {role} revoke all on tables from public")
            .says(&["alter default privileges grant select on tables to public"])
            .asked(&["select count(*) from pg_default_acl where defaclrole = '{role}'::regrole"]),
        row("a prepared transaction", Met::Shared("A transaction that was prepared (`PREPARE TRANSACTION`)"))
            .prepared("select 1", "rollback prepared '{role}'")
            .says(&["begin; insert into items values (5000, 'prepared')", "prepare transaction '{role}'"])
            .asked(&["select count(*) from pg_prepared_xacts where database = current_database()"]),
    ]
}

/// Ways out that the server refuses to an ordinary role, and that leave nothing.
fn refused() -> Vec<Row> {
    let loaded = "select current_setting('auto_explain.log_min_duration', true)";
    vec![
        clean("a library").fails("load 'auto_explain'", "42501").asked(&[loaded]).unseen(),
        clean("a replication slot")
            .fails("select pg_create_physical_replication_slot('leftover')", "42501")
            .asked(&["select count(*) from pg_replication_slots where slot_name = 'leftover'"])
            .unseen(),
        clean("an event trigger")
            .fails("create event trigger leftover on ddl_command_start execute function pg_catalog.suppress_redundant_updates_trigger()", "42501")
            .asked(&["select count(*) from pg_event_trigger"])
            .unseen(),
        clean("a program")
            .fails("copy items to program 'true'", "42501")
            .fails("copy items from '/etc/passwd'", "42501")
            .fails("select pg_read_file('/etc/passwd')", "42501")
            .asked(&["select 'in step'"])
            .unseen(),
        clean("settings of the whole server")
            .fails("alter system set work_mem = '7MB'", "42501")
            .fails("create role leftover", "42501")
            .fails("set session authorization postgres", "42501")
            .fails("alter database {database} set work_mem = '7MB'", "42501")
            .asked(&["show work_mem"])
            .unseen(),
    ]
}

/// What no reset clears.
fn stateful(version: Version) -> Vec<Row> {
    let private = |name| row(name, Met::Private);
    let user = "create extension postgres_fdw; create role {role}_other login password 'other'; \
                grant select on items to {role}_other";
    let mut rows = vec![
        private("a connection of dblink")
            .prepared("create extension dblink", "drop extension dblink")
            .does(|_, node, client| {
                let place = &node.place;
                let (port, database) = (place.port, &place.database);
                let role = place.role("read");
                let password = crate::support::server::ROLE_PASSWORD;
                let sql = format!(
                    "select dblink_connect('leftover', 'host=127.0.0.1 port={port} dbname={database} user={role} password=''{password}''')"
                );
                talk(client, &packet('Q', &string(&sql)), "TDCZ");
            })
            .asked(&["select array_to_string(dblink_get_connections(), ',')"]),
        private("a connection of postgres_fdw")
            .prepared(user, "drop extension postgres_fdw cascade; revoke select on items from {role}_other; drop role {role}_other")
            .does(|fixture, node, client| {
                let place = &node.place;
                let role = place.role("read_write");
                let (port, database) = (place.port, &place.database);
                place.master().run(&format!(
                    "create server near foreign data wrapper postgres_fdw options (host '127.0.0.1', port '{port}', dbname '{database}');
                     create user mapping for {role} server near options (user '{role}_other', password 'other');
                     create foreign table far (id int, name text) server near options (table_name 'items');
                     grant select on far to {role}"
                ));
                use crate::suites::Fixture;
                assert_eq!(fixture.ask(client, "select count(*) from far"), "1000");
            })
            .asked(&["select count(*) from postgres_fdw_get_connections()"]),
    ];
    rows.push(match version {
        Version::Distribution => private("a variable of PL/Perl")
            .prepared("create extension plperl; grant usage on language plperl to {role}", "drop extension plperl cascade")
            .says(&["do $$ $_SHARED{leftover} = 'mine'; $$ language plperl"])
            .asked(&["do $$ elog(ERROR, 'mine') if defined $_SHARED{leftover}; $$ language plperl"]),
        Version::Newest => private("a variable of PL/Tcl")
            .prepared("create extension pltcl", "drop extension pltcl cascade")
            .says(&[
                "create function pg_temp.leave() returns text language pltcl as $$ global leftover; set leftover mine $$",
                "select pg_temp.leave()",
            ])
            .asked(&["create or replace function pg_temp.look() returns text language pltcl as \
                      $$ global leftover; info exists leftover $$; select pg_temp.look()"]),
    });
    if version == Version::Distribution {
        rows.push(
            private("the weak mode of isn")
                .prepared("create extension isn", "drop extension isn")
                .says(&["select isn_weak(true)"])
                .asked(&["select isn_weak()"]),
        );
    }
    rows
}

/// Sends these messages, which must be answered with these.
fn talk(client: &mut Hand, bytes: &[u8], tags: &str) {
    let wire = client.wire();
    wire.send(bytes);
    assert_eq!(wire.tags(), tags);
}
