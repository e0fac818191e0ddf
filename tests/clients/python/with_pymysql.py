"""PyMySQL: text protocol, multi statements, LOCAL INFILE, streaming cursors, KILL."""

import datetime
import decimal
import os
import threading

import pymysql
import pymysql.cursors
from pymysql.constants import CLIENT

from common import after, digest, plain, show
from mysql_common import CA, HOST, NAME, PASSWORD, PORT, TABLE, TYPES, USER, a_file


def connect(**more):
    tls = {"ssl": {"ca": CA, "check_hostname": True}} if CA else {"ssl_disabled": True}
    settings = {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "database": NAME, "charset": "utf8mb4"}
    return pymysql.connect(**{**settings, **tls, **more})


def code(action):
    try:
        action()
    except pymysql.Error as error:
        return error.args[0]
    return "no error"


def values(conn):
    with conn.cursor() as cur:
        cur.execute(TYPES)
        show("types", [plain(value) for value in cur.fetchone()])
        show("columns", [(column[0], column[1]) for column in cur.description])
        rows = [(i, f"näme {i}", decimal.Decimal(i) / 4, datetime.datetime(2026, 1, 1, 12, i % 60, 1, 500), bytes([i % 256, 0, 255]), 2**64 - 1 - i) for i in range(500)]
        show("inserted", cur.executemany("insert into work values (%s, %s, %s, %s, %s, %s)", rows))
        conn.commit()
        cur.execute("select * from work where id in (3, 7) order by id")
        show("back", [tuple(plain(value) for value in row) for row in cur.fetchall()])
        cur.execute("update work set name = 'x' where id < 10")
        show("updated", (cur.rowcount, cur.lastrowid))
        cur.execute("update work set name = 'x' where id < 10")
        show("not changed", cur.rowcount)
        show("error", code(lambda: cur.execute("select * from nowhere")))
        show("duplicate", code(lambda: cur.execute("insert into work (id) values (1)")))
        cur.execute("select 1 / 0, cast('abc' as signed)")
        cur.fetchall()
        cur.execute("show warnings")
        show("warnings", [row[1] for row in cur.fetchall()])
        text = "0123456789" * 1_700_000
        cur.execute("select length(%s), %s", (text, text))
        row = cur.fetchone()
        show("more than one packet", (row[0], digest(row[1])))
    conn.commit()


def many_results(conn):
    with connect(client_flag=CLIENT.MULTI_STATEMENTS) as several, several.cursor() as cur:
        cur.execute("select 1; update work set name = 'y' where id = 1; select 'a', 'b' union select 'c', 'd'; select 4")
        results = [cur.fetchall()]
        while cur.nextset():
            results.append(cur.fetchall())
        show("several", results)
        show("error in the middle", code(lambda: [cur.execute("select 1; select * from nowhere; select 3"), cur.fetchall(), cur.nextset()]))
        several.ping(reconnect=False)
        several.rollback()
    with conn.cursor() as cur:
        show("not allowed", code(lambda: cur.execute("select 1; select 2")))
        cur.execute("create procedure twice(n int) begin select n; select n * 2; end")
        cur.callproc("twice", (21,))
        results = [cur.fetchall()]
        while cur.nextset():
            results.append(cur.fetchall())
        show("procedure", results)
        cur.execute("drop procedure twice")


def streamed(conn):
    with conn.cursor(pymysql.cursors.SSCursor) as cur:
        cur.execute("select a.id, repeat('x', 300) from work a, work b limit 20000")
        show("first", cur.fetchone()[0])
        show("streamed", sum(1 for _ in cur))
    with conn.cursor(pymysql.cursors.SSDictCursor) as cur:
        cur.execute("select id from work order by id")
        show("left", cur.fetchmany(3))


def files(conn):
    name = a_file(f"{i}\tloaded {i}\t1.25\t2026-02-28 00:00:00\tabc\t7\n" for i in range(1000, 21000))
    with connect(local_infile=True) as loading, loading.cursor() as cur:
        cur.execute(f"load data local infile '{name}' into table work")
        show("loaded", cur.rowcount)
        loading.commit()
        show("no such file", code(lambda: cur.execute("load data local infile '/nowhere/at/all' into table work")))
        loading.ping(reconnect=False)
    os.unlink(name)
    with conn.cursor() as cur:
        cur.execute("select count(*), sum(id), max(name) from work")
        show("sum", [plain(value) for value in cur.fetchone()])


def transactions(conn):
    with conn.cursor() as cur:
        conn.begin()
        cur.execute("insert into work (id) values (90000)")
        cur.execute("savepoint a")
        cur.execute("delete from work")
        cur.execute("rollback to a")
        conn.rollback()
        cur.execute("select count(*) from work where id = 90000")
        show("rolled back", cur.fetchone())
        conn.autocommit(True)
        cur.execute("set transaction read only")
        conn.begin()
        show("read only", code(lambda: cur.execute("delete from work")))
        conn.rollback()
        conn.select_db("information_schema")
        cur.execute("select database()")
        show("database", cur.fetchone())
        conn.select_db(NAME)
        show("no such database", code(lambda: conn.select_db("nowhere_at_all")) in (1044, 1049))
        conn.set_character_set("latin1")
        cur.execute("select 'é', @@character_set_client")
        show("latin1", cur.fetchone())
        conn.set_character_set("utf8mb4")


def killed(conn):
    with conn.cursor() as cur:
        victim = conn.thread_id()

        def kill():
            other = connect()
            with other.cursor() as killer:
                killer.execute(f"kill query {victim}")
            other.close()

        timer = after(1, kill)
        show("interrupted", code(lambda: cur.execute("select sum(a.id * b.id + c.id * d.id) from work a, work b, work c, work d")))
        timer.join()
        show("and it works on", (cur.execute("select 1"), cur.fetchone()))
    doomed = connect()
    other = connect()
    other.kill(doomed.thread_id())
    show("killed", ended(doomed))
    other.close()


def ended(conn):
    try:
        with conn.cursor() as cur:
            cur.execute("select sleep(20)")
    except (pymysql.Error, OSError):
        return True
    return False


def at_once():
    def one(results, number):
        with connect() as conn, conn.cursor() as cur:
            cur.execute("select %s + 1", (number,))
            results[number] = cur.fetchone()[0]

    results = {}
    threads = [threading.Thread(target=one, args=(results, i)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show("at once", sorted(results.items()))


def main():
    conn = connect()
    show("server", conn.get_server_info().split("-")[0])
    with conn.cursor() as cur:
        cur.execute(TABLE)
    for part in (values, many_results, streamed, files, transactions, killed):
        part(conn)
    with conn.cursor() as cur:
        cur.execute("drop table work")
    conn.close()
    at_once()


if __name__ == "__main__":
    main()
