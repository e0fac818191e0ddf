//! What keeps state in a server process that no `DISCARD ALL` clears. Connections of a database that
//! has such things are reused by the same person only, until the operator accepts them.

/// Extensions known to keep nothing of a session that a later one could see or be misled by: types,
/// operators and index methods, functions of their arguments alone, views of shared memory, and
/// settings of the ordinary kind, which a reset clears. What is not listed counts as stateful.
///
/// Left out on purpose, because they do keep something: `dblink` and the foreign data wrappers
/// (connections, with their transactions and passwords), `isn` (weak mode, a variable of the process up
/// to PostgreSQL 17), `hypopg` (indexes of the process), `orafce` (packages), `refint` (plans).
pub(super) const STATELESS_EXTENSIONS: [&str; 46] = [
    "adminpack",
    "amcheck",
    "autoinc",
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "dict_xsyn",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "insert_username",
    "intagg",
    "intarray",
    "lo",
    "ltree",
    "moddatetime",
    "old_snapshot",
    "pageinspect",
    "pg_buffercache",
    "pg_freespacemap",
    "pg_logicalinspect",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_surgery",
    // Its limit is an ordinary setting, also when `set_limit()` sets it.
    "pg_trgm",
    "pg_visibility",
    "pg_walinspect",
    "pgaudit",
    "pgcrypto",
    "pgrowlocks",
    "pgstattuple",
    // Variables of a function live as long as its call.
    "plpgsql",
    // Caches projections, made from a table that everybody sees.
    "postgis",
    "seg",
    "sslinfo",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    // Clock sequence and node of the next UUID, which are meant to go on.
    "uuid-ossp",
    "vector",
    "xml2",
];

/// Languages without variables that outlive a call. The others have them: `%_SHARED` (plperl), `GD` and
/// `SD` (plpython), `GD` (pltcl), `globalThis` (plv8).
const STATELESS_LANGUAGES: [&str; 4] = ["internal", "c", "sql", "plpgsql"];

/// Picks what is stateful out of all extensions, languages and libraries (C code that belongs to no
/// extension). A name stands for an extension and its language alike, as an operator would accept it.
pub(super) fn pick<'a>(
    extensions: impl Iterator<Item = &'a str>,
    languages: impl Iterator<Item = &'a str>,
    libraries: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let mut names: Vec<String> = extensions
        .filter(|name| !STATELESS_EXTENSIONS.contains(name))
        .chain(languages.filter(|name| !STATELESS_LANGUAGES.contains(name)))
        .chain(libraries)
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_counts_as_stateful() {
        let found = pick(
            ["plpgsql", "plperl", "dblink", "somebodys_own", "pgcrypto"].into_iter(),
            ["c", "sql", "internal", "plpgsql", "plperl"].into_iter(),
            ["$libdir/own"].into_iter(),
        );
        assert_eq!(found, ["$libdir/own", "dblink", "plperl", "somebodys_own"]);
    }

    #[test]
    fn what_keeps_state_is_not_on_the_list() {
        for name in
            ["dblink", "postgres_fdw", "file_fdw", "isn", "plperl", "plpython3u", "pltcl", "plv8", "hypopg"]
        {
            assert!(!STATELESS_EXTENSIONS.contains(&name), "{name}");
        }
        assert!(STATELESS_EXTENSIONS.is_sorted());
    }
}
