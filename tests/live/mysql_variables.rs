//! What a reset of the server's own puts back, of every variable that a session can have: why the pool may look at some
//! variables at each return and at all of them now and then (`protocol::mysql::query::state`).

use std::collections::{BTreeMap, BTreeSet};

use tidegate::model::limits::POOL_LOOK_INTERVAL;
use tidegate::protocol::mysql::{GLANCED_VARIABLES, UNSTEADY_VARIABLES};

use crate::support::mysql::wire::command;
use crate::support::mysql::{Answer, Place, Release, Wire, on_all_releases};
use crate::support::server::ROLE_PASSWORD;
use crate::support::{Node, Options};

on_all_releases!(a_reset_puts_back_every_variable_but_those_that_each_return_looks_at);

/// As many must have been changed at least: a test that changes nothing shows nothing.
const CHANGED_MIN: usize = 100;
/// They go on by themselves, or begin anew by chance: a reset has put them back where they are not what they were set
/// to.
const FLOWING: &[&str] = &["rand_seed1", "rand_seed2", "statement_id", "timestamp"];
/// What the pool's reset sets to a value that no session has by itself.
const MARKED: &str = "div_precision_increment";
/// Tried with whatever has a text for its value, beside numbers: most are refused by most.
const WORDS: &[&str] = &[
    "'latin2'",
    "'latin1_german2_ci'",
    "'utf8mb4_general_ci'",
    "'utf8mb4=utf8mb4_bin'",
    "'+03:00'",
    "'de_DE'",
    "'MyISAM'",
    "'InnoDB'",
    "'ANSI_QUOTES'",
    "'ANONYMOUS'",
    "'00000000-0000-0000-0000-000000000001:1'",
    "'PARTIAL_JSON'",
    "'REPEATABLE-READ'",
    "'SERIALIZABLE'",
    "'autocommit'",
    "'enabled=on'",
    "'one_line=on'",
    "'greedy_search=off'",
    "'mrr=on'",
    "'subquery_to_derived=on'",
    "'2001-01-01 00:00:00'",
    "'NO_ZERO_DATE_TIME'",
    "'/tmp'",
    "'elsewhere'",
    "NULL",
    "''",
];

/// One at a time, by every value that it takes; then all at once. On a server of its own: MariaDB has variables of a
/// session that are its replica's, for everybody.
fn a_reset_puts_back_every_variable_but_those_that_each_return_looks_at(release: Release) {
    let more = match release.is_mariadb() {
        true => "--query-cache-type=ON",
        false => "--gtid-mode=OFF_PERMISSIVE",
    };
    // Not what a client says as it logs in.
    let place = Place::alone(release, &["--character-set-server=latin1", more]);
    let mut client = Client::new(&place, release);
    let mut seen = Seen::default();
    for name in client.names.clone() {
        client.try_all(&name, &mut seen);
    }
    let together = client.try_together(&seen);
    println!("{release:?}, {} variables, one at a time: {seen:#?}", client.names.len());
    println!("{release:?}, at once: {together:#?}");
    assert!(seen.changed.len() >= CHANGED_MIN, "{} were changed", seen.changed.len());
    assert!(together.changed.len() >= CHANGED_MIN, "{} were changed at once", together.changed.len());
    assert!(together.changed.contains_key(MARKED), "what proves the others is one of them");
    let left: BTreeSet<&String> = seen.left.keys().chain(together.left.keys()).collect();
    let unknown: Vec<_> = left.iter().filter(|name| !GLANCED_VARIABLES.contains(&name.as_str())).collect();
    assert!(
        unknown.is_empty(),
        "left by a reset, and not looked at whenever a connection comes back: {unknown:?}"
    );
    // Else one person has the connections of others closed.
    let mut connector = place.login(&place.role("read"), ROLE_PASSWORD).expect("let in");
    for (name, statement) in
        seen.shared.iter().filter(|(name, _)| !UNSTEADY_VARIABLES.contains(&name.as_str()))
    {
        let said = connector.ask(statement);
        assert!(said.contains("error 1227"), "everybody may set {name} for the whole server: {said}");
    }
    // As they were.
    let mut root = place.root();
    seen.shared.keys().for_each(|name| root.run(&format!("set global {name} = default")));
    shared_settings_close_no_connection(place, &seen.shared);
}

