//! What the trail says of a run, beside what server and clients saw.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Cast;
use super::stage::Stage;
use super::witness::{Known, Tag};
use crate::identity::clock::virtually;

/// Every statement that came to the server is in the trail once; a line that is there stands for one that
/// came, or says that its end is not known; and whoever began has ended.
pub fn check<C: Cast>(stage: &Stage<C>) {
    if let Err(error) = virtually::at_once(stage.trail.flush()) {
        return stage.witness.wrong(error);
    }
    let lines = read(stage);
    let mut statements: BTreeMap<Tag, Vec<(String, u64)>> = BTreeMap::new();
    let (mut extended, mut texts) = (BTreeSet::new(), BTreeMap::new());
    let mut results: BTreeMap<(String, u64), Vec<String>> = BTreeMap::new();
    let mut sessions: BTreeMap<String, (u32, u32, u64)> = BTreeMap::new();
    // Who left before there was a connection for it ends without having begun.
    let (mut accepted, mut left) = (BTreeMap::new(), BTreeSet::new());
    let mut peers: BTreeMap<String, String> = BTreeMap::new();
    let mut logins = Logins::default();
    for line in &lines {
        let text = |member: &str| line[member].as_str().unwrap_or_default().to_owned();
        let about = (text("session"), line["number"].as_u64().unwrap_or_default());
        match text("event").as_str() {
            "statement" => {
                let whole = format!("{} {}", line["text"], line["parameters"]);
                let tags = Tag::all(&whole);
                // An Execute of what does not exist has no text.
                if tags.is_empty() && !text("text").starts_with("<portal ") {
                    stage.witness.wrong(format_args!("a statement that nobody sent: {line}"));
                }
                sessions.entry(about.0.clone()).or_default().2 += 1;
                if line["kind"] == "extended" {
                    extended.extend(tags.iter().copied());
                }
                texts.insert(about.clone(), whole.chars().take(200).collect());
                logins.speaks(stage, &about.0, &tags);
                tags.into_iter().for_each(|tag| statements.entry(tag).or_default().push(about.clone()));
            }
            "result" => results.entry(about).or_default().push(text("sqlstate")),
            "login_accepted" => {
                let before = accepted.insert(about.0, text("user"));
                if before.is_some() {
                    stage.witness.wrong(format_args!("a login is in the trail twice: {line}"));
                }
            }
            "login_refused" => logins.refused.push(about.0),
            "session_start" => {
                peers.insert(about.0.clone(), text("peer"));
                sessions.entry(about.0).or_default().0 += 1;
            }
            "session_end" => {
                let peer = peers.get(&about.0).cloned().unwrap_or_default();
                if line["error_delivered"] == true {
                    stage.witness.delivered(&peer, &text("code"));
                }
                if let Some(next) = text("why").strip_prefix("the client logs in again, as session ") {
                    logins.again.push(next.to_owned());
                }
                if text("why").starts_with("the client left before") {
                    left.insert(about.0.clone());
                }
                let session = sessions.entry(about.0).or_default();
                session.1 += 1;
                if line["statements"].as_u64() != Some(session.2) {
                    stage.witness.wrong(format_args!("{} statements are in the trail: {line}", session.2));
                }
            }
            _ => {}
        }
    }
    for (session, (began, ended, _)) in sessions {
        let begins = u32::from(!left.contains(&session));
        if (began, ended) != (begins, 1) || !accepted.contains_key(&session) {
            stage.witness.wrong(format_args!("{session} began {began} times and ended {ended} times"));
        }
    }
    logins.compare(stage, &accepted);
    compare(stage, &statements, &results, (&extended, &texts));
}

/// Who logged in on what, as the trail has it.
#[derive(Default)]
struct Logins {
    /// Sessions that a client of an earlier one asked for.
    again: Vec<String>,
    refused: Vec<String>,
    /// Whose statements a session has, and in which session a client's are.
    speakers: BTreeMap<String, u32>,
    sessions: BTreeMap<u32, String>,
}

