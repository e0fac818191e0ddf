'use strict'
// postgres.js: everything prepared and pipelined, types read from the catalog, COPY streams, LISTEN on a
// connection of its own, cancel requests.

const { pipeline } = require('stream/promises')
const { Readable } = require('stream')
const postgres = require('postgres')
const { show, digest, ssl, sleep, failed, TYPES, main } = require('./common')

const options = { ssl, max: 3, onnotice: () => {}, idle_timeout: 5 }

async function values(sql) {
  show('types', Object.values((await sql.unsafe(TYPES))[0]))
  show('parameters', await sql`select ${true}::bool, ${7}::int, ${'tëxt'}::text, ${[1, 2]}::int[], ${null}::text, ${sql.json({ a: 1 })}::jsonb`)
  await sql`insert into work ${sql(Array.from({ length: 300 }, (_, i) => ({ id: i, name: `n${i}` })))}`
  const rows = await Promise.all(Array.from({ length: 300 }, (_, i) => sql`select name from work where id = ${i}`))
  show('pipelined', digest(rows.map((r) => r[0].name).join()))
  show('described', (await sql`select ${1}::int as a, ${'x'}::text as b`.describe()).columns.map((c) => [c.name, c.type]))
  show('several', await sql.unsafe("select 1 as a; select 'x' as b").simple())
  await sql`select * from work`.cursor(100, (rows) => void rows.length)
  let streamed = 0
  await sql`select generate_series(1, 1000) as n`.forEach((row) => (streamed += row.n))
  show('streamed', streamed)
}

async function copies(sql) {
  const lines = Array.from({ length: 3000 }, (_, i) => `${1000 + i}\tcopied ${i}\n`)
  await pipeline(Readable.from(lines), await sql`copy work from stdin`.writable())
  const parts = []
  // Short: behind a copy that fills the stream's buffer, postgres.js 3.4.9 may leave its connection paused, at the
  // server itself too, and whatever is asked on it next is never answered.
  const out = await sql`copy (select * from work where id >= 1000 order by id limit 400) to stdout`.readable()
  for await (const part of out) parts.push(part)
  show('copied out', digest(Buffer.concat(parts)))
}

async function transactions(sql) {
  const code = await failed(() =>
    sql.begin('isolation level serializable', async (tx) => {
      await tx`insert into work values (90000, 'gone')`
      show('undone inside', await failed(() => tx.savepoint((sp) => sp`select * from nowhere`)))
      show('inside', await tx`select count(*) from work where id = 90000`)
      await tx`insert into work values (90000, 'twice')`
    }),
  )
  show('outside', [code, await sql`select count(*) from work where id = 90000`])
}

async function asynchronous(sql) {
  const heard = []
  const { unlisten } = await sql.listen('news', (payload) => heard.push(payload))
  await sql.notify('news', 'one')
  await sql.notify('news', 'two')
  while (heard.length < 2) await sleep(20)
  await unlisten()
  show('notified', heard)
  const query = sql`select pg_sleep(60)`
  const running = failed(() => query)
  // A query that is cancelled while it still waits for its connection is one that postgres.js never answers.
  const active = () => sql`select count(*)::int as n from pg_stat_activity where state = 'active' and query like 'select pg_sleep(6%'`
  while ((await active())[0].n === 0) await sleep(50)
  query.cancel()
  show('cancelled', await running)
  const text = '0123456789'.repeat(700000)
  show('large', digest((await sql`select ${text}::text as t`)[0].t))
}

main(async () => {
  const sql = postgres(options)
  await sql`create table work (id int primary key, name text)`
  for (const part of [values, copies, transactions, asynchronous]) await part(sql)
  await sql`drop table work`
  await sql.end({ timeout: 10 })
})