/// Setting it, as all may, must not have the connections of others closed, also where all variables are looked at.
fn shared_settings_close_no_connection(place: Place, shared: &BTreeMap<String, String>) {
    let node = Node::with(place, Options { pool: "size_max = 1", ..Options::default() });
    let person = node.person("alice", "read");
    let mut root = node.place.root();
    for statement in shared.values() {
        let mut alice = person.mysql_login();
        let stamp = alice.ask("select @tidegate");
        root.run(&statement.replace(" session ", " global "));
        // The next return is looked at thoroughly.
        std::thread::sleep(POOL_LOOK_INTERVAL);
        alice.goodbye();
        let session = stamp.split(['/', ' ']).nth(1).expect("a session's name");
        assert_eq!(node.wait_end_of(session)["reused"], true, "{statement}");
    }
}

/// By their names.
#[derive(Debug, Default)]
struct Seen {
    /// With the first statement that changed it.
    changed: BTreeMap<String, String>,
    unchanged: BTreeSet<String>,
    /// What a reset has not put back: how it was, and how it is.
    left: BTreeMap<String, (String, String)>,
    /// What a new connection meets as well: of the server, not of the session. With the statement.
    shared: BTreeMap<String, String>,
    /// Statements behind which the server refused the reset itself.
    refused: Vec<String>,
}

/// A login with all rights, around the proxy.
struct Client<'a> {
    place: &'a Place,
    user: String,
    wire: Wire,
    names: Vec<String>,
    /// How they were when the connection was new.
    fresh: BTreeMap<String, String>,
}

impl<'a> Client<'a> {
    fn new(place: &'a Place, release: Release) -> Self {
        let user = format!("{}_all", place.database);
        place.run(&format!("create user {user}@'%' identified by '{ROLE_PASSWORD}'"));
        place.run(&format!("grant all on *.* to {user}@'%' with grant option"));
        place.run("create table stop_words (value varchar(30)) engine = innodb");
        let names = place.ask(match release.is_mariadb() {
            true => {
                "select lower(variable_name) from information_schema.system_variables \
                 where variable_scope <> 'GLOBAL' or session_value is not null order by 1"
            }
            false => {
                "select variable_name from performance_schema.variables_metadata \
                 where variable_scope <> 'GLOBAL' order by 1"
            }
        });
        let names = names.split("; ").map(str::to_owned).collect();
        let wire = place.login(&user, ROLE_PASSWORD).expect("let in");
        let mut client = Self { place, user, wire, names, fresh: BTreeMap::new() };
        client.look();
        client
    }

    fn look(&mut self) {
        self.fresh = self.all().expect("the values of all variables");
    }

    fn reconnect(&mut self) {
        self.wire = self.place.login(&self.user, ROLE_PASSWORD).expect("let in");
        self.look();
    }

    /// The values of all variables; else the answer: a setting may keep them from being read.
    fn all(&mut self) -> Result<BTreeMap<String, String>, Answer> {
        let selected: Vec<_> = self.names.iter().map(|name| format!("@@{name}")).collect();
        let values = self.values(&selected.join(","))?;
        assert_eq!(values.len(), self.names.len());
        Ok(self.names.iter().cloned().zip(values).collect())
    }

    fn values(&mut self, selected: &str) -> Result<Vec<String>, Answer> {
        self.wire.query(&format!("select {selected}"));
        match self.wire.answers().pop().expect("an answer") {
            Answer::Rows { mut rows, .. } if rows.len() == 1 => {
                let row = rows.remove(0).into_iter();
                Ok(row.map(|value| value.unwrap_or_else(|| "NULL".into())).collect())
            }
            other => Err(other),
        }
    }

