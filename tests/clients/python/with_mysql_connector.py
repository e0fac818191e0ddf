"""MySQL's own driver for Python: prepared statements, compression, reset of the connection."""

import datetime
import decimal
import os
import sys

import mysql.connector
from mysql.connector import errors

from common import digest, plain, show
from mysql_common import CA, HOST, NAME, PASSWORD, PORT, TABLE, TYPES, USER, a_file


def connect(**more):
    tls = {"ssl_ca": CA, "ssl_verify_cert": True, "ssl_verify_identity": True} if CA else {"ssl_disabled": True}
    settings = {"host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "database": NAME}
    return mysql.connector.connect(**{**settings, **tls, **more})


def code(action):
    try:
        action()
    except mysql.connector.Error as error:
        return (error.errno, error.sqlstate)
    return "no error"


def text_of(value):
    value = bytes(value) if isinstance(value, (bytearray, memoryview)) else value
    return plain(value)


def values(conn):
    cur = conn.cursor()
    cur.execute(TYPES)
    show("types", [text_of(value) for value in cur.fetchone()])
    cur.fetchall()
    rows = [(i, f"näme {i}", decimal.Decimal(i) / 4, datetime.datetime(2026, 1, 1, 12, i % 60), bytes([i % 256, 0]), i) for i in range(300)]
    cur.executemany("insert into work values (%s, %s, %s, %s, %s, %s)", rows)
    show("inserted", cur.rowcount)
    conn.commit()
    cur.execute("update work set name = 'x' where id < 10")
    show("updated", cur.rowcount)
    show("error", code(lambda: cur.execute("select * from nowhere")))
    cur.close()


def prepared(conn, large):
    cur = conn.cursor(prepared=True)
    for i in range(5):
        cur.execute("select id, name, price, at, data, big from work where id = %s or name = %s", (i, "näme 200"))
        show("prepared", [[text_of(value) for value in row] for row in cur.fetchall()])
    cur.execute("insert into work values (%s, %s, %s, %s, %s, %s)", (5000, None, decimal.Decimal("1.50"), datetime.datetime(2026, 2, 28, 1, 2, 3, 400), b"\x00\xff", 2**63))
    show("inserted", cur.rowcount)
    conn.commit()
    cur.execute("select * from work where id = 5000")
    show("back", [text_of(value) for value in cur.fetchone()])
    cur.fetchall()
    text = "0123456789" * large
    cur.execute("select length(%s), %s", (text, text))
    row = cur.fetchone()
    show("large", (row[0], digest(bytes(row[1]) if not isinstance(row[1], str) else row[1])))
    cur.fetchall()
    cur.close()


def many_results(conn):
    cur = conn.cursor()
    results = []
    cur.execute("select 1; update work set name = 'y' where id = 1; select 'a', 'b'")
    for statement, rows in cur.fetchsets():
        results.append(rows)
    show("several", results)
    cur.execute("create procedure twice(n int) begin select n; select n * 2; end")
    cur.callproc("twice", (21,))
    show("procedure", [result.fetchall() for result in cur.stored_results()])
    cur.execute("drop procedure twice")
    cur.close()


def sessions(conn):
    cur = conn.cursor()
    cur.execute("set @mine = 7, sql_mode = ''")
    conn.reset_session()
    cur = conn.cursor()
    cur.execute("select @mine, @@sql_mode <> '', database() = %s", (NAME,))
    show("reset", cur.fetchall())
    cur.execute("set @mine = 7, sql_mode = ''")
    cur.execute("create temporary table mine (id int)")
    conn.cmd_change_user(USER, PASSWORD, NAME)
    cur = conn.cursor()
    cur.execute("select @mine, @@sql_mode <> '', database() = %s", (NAME,))
    show("changed", cur.fetchall())
    show("gone", code(lambda: cur.execute("select * from mine")))
    conn.ping(reconnect=False)
    conn.database = "information_schema"
    cur.execute("select database()")
    show("database", cur.fetchall())
    conn.database = NAME
    conn.autocommit = False
    cur.execute("set transaction read only")
    conn.start_transaction(isolation_level="SERIALIZABLE")
    show("read only", code(lambda: conn.cursor().execute("delete from work")))
    conn.rollback()


def files():
    name = a_file(f"{i}\tloaded {i}\t1.25\t2026-02-28 00:00:00\tabc\t7\n" for i in range(10000, 13000))
    conn = connect(allow_local_infile=True)
    cur = conn.cursor()
    cur.execute(f"load data local infile '{name}' into table work")
    show("loaded", cur.rowcount)
    conn.commit()
    conn.close()
    os.unlink(name)


def main():
    for compress in (False, True):
        show("compressed", compress)
        conn = connect(use_pure=True, compress=compress)
        conn.cursor().execute(TABLE)
        values(conn)
        # It reads no row that is longer than a packet, compressed or not.
        prepared(conn, 1_000 if compress else 1_000_000)
        many_results(conn)
        if not compress:
            sessions(conn)
            files()
        cur = conn.cursor()
        cur.execute("select count(*) from work")
        show("rows", cur.fetchall())
        cur.execute("drop table work")
        conn.close()


if __name__ == "__main__":
    sys.exit(main())
