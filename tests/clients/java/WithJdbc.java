// PgJDBC: prepared statements past their threshold, batches, fetch size, COPY, notifications, large objects
// by function call, cancel, time limits, and the metadata that tools ask for. Prints what it sees, one line
// each, and nothing that differs from run to run. The connection is described by libpq's environment variables.

import java.io.StringReader;
import java.io.StringWriter;
import java.security.MessageDigest;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.PGobject;

public class WithJdbc {
    static void show(String name, Object value) {
        System.out.println(name + ": " + (value instanceof Object[] a ? Arrays.deepToString(a) : value));
    }

    static String digest(String text) throws Exception {
        byte[] sum = MessageDigest.getInstance("SHA-256").digest(text.getBytes("UTF-8"));
        return text.length() + " characters " + HexFormat.of().formatHex(sum, 0, 8);
    }

    static Connection connect(String... more) throws SQLException {
        Map<String, String> env = System.getenv();
        Properties properties = new Properties();
        properties.put("user", env.get("PGUSER"));
        properties.put("password", env.get("PGPASSWORD"));
        properties.put("sslmode", env.get("PGSSLMODE"));
        if (env.containsKey("PGSSLROOTCERT")) properties.put("sslrootcert", env.get("PGSSLROOTCERT"));
        if (env.containsKey("PGSSLNEGOTIATION")) properties.put("sslNegotiation", env.get("PGSSLNEGOTIATION"));
        for (int i = 0; i < more.length; i += 2) properties.put(more[i], more[i + 1]);
        String url = "jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
        return DriverManager.getConnection(url, properties);
    }

    static List<List<String>> rows(ResultSet set) throws SQLException {
        List<List<String>> rows = new ArrayList<>();
        int columns = set.getMetaData().getColumnCount();
        while (set.next()) {
            List<String> row = new ArrayList<>();
            for (int i = 1; i <= columns; i++) {
                boolean bytes = set.getMetaData().getColumnType(i) == Types.BINARY;
                row.add(bytes ? HexFormat.of().formatHex(set.getBytes(i)) : set.getString(i));
            }
            rows.add(row);
        }
        set.close();
        return rows;
    }