    fn value(&mut self, name: &str) -> Result<String, Answer> {
        self.values(&format!("@@{name}")).map(|mut values| values.remove(0))
    }

    fn takes(&mut self, statement: &str) -> bool {
        self.wire.query(statement);
        matches!(self.wire.answers()[..], [Answer::Done { .. }])
    }

    fn reset(&mut self) -> bool {
        self.wire.say(command::RESET_CONNECTION, &[]);
        matches!(self.wire.answers()[..], [Answer::Done { .. }])
    }

    /// Sets one variable to this and that, with a reset behind each.
    fn try_all(&mut self, name: &str, seen: &mut Seen) {
        for value in self.values_to_try(name) {
            let statement = format!("set session {name} = {value}");
            if !self.takes(&statement) {
                continue;
            }
            let set = self.value(name).ok();
            if !self.reset() {
                seen.refused.push(statement);
                self.reconnect();
                continue;
            }
            let before = self.fresh[name].clone();
            let after = self.value(name).expect("a reset makes it readable");
            let is_changed = set.as_ref().is_some_and(|set| *set != before);
            if Self::is_left(name, &before, set.as_ref(), &after) {
                self.reconnect();
                if is_changed && self.fresh[name] == after {
                    seen.changed.remove(name);
                    seen.shared.insert(name.to_owned(), statement);
                } else {
                    seen.changed.entry(name.to_owned()).or_insert(statement);
                    seen.left.insert(name.to_owned(), (before, after));
                }
                return;
            }
            if is_changed {
                seen.changed.entry(name.to_owned()).or_insert(statement);
            }
        }
        if !seen.changed.contains_key(name) {
            seen.unchanged.insert(name.to_owned());
        }
    }

    fn is_left(name: &str, before: &str, set: Option<&String>, after: &str) -> bool {
        match name {
            _ if FLOWING.contains(&name) => set.is_some_and(|set| set != before && set == after),
            _ => before != after,
        }
    }

    /// All that a statement has changed alone, on one connection.
    fn try_together(&mut self, alone: &Seen) -> Seen {
        self.reconnect();
        for statement in alone.changed.values() {
            // Some exclude others.
            self.takes(statement);
        }
        let set = self.all().expect("they can be read");
        assert!(self.reset(), "a reset behind all of them");
        let after = self.all().expect("a reset makes them readable");
        let mut seen = Seen::default();
        for (name, before) in &self.fresh {
            if set[name] != *before {
                seen.changed.insert(name.clone(), set[name].clone());
            }
            if Self::is_left(name, before, Some(&set[name]), &after[name]) {
                seen.left.insert(name.clone(), (before.clone(), after[name].clone()));
            }
        }
        seen
    }

    /// Of a number those near it, and none that is large: the server might reserve as much. The smaller one first: one
    /// above the largest of MariaDB's memory is negative. Of anything else what its
    /// values can be called by: words, and their numbers in a list that the server has.
    fn values_to_try(&self, name: &str) -> Vec<String> {
        let now = &self.fresh[name];
        let few = (0..=5).map(|number: u32| number.to_string());
        let mut values: Vec<String> = match (now.parse::<i128>(), now.parse::<f64>()) {
            (Ok(number), _) => {
                let mut near = vec![number - 1, number + 1, number / 2, 4096];
                near.extend((number < 1 << 30).then_some(number * 2));
                near.iter().map(i128::to_string).chain(few).collect()
            }
            (_, Ok(number)) => [number - 1.0, number + 1.0].iter().map(f64::to_string).chain(few).collect(),
            _ => {
                let table = format!("'{}/stop_words'", self.place.database);
                WORDS.iter().map(|word| (*word).to_owned()).chain(few).chain([table]).collect()
            }
        };
        values.retain(|value| value != now);
        values
    }
}
