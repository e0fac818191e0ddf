package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

func mysqlCode(err error) string {
	var told *mysql.MySQLError
	if errors.As(err, &told) {
		return fmt.Sprint(told.Number, " ", string(told.SQLState[:]))
	}
	return fmt.Sprint(err)
}

// The connection is described by variables of our own, as this driver reads none.
func openMysql(more func(*mysql.Config)) *sql.DB {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Getenv("DB_HOST")+":"+os.Getenv("DB_PORT")
	config.User, config.Passwd, config.DBName = os.Getenv("DB_USER"), os.Getenv("DB_PASSWORD"), os.Getenv("DB_NAME")
	if path := os.Getenv("DB_CA"); path != "" {
		pem, err := os.ReadFile(path)
		must(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		config.TLS = &tls.Config{RootCAs: roots, ServerName: os.Getenv("DB_HOST")}
	}
	more(config)
	connector, err := mysql.NewConnector(config)
	must(err)
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(3)
	return db
}

// A line as `tidegate connect` prints it, whose TLS has the name that it says.
func withMysqlDSN() {
	if path := os.Getenv("DB_CA"); path != "" {
		pem, err := os.ReadFile(path)
		must(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		must(mysql.RegisterTLSConfig("tidegate", &tls.Config{RootCAs: roots}))
	}
	db, err := sql.Open("mysql", os.Getenv("DB_DSN"))
	must(err)
	var database, user string
	must(db.QueryRow("select database(), current_user()").Scan(&database, &user))
	fmt.Println(database, user)
}

func withMysql() {
	for _, text := range []bool{false, true} {
		db := openMysql(func(c *mysql.Config) { c.InterpolateParams, c.MultiStatements, c.MaxAllowedPacket = text, text, 64<<20 })
		_, err := db.Exec("create table work (id int primary key, name varchar(200), data longblob) character set utf8mb4")
		must(err)
		show("interpolated", text)
		mysqlValues(db)
		mysqlResults(db, text)
		mysqlFiles(db)
		mysqlTransactions(db)
		mysqlCancelled(db)
		_, err = db.Exec("drop table work")
		must(err)
		must(db.Close())
	}
}

func mysqlValues(db *sql.DB) {
	var a, b, c, d, e, f, g, h, j sql.NullString
	must(db.QueryRow(`select 1, -2, 1.5e0, cast(12345.678900 as decimal(20,6)), 'ä€', x'deadbeef00', date '2026-02-28',
		null, cast(18446744073709551615 as unsigned)`).Scan(&a, &b, &c, &d, &e, &f, &g, &h, &j))
	show("types", a, b, c, d, e, []byte(f.String), g, h, j)
	statement, err := db.Prepare("select ?, ?, ?")
	must(err)
	for i := range 5 {
		var text, none sql.NullString
		var bytes []byte
		must(statement.QueryRow(fmt.Sprint("tëxt ", i), []byte{0, 255}, nil).Scan(&text, &bytes, &none))
		show("parameters", text, bytes, none)
	}
	must(statement.Close())
	for i := range 300 {
		_, err := db.Exec("insert into work (id, name) values (?, ?)", i, fmt.Sprint("name ", i))
		must(err)
	}
	result, err := db.Exec("update work set name = 'x' where id < ?", 10)
	must(err)
	changed, _ := result.RowsAffected()
	show("updated", changed)
	_, err = db.Exec("select * from nowhere")
	show("error", mysqlCode(err))
	text := strings.Repeat("0123456789", 1_700_000)
	var length int
	var back string
	must(db.QueryRow("select length(?), ?", text, text).Scan(&length, &back))
	show("more than one packet", length, digest([]byte(back)))
	_, err = db.Exec("insert into work (id, data) values (1000, ?)", []byte(text))
	must(err)
}

func mysqlResults(db *sql.DB, several bool) {
	if !several {
		_, err := db.Exec("select 1; select 2")
		show("not allowed", mysqlCode(err))
		return
	}
	rows, err := db.Query("select 1; select 'a' union select 'b'; select 3")
	must(err)
	for {
		for rows.Next() {
			var value string
			must(rows.Scan(&value))
			show("several", value)
		}
		if !rows.NextResultSet() {
			break
		}
	}
	must(rows.Close())
	_, err = db.Exec("select 1; select * from nowhere; select 3")
	show("error in the middle", mysqlCode(err))
}

func mysqlFiles(db *sql.DB) {
	mysql.RegisterReaderHandler("lines", func() io.Reader {
		var lines strings.Builder
		for i := 2000; i < 6000; i++ {
			fmt.Fprintf(&lines, "%d\tloaded %d\t\\N\n", i, i)
		}
		return strings.NewReader(lines.String())
	})
	result, err := db.Exec("load data local infile 'Reader::lines' into table work")
	must(err)
	loaded, _ := result.RowsAffected()
	show("loaded", loaded)
	_, err = db.Exec("load data local infile '/not/allowed' into table work")
	show("not allowed", err != nil)
}

func mysqlTransactions(db *sql.DB) {
	ctx := context.Background()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(err)
	_, err = tx.Exec("delete from work")
	show("read only", mysqlCode(err))
	must(tx.Rollback())
	tx, err = db.Begin()
	must(err)
	_, err = tx.Exec("delete from work")
	must(err)
	must(tx.Rollback())
	var count int
	must(db.QueryRow("select count(*) from work").Scan(&count))
	show("rolled back", count)
}

func mysqlCancelled(db *sql.DB) {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(ctx, "select sleep(20)")
	show("cancelled", err)
	var wait sync.WaitGroup
	sums := make([]int, 20)
	for i := range sums {
		wait.Add(1)
		go func() {
			defer wait.Done()
			must(db.QueryRow("select ? + 1", i).Scan(&sums[i]))
		}()
	}
	wait.Wait()
	show("at once", sums)
}
