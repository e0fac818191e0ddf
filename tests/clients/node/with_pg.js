'use strict'
// node-postgres: its pool, simple and extended queries, named statements, cursors, COPY streams.

const { pipeline } = require('stream/promises')
const { Readable } = require('stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const copy = require('pg-copy-streams')
const { show, digest, ssl, sleep, failed, TYPES, main } = require('./common')

const config = { ssl, sslnegotiation: process.env.PGSSLNEGOTIATION }

async function values(client) {
  show('types', Object.values((await client.query(TYPES)).rows[0]))
  const parameters = [true, 7, '1099511627776', 1.25, 'tëxt', Buffer.from([0, 255]), [1, 2, null], null, { a: 1 }]
  const sql = 'select $1::bool, $2::int, $3::int8, $4::float8, $5::text, $6::bytea, $7::int[], $8::text, $9::jsonb'
  const result = await client.query({ text: sql, values: parameters, rowMode: 'array' })
  show('parameters', [result.rows, result.fields.map((field) => [field.name, field.dataTypeID, field.format])])
  show('several', (await client.query("select 1 as a; select 'x' as b; notify nobody")).map((r) => [r.command, r.rows]))
  for (let i = 0; i < 5; i++) {
    const named = await client.query({ name: 'plus', text: 'select $1::int + 1 as n', values: [i] })
    show('named', named.rows[0].n)
  }
  show('binary', (await client.query({ text: 'select $1::int4 as n', values: [42], binary: true })).rows)
  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => client.query('insert into work values ($1, $2)', [i, `n${i}`])))
  show('inserted', many.reduce((sum, r) => sum + r.rowCount, 0))
}

async function copies(client) {
  const lines = Array.from({ length: 3000 }, (_, i) => `${1000 + i}\tcopied ${i}\n`)
  await pipeline(Readable.from(lines), client.query(copy.from('copy work from stdin')))
  const parts = []
  for await (const part of client.query(copy.to('copy (select * from work order by id) to stdout'))) parts.push(part)
  show('copied out', digest(Buffer.concat(parts)))
  show('bad copy', await failed(() => pipeline(Readable.from(['x\ty\n']), client.query(copy.from('copy work from stdin')))))
  show('and it works on', (await client.query('select count(*) from work')).rows)
}

async function cursors(client) {
  const cursor = client.query(new Cursor('select id from work where id < $1 order by id', [5000]))
  let total = 0
  for (let rows = await cursor.read(500); rows.length > 0; rows = await cursor.read(500)) total += rows.length
  await cursor.close()
  const left = client.query(new Cursor('select generate_series(1, 100000) as n'))
  show('cursor', [total, (await left.read(3)).map((row) => row.n)])
  await left.close()
}

async function transactions(client) {
  await client.query('begin isolation level serializable')
  await client.query("insert into work values (90000, 'gone')")
  await client.query('savepoint a')
  show('error', await failed(() => client.query('select * from nowhere')))
  show('failed', await failed(() => client.query('select 1')))
  await client.query('rollback to a')
  show('inside', (await client.query('select count(*) from work where id = 90000')).rows)
  await client.query('rollback')
  show('outside', (await client.query('select count(*) from work where id = 90000')).rows)
}

async function asynchronous(client) {
  const heard = []
  const notices = []
  client.on('notification', (n) => heard.push([n.channel, n.payload, n.processId === client.processID]))
  client.on('notice', (n) => notices.push([n.severity, n.message]))
  await client.query('listen news')
  await client.query("notify news, 'one'; notify news, 'two'")
  await client.query("do $$ begin raise notice 'noted'; end $$")
  while (heard.length < 2) await sleep(20)
  show('notified', [heard, notices])
  await client.query('unlisten *')
  const pid = (await client.query('select pg_backend_pid() as pid')).rows[0].pid
  show("the process id is the server's", pid === client.processID)
  const running = failed(() => client.query('select pg_sleep(60)'))
  await sleep(500)
  const other = new Client(config)
  await other.connect()
  show('cancelled by another', (await other.query('select pg_cancel_backend($1)', [client.processID])).rows)
  await other.end()
  show('cancelled', await running)
  await client.query('set statement_timeout = 200')
  show('timed out', await failed(() => client.query('select pg_sleep(60)')))
  await client.query('reset statement_timeout')
  const text = '0123456789'.repeat(700000)
  show('large', digest((await client.query('select $1::text as t', [text])).rows[0].t))
}

async function pooled() {
  const pool = new Pool({ ...config, max: 3 })
  const sums = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.query('select $1::int as n', [i])))
  show('pool', sums.reduce((sum, r) => sum + r.rows[0].n, 0))
  await pool.end()
}

main(async () => {
  const client = new Client(config)
  await client.connect()
  await client.query('create table work (id int primary key, name text)')
  for (const part of [values, copies, cursors, transactions, asynchronous]) await part(client)
  await client.query('drop table work')
  await client.end()
  await pooled()
})
