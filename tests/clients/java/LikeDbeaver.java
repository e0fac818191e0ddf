// What DBeaver sends when somebody opens a connection, unfolds the navigator and looks at a table: three
// connections, the same kinds of queries on the catalogs, a result set in parts. Then it sits there until its
// input ends, as people do.

import java.sql.*;
import java.util.*;

public class LikeDbeaver {
    // Runs a query as DBeaver does and prints its shape: the catalogs' contents differ from server to server.
    static void read(Connection c, String sql, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            s.setFetchSize(200);
            for (int i = 0; i < values.length; i++) s.setObject(i + 1, values[i]);
            ResultSet set = s.executeQuery();
            int columns = set.getMetaData().getColumnCount(), rows = 0;
            long sum = 0;
            while (set.next()) {
                rows++;
                for (int i = 1; i <= columns; i++) sum += Objects.hashCode(set.getString(i));
            }
            WithJdbc.show("read", columns + " columns" + (rows > 0 ? " and rows" : ""));
        }
    }

    static Connection open(String purpose) throws SQLException {
        Connection c = WithJdbc.connect("ApplicationName", "DBeaver 25.2.0 - " + purpose);
        read(c, "SELECT current_database()");
        read(c, "SELECT current_schema(), session_user");
        read(c, "SHOW search_path");
        return c;
    }

    static void start(Connection c, String database) throws SQLException {
        read(c, "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate OR db.datname = ?", database);
        read(c, "SELECT version()");
        read(c, "SELECT reset_val FROM pg_settings WHERE name = 'search_path'");
        read(c, "SELECT * FROM pg_catalog.pg_settings WHERE name = 'standard_conforming_strings'");
        read(c, "SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{a,abs,all}'::text[])");
        read(c, "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d "
            + "ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname");
        read(c, "SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description "
            + "FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid "
            + "LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid "
            + "WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c')");
    }

    static void navigate(Connection c, String database) throws SQLException {
        read(c, "SELECT db.oid, pg_catalog.pg_database_size(db.oid) FROM pg_catalog.pg_database db WHERE datname = ?", database);
        read(c, "SELECT a.oid, a.* FROM pg_catalog.pg_roles a ORDER BY a.rolname");
        read(c, "SELECT e.oid, e.*, n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON e.extnamespace = n.oid");
        read(c, "SELECT * FROM pg_catalog.pg_available_extensions ORDER BY name");
        read(c, "SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, "
            + "pg_catalog.pg_get_partkeydef(c.oid) AS partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN "
            + "pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass "
            + "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 'c')");
        read(c, "SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value, dsc.description, "
            + "dep.objid FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON a.attrelid = c.oid "
            + "LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum "
            + "LEFT OUTER JOIN pg_catalog.pg_description dsc ON c.oid = dsc.objoid AND a.attnum = dsc.objsubid "
            + "LEFT OUTER JOIN pg_depend dep ON dep.refobjid = a.attrelid AND dep.deptype = 'i' AND dep.refobjsubid = a.attnum "
            + "WHERE NOT a.attisdropped AND c.oid = 'public.items'::regclass ORDER BY a.attnum");
        read(c, "SELECT c.oid, c.*, t.relname AS tabrelname, rt.relnamespace AS refnamespace, d.description, "
            + "pg_get_constraintdef(c.oid) AS definition FROM pg_catalog.pg_constraint c "
            + "INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid "
            + "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid WHERE c.conrelid = 'public.items'::regclass");
        read(c, "SELECT i.*, i.indkey AS keys, c.relname, c.relam, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred_expr "
            + "FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
            + "WHERE i.indrelid = 'public.items'::regclass");
        read(c, "SELECT x.oid, x.* FROM pg_catalog.pg_trigger x WHERE x.tgrelid = 'public.items'::regclass AND NOT x.tgisinternal");
        read(c, "SELECT sa.* FROM pg_catalog.pg_stat_activity sa WHERE pid = pg_backend_pid()");
    }

    public static void main(String[] args) throws Exception {
        String database = System.getenv("PGDATABASE");
        try (Connection main = open("Main"); Connection metadata = open("Metadata"); Connection editor = open("SQLEditor <Script.sql>")) {
            start(main, database);
            navigate(metadata, database);
            // A table's data: in parts, in a transaction of its own.
            editor.setAutoCommit(false);
            read(editor, "SELECT x.* FROM public.items x");
            editor.commit();
            editor.setAutoCommit(true);
            read(editor, "SELECT x.* FROM public.items x WHERE id = ?", 7);
            WithJdbc.show("idle", main.isValid(10) && metadata.isValid(10));
            System.in.read();
            read(editor, "SELECT count(*) FROM public.items");
            if (args.length > 0) editor.createStatement().execute("SET search_path = public, pg_catalog");
            WithJdbc.show("after the pause", main.isValid(10) && metadata.isValid(10));
        }
    }
}
