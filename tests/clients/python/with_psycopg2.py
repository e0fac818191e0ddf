"""psycopg 2: simple protocol, named cursors, COPY, large objects by function call, asynchronous use."""

import select
import sys

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool

from common import TYPES, after, digest, plain, show


def values(conn):
    with conn.cursor() as cur:
        cur.execute(TYPES.replace("%", "%%"))
        show("types", [plain(bytes(v) if isinstance(v, memoryview) else v) for v in cur.fetchone()])
        show("columns", [(column.name, column.type_code, column.internal_size) for column in cur.description])
        rows = [(i, f"name {i}") for i in range(500)]
        psycopg2.extras.execute_values(cur, "insert into work values %s", rows)
        psycopg2.extras.execute_batch(cur, "update work set name = %s where id = %s", [("changed", i) for i in range(40)])
        cur.execute("select count(*), count(*) filter (where name = 'changed') from work")
        show("rows", cur.fetchone())
    conn.commit()


def copies(conn):
    import io
    with conn.cursor() as cur:
        lines = "".join(f"{i}\tcopied {i}\n" for i in range(1000, 3000))
        cur.copy_expert("copy work from stdin", io.StringIO(lines))
        show("copied in", cur.rowcount)
        out = io.BytesIO()
        cur.copy_expert("copy (select * from work order by id) to stdout (format csv)", out)
        show("copied out", digest(out.getvalue()))
        conn.commit()
        try:
            cur.copy_expert("copy work from stdin", io.StringIO("x\ty\n"))
        except psycopg2.Error as error:
            show("bad copy", error.pgcode)
        conn.rollback()


def cursors(conn):
    with conn.cursor("named") as cur:
        cur.itersize = 200
        cur.execute("select id from work order by id")
        show("named cursor", (cur.fetchone(), sum(row[0] for row in cur)))
    with conn.cursor("held", withhold=True, scrollable=True) as cur:
        cur.execute("select id from work order by id")
        conn.commit()
        cur.scroll(2000, mode="absolute")
        show("held over its transaction", cur.fetchone())
    conn.commit()


def transactions(conn):
    conn.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with conn.cursor() as cur:
        cur.execute("show transaction_isolation")
        show("isolation", cur.fetchone())
        try:
            cur.execute("delete from work")
        except psycopg2.Error as error:
            show("read only", (error.pgcode, error.diag.message_primary))
        show("status", conn.get_transaction_status())
        try:
            cur.execute("select 1")
        except psycopg2.Error as error:
            show("failed transaction", error.pgcode)
    conn.rollback()
    conn.set_session(isolation_level="DEFAULT", readonly="DEFAULT")
    with conn.cursor() as cur:
        cur.execute("set work_mem = '5MB'")
    # What psycopg2's pools call between two users: ROLLBACK, RESET ALL, SET SESSION AUTHORIZATION DEFAULT.
    conn.reset()
    with conn.cursor() as cur:
        cur.execute("show work_mem")
        show("reset", cur.fetchone()[0] != "5MB")
        try:
            cur.execute("select 1; select 1/0; select 2")
        except psycopg2.Error as error:
            show("several, one wrong", error.pgcode)
    conn.rollback()


def large_objects(conn):
    lob = conn.lobject(0, "wb")
    oid = lob.oid
    lob.write(b"0123456789" * 50_000)
    lob.seek(10)
    lob.close()
    lob = conn.lobject(oid, "rb")
    lob.seek(499_990)
    show("large object", (lob.read(), lob.tell()))
    lob.close()
    conn.lobject(oid).unlink()
    conn.commit()


def asynchronous(conn):
    conn.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
    with conn.cursor() as cur:
        cur.execute("listen news; notify news, 'hello'; do $$ begin raise notice 'noted'; end $$")
        while not conn.notifies:
            select.select([conn], [], [], 20)
            conn.poll()
        show("notified", [(n.channel, n.payload, n.pid == conn.get_backend_pid()) for n in conn.notifies])
        show("notices", conn.notices)
        timer = after(0.5, conn.cancel)
        try:
            cur.execute("select pg_sleep(60)")
        except psycopg2.extensions.QueryCanceledError as error:
            show("cancelled", error.pgcode)
        timer.join()
        text = "x" * 6_000_000
        cur.execute("select length(%s), %s", (text, text))
        row = cur.fetchone()
        show("large", (row[0], digest(row[1])))
    waiting = psycopg2.connect("", async_=True)
    wait(waiting)
    cur = waiting.cursor()
    cur.execute("select generate_series(1, 1000)")
    wait(waiting)
    show("asynchronous", len(cur.fetchall()))
    waiting.close()


def wait(conn):
    while True:
        state = conn.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        read = [conn] if state == psycopg2.extensions.POLL_READ else []
        write = [conn] if state == psycopg2.extensions.POLL_WRITE else []
        select.select(read, write, [], 20)


def main():
    conn = psycopg2.connect("")
    show("connected", (conn.encoding, conn.server_version // 10000, conn.get_parameter_status("DateStyle")))
    with conn.cursor() as cur:
        cur.execute("create table work (id int primary key, name text)")
    conn.commit()
    for part in (values, copies, cursors, transactions, large_objects, asynchronous):
        part(conn)
    with conn.cursor() as cur:
        cur.execute("drop table work")
    conn.close()
    pool = psycopg2.pool.ThreadedConnectionPool(1, 3, "")
    for i in range(6):
        conn = pool.getconn()
        with conn.cursor() as cur:
            cur.execute("select %s + 1", (i,))
            show("pool", cur.fetchone())
        pool.putconn(conn)
    pool.closeall()


if __name__ == "__main__":
    sys.exit(main())
