"""asyncpg: binary protocol throughout, its statement cache, type introspection, pool and reset query."""

import asyncio
import io
import os
import sys

import asyncpg

from common import TYPES, digest, plain, show

# The one thing of libpq's environment that asyncpg takes as an argument only.
ARGUMENTS = {"direct_tls": True} if os.environ.get("PGSSLNEGOTIATION") == "direct" else {}


async def values(conn):
    row = await conn.fetchrow(TYPES)
    show("types", [plain(value) if not isinstance(value, asyncpg.Range) else str(value) for value in row])
    await conn.execute("create type mood as enum ('sad', 'happy'); create type pair as (a int, b mood, c text[])")
    show("introspected", tuple(await conn.fetchval("select row(1, 'happy', array['x', null])::pair")))
    show("array of them", [tuple(p) for p in await conn.fetchval("select $1::pair[]", [(2, "sad", ["y"])])])
    await conn.execute("drop type pair; drop type mood")
    statement = await conn.prepare("select $1::int8 + $2::int8")
    show("prepared", [await statement.fetchval(i, i * i) for i in range(10)])
    show("described", (statement.get_parameters()[0].name, statement.get_attributes()[0].type.name))
    for i in range(30):
        await conn.fetchval(f"select {i}")
    await conn.executemany("insert into work values ($1, $2)", [(i, f"name {i}") for i in range(1000)])
    show("rows", await conn.fetchrow("select count(*), sum(id) from work"))
    rows = await conn.fetchmany("insert into work values ($1, 'many') returning id", [(i,) for i in range(2000, 2010)])
    show("many", [row[0] for row in rows])


async def copies(conn):
    records = [(i, "copied" if i % 3 else None) for i in range(5000, 9000)]
    show("copied in", await conn.copy_records_to_table("work", records=records))
    out = io.BytesIO()
    show("copied out", await conn.copy_from_query("select * from work where id > $1 order by id", 10, output=out))
    show("data", digest(out.getvalue()))
    try:
        await conn.copy_to_table("work", source=io.BytesIO(b"x\ty\n"))
    except asyncpg.PostgresError as error:
        show("bad copy", error.sqlstate)


async def transactions(conn):
    async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
        total = 0
        async for row in conn.cursor("select id from work order by id", prefetch=300):
            total += row[0]
        cursor = await conn.cursor("select id from work order by id")
        await cursor.forward(100)
        show("cursors", (total, (await cursor.fetch(3))[0][0]))
    try:
        async with conn.transaction():
            await conn.execute("insert into work values (20000, 'kept')")
            try:
                async with conn.transaction():
                    await conn.execute("insert into work values (20000, 'twice')")
            except asyncpg.UniqueViolationError as error:
                show("undone inside", (error.sqlstate, error.constraint_name, error.table_name))
            raise KeyError("all of it")
    except KeyError:
        show("undone", await conn.fetchval("select count(*) from work where id = 20000"))


async def asynchronous(conn):
    heard, done = [], asyncio.Event()

    def listener(_, pid, channel, payload):
        heard.append((channel, payload))
        if len(heard) == 2:
            done.set()

    await conn.add_listener("news", listener)
    await conn.execute("notify news, 'one'")
    await conn.execute("notify news, 'two'")
    await asyncio.wait_for(done.wait(), 20)
    show("notified", heard)
    await conn.remove_listener("news", listener)
    try:
        await conn.fetchval("select pg_sleep(60)", timeout=0.5)
    except asyncio.TimeoutError:
        show("timed out", await conn.fetchval("select 'and goes on'"))
    task = asyncio.ensure_future(conn.fetchval("select pg_sleep(60)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        show("cancelled", await conn.fetchval("select 'and goes on'"))
    logged = []
    conn.add_log_listener(lambda _, message: logged.append((message.severity, message.message)))
    await conn.execute("do $$ begin raise notice 'noted'; end $$")
    show("notices", logged)
    text = "0123456789" * 700_000
    show("large", digest(await conn.fetchval("select $1::text", text)))
    await conn.execute("set application_name = 'other'; set work_mem = '5MB'")
    await conn.reset()
    show("reset", await conn.fetchval("show work_mem") != "5MB")


async def pooled():
    async with asyncpg.create_pool(min_size=2, max_size=4, server_settings={"jit": "off"}, **ARGUMENTS) as pool:
        show("pool", sum(await asyncio.gather(*(pool.fetchval("select $1::int", i) for i in range(40)))))
        async with pool.acquire() as conn:
            await conn.execute("set jit = on; listen something; select pg_advisory_lock(7)")
        async with pool.acquire() as conn:
            show("handed on", await conn.fetchval("show jit"))


async def main():
    conn = await asyncpg.connect(**ARGUMENTS)
    version = conn.get_server_version()
    show("connected", (version.major, conn.get_settings().client_encoding, conn.get_settings().TimeZone))
    show("the process id is the server's", await conn.fetchval("select pg_backend_pid()") == conn.get_server_pid())
    await conn.execute("create table work (id int primary key, name text)")
    for part in (values, copies, transactions, asynchronous):
        await part(conn)
    await conn.execute("drop table work")
    await conn.close()
    await pooled()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
