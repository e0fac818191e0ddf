'use strict'
// mysql2: text and prepared statements, its pool, streams, multi statements, LOCAL INFILE.

const fs = require('fs')
const { Readable } = require('stream')
const mysql = require('mysql2/promise')
const { show, digest, main } = require('./common')

const env = process.env
const config = {
  host: env.DB_HOST,
  port: Number(env.DB_PORT),
  user: env.DB_USER,
  password: env.DB_PASSWORD,
  database: env.DB_NAME,
  ssl: env.DB_CA ? { ca: fs.readFileSync(env.DB_CA, 'utf8'), verifyIdentity: true } : undefined,
  supportBigNumbers: true,
}

const TYPES = `select 1 as a, -2 as b, 3000000000 as c, 1.5e0 as d, cast(12345.678900 as decimal(20,6)) as e,
  'ä''\\\\ €' as f, x'deadbeef00' as g, cast(date '2026-02-28' as char) as h, time '23:59:59.5' as j, null as k,
  b'101' as m, cast(18446744073709551615 as unsigned) as n, '' as p`

const failed = async (action) => {
  try {
    await action()
  } catch (error) {
    return [error.errno, error.sqlState]
  }
  return 'no error'
}

async function values(c) {
  const [rows, fields] = await c.query(TYPES)
  show('types', [Object.values(rows[0]), fields.map((field) => [field.name, field.columnType])])
  for (let i = 0; i < 4; i++) {
    const [prepared] = await c.execute('select ? as a, ? as b, ? as c, ? as d, ? as e', [i, 'tëxt', null, Buffer.from([0, 255]), 1.5])
    show('prepared', prepared)
  }
  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => c.execute('insert into work (id, name) values (?, ?)', [i, `n${i}`])))
  show('inserted', many.reduce((sum, [r]) => sum + r.affectedRows, 0))
  show('error', await failed(() => c.query('select * from nowhere')))
  show('prepared error', await failed(() => c.execute('select * from nowhere where a = ?', [1])))
  show('updated', (({ affectedRows, changedRows, info, warningStatus }) => [affectedRows, changedRows, info, warningStatus])((await c.query("update work set name = 'x' where id < 10"))[0]))
  const text = '0123456789'.repeat(1_700_000)
  const [[row]] = await c.query('select length(?) as n, ? as t', [text, text])
  show('more than one packet', [row.n, digest(row.t)])
}

async function several(c) {
  const multi = await mysql.createConnection({ ...config, multipleStatements: true })
  show('several', (await multi.query("select 1 as a; update work set name = 'y' where id = 1; select 'b' as b"))[0].map((r) => (Array.isArray(r) ? r : r.affectedRows)))
  show('error in the middle', await failed(() => multi.query('select 1; select * from nowhere; select 3')))
  await multi.ping()
  await multi.end()
  show('not allowed', await failed(() => c.query('select 1; select 2')))
  await c.query('create procedure twice(n int) begin select n; select n * 2 as m; end')
  show('procedure', (await c.query('call twice(21)'))[0].map((r) => (Array.isArray(r) ? r : 'done')))
  await c.query('drop procedure twice')
}

async function streams(c) {
  let count = 0
  for await (const row of c.connection.query("select a.id, repeat('x', 300) as t from work a, work b limit 20000").stream()) count += row.t.length
  show('streamed', count)
  const infile = await mysql.createConnection({ ...config, flags: ['+LOCAL_FILES'] })
  const lines = Array.from({ length: 3000 }, (_, i) => Buffer.from(`${1000 + i}\tloaded ${i}\n`))
  const [loaded] = await infile.query({ sql: "load data local infile 'a name' into table work (id, name)", infileStreamFactory: () => Readable.from(lines) })
  show('loaded', loaded.affectedRows)
  await infile.end()
}

async function transactions(c) {
  await c.beginTransaction()
  await c.query("insert into work (id, name) values (90000, 'gone')")
  await c.rollback()
  show('rolled back', (await c.query('select count(*) as n from work where id = 90000'))[0])
}

async function another(c) {
  await c.query('set @mine = 7')
  await c.query('create temporary table mine (id int)')
  await c.changeUser({ user: env.DB_USER, password: env.DB_PASSWORD, database: env.DB_NAME })
  show('changed', (await c.query('select @mine as m, database() = ? as d', [env.DB_NAME]))[0])
  show('gone', await failed(() => c.query('select * from mine')))
  show('prepared anew', (await c.execute('select ? as n', [1]))[0])
}

async function pooled() {
  const pool = mysql.createPool({ ...config, connectionLimit: 3 })
  const sums = await Promise.all(Array.from({ length: 30 }, (_, i) => pool.execute('select ? as n', [i])))
  show('pool', sums.reduce((sum, [rows]) => sum + Number(rows[0].n), 0))
  await pool.end()
}

main(async () => {
  for (const compress of [false, true]) {
    show('compressed', compress)
    const c = await mysql.createConnection({ ...config, compress })
    await c.query('create table work (id int primary key, name varchar(200)) character set utf8mb4')
    for (const part of [values, several, streams, transactions, another]) await part(c)
    await c.query('drop table work')
    await c.end()
  }
  await pooled()
})
