//! What `target check` reads of a server's catalogs. Each part gives rows of three texts: a topic, what it
//! is about, and a detail, which for a right says how it came about: `owner`, or `public`, `direct` or both
//! as the object's own list says, or nothing (by way of another role).
//!
//! As all our statements these are written for a connection whose settings may be an enemy's: see
//! [`super::super::query`].

/// Rows of one kind that are read; more are hardly ever read by a person.
const ROWS_MAX: u32 = 200;

/// The role that we are.
const ME: &str = "pg_catalog.pg_roles AS me";
const IS_ME: &str = "me.rolname {=} session_user AND NOT me.rolsuper";

/// How a right came about; `list` gives `grantee` and `privilege_type`, `rights` is a list for SQL.
fn via(owner: &str, list: &str, rights: &str) -> String {
    let given = |grantee: &str, word: &str| {
        format!(
            "CASE WHEN EXISTS (SELECT FROM {list} AS a WHERE a.grantee {{=}} {grantee} AND a.privilege_type {{=}} \
             ANY (ARRAY[{rights}]::pg_catalog.text[])) THEN '{word}' ELSE '' END"
        )
    };
    let (public, direct) = (given("0", "public"), given("me.oid", "direct"));
    format!("CASE WHEN {owner} {{=}} me.oid THEN 'owner' ELSE {public} {{||}} {direct} END")
}

/// A relation's own list, and those of its columns.
const RELATION_LIST: &str =
    "(SELECT r.grantee, r.privilege_type FROM pg_catalog.aclexplode(c.relacl) AS r UNION ALL
     SELECT t.grantee, t.privilege_type FROM pg_catalog.pg_attribute AS f
     CROSS JOIN LATERAL pg_catalog.aclexplode(f.attacl) AS t WHERE f.attrelid {=} c.oid)";

/// Name with schema, quoted for SQL.
fn path(schema: &str, name: &str) -> String {
    format!(
        "pg_catalog.quote_ident({schema}::pg_catalog.text) {{||}} '.' {{||}} pg_catalog.quote_ident({name}::pg_catalog.text)"
    )
}

/// Schemas of people, not of the system.
fn own_schema(schema: &str) -> String {
    format!(
        "pg_catalog.left({schema}::pg_catalog.text, 3) {{<>}} 'pg_' AND {schema} {{<>}} 'information_schema'"
    )
}

/// A function with its arguments, as GRANT names it.
fn signature() -> String {
    format!(
        "{} {{||}} '(' {{||}} pg_catalog.oidvectortypes(p.proargtypes) {{||}} ')'",
        path("n.nspname", "p.proname")
    )
}

/// Relations of these kinds on which the role holds something.
fn relations(topic: &str, kinds: &str, rights: &str, held: &str) -> String {
    format!(
        "(SELECT '{topic}', {path}, {via} FROM {ME} CROSS JOIN pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid {{=}} c.relnamespace
          WHERE {IS_ME} AND c.relowner {{<>}} me.oid AND {own}
          AND c.relkind {{=}} ANY (ARRAY[{kinds}]::pg_catalog.\"char\"[]) AND ({held}) LIMIT {ROWS_MAX})",
        path = path("n.nspname", "c.relname"),
        via = via("c.relowner", RELATION_LIST, rights),
        own = own_schema("n.nspname"),
    )
}

/// What the role owns in one catalog, whose rows are `o` and whose schemas `n`.
fn owned(name: &str, catalog: &str, owner: &str, schema: &str, only: &str) -> String {
    format!(
        "(SELECT 'owned', {name}, '' FROM {ME} JOIN {catalog} AS o ON {owner} {{=}} me.oid
          JOIN pg_catalog.pg_namespace AS n ON n.oid {{=}} {schema}
          WHERE me.rolname {{=}} session_user AND {own}{only} LIMIT {ROWS_MAX})",
        own = own_schema("n.nspname"),
    )
}

