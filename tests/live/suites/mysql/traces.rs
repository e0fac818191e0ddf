//! What a session of MySQL's protocol can leave behind.

use super::super::Fixture;
use super::super::reset::{Met, Trace};
use super::{Hand, MySql, Place};
use crate::support::Node;
use crate::support::mysql::wire::{command, say};
use crate::support::mysql::{Answer, Release, Wire};

type Row = Trace<MySql>;

pub fn all(release: Release) -> Vec<Row> {
    let all = [
        transactions(release),
        distributed(release),
        locks(release),
        statements(),
        last_results(release),
        settings(release),
        variables(),
        temporary_objects(),
        roles(),
        outliving(release),
        generators(release),
        conversations(),
        files(),
        shared(release),
        refused(),
    ];
    all.into_iter().flatten().collect()
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
const INSERT: &str = "insert into items values (5000, 'never committed')";
/// Changes nothing, and is refused where nothing may be changed.
const WRITE: &str = "update items set name = name where id = 1";

fn transactions(release: Release) -> Vec<Row> {
    // MariaDB's older name of it.
    let isolation = match release {
        Release::Distribution => "select @@tx_isolation, @@tx_read_only",
        _ => "select @@transaction_isolation, @@transaction_read_only",
    };
    vec![
        clean("an open transaction").says(&["begin", INSERT]).asked(&[ITEM]),
        clean("an open transaction of who vanishes").says(&["begin", INSERT]).asked(&[ITEM]).vanishing(),
        clean("a transaction in which something failed")
            .says(&["begin", INSERT])
            .fails("select nonsense", "1054")
            .asked(&[ITEM]),
        clean("a savepoint")
            .says(&["begin", INSERT, "savepoint leftover"])
            .asked(&["rollback to leftover", ITEM]),
        clean("a transaction that only reads")
            .says(&["start transaction with consistent snapshot, read only"])
            .asked(&[WRITE]),
        clean("the modes of the next transaction")
            .says(&["set transaction isolation level serializable, read only"])
            .asked(&[WRITE])
            .unseen(),
        clean("the modes of all transactions")
            .says(&["set session transaction isolation level serializable, read only"])
            .asked(&[isolation, WRITE]),
        clean("a transaction without a beginning").says(&["set autocommit = 0", INSERT]).asked(&[ITEM]),
        clean("no transaction by default").says(&["set autocommit = 0"]).asked(&["select @@autocommit"]),
        // The rollback itself ends the connection.
        closed("how transactions end")
            .says(&["set completion_type = 'release'"])
            .asked(&["select @@completion_type"]),
    ]
}

fn distributed(release: Release) -> Vec<Row> {
    let sees = |what: &'static str, instead| if release == Release::MySql9 { what } else { instead };
    vec![
        row("a distributed transaction", Met::CleanOrClosed)
            .says(&["xa start '{role}'", INSERT])
            .asked(&[ITEM]),
        row("a distributed transaction at its end", Met::CleanOrClosed)
            .says(&["xa start '{role}'", INSERT, "xa end '{role}'"])
            .asked(&[ITEM])
            .unseen(),
        // MariaDB's connection could write no more.
        row(
            "a distributed transaction that is prepared",
            if release.is_mariadb() { Met::Closed } else { Met::Shared(SHARED) },
        )
        .at("admin")
        .prepared(
            sees("grant xa_recover_admin on *.* to {role}@'%'", "select 1"),
            sees(
                "xa rollback '{role}'; revoke xa_recover_admin on *.* from {role}@'%'",
                "xa rollback '{role}'",
            ),
        )
        .says(&["xa start '{role}'", INSERT, "xa end '{role}'", "xa prepare '{role}'"])
        .asked(&[sees("xa recover", "select 'in step'")])
        .unseen(),
    ]
}

fn locks(release: Release) -> Vec<Row> {
    let mut rows = vec![
        clean("a lock on a table").says(&["lock tables items read"]).asked(&[WRITE]),
        clean("a lock on a table of who vanishes")
            .says(&["lock tables items write"])
            .asked(&["select count(*) from information_schema.tables where table_name = 'items'", WRITE])
            .unseen()
            .vanishing(),
        clean("locks of the application")
            .says(&["select get_lock('{role}', 0)", "select get_lock('{role} too', 0)"])
            .asked(&[
                "select is_used_lock('{role}') <=> connection_id()",
                "select is_free_lock('{role} too')",
            ]),
        clean("a reader without statements")
            .says(&["handler items open as leftover"])
            .asked(&["handler leftover read first"]),
        clean("a table locked for its export")
            .at("admin")
            .prepared("grant reload on *.* to {role}@'%'", "revoke reload on *.* from {role}@'%'")
            .says(&["flush tables items with read lock"])
            .asked(&[WRITE]),
    ];
    rows.push(match release {
        Release::MySql9 => clean("the server's lock for a backup")
            .at("admin")
            .prepared(
                "grant backup_admin on *.* to {role}@'%'; grant select on performance_schema.* to {role}@'%'",
                "revoke backup_admin on *.* from {role}@'%'; revoke select on performance_schema.* from {role}@'%'",
            )
            .says(&["lock instance for backup"])
            .asked(&["select count(*) from performance_schema.metadata_locks where object_type = 'BACKUP LOCK' \
                      and owner_thread_id = ps_current_thread_id()"]),
        _ => clean("a stage of a backup")
            .at("admin")
            .prepared("grant reload on *.* to {role}@'%'", "revoke reload on *.* from {role}@'%'")
            .says(&["backup stage start"])
            .asked(&["backup stage end"])
            .unseen(),
    });
    rows
}

fn statements() -> Vec<Row> {
    vec![
        clean("a statement prepared by SQL")
            .says(&["prepare leftover from 'select 1'"])
            .asked(&["execute leftover"]),
        clean("a statement prepared by protocol")
            .does(|_, _, client| {
                client.wire().prepare("select 1").expect("prepared");
            })
            .asked(&["show session status like 'Com_stmt_prepare'"]),
        clean("a thousand statements and their memory")
            .does(|_, _, client| {
                for _ in 0..1000 {
                    client.wire().prepare("select 1").expect("prepared");
                }
            })
            .asked(&["select 'in step'"])
            .unseen(),
        clean("a cursor that is open")
            .does(|_, _, client| {
                let wire = client.wire();
                let (id, _) = wire.prepare("select id from items order by id").expect("prepared");
                wire.send(&Wire::execution(id, 1, &[]));
                assert_eq!(wire.binary_answers().len(), 1);
            })
            .asked(&["show session status like 'Com_stmt_execute'"]),
        clean("a value that was sent in parts")
            .does(|_, _, client| {
                let wire = client.wire();
                let (id, _) = wire.prepare("insert into items values (5000, ?)").expect("prepared");
                wire.say(command::STMT_SEND_LONG_DATA, &[&id.to_le_bytes()[..], &[0, 0], b"half"].concat());
            })
            .asked(&[ITEM, "select 'in step'"])
            .unseen(),
        clean("several statements in one, no more")
            .does(|_, _, client| {
                let wire = client.wire();
                wire.say(command::SET_OPTION, &[1, 0]);
                assert_ne!(wire.read().expect("an answer")[0], 0xff);
            })
            .asked(&["select 1; select 2"]),
    ]
}

/// What can be asked about the statement before.
fn last_results(release: Release) -> Vec<Row> {
    let mut rows = vec![
        clean("the last number that was given")
            .says(&["select last_insert_id(4711)"])
            .asked(&["select last_insert_id()", "select @@identity"]),
        clean("how many rows there would have been")
            .says(&["select sql_calc_found_rows id from items limit 1"])
            .asked(&["select found_rows()"]),
        clean("warnings").says(&["select cast('leftover' as signed)"]).asked(&["show warnings"]),
        clean("errors").fails("select leftover", "1054").asked(&["show errors"]),
        clean("a signal")
            .fails("signal sqlstate '45000' set message_text = 'leftover'", "1644")
            .asked(&["show warnings"]),
        // MariaDB keeps the texts; what would clear them would be heard of as soon as it did not.
        row("the profile of statements", if release.is_mariadb() { Met::Closed } else { Met::Clean })
            .says(&["set profiling = 1", "select 'leftover'"])
            .asked(&["select @@profiling", "select count(*) from information_schema.profiling"]),
        clean("how a statement was planned")
            .says(&["set optimizer_trace = 'enabled=on'", "select name from items where id = 77"])
            .asked(&["select count(*) from information_schema.optimizer_trace", "select @@optimizer_trace"]),
    ];
    if release.is_mariadb() {
        rows.push(
            clean("the time limit of one statement")
                .says(&["set statement max_statement_time = 7 for select 1"])
                .asked(&["select @@max_statement_time"])
                .unseen(),
        );
    }
    rows
}

fn settings(release: Release) -> Vec<Row> {
    let mut rows = vec![
        clean("what SQL means").says(&["set sql_mode = 'ansi'"]).asked(&["select @@sql_mode"]),
        clean("checks that are off")
            .says(&["set foreign_key_checks = 0, unique_checks = 0"])
            .asked(&["select @@foreign_key_checks, @@unique_checks"]),
        clean("careful updates").says(&["set sql_safe_updates = 1"]).asked(&["select @@sql_safe_updates"]),
        clean("the time zone").says(&["set time_zone = '+09:00'"]).asked(&["select @@time_zone"]),
        clean("another time").says(&["set timestamp = 1"]).asked(&["select year(now()) < 1980"]),
        clean("the character set")
            .says(&["set names latin1"])
            .asked(&["select @@character_set_client, @@character_set_results, @@collation_connection"]),
        clean("results as they are stored")
            .says(&["set character_set_results = null"])
            .asked(&["select @@character_set_results is null"]),
        clean("a limit of all results").says(&["set sql_select_limit = 3"]).asked(&["select id from items where id < 6"]),
        clean("limits of time")
            .says(&["set lock_wait_timeout = 7, innodb_lock_wait_timeout = 7, net_write_timeout = 7, wait_timeout = 777"])
            .asked(&["select @@lock_wait_timeout, @@innodb_lock_wait_timeout, @@net_write_timeout, @@wait_timeout"]),
        clean("limits of memory")
            .says(&["set sort_buffer_size = 65536, tmp_table_size = 2048, group_concat_max_len = 7"])
            .asked(&["select @@sort_buffer_size, @@tmp_table_size, group_concat(name) from items where id < 9"]),
        clean("the engine of new tables")
            .says(&["set default_storage_engine = 'MyISAM'"])
            .asked(&["select @@default_storage_engine"]),
        clean("the planner's switches")
            .says(&["set optimizer_switch = 'index_merge=off'"])
            .asked(&["select @@optimizer_switch like '%index_merge=off%'"]),
        clean("languages")
            .says(&["set lc_time_names = 'de_DE'"])
            .asked(&["select monthname('2026-02-28')"]),
        clean("the next number to be given").says(&["set insert_id = 4711"]).asked(&["select @@insert_id"]),
        clean("nulls that find the last row").says(&["set sql_auto_is_null = 1"]).asked(&["select @@sql_auto_is_null"]),
        clean("what is told of the session")
            .says(&["set session_track_system_variables = '*'"])
            .asked(&["select @@session_track_system_variables"]),
        clean("how numbers are divided")
            .says(&["set div_precision_increment = 9"])
            .asked(&["select 1 / 7"]),
        clean("the default database")
            .says(&["use information_schema"])
            .asked(&["select database() = 'information_schema'"]),
        clean("the default database, by protocol")
            .does(|_, _, client| {
                let wire = client.wire();
                wire.say(command::INIT_DB, b"information_schema");
                assert_eq!(wire.read().expect("an answer")[0], 0);
            })
            .asked(&["select database() = 'information_schema'"]),
    ];
    match release {
        Release::MySql9 => rows.extend([
            clean("the time limit of statements")
                .says(&["set max_execution_time = 7000"])
                .asked(&["select @@max_execution_time"]),
            clean("rows without a key")
                .says(&["set sql_require_primary_key = 1"])
                .asked(&["select @@sql_require_primary_key"])
                .at("admin")
                .prepared(
                    "grant session_variables_admin on *.* to {role}@'%'",
                    "revoke session_variables_admin on *.* from {role}@'%'",
                ),
            clean("a log that is off")
                .at("admin")
                .prepared(
                    "grant system_variables_admin on *.* to {role}@'%'",
                    "revoke system_variables_admin on *.* from {role}@'%'",
                )
                .says(&["set sql_log_bin = 0"])
                .asked(&["select @@sql_log_bin"]),
        ]),
        _ => rows.extend([
            clean("the time limit of statements")
                .says(&["set max_statement_time = 7"])
                .asked(&["select @@max_statement_time"]),
            clean("how things were of old")
                .says(&["set old_mode = 'NO_PROGRESS_INFO'"])
                .asked(&["select @@old_mode"]),
            clean("a log that is off")
                .at("admin")
                .prepared(
                    "grant binlog admin on *.* to {role}@'%'",
                    "revoke binlog admin on *.* from {role}@'%'",
                )
                .says(&["set sql_log_bin = 0"])
                .asked(&["select @@sql_log_bin"]),
        ]),
    }
    rows
}

fn variables() -> Vec<Row> {
    vec![
        clean("variables").says(&["set @mine = 7, @`and mine` = 'x'"]).asked(&["select @mine, @`and mine`"]),
        clean("another's name")
            .says(&["set @tidegate = 'mallory/s-0000'"])
            .asked(&["select @tidegate like 'mallory%'"]),
        clean("a variable of a large value")
            .says(&["set @mine = repeat('x', 5000000)"])
            .asked(&["select length(@mine)"]),
        clean("what the client resets itself")
            .says(&["set @mine = 7"])
            .does(|_, _, client| {
                let wire = client.wire();
                wire.say(command::RESET_CONNECTION, &[]);
                assert_eq!(wire.read().expect("an answer")[0], 0);
                // It still says whose session it is.
                assert!(wire.ask("select @tidegate").starts_with("alice/s-"));
            })
            .asked(&["select @mine"])
            .unseen(),
    ]
}

fn temporary_objects() -> Vec<Row> {
    vec![
        clean("a temporary table")
            .says(&["create temporary table leftover as select 'mine' as a"])
            .asked(&["select a from leftover"]),
        clean("a temporary table in the way of another")
            .says(&["create temporary table items (id int, name text)"])
            .asked(&["select count(*) from items"]),
        clean("a temporary table of who vanishes")
            .says(&["create temporary table leftover as select 'mine' as a"])
            .asked(&["select a from leftover"])
            .vanishing(),
    ]
}

fn roles() -> Vec<Row> {
    let granted = "create role {role}_r; grant {role}_r to {role}@'%'";
    let role = |name| clean(name).prepared(granted, "drop role {role}_r");
    vec![
        role("a role").says(&["set role {role}_r"]).asked(&["select current_role()"]),
        role("a role of who vanishes")
            .says(&["set role {role}_r"])
            .asked(&["select current_role()"])
            .vanishing(),
    ]
}

/// What whoever has the login may change of it.
fn outliving(release: Release) -> Vec<Row> {
    let granted = "create role {role}_r; grant {role}_r to {role}@'%'";
    let mut rows = vec![
        row("the role of the next login", Met::Suspended)
            .prepared(granted, "drop role {role}_r")
            .says(match release {
                Release::MySql9 => &["set default role {role}_r to {role}@'%'"],
                _ => &["set default role {role}_r"],
            })
            .unseen(),
        // Of no use to the next person, who is on a connection that stands; new ones are refused, see
        // `mysql_upstream`.
        clean("another password")
            .prepared("select 1", "alter user {role}@'%' identified by 'only the proxy knows'")
            .says(match release {
                Release::MySql9 => &["set password = 'of mallory'"],
                _ => &["set password = password('of mallory')"],
            })
            .asked(&["select 'in step'"])
            .unseen(),
    ];
    if release == Release::MySql9 {
        rows.extend([
            clean("another password, by another statement")
                .prepared("select 1", "alter user {role}@'%' identified by 'only the proxy knows'")
                .says(&["alter user user() identified by 'of mallory'"])
                .asked(&["select 'in step'"])
                .unseen(),
            row("a setting of the server that stays", Met::Shared(SHARED))
                .at("admin")
                .prepared(
                    "grant system_variables_admin on *.* to {role}@'%'",
                    "reset persist innodb_io_capacity; set global innodb_io_capacity = default; \
                     revoke system_variables_admin on *.* from {role}@'%'",
                )
                .says(&["set persist innodb_io_capacity = 778"])
                .asked(&["select @@global.innodb_io_capacity"]),
        ]);
    }
    rows
}

fn generators(release: Release) -> Vec<Row> {
    let mut rows = vec![
        // The second number is known in advance: who leaves it sees the first one.
        clean("random numbers that are known")
            .prepared("select 1", "update items set name = concat('item ', id) where id < 4")
            .says(&[
                "set rand_seed1 = 5, rand_seed2 = 6",
                "update items set name = cast(rand() as char) where id = 1",
                "update items set name = cast(rand() as char) where id = 2",
                "update items set name = cast(rand() as char) where id = 3",
                "set rand_seed1 = 5, rand_seed2 = 6",
            ])
            .asked(&["select count(*) > 0 from items, (select rand() as x limit 1) as r \
                 where id < 4 and cast(name as binary) = cast(x as binary)"]),
    ];
    if release.is_mariadb() {
        rows.push(
            clean("the last value of a sequence")
                .prepared(
                    "create sequence numbers; grant select, insert on numbers to {role}@'%'",
                    "revoke select, insert on numbers from {role}@'%'; drop sequence numbers",
                )
                .says(&["select nextval(numbers)"])
                .asked(&["select lastval(numbers)"]),
        );
    }
    rows
}

fn conversations() -> Vec<Row> {
    let half: fn(&MySql, &Node<Place>, &mut Hand) = |_, _, client| {
        let query = say(command::QUERY, b"insert into items values (5000, 'half a packet')");
        client.wire().send(&query[..20]);
    };
    vec![
        // Nothing of it has left for the server.
        clean("half a packet").does(half).asked(&[ITEM, "select 'in step'"]).unseen().vanishing(),
        closed("half a long packet")
            .does(|_, node, client| {
                let long = format!("select length('{}')", "x".repeat(1_000_000));
                client.wire().send(&say(command::QUERY, long.as_bytes())[..500_000]);
                // It has left when it is in the trail.
                node.wait_event("statement", |line| {
                    line["text"].as_str().is_some_and(|text| text.contains("xxx"))
                });
            })
            .asked(&["select 'in step'"])
            .unseen()
            .vanishing(),
        row("answers that were not waited for", Met::CleanOrClosed)
            .does(|_, _, client| {
                client.wire().send(&say(command::QUERY, b"select 'not waited for'").repeat(20))
            })
            .asked(&["select 'in step'", ITEM])
            .unseen(),
        closed("a statement that runs")
            .does(|fixture, _, client| fixture.occupy(client))
            .asked(&["select 'in step'"])
            .unseen()
            .vanishing(),
        closed("rows that nobody reads any more")
            .does(|_, _, client| {
                client.wire().query("select repeat('x', 1000) from items a, items b, items c");
                let mut first = [0; 100];
                assert!(client.wire().read_bytes(&mut first).expect("an answer") > 0);
            })
            .asked(&["select 'in step'"])
            .unseen()
            .vanishing(),
        clean("an error among several statements")
            .does(|_, _, client| {
                client.wire().query("begin; insert into items values (5000, 'x'); select nonsense; select 1");
                let answers = client.wire().answers();
                assert!(matches!(answers[..], [_, _, Answer::Failed(_)]), "{answers:?}");
            })
            .asked(&[ITEM]),
        clean("a command that there is none of")
            .does(|_, _, client| {
                client.wire().say(77, b"nothing");
                assert_eq!(client.wire().read().expect("an answer")[0], 0xff);
            })
            .asked(&["select 'in step'"])
            .unseen(),
    ]
}

/// Files need a client that has said that it sends them.
fn files() -> Vec<Row> {
    const SENT: &str = "select count(*) from items where id >= 5000";
    vec![clean("a file of a client that sends none").fails(LOAD, "").asked(&[SENT]).unseen()]
}

const LOAD: &str = "load data local infile '/etc/passwd' into table items";

const SHARED: &str = "belong to the server and not to a session";

/// What is the server's and not a session's.
fn shared(release: Release) -> Vec<Row> {
    let words = SHARED;
    let mut rows = vec![
        row("a table", Met::Shared(words))
            .at("admin")
            .prepared("select 1", "drop table leftover")
            .says(&["create table leftover as select 'shared' as a"])
            .asked(&["select a from leftover"]),
        row("a routine", Met::Shared(words))
            .at("admin")
            .prepared("select 1", "drop procedure leftover")
            .says(&["create procedure leftover() select 'shared'"])
            .asked(&["call leftover()"]),
        row("an event", Met::Shared(words))
            .at("admin")
            .prepared("select 1", "drop event leftover")
            .says(&["create event leftover on schedule every 1 day do select 1"])
            .asked(&["select count(*) from information_schema.events where event_schema = database()"]),
    ];
    rows.push(
        row("a setting of the server", Met::Shared(words))
            .at("admin")
            .prepared(
                match release {
                    Release::MySql9 => "grant system_variables_admin on *.* to {role}@'%'",
                    _ => "grant super on *.* to {role}@'%'",
                },
                match release {
                    Release::MySql9 => {
                        "set global innodb_io_capacity = default; revoke system_variables_admin on *.* from {role}@'%'"
                    }
                    _ => "set global innodb_io_capacity = default; revoke super on *.* from {role}@'%'",
                },
            )
            .says(&["set global innodb_io_capacity = 777"])
            .asked(&["select @@global.innodb_io_capacity"]),
    );
    if release.is_mariadb() {
        rows.push(
            row("a setting of the server's replica, which everybody may set", Met::Shared(words))
                .prepared("select 1", "set global max_relay_log_size = default")
                .says(&["set max_relay_log_size = 8192"])
                .asked(&["select @@max_relay_log_size"]),
        );
    }
    rows
}

/// Ways out that the server refuses to an ordinary login, and that leave nothing.
fn refused() -> Vec<Row> {
    vec![
        clean("files of the server")
            .fails("select 'x' into outfile '/tmp/leftover'", "1")
            .fails("load data infile '/etc/passwd' into table items", "1")
            .asked(&["select load_file('/etc/passwd') is null"])
            .unseen(),
        clean("settings of the whole server, refused")
            .fails("set global max_connections = 7", "1227")
            .fails("create user leftover", "1227")
            .asked(&["select @@global.max_connections"])
            .unseen(),
    ]
}
