'use strict'
// What the programs in this folder share: they print what they see, one line each, and nothing that differs
// from run to run. The connection is described by libpq's environment variables.

const crypto = require('crypto')
const fs = require('fs')

exports.show = (name, value) =>
  console.log(`${name}: ${JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v))}`)

exports.digest = (data) =>
  `${data.length} bytes ${crypto.createHash('sha256').update(data).digest('hex').slice(0, 16)}`

// TLS as Node wants it: node-postgres and postgres.js read the rest of the environment themselves.
exports.ssl =
  process.env.PGSSLROOTCERT
    ? { ca: fs.readFileSync(process.env.PGSSLROOTCERT, 'utf8'), servername: process.env.PGHOST, rejectUnauthorized: true }
    : false

exports.sleep = (ms) => new Promise((done) => setTimeout(done, ms))

exports.failed = async (action) => {
  try {
    await action()
  } catch (error) {
    return error.code
  }
  return 'no error'
}

exports.TYPES = `select true as a, 1::int2 as b, -2::int4 as c, 3::int8 as d, 1.5::float4 as e, -2.25::float8 as f,
  12345.678900::numeric as g, 'ä''\\ €'::text as h, '\\xdeadbeef00'::bytea as j, date '2026-02-28' as k,
  timestamptz '2026-02-28 12:34:56+02' as m, interval '1 day 02:03:04' as n,
  uuid '12345678-1234-5678-1234-567812345678' as o, '{"a": [1, null]}'::jsonb as p, array[1, null, 3] as q,
  array['a', 'b"c', null] as r, inet '10.1.2.3/8' as s, null::text as u, row(1, 'x') as w, point(1, 2) as y`

exports.main = (run) =>
  run().then(
    () => process.exit(0),
    (error) => {
      console.log(error)
      process.exit(1)
    },
  )
