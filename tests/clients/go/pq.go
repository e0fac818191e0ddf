package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lib/pq"
)

func pqCode(err error) string {
	var told *pq.Error
	if errors.As(err, &told) {
		return string(told.Code)
	}
	return fmt.Sprint(err)
}

func withPq() {
	for _, options := range []string{"", "binary_parameters=yes"} {
		db, err := sql.Open("postgres", options)
		must(err)
		db.SetMaxOpenConns(3)
		_, err = db.Exec("create table work (id int primary key, name text)")
		must(err)
		show("with", options)
		pqValues(db)
		pqCopies(db)
		pqTransactions(db)
		_, err = db.Exec("drop table work")
		must(err)
		must(db.Close())
	}
	pqAsynchronous()
}

func pqValues(db *sql.DB) {
	rows, err := db.Query(manyTypes)
	must(err)
	values, targets := make([]any, 14), make([]any, 14)
	for i := range values {
		targets[i] = &values[i]
	}
	rows.Next()
	must(rows.Scan(targets...))
	must(rows.Close())
	show("types", values...)
	statement, err := db.Prepare("select $1::text, $2::bytea, $3::int4[]")
	must(err)
	for i := range 8 {
		var text string
		var bytes []byte
		var list []int64
		must(statement.QueryRow(fmt.Sprint("tëxt ", i), []byte{0, 255}, pq.Array([]int64{1, int64(i)})).Scan(&text, &bytes, pq.Array(&list)))
		show("parameters", text, bytes, list)
	}
	must(statement.Close())
	rows, err = db.Query("select 1; select 2")
	if err != nil {
		show("several", pqCode(err))
		return
	}
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			var n int
			must(rows.Scan(&n))
			show("several", n)
		}
	}
	must(rows.Close())
}

func pqCopies(db *sql.DB) {
	tx, err := db.Begin()
	must(err)
	statement, err := tx.Prepare(pq.CopyIn("work", "id", "name"))
	must(err)
	for i := range 3000 {
		_, err = statement.Exec(i, fmt.Sprint("copied ", i))
		must(err)
	}
	_, err = statement.Exec()
	must(err)
	must(statement.Close())
	must(tx.Commit())
	var count int
	must(db.QueryRow("select count(*) from work").Scan(&count))
	show("copied in", count)
}

func pqTransactions(db *sql.DB) {
	tx, err := db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(err)
	_, err = tx.Exec("delete from work")
	show("read only", pqCode(err))
	_, err = tx.Exec("select 1")
	show("failed", pqCode(err))
	must(tx.Rollback())
	limited, stop := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer stop()
	_, err = db.ExecContext(limited, "select pg_sleep(60)")
	show("timed out", err != nil)
	text := strings.Repeat("0123456789", 700_000)
	var back string
	must(db.QueryRow("select $1::text", text).Scan(&back))
	show("large", digest([]byte(back)))
}

func pqAsynchronous() {
	listener := pq.NewListener("", time.Second, time.Minute, nil)
	must(listener.Listen("news"))
	db, err := sql.Open("postgres", "")
	must(err)
	_, err = db.Exec("notify news, 'one'; notify news, 'two'")
	must(err)
	for range 2 {
		select {
		case heard := <-listener.Notify:
			show("notified", heard.Channel, heard.Extra)
		case <-time.After(20 * time.Second):
			show("notified", "nothing")
		}
	}
	must(listener.Ping())
	must(listener.Close())
	must(db.Close())
}