    static List<List<String>> ask(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            return rows(s.executeQuery(sql));
        }
    }

    interface Action { void run() throws Exception; }

    static String failed(Action action) throws Exception {
        try {
            action.run();
            return "no error";
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    static void values(Connection c) throws Exception {
        String types = "select true, 1::int2, -2::int4, 3::int8, 1.5::float4, -2.25::float8, 12345.678900::numeric, "
            + "'ä''\\ €'::text, '\\xdeadbeef00'::bytea, date '2026-02-28', timestamptz '2026-02-28 12:34:56+02', "
            + "interval '1 day 02:03:04', uuid '12345678-1234-5678-1234-567812345678', '{\"a\": [1, null]}'::jsonb, "
            + "array[1, null, 3], inet '10.1.2.3/8', null::text, row(1, 'x'), '<a/>'::xml, point(1, 2)";
        show("types as text", ask(c, types));
        try (PreparedStatement s = c.prepareStatement("select ?::bool, ?::int4, ?::int8, ?::float8, ?::numeric, ?::text, "
                + "?::bytea, ?::timestamp, ?::int[], ?::text, ?::jsonb")) {
            for (int i = 0; i < 8; i++) {
                s.setBoolean(1, true);
                s.setInt(2, i);
                s.setLong(3, 1L << 40);
                s.setDouble(4, 1.25);
                s.setBigDecimal(5, new java.math.BigDecimal("1.500"));
                s.setString(6, "tëxt");
                s.setBytes(7, new byte[] {0, -1});
                s.setTimestamp(8, Timestamp.valueOf("2026-02-28 12:34:56.789"));
                s.setArray(9, c.createArrayOf("int4", new Integer[] {1, null, i}));
                s.setNull(10, Types.VARCHAR);
                PGobject json = new PGobject();
                json.setType("jsonb");
                json.setValue("{\"a\": 1}");
                s.setObject(11, json);
                show("parameters", rows(s.executeQuery()));
            }
        }
        // The threshold is five: from then on the statement has a name at the server.
        show("prepared", ask(c, "select count(*) > 0 from pg_prepared_statements"));
        c.createStatement().execute("create table changing (a int)");
        try (PreparedStatement s = c.prepareStatement("select * from changing")) {
            for (int i = 0; i < 7; i++) rows(s.executeQuery());
            c.createStatement().execute("alter table changing alter a type text");
            show("after a changed table", failed(() -> rows(s.executeQuery())));
        }
        c.createStatement().execute("drop table changing");
        try (CallableStatement s = c.prepareCall("{? = call upper(?)}")) {
            s.registerOutParameter(1, Types.VARCHAR);
            s.setString(2, "called");
            s.execute();
            show("function", s.getString(1));
        }
    }

    static void batches(Connection c) throws Exception {
        try (PreparedStatement s = c.prepareStatement("insert into work (name) values (?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 700; i++) {
                s.setString(1, "name " + i);
                s.addBatch();
            }
            show("batch", Arrays.stream(s.executeBatch()).sum());
            show("generated", rows(s.getGeneratedKeys()).size());
        }
        try (Statement s = c.createStatement()) {
            s.addBatch("insert into work (name) values ('kept')");
            s.addBatch("insert into work (id, name) values (1, 'twice')");
            s.addBatch("insert into work (name) values ('not reached')");
            show("a wrong one in a batch", failed(s::executeBatch));
        }
        show("several", failed(() -> {
            try (Statement s = c.createStatement()) {
                boolean set = s.execute("select 1; update work set name = 'x' where id < 4; select 'y'");
                show("results", new Object[] {set, s.getMoreResults(), s.getUpdateCount(), s.getMoreResults()});
            }
        }));
        try (Connection rewriting = connect("reWriteBatchedInserts", "true", "preferQueryMode", "extendedCacheEverything");
                PreparedStatement s = rewriting.prepareStatement("insert into work (id, name) values (?, ?)")) {
            for (int i = 0; i < 1000; i++) {
                s.setInt(1, 10_000 + i);
                s.setString(2, "rewritten");
                s.addBatch();
            }
            s.executeBatch();
        }
        show("rewritten", ask(c, "select count(*) from work where name = 'rewritten'"));
    }

    static void cursors(Connection c) throws Exception {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(50);
            ResultSet set = s.executeQuery("select id from work order by id");
            int count = 0;
            while (set.next()) count++;
            show("fetched in parts", count);
        }
        Savepoint savepoint = c.setSavepoint("here");
        show("error", failed(() -> ask(c, "select * from nowhere")));
        show("failed", failed(() -> ask(c, "select 1")));
        c.rollback(savepoint);
        show("saved", ask(c, "select 1"));
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        c.setReadOnly(true);
        show("read only", failed(() -> c.createStatement().execute("delete from work")));
        c.rollback();
        c.setReadOnly(false);
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        c.setAutoCommit(true);
        // Savepoints around every statement.
        try (Connection careful = connect("autosave", "always")) {
            careful.setAutoCommit(false);
            show("error", failed(() -> ask(careful, "select 1/0")));
            show("goes on", ask(careful, "select 'on'"));
            careful.commit();
        }
    }

    static void copies(Connection c) throws Exception {
        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int i = 20_000; i < 24_000; i++) lines.append(i).append("\tcopied\n");
        show("copied in", copy.copyIn("copy work from stdin", new StringReader(lines.toString())));
        StringWriter out = new StringWriter();
        show("copied out", copy.copyOut("copy (select * from work order by id) to stdout", out));
        show("data", digest(out.toString()));
        show("bad copy", failed(() -> copy.copyIn("copy work from stdin", new StringReader("x\ty\n"))));
        show("and it works on", ask(c, "select 1"));
    }

    static void largeObjects(Connection c) throws Exception {
        c.setAutoCommit(false);
        LargeObjectManager manager = c.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = manager.createLO();
        LargeObject object = manager.open(oid, LargeObjectManager.READWRITE);
        byte[] bytes = new byte[300_000];
        Arrays.fill(bytes, (byte) 7);
        object.write(bytes);
        object.seek(299_990);
        show("large object", new Object[] {object.read(100).length, object.tell(), object.size()});
        object.close();
        manager.delete(oid);
        c.commit();
        c.setAutoCommit(true);
    }

    static void asynchronous(Connection c) throws Exception {
        PGConnection pg = c.unwrap(PGConnection.class);
        show("the process id is the server's",
            ask(c, "select pg_backend_pid()").get(0).get(0).equals(String.valueOf(pg.getBackendPID())));
        c.createStatement().execute("listen news");
        c.createStatement().execute("notify news, 'one'; notify news, 'two'");
        List<String> heard = new ArrayList<>();
        while (heard.size() < 2) for (var n : pg.getNotifications(20_000)) heard.add(n.getName() + " " + n.getParameter());
        show("notified", heard);
        try (Statement s = c.createStatement()) {
            s.execute("do $$ begin raise notice 'noted'; raise warning 'warned'; end $$");
            SQLWarning warning = s.getWarnings();
            show("warnings", new Object[] {warning.getMessage(), warning.getNextWarning().getSQLState()});
        }
        ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        try (Statement s = c.createStatement()) {
            timer.schedule(() -> { s.cancel(); return null; }, 500, TimeUnit.MILLISECONDS);
            show("cancelled", failed(() -> s.execute("select pg_sleep(60)")));
        }
        timer.shutdown();
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            show("timed out", failed(() -> s.execute("select pg_sleep(60)")));
        }
        show("valid", c.isValid(10));
        String text = "0123456789".repeat(600_000);
        try (PreparedStatement s = c.prepareStatement("select ?::text")) {
            s.setString(1, text);
            show("large", digest(rows(s.executeQuery()).get(0).get(0)));
        }
    }

    static void metadata(Connection c) throws Exception {
        DatabaseMetaData data = c.getMetaData();
        show("product", data.getDatabaseProductName() + " " + data.getDatabaseMajorVersion());
        show("tables", rows(data.getTables(null, "public", "work", new String[] {"TABLE"})).size());
        show("columns", rows(data.getColumns(null, "public", "work", "%")).stream().map(row -> row.get(3)).toList());
        show("keys", rows(data.getPrimaryKeys(null, "public", "work")).size());
        show("indexes", rows(data.getIndexInfo(null, "public", "work", true, true)).size());
        show("foreign keys", rows(data.getImportedKeys(null, "public", "work")).size());
        show("privileges", rows(data.getTablePrivileges(null, "public", "work")).size() > 0);
        show("schemas", rows(data.getSchemas()).size() > 1);
        show("types", rows(data.getTypeInfo()).size() > 50);
        show("functions", rows(data.getFunctions(null, "pg_catalog", "upper")).size());
        show("keywords", data.getSQLKeywords().length() > 100);
    }

    public static void main(String[] args) throws Exception {
        try (Connection c = connect("ApplicationName", "with-jdbc")) {
            c.createStatement().execute("create table work (id serial primary key, name text)");
            values(c);
            batches(c);
            cursors(c);
            copies(c);
            largeObjects(c);
            asynchronous(c);
            metadata(c);
            c.createStatement().execute("drop table work");
        }
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection c = connect("preferQueryMode", mode)) {
                show(mode, ask(c, "select 'a' || 1"));
            }
        }
    }
}