impl Logins {
    /// A session is one client's, and a client has one session, whoever else was or will be on its connection.
    fn speaks<C: Cast>(&mut self, stage: &Stage<C>, session: &str, tags: &BTreeSet<Tag>) {
        for client in tags.iter().map(|tag| tag.client) {
            let speaker = *self.speakers.entry(session.to_owned()).or_insert(client);
            let of = self.sessions.entry(client).or_insert_with(|| session.to_owned());
            if speaker != client || of != session {
                stage.witness.wrong(format_args!("{session} has statements of c{speaker} and c{client}"));
            }
        }
    }

    /// Each login that was asked for on a connection that stood is told of once, whatever came of it; and everybody's
    /// statements are in a session of theirs.
    fn compare<C: Cast>(&self, stage: &Stage<C>, accepted: &BTreeMap<String, String>) {
        for next in &self.again {
            let asked = self.again.iter().filter(|other| *other == next).count();
            let refused = self.refused.iter().filter(|other| *other == next).count();
            // Who was accepted and then got no connection is told of twice, as each of the two.
            if asked != 1 || refused > 1 {
                stage
                    .witness
                    .wrong(format_args!("{next} was asked for {asked} times, and refused {refused}"));
            }
        }
        let wrong: Vec<String> = {
            let seen = stage.witness.see();
            let others = self.sessions.iter().filter_map(|(client, session)| {
                let (user, Known { who, .. }) = (accepted.get(session)?, seen.clients.get(client)?);
                (*user != who.user)
                    .then(|| format!("statements of c{client}, {who:?}, are in a session of {user}"))
            });
            let entered = seen.clients.values().filter(|known| known.was_let_in()).count();
            // Every one of them was told that it is in, so the trail has had it.
            let few = (entered > accepted.len())
                .then(|| format!("{entered} were let in, and {} logins are in the trail", accepted.len()));
            let returned = seen.clients.values().filter(|known| known.returned).count();
            let unsaid = (returned > self.again.len())
                .then(|| format!("{returned} logged in again, and the trail tells of {}", self.again.len()));
            others.chain(few).chain(unsaid).collect()
        };
        wrong.into_iter().for_each(|wrong| stage.witness.wrong(wrong));
    }
}

fn compare<C: Cast>(
    stage: &Stage<C>,
    statements: &BTreeMap<Tag, Vec<(String, u64)>>,
    results: &BTreeMap<(String, u64), Vec<String>>,
    (extended, texts): (&BTreeSet<Tag>, &BTreeMap<(String, u64), String>),
) {
    let (ran, reached) = {
        let seen = stage.witness.see();
        (seen.ran.clone(), seen.reached.clone())
    };
    // What the server skipped has not run: an Execute behind a Bind that failed has the text of the portal
    // before it.
    let skipped = |about: &(String, u64)| {
        results.get(about).is_some_and(|of| of.last().is_some_and(|state| state == "skipped"))
    };
    let counted = |lines: &Vec<(String, u64)>| lines.iter().filter(|about| !skipped(about)).count();
    for tag in ran.keys() {
        let lines = statements.get(tag).map_or(0, counted);
        if lines != 1 {
            stage.witness.wrong(format_args!("{tag} ran, and is in the trail {lines} times"));
        }
    }
    for (tag, lines) in statements {
        if counted(lines) > 1 {
            stage.witness.wrong(format_args!("{tag} is in the trail {} times", counted(lines)));
            for about in lines {
                stage.witness.tell(format_args!("{about:?} {:?} {:?}", texts.get(about), results.get(about)));
            }
        }
        for line in lines {
            let of = results.get(line).map_or(&[][..], Vec::as_slice);
            // Behind a result of a simple Query more may have been to come: that is said, not known.
            let unfinished = of.last().is_some_and(|state| state == "unfinished" || state == "skipped");
            let seen = of.len() - usize::from(unfinished);
            if seen > 1 || (of.is_empty() && ran.contains_key(tag) && lines.len() == 1) {
                stage.witness.wrong(format_args!("{tag} has {} results in the trail", of.len()));
            }
            // A Bind is noted whose Execute may never come.
            let bound = of.is_empty() && extended.contains(tag);
            if !reached.contains(tag) && !unfinished && !bound {
                stage.witness.wrong(format_args!("{tag} is in the trail, with {of:?}, and never arrived"));
            }
        }
    }
}

fn read<C: Cast>(stage: &Stage<C>) -> Vec<Value> {
    let folder = stage.folder.path().join("audit");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    files.sort();
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect()
}
