// Command clients runs what Go programs do with PostgreSQL, by pgx and by lib/pq, and with MySQL. It prints what
// it sees, one line each, and nothing that differs from run to run. The connection is described by the environment.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
)

const manyTypes = `select true, 1::int2, -2::int4, 3::int8, 1.5::float4, -2.25::float8, 12345.678900::numeric::text,
	'ä''\ €'::text, '\xdeadbeef00'::bytea, date '2026-02-28', timestamp '2026-02-28 12:34:56.789',
	uuid '12345678-1234-5678-1234-567812345678'::text, '{"a": [1, null]}'::jsonb::text, null::text`

func show(name string, values ...any) {
	fmt.Printf("%s: %v\n", name, values)
}

func digest(data []byte) string {
	return fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))[:40]
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func main() {
	switch os.Args[1] {
	case "pgx":
		withPgx()
	case "pq":
		withPq()
	case "mysql":
		withMysql()
	case "mysql-dsn":
		withMysqlDSN()
	}
}
