"""What pgAdmin sends when somebody connects, unfolds the tree, runs a query and presses stop: by psycopg 3, as
pgAdmin does. Then it sits there until its input ends, as people do."""

import sys

import psycopg

from common import after, show


def connect(name):
    conn = psycopg.connect("", application_name=f"pgAdmin 4 - {name}", autocommit=True)
    cur = conn.cursor()
    # One simple query, whose failure pgAdmin takes for a failed connection.
    cur.execute("SET DateStyle=ISO; SET client_min_messages=notice; "
                "SELECT set_config('bytea_output','hex',false) FROM pg_show_all_settings() WHERE name = 'bytea_output'; "
                "SET client_encoding='utf-8';")
    cur.execute("SELECT version()")
    cur.execute("""SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding,
        has_database_privilege(db.oid, 'CREATE') as cancreate, datistemplate
        FROM pg_catalog.pg_database db WHERE db.datname = current_database()""")
    show("database", cur.fetchone()[2:])
    cur.execute("SELECT gss_authenticated, encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_backend_pid()")
    cur.execute("""SELECT roles.oid as id, roles.rolname as name, roles.rolsuper as is_superuser,
        CASE WHEN 'pg_signal_backend' = ANY(ARRAY(WITH RECURSIVE cte AS (
            SELECT pg_roles.oid, pg_roles.rolname FROM pg_roles WHERE pg_roles.oid = roles.oid
            UNION ALL
            SELECT m.roleid, pgr.rolname FROM cte cte_1 JOIN pg_auth_members m ON m.member = cte_1.oid
                JOIN pg_roles pgr ON pgr.oid = m.roleid)
            SELECT rolname FROM cte)) THEN True ELSE False END as can_signal_backend
        FROM pg_catalog.pg_roles as roles WHERE rolname = current_user""")
    show("role", cur.fetchone()[2:])
    return conn


def tree(conn):
    queries = (
        "SELECT db.oid, db.datname, pg_catalog.pg_get_userbyid(db.datdba), spcname, has_database_privilege(db.oid, 'CREATE') "
        "FROM pg_catalog.pg_database db LEFT OUTER JOIN pg_catalog.pg_tablespace ta ON db.dattablespace = ta.oid",
        "SELECT nsp.oid, nsp.nspname, pg_catalog.has_schema_privilege(nsp.oid, 'CREATE') FROM pg_catalog.pg_namespace nsp "
        "WHERE nspname NOT LIKE 'pg!_%%' escape '!' AND nspname = %s",
        "SELECT rel.oid, rel.relname AS name, (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = rel.oid) "
        "FROM pg_catalog.pg_class rel WHERE rel.relkind IN ('r','s','t','p') AND rel.relnamespace = %s::regnamespace ORDER BY rel.relname",
        "SELECT att.attname, att.attnum, pg_catalog.format_type(ty.oid, att.atttypmod) FROM pg_catalog.pg_attribute att "
        "JOIN pg_catalog.pg_type ty ON ty.oid = atttypid WHERE att.attrelid = %s::regclass AND att.attnum > 0 ORDER BY att.attnum",
    )
    for query, value in zip(queries, (None, "public", "public", "items")):
        show("tree", len(conn.execute(query, (value,) if value else None).fetchall()) > 0)
    # The dashboard asks for this every few seconds, in one statement.
    show("dashboard", len(conn.execute("""SELECT 'session_stats' AS chart_name, row_to_json(t) AS chart_data FROM (SELECT
        (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS "Total",
        (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND datname = current_database()) AS "Active") t
        UNION ALL SELECT 'tps_stats', row_to_json(t) FROM (SELECT
        (SELECT sum(xact_commit) + sum(xact_rollback) FROM pg_stat_database WHERE datname = current_database()) AS "T") t""").fetchall()))


def main():
    browser = connect("DB:shop")
    tree(browser)
    editor = connect("CONN:1234567")
    # The query tool reads through a named cursor when it is told to, else all at once.
    with editor.transaction(), editor.cursor("CURSOR:1234567") as cur:
        cur.execute("SELECT * FROM public.items ORDER BY id")
        show("first page", len(cur.fetchmany(1000)))
    show("data", len(editor.execute("SELECT * FROM public.items").fetchall()))
    if "stop" in sys.argv:
        # The stop button: another connection cancels by process id.
        timer = after(0.5, lambda: browser.execute("SELECT pg_cancel_backend(%s)", (editor.info.backend_pid,)))
        try:
            editor.execute("SELECT pg_sleep(60)")
        except psycopg.errors.QueryCanceled as error:
            show("stopped", error.sqlstate)
        timer.join()
    show("idle", True)
    sys.stdin.readline()
    show("after the pause", editor.execute("SELECT count(*) > 0 FROM public.items").fetchone())
    show("and in the tree", browser.execute("SHOW client_min_messages").fetchone())
    editor.close()
    browser.close()


if __name__ == "__main__":
    sys.exit(main())