/// Functions outside the system's schemas that the role may call.
fn callable(topic: &str, detail: &str, only: &str) -> String {
    format!(
        "(SELECT '{topic}', {signature}, {detail}::pg_catalog.text FROM {ME} CROSS JOIN pg_catalog.pg_proc AS p
          JOIN pg_catalog.pg_namespace AS n ON n.oid {{=}} p.pronamespace
          JOIN pg_catalog.pg_roles AS w ON w.oid {{=}} p.proowner
          JOIN pg_catalog.pg_language AS l ON l.oid {{=}} p.prolang
          WHERE {IS_ME} AND p.proowner {{<>}} me.oid AND {own} AND {only}
          AND pg_catalog.has_function_privilege(me.oid, p.oid, 'EXECUTE') LIMIT {ROWS_MAX})",
        signature = signature(),
        own = own_schema("n.nspname"),
    )
}

/// The role itself.
fn role() -> Vec<String> {
    vec![
        "SELECT 'version', pg_catalog.current_setting('server_version_num'), ''".into(),
        format!(
            "SELECT 'attribute', a.name, '' FROM {ME}
             CROSS JOIN LATERAL (VALUES ('superuser', me.rolsuper), ('createrole', me.rolcreaterole),
               ('createdb', me.rolcreatedb), ('replication', me.rolreplication), ('bypassrls', me.rolbypassrls))
               AS a(name, held)
             WHERE me.rolname {{=}} session_user AND a.held"
        ),
        format!(
            "SELECT 'expires', me.rolvaliduntil::pg_catalog.text, '' FROM {ME}
             WHERE me.rolname {{=}} session_user AND pg_catalog.isfinite(me.rolvaliduntil)"
        ),
        format!(
            "SELECT 'unlimited', '', '' FROM {ME} WHERE {IS_ME} AND me.rolconnlimit {{<}} 0"
        ),
        format!(
            "(SELECT 'member', r.rolname::pg_catalog.text, CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m
               WHERE m.roleid {{=}} r.oid AND m.member {{=}} me.oid) THEN 'direct' ELSE '' END
             FROM {ME} CROSS JOIN pg_catalog.pg_roles AS r
             WHERE {IS_ME} AND r.oid {{<>}} me.oid
             AND pg_catalog.pg_has_role(me.oid, r.oid, 'MEMBER') LIMIT {ROWS_MAX})"
        ),
        format!(
            "(SELECT 'gives', r.rolname::pg_catalog.text, '' FROM {ME}
             JOIN pg_catalog.pg_auth_members AS m ON m.member {{=}} me.oid AND m.admin_option
             JOIN pg_catalog.pg_roles AS r ON r.oid {{=}} m.roleid WHERE {IS_ME} LIMIT {ROWS_MAX})"
        ),
    ]
}

/// Rights to make something, and what was made.
fn making() -> Vec<String> {
    let database = |topic: &str, right: &str| {
        format!(
            "SELECT '{topic}', d.datname::pg_catalog.text, {via} FROM {ME} CROSS JOIN pg_catalog.pg_database AS d
             WHERE {IS_ME} AND d.datname {{=}} pg_catalog.current_database()
             AND pg_catalog.has_database_privilege(me.oid, d.oid, '{right}')",
            via = via("d.datdba", "pg_catalog.aclexplode(d.datacl)", &format!("'{right}'")),
        )
    };
    vec![
        format!(
            "(SELECT 'schema', n.nspname::pg_catalog.text, {via} FROM {ME} CROSS JOIN pg_catalog.pg_namespace AS n
             WHERE {IS_ME} AND {own} AND pg_catalog.has_schema_privilege(me.oid, n.oid, 'CREATE') LIMIT {ROWS_MAX})",
            via = via("n.nspowner", "pg_catalog.aclexplode(n.nspacl)", "'CREATE'"),
            own = own_schema("n.nspname"),
        ),
        database("create", "CREATE"),
        database("temporary", "TEMPORARY"),
        owned(
            &path("n.nspname", "o.relname"),
            "pg_catalog.pg_class",
            "o.relowner",
            "o.relnamespace",
            " AND o.relkind {=} ANY (ARRAY['r', 'p', 'v', 'm', 'f', 'S']::pg_catalog.\"char\"[])",
        ),
        owned(
            &format!("{} {{||}} '()'", path("n.nspname", "o.proname")),
            "pg_catalog.pg_proc",
            "o.proowner",
            "o.pronamespace",
            "",
        ),
        owned(
            "'the schema ' {||} pg_catalog.quote_ident(o.nspname::pg_catalog.text)",
            "pg_catalog.pg_namespace",
            "o.nspowner",
            "o.oid",
            "",
        ),
        format!(
            "SELECT 'owned', 'the database ' {{||}} pg_catalog.quote_ident(d.datname::pg_catalog.text), '' FROM {ME}
             JOIN pg_catalog.pg_database AS d ON d.datdba {{=}} me.oid WHERE me.rolname {{=}} session_user"
        ),
    ]
}

