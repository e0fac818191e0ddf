// MySQL's Connector/J and MariaDB's: statements prepared at the client and at the server, batches, fetch size,
// several results, LOCAL INFILE, cancel, time limits, metadata. Prints what it sees, one line each, and nothing
// that differs from run to run. The one argument is the name of the driver in a URL.

import java.io.ByteArrayInputStream;
import java.nio.file.*;
import java.security.MessageDigest;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

public class WithMysql {
    static String driver;

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
        properties.put("user", env.get("DB_USER"));
        properties.put("password", env.get("DB_PASSWORD"));
        properties.put("allowLocalInfile", "true");
        properties.put("allowLoadLocalInfile", "true");
        boolean mysql = driver.equals("mysql");
        if (env.containsKey("DB_CA")) {
            properties.put("sslMode", mysql ? "VERIFY_IDENTITY" : "verify-full");
            properties.put(mysql ? "trustCertificateKeyStoreUrl" : "serverSslCert", (mysql ? "file:" : "") + env.get(mysql ? "DB_STORE" : "DB_CA"));
            if (mysql) {
                properties.put("trustCertificateKeyStorePassword", "changeit");
                properties.put("trustCertificateKeyStoreType", "PKCS12");
            }
        } else {
            properties.put("sslMode", mysql ? "DISABLED" : "disable");
        }
        for (int i = 0; i < more.length; i += 2) properties.put(more[i], more[i + 1]);
        String url = "jdbc:" + driver + "://" + env.get("DB_HOST") + ":" + env.get("DB_PORT") + "/" + env.get("DB_NAME");
        return DriverManager.getConnection(url, properties);
    }

    static List<List<String>> rows(ResultSet set) throws SQLException {
        List<List<String>> rows = new ArrayList<>();
        int columns = set.getMetaData().getColumnCount();
        while (set.next()) {
            List<String> row = new ArrayList<>();
            for (int i = 1; i <= columns; i++) {
                int type = set.getMetaData().getColumnType(i);
                boolean bytes = type == Types.BINARY || type == Types.VARBINARY || type == Types.LONGVARBINARY;
                byte[] raw = bytes ? set.getBytes(i) : null;
                row.add(raw != null ? HexFormat.of().formatHex(raw) : set.getString(i));
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

    static void run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute(sql);
        }
    }

    interface Action { void run() throws Exception; }

    static String failed(Action action) throws Exception {
        try {
            action.run();
            return "no error";
        } catch (SQLException error) {
            return error.getSQLState() + " " + error.getErrorCode();
        }
    }

    static void values(Connection c) throws Exception {
        show("types", ask(c, "select 1, -2, 3000000000, 1.5e0, cast(12345.678900 as decimal(20,6)), 'ä€', x'deadbeef00', "
            + "date '2026-02-28', time '23:59:59', null, b'101', cast(18446744073709551615 as unsigned), true, ''"));
        try (PreparedStatement s = c.prepareStatement("select ?, ?, ?, ?, ?, ?, ?, ?")) {
            for (int i = 0; i < 4; i++) {
                s.setInt(1, i);
                s.setLong(2, 1L << 40);
                s.setDouble(3, 1.25);
                s.setBigDecimal(4, new java.math.BigDecimal("1.500"));
                s.setString(5, "tëxt");
                s.setBytes(6, new byte[] {0, -1});
                s.setNull(7, Types.VARCHAR);
                s.setBoolean(8, true);
                show("parameters", rows(s.executeQuery()));
            }
        }
        show("error", failed(() -> ask(c, "select * from nowhere")));
        String text = "0123456789".repeat(1_700_000);
        try (PreparedStatement s = c.prepareStatement("select length(?), ?")) {
            s.setString(1, text);
            s.setString(2, text);
            List<String> row = rows(s.executeQuery()).get(0);
            show("more than one packet", row.get(0) + " " + digest(row.get(1)));
        }
        try (PreparedStatement s = c.prepareStatement("insert into work (name, data) values ('long', ?)")) {
            s.setBinaryStream(1, new ByteArrayInputStream(new byte[100_000]));
            show("stream", s.executeUpdate());
        }
    }

    static void batches(Connection c) throws Exception {
        try (PreparedStatement s = c.prepareStatement("insert into work (name) values (?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 700; i++) {
                s.setString(1, "name " + i);
                s.addBatch();
            }
            show("batch", s.executeBatch().length);
            show("generated", rows(s.getGeneratedKeys()).size());
        }
        try (Statement s = c.createStatement()) {
            s.addBatch("insert into work (name) values ('kept')");
            s.addBatch("insert into work (id, name) values (1, 'twice')");
            s.addBatch("insert into work (name) values ('last')");
            show("a wrong one in a batch", failed(s::executeBatch));
        }
        show("rows", ask(c, "select count(*), count(distinct name) from work"));
    }

    static void results(Connection c) throws Exception {
        try (Connection several = connect("allowMultiQueries", "true"); Statement s = several.createStatement()) {
            boolean set = s.execute("select 1; update work set name = 'x' where id < 4; select 'y'");
            show("several", new Object[] {set, s.getMoreResults(), s.getUpdateCount(), s.getMoreResults()});
            show("error in the middle", failed(() -> {
                s.execute("select 1; select * from nowhere; select 3");
                s.getMoreResults();
            }));
        }
        show("not allowed", failed(() -> run(c, "select 1; select 2")));
        run(c, "create procedure twice(in n int, out m int) begin select n; set m = n * 2; end");
        try (CallableStatement s = c.prepareCall("{call twice(?, ?)}")) {
            s.setInt(1, 21);
            s.registerOutParameter(2, Types.INTEGER);
            s.execute();
            show("procedure", s.getInt(2));
        }
        run(c, "drop procedure twice");
        try (Statement s = c.createStatement()) {
            s.setFetchSize(driver.equals("mysql") ? Integer.MIN_VALUE : 50);
            ResultSet set = s.executeQuery("select a.id, repeat('x', 300) from work a, work b limit 20000");
            int count = 0;
            while (set.next()) count++;
            show("streamed", count);
        }
        if (driver.equals("mysql")) {
            try (Connection cursors = connect("useCursorFetch", "true", "useServerPrepStmts", "true");
                    PreparedStatement s = cursors.prepareStatement("select id from work order by id")) {
                s.setFetchSize(100);
                ResultSet set = s.executeQuery();
                int count = 0;
                while (set.next()) count++;
                show("by a cursor", count);
            }
        }
    }

    static void transactions(Connection c) throws Exception {
        c.setAutoCommit(false);
        run(c, "insert into work (name) values ('gone')");
        Savepoint savepoint = c.setSavepoint("here");
        run(c, "delete from work");
        c.rollback(savepoint);
        c.rollback();
        show("rolled back", ask(c, "select count(*) from work where name = 'gone'"));
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        c.setReadOnly(true);
        show("read only", failed(() -> run(c, "delete from work")));
        c.rollback();
        c.setReadOnly(false);
        c.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        c.setAutoCommit(true);
        c.setCatalog("information_schema");
        show("database", c.getCatalog());
        c.setCatalog(System.getenv("DB_NAME"));
    }

    static void asynchronous(Connection c) throws Exception {
        Path file = Files.createTempFile("rows", ".txt");
        StringBuilder lines = new StringBuilder();
        for (int i = 20_000; i < 24_000; i++) lines.append(i).append("\tloaded\t\\N\n");
        Files.writeString(file, lines);
        run(c, "load data local infile '" + file + "' into table work");
        Files.delete(file);
        show("loaded", ask(c, "select count(*) from work where name = 'loaded'"));
        ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
        try (Statement s = c.createStatement()) {
            timer.schedule(() -> { s.cancel(); return null; }, 500, TimeUnit.MILLISECONDS);
            show("cancelled", !failed(() -> s.executeQuery("select sum(a.id * b.id + c.id * d.id) from work a, work b, work c, work d")).equals("no error"));
        }
        timer.shutdown();
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            show("timed out", !failed(() -> s.executeQuery("select sum(a.id * b.id + c.id * d.id) from work a, work b, work c, work d")).equals("no error"));
        }
        show("valid", c.isValid(10));
    }

    static void metadata(Connection c) throws Exception {
        DatabaseMetaData data = c.getMetaData();
        String name = System.getenv("DB_NAME");
        show("product", data.getDatabaseProductName() + " " + data.getDatabaseMajorVersion());
        show("tables", rows(data.getTables(name, null, "work", new String[] {"TABLE"})).size());
        show("columns", rows(data.getColumns(name, null, "work", "%")).stream().map(row -> row.get(3)).toList());
        show("keys", rows(data.getPrimaryKeys(name, null, "work")).size());
        show("indexes", rows(data.getIndexInfo(name, null, "work", true, true)).size());
        show("catalogs", rows(data.getCatalogs()).size() > 1);
        show("types", rows(data.getTypeInfo()).size() > 10);
    }

    public static void main(String[] args) throws Exception {
        driver = args[0];
        for (String prepared : new String[] {"false", "true"}) {
            try (Connection c = connect("useServerPrepStmts", prepared)) {
                show("prepared at the server", prepared);
                run(c, "create table work (id int auto_increment primary key, name varchar(200), data longblob) character set utf8mb4");
                values(c);
                batches(c);
                results(c);
                transactions(c);
                if (prepared.equals("true")) {
                    asynchronous(c);
                    metadata(c);
                }
                run(c, "drop table work");
            }
        }
        String[] more = driver.equals("mysql")
            ? new String[] {"useCompression", "true", "rewriteBatchedStatements", "true"}
            : new String[] {"useCompression", "true", "useBulkStmts", "true"};
        try (Connection c = connect(more)) {
            run(c, "create table work (id int auto_increment primary key, name varchar(200), data longblob) character set utf8mb4");
            batches(c);
            run(c, "drop table work");
        }
    }
}
