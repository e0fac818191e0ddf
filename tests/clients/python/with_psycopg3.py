"""psycopg 3: the newest libpq, prepared statements, pipelines, COPY, cursors, its pool."""

import sys
import threading

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg_pool import ConnectionPool

from common import TYPES, after, digest, plain, show


def types(conn):
    for binary in (False, True):
        with conn.cursor(binary=binary) as cur:
            cur.execute(TYPES.replace(", '<a/>'::xml as x, point(1, 2) as y", ""))
            row = cur.fetchone()
            show(f"types, binary={binary}", [plain(value) for value in row])
            show("columns", [(column.name, column.type_code, column.type_display) for column in cur.description])
    values = (True, 7, 2**40, 1.25, "tëxt", b"\x00\xff", [1, 2, None], None)
    row = conn.execute("select %s::bool, %s::int, %s::int8, %b::float8, %s::text, %b::bytea, %s::int[], %s::text", values)
    show("parameters", row.fetchone())
    conn.execute("create type pair as (a int, b text)")
    info = CompositeInfo.fetch(conn, "pair")
    register_composite(info, conn)
    show("composite", tuple(conn.execute("select row(3, 'three')::pair").fetchone()[0]))
    conn.execute("drop type pair")


def prepared(conn):
    conn.prepare_threshold = 2
    for i in range(6):
        conn.execute("select %s::int + 1", (i,)).fetchone()
    show("prepared", conn.execute("select count(*) from pg_prepared_statements").fetchone())
    # A changed result type ends a prepared statement on the server; psycopg recovers outside of transactions.
    conn.execute("create table changing (a int)")
    for _ in range(3):
        conn.execute("select * from changing", prepare=True)
    conn.execute("alter table changing alter a type text")
    try:
        conn.execute("select * from changing", prepare=True)
        show("after a changed table", "works")
    except psycopg.Error as error:
        show("after a changed table", error.sqlstate)
    conn.execute("drop table changing")
    conn.execute("deallocate all")
    show("deallocated", conn.execute("select count(*) from pg_prepared_statements").fetchone())


def batches(conn):
    with conn.cursor() as cur:
        cur.executemany("insert into work values (%s, %s) returning id", [(i, f"n{i}") for i in range(200)], returning=True)
        ids = []
        while True:
            ids.append(cur.fetchone()[0])
            if not cur.nextset():
                break
        show("many at once", sum(ids))
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("select %s::int * 2", (i,)) for i in range(50)]
        pipeline.sync()
        show("pipeline", sum(cur.fetchone()[0] for cur in cursors))
    try:
        with conn.pipeline():
            conn.execute("insert into work values (900, 'x')")
            conn.execute("select 1/0")
            conn.execute("insert into work values (901, 'y')")
    except psycopg.errors.DivisionByZero as error:
        show("an error in a pipeline", error.sqlstate)
    show("rows of a failed pipeline", conn.execute("select count(*) from work where id >= 900").fetchone())