/// Rights to change data: what is there, and what is made later.
fn writing() -> Vec<String> {
    let held = |rights: &str| format!("pg_catalog.has_table_privilege(me.oid, c.oid, '{rights}')");
    let tables = "'r', 'p', 'v', 'm', 'f'";
    vec![
        relations(
            "write",
            tables,
            "'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'",
            &format!(
                "{} OR pg_catalog.has_any_column_privilege(me.oid, c.oid, 'INSERT, UPDATE')",
                held("INSERT, UPDATE, DELETE, TRUNCATE")
            ),
        ),
        relations("trigger", tables, "'TRIGGER'", &held("TRIGGER")),
        relations(
            "sequence",
            "'S'",
            "'USAGE', 'UPDATE'",
            "pg_catalog.has_sequence_privilege(me.oid, c.oid, 'USAGE, UPDATE')",
        ),
        format!(
            "(SELECT DISTINCT 'future', w.rolname::pg_catalog.text, COALESCE(n.nspname::pg_catalog.text, '') FROM {ME}
             CROSS JOIN pg_catalog.pg_default_acl AS d JOIN pg_catalog.pg_roles AS w ON w.oid {{=}} d.defaclrole
             LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid {{=}} d.defaclnamespace
             CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS a
             WHERE {IS_ME} AND d.defaclobjtype {{=}} 'r' AND (a.grantee {{=}} me.oid OR a.grantee {{=}} 0)
             AND a.privilege_type {{=}} ANY (ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']::pg_catalog.text[])
             LIMIT {ROWS_MAX})"
        ),
        format!(
            "(SELECT 'large_object', l.oid::pg_catalog.text, '' FROM {ME} CROSS JOIN pg_catalog.pg_largeobject_metadata AS l
             WHERE {IS_ME} AND (l.lomowner {{=}} me.oid OR EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) AS a
               WHERE (a.grantee {{=}} me.oid OR a.grantee {{=}} 0) AND a.privilege_type {{=}} 'UPDATE')) LIMIT {ROWS_MAX})"
        ),
    ]
}

