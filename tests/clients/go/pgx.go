package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
)

var ctx = context.Background()

// code is the SQLSTATE of an error.
func code(err error) string {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code
	}
	return fmt.Sprint(err)
}

func one[T any](conn *pgx.Conn, sql string, args ...any) T {
	var value T
	must(conn.QueryRow(ctx, sql, args...).Scan(&value))
	return value
}

func withPgx() {
	// Every way in which pgx can run a query.
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	for _, mode := range modes {
		config, err := pgx.ParseConfig("")
		must(err)
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(ctx, config)
		must(err)
		show("mode", mode)
		pgxValues(conn)
		pgxBatches(conn)
		must(conn.Close(ctx))
	}
	conn, err := pgx.Connect(ctx, "")
	must(err)
	show("the process id is the server's", one[uint32](conn, "select pg_backend_pid()") == conn.PgConn().PID())
	pgxCopies(conn)
	pgxPipelines(conn)
	pgxTransactions(conn)
	pgxAsynchronous(conn)
	must(conn.Close(ctx))
	pgxPools()
}

func pgxValues(conn *pgx.Conn) {
	rows, err := conn.Query(ctx, manyTypes)
	must(err)
	values, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	must(err)
	show("types", values...)
	for i := range 5 {
		var text string
		var bytes []byte
		var list []int32
		row := conn.QueryRow(ctx, "select $1::text, $2::bytea, $3::int4[]", fmt.Sprint("tëxt ", i), []byte{0, 255}, []int32{1, int32(i)})
		must(row.Scan(&text, &bytes, &list))
		show("parameters", text, bytes, list)
	}
}

func pgxBatches(conn *pgx.Conn) {
	_, err := conn.Exec(ctx, "create table work (id int primary key, name text)")
	must(err)
	batch := &pgx.Batch{}
	for i := range 100 {
		batch.Queue("insert into work values ($1, $2)", i, fmt.Sprint("n", i))
	}
	batch.Queue("select count(*), sum(id) from work").QueryRow(func(row pgx.Row) error {
		var count, sum int
		defer func() { show("batch", count, sum) }()
		return row.Scan(&count, &sum)
	})
	must(conn.SendBatch(ctx, batch).Close())
	wrong := &pgx.Batch{}
	wrong.Queue("insert into work values (500, 'x')")
	wrong.Queue("select 1 / (count(*) - 101) from work")
	wrong.Queue("insert into work values (501, 'y')")
	show("a wrong one", code(conn.SendBatch(ctx, wrong).Close()))
	show("rows of it", one[int](conn, "select count(*) from work where id >= 500"))
	_, err = conn.Exec(ctx, "drop table work")
	must(err)
}

func pgxCopies(conn *pgx.Conn) {
	_, err := conn.Exec(ctx, "create table work (id int primary key, name text)")
	must(err)
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"work"}, []string{"id", "name"},
		pgx.CopyFromSlice(5000, func(i int) ([]any, error) { return []any{i, fmt.Sprint("copied ", i)}, nil }))
	must(err)
	show("copied in", count)
	var out bytes.Buffer
	_, err = conn.PgConn().CopyTo(ctx, &out, "copy (select * from work order by id) to stdout")
	must(err)
	show("copied out", digest(out.Bytes()))
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\n"), "copy work from stdin")
	show("bad copy", code(err))
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"work"}, []string{"id", "name"},
		pgx.CopyFromFunc(func() ([]any, error) { return nil, errors.New("given up by the client") }))
	show("abandoned copy", code(err), one[int](conn, "select count(*) from work"))
	_, err = conn.Exec(ctx, "drop table work")
	must(err)
}

func pgxPipelines(conn *pgx.Conn) {
	pipeline := conn.PgConn().StartPipeline(ctx)
	for i := range 20 {
		pipeline.SendQueryParams("select $1::int * 2", [][]byte{[]byte(fmt.Sprint(i))}, nil, nil, nil)
		if i == 10 {
			pipeline.SendQueryParams("select 1/0", nil, nil, nil, nil)
			pipeline.SendQueryParams("select 'skipped'", nil, nil, nil, nil)
		}
		if i%3 == 0 {
			pipeline.SendPipelineSync()
		} else {
			pipeline.SendFlushRequest()
		}
	}
	must(pipeline.Sync())
	for {
		results, err := pipeline.GetResults()
		if err != nil {
			show("pipeline", code(err))
			continue
		}
		switch results := results.(type) {
		case *pgconn.ResultReader:
			read := results.Read()
			if read.Err != nil {
				show("pipeline", code(read.Err))
			} else {
				show("pipeline", string(read.Rows[0][0]))
			}
			continue
		case *pgconn.PipelineSync:
			continue
		}
		break
	}
	must(pipeline.Close())
}

func pgxTransactions(conn *pgx.Conn) {
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "create table never (a int)")
		return err
	})
	show("read only", code(err))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		show("inside", code(pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select * from nowhere")
			return err
		})))
		objects := tx.LargeObjects()
		id, err := objects.Create(ctx, 0)
		must(err)
		object, err := objects.Open(ctx, id, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
		must(err)
		_, err = object.Write(make([]byte, 200_000))
		must(err)
		end, err := object.Tell()
		must(err)
		show("large object", end)
		return objects.Unlink(ctx, id)
	})
	show("committed", err)
}

func pgxAsynchronous(conn *pgx.Conn) {
	_, err := conn.Exec(ctx, "listen news; notify news, 'one'; notify news, 'two'")
	must(err)
	for range 2 {
		limited, stop := context.WithTimeout(ctx, 20*time.Second)
		heard, err := conn.WaitForNotification(limited)
		must(err)
		show("notified", heard.Channel, heard.Payload, heard.PID == conn.PgConn().PID())
		stop()
	}
	token := conn.PgConn()
	time.AfterFunc(500*time.Millisecond, func() { must(token.CancelRequest(ctx)) })
	_, err = conn.Exec(ctx, "select pg_sleep(60)")
	show("cancelled", code(err))
	text := strings.Repeat("0123456789", 700_000)
	show("large", digest([]byte(one[string](conn, "select $1::text", text))))
	// pgx closes a connection whose context ends; the statement must not run on.
	other, err := pgx.Connect(ctx, "")
	must(err)
	limited, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	defer stop()
	_, err = other.Exec(limited, "select pg_sleep(61)")
	show("timed out", errors.Is(err, context.DeadlineExceeded), other.IsClosed())
	for one[int](conn, "select count(*) from pg_stat_activity where query = 'select pg_sleep(61)' and state = 'active'") > 0 {
		time.Sleep(50 * time.Millisecond)
	}
	show("and stopped", true)
}

func pgxPools() {
	pool, err := pgxpool.New(ctx, "pool_max_conns=3")
	must(err)
	var sum atomic.Int64
	var all sync.WaitGroup
	for i := range 30 {
		all.Add(1)
		go func() {
			defer all.Done()
			var n int64
			must(pool.QueryRow(ctx, "select $1::int8", i).Scan(&n))
			sum.Add(n)
		}()
	}
	all.Wait()
	show("pool", sum.Load())
	pool.Close()
	db, err := sql.Open("pgx", "")
	must(err)
	var n int
	must(db.QueryRow("select $1::int + 1", 41).Scan(&n))
	show("database/sql", n)
	must(db.Close())
}