def copies(conn):
    with conn.cursor() as cur:
        with cur.copy("copy work (id, name) from stdin") as copy:
            for i in range(1000, 4000):
                copy.write_row((i, "tab\tand\\backslash" if i % 7 else None))
        show("copied in", cur.rowcount)
        with cur.copy("copy (select id, name from work order by id) to stdout") as copy:
            data = b"".join(bytes(part) for part in copy)
        show("copied out", digest(data))
        with cur.copy("copy work from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(5000, 5100):
                copy.write_row((i, "binary"))
        show("binary copy", cur.rowcount)
        with cur.copy("copy (select id from work where id < 5 order by 1) to stdout (format binary)") as copy:
            copy.set_types(["int4"])
            show("binary rows", list(copy.rows()))
        try:
            with cur.copy("copy work from stdin") as copy:
                copy.write("not a number\n")
        except psycopg.Error as error:
            show("bad copy", error.sqlstate)
        try:
            with cur.copy("copy work from stdin"):
                raise ValueError("given up by the client")
        except ValueError as error:
            show("abandoned copy", str(error))
        show("and it works on", cur.execute("select 1").fetchone())


def cursors(conn):
    with conn.transaction(), conn.cursor("c", scrollable=True) as cur:
        cur.itersize = 100
        cur.execute("select id from work order by id")
        show("cursor", [cur.fetchone(), len(cur.fetchmany(500))])
        cur.scroll(-10)
        show("scrolled", cur.fetchone())
        show("the rest", len(cur.fetchall()))
    with conn.cursor() as cur:
        show("streamed", sum(row[0] for row in cur.stream("select generate_series(1, 5000)")))
    with conn.cursor(row_factory=dict_row) as cur:
        show("several", [cur.execute("select 1 as one; select 2 as two").fetchall(), cur.nextset(), cur.fetchall()])


def transactions(conn):
    try:
        with conn.transaction():
            conn.execute("insert into work values (10000, 'outer')")
            try:
                with conn.transaction():
                    conn.execute("select * from nowhere")
            except psycopg.errors.UndefinedTable as error:
                show("undone inside", (error.sqlstate, error.diag.statement_position, error.diag.severity))
            with conn.transaction(force_rollback=True):
                conn.execute("insert into work values (10001, 'inner')")
        show("savepoints", conn.execute("select id from work where id >= 10000").fetchall())
    except psycopg.Error as error:
        show("unexpected", error)
    conn.autocommit = False
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    show("isolation", conn.execute("show transaction_isolation").fetchone())
    try:
        conn.execute("delete from work")
    except psycopg.Error as error:
        show("read only", error.sqlstate)
    try:
        conn.execute("select 1")
    except psycopg.Error as error:
        show("failed transaction", error.sqlstate)
    show("status", conn.info.transaction_status.name)
    conn.rollback()
    conn.isolation_level = conn.read_only = None
    conn.autocommit = True
    try:
        conn.tpc_begin(conn.xid(1, "g", "b"))
        conn.execute("select 1")
        conn.tpc_prepare()
        conn.tpc_rollback()
    except psycopg.Error as error:
        show("two-phase", error.sqlstate)
    conn.rollback()


def asynchronous(conn):
    conn.execute("listen news")
    with psycopg.connect("", autocommit=True) as other:
        for word in ("one", "two"):
            other.execute("select pg_notify('news', %s)", (word,))
    show("notified", sorted(n.payload for n in conn.notifies(timeout=20, stop_after=2)))
    conn.execute("unlisten *")
    notices = []
    conn.add_notice_handler(lambda diag: notices.append((diag.severity, diag.message_primary)))
    conn.execute("do $$ begin raise notice 'hello'; raise warning 'careful'; end $$")
    show("notices", notices)
    # From libpq 17 on a cancel request goes over a connection as secure as the first.
    timer = after(0.5, lambda: conn.cancel_safe(timeout=20))
    try:
        conn.execute("select pg_sleep(60)")
    except psycopg.errors.QueryCanceled as error:
        show("cancelled", error.sqlstate)
    timer.join()
    conn.execute("set statement_timeout = 200")
    try:
        conn.execute("select pg_sleep(60)")
    except psycopg.errors.QueryCanceled as error:
        show("timed out", error.sqlstate)
    conn.execute("reset statement_timeout")


def large(conn):
    text = "0123456789abcdef" * 400_000
    back = conn.execute("select %s::text, length(%b::bytea)", (text, text.encode())).fetchone()
    show("large", (digest(back[0]), back[1]))
    show("long statement", conn.execute("select length('" + text + "')").fetchone())
    oid = conn.execute("select lo_from_bytea(0, %b)", (text.encode(),)).fetchone()[0]
    show("large object", digest(conn.execute("select lo_get(%s)", (oid,)).fetchone()[0]))
    conn.execute("select lo_unlink(%s)", (oid,))


def pooled():
    def configure(conn):
        conn.autocommit = True
        conn.execute("set search_path = pg_catalog, public")

    with ConnectionPool("", min_size=2, max_size=4, configure=configure, check=ConnectionPool.check_connection,
                        reset=lambda conn: conn.execute("reset all"), open=True, timeout=30) as pool:
        pool.wait()
        sums, threads = [], []

        def work(n):
            with pool.connection() as conn:
                sums.append(conn.execute("select %s::int + pg_backend_pid() * 0", (n,)).fetchone()[0])

        for n in range(20):
            threads.append(threading.Thread(target=work, args=(n,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        show("pool", sum(sums))


def main():
    with psycopg.connect("", autocommit=True) as conn:
        info = conn.info
        show("connected", (info.encoding, info.server_version // 10000, info.parameter_status("TimeZone") != None,
                           info.parameter_status("standard_conforming_strings"), info.pipeline_status.name))
        show("the process id is the server's", conn.execute("select pg_backend_pid()").fetchone()[0] == info.backend_pid)
        conn.execute("create table work (id int primary key, name text)")
        for part in (types, prepared, batches, copies, cursors, transactions, asynchronous, large):
            part(conn)
        conn.execute(sql.SQL("drop table {}").format(sql.Identifier("work")))
    pooled()


if __name__ == "__main__":
    sys.exit(main())