/// Ways to act as somebody else, or elsewhere.
fn ways_out(version: u32) -> Vec<String> {
    let mut parts = vec![
        callable("definer", "w.rolname", "p.prosecdef"),
        callable("untrusted_call", "l.lanname", "l.lanispl AND NOT l.lanpltrusted"),
        callable(
            "dblink",
            "''",
            "p.prolang {=} 13 AND p.proname {=} ANY (ARRAY['dblink', 'dblink_connect', 'dblink_connect_u', \
             'dblink_exec', 'dblink_open']::pg_catalog.name[])",
        ),
        // Functions of the system by which people under one role reach each other, or the machine.
        format!(
            "SELECT 'function', p.proname::pg_catalog.text,
             'pg_catalog.' {{||}} p.proname::pg_catalog.text {{||}} '(' {{||}} pg_catalog.oidvectortypes(p.proargtypes) {{||}} ')'
             FROM {ME} CROSS JOIN pg_catalog.pg_proc AS p
             WHERE {IS_ME} AND p.pronamespace {{=}} 'pg_catalog'::pg_catalog.regnamespace
             AND p.proname {{=}} ANY (ARRAY['pg_terminate_backend', 'pg_cancel_backend', 'pg_stat_get_activity',
               'pg_stat_get_backend_activity', 'lo_create', 'lo_creat', 'lo_from_bytea', 'lo_import', 'lo_export',
               'pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'pg_reload_conf', 'pg_promote',
               'pg_rotate_logfile']::pg_catalog.name[])
             AND pg_catalog.has_function_privilege(me.oid, p.oid, 'EXECUTE')"
        ),
        format!(
            "(SELECT 'mapping', u.srvname::pg_catalog.text, CASE WHEN u.umuser {{=}} 0 THEN 'PUBLIC' ELSE '' END FROM {ME} CROSS JOIN pg_catalog.pg_user_mappings AS u
             WHERE me.rolname {{=}} session_user AND (u.umuser {{=}} me.oid OR u.umuser {{=}} 0) LIMIT {ROWS_MAX})"
        ),
        format!(
            "(SELECT 'server', s.srvname::pg_catalog.text, {via} FROM {ME} CROSS JOIN pg_catalog.pg_foreign_server AS s
             WHERE {IS_ME} AND pg_catalog.has_server_privilege(me.oid, s.oid, 'USAGE') LIMIT {ROWS_MAX})",
            via = via("s.srvowner", "pg_catalog.aclexplode(s.srvacl)", "'USAGE'"),
        ),
    ];
    if version >= 15 {
        parts.push(format!(
            "(SELECT 'parameter', p.parname, r.priv FROM {ME} CROSS JOIN pg_catalog.pg_parameter_acl AS p
             CROSS JOIN LATERAL (VALUES ('SET'), ('ALTER SYSTEM')) AS r(priv)
             WHERE {IS_ME} AND pg_catalog.has_parameter_privilege(me.oid, p.parname, r.priv) LIMIT {ROWS_MAX})"
        ));
    }
    parts
}

/// What is in the database for everybody.
fn around() -> Vec<String> {
    vec![
        format!(
            "(SELECT 'prepared', x.gid, x.database::pg_catalog.text FROM pg_catalog.pg_prepared_xacts AS x
             WHERE x.owner {{=}} session_user LIMIT {ROWS_MAX})"
        ),
        "SELECT 'untrusted', l.lanname::pg_catalog.text, '' FROM pg_catalog.pg_language AS l
         WHERE l.lanispl AND NOT l.lanpltrusted"
            .into(),
        format!(
            "(SELECT 'event_trigger', e.evtname::pg_catalog.text, e.evtevent::pg_catalog.text
             FROM pg_catalog.pg_event_trigger AS e WHERE e.evtenabled {{<>}} 'D' LIMIT {ROWS_MAX})"
        ),
    ]
}

/// All that is judged, for a server of this version (15, 18, …).
pub(in super::super) fn catalog(version: u32) -> Vec<String> {
    [role(), making(), writing(), ways_out(version), around()].concat()
}

/// What well-formed logins are made from: the database, its schemas and who makes tables in them, the
/// machine that we come from.
pub(in super::super) fn outline() -> Vec<String> {
    let own = own_schema("n.nspname");
    vec![
        "SELECT 'version', pg_catalog.current_setting('server_version_num'), ''".into(),
        "SELECT 'in_database', pg_catalog.current_database()::pg_catalog.text, ''".into(),
        "SELECT 'client', COALESCE(pg_catalog.host(pg_catalog.inet_client_addr()), ''), ''".into(),
        format!("(SELECT 'in_schema', n.nspname::pg_catalog.text, '' FROM pg_catalog.pg_namespace AS n WHERE {own} LIMIT {ROWS_MAX})"),
        format!(
            "(SELECT DISTINCT 'maker', w.rolname::pg_catalog.text, n.nspname::pg_catalog.text FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid {{=}} c.relnamespace
             JOIN pg_catalog.pg_roles AS w ON w.oid {{=}} c.relowner
             WHERE {own} AND c.relkind {{=}} ANY (ARRAY['r', 'p', 'v', 'm', 'f', 'S']::pg_catalog.\"char\"[]) LIMIT {ROWS_MAX})"
        ),
    ]
}
