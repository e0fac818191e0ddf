//! What a cluster goes on with when the connection that asked for it is closed: tasks. Each has the `X-Opaque-Id` of
//! its request, which the proxy puts on, so what one request began is found among those of all others by that alone.
//!
//! The number in the id of a task begins anew with its node, so an id may come to mean another task, and another
//! person's: what is said of one is shown where it has the right mark, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Hidden, Part, View, Viewer};
use super::{Path, Wrong};

/// One that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// As the cluster calls it.
    pub id: String,
    /// The `X-Opaque-Id` of the request that began it.
    pub mark: String,
}

/// The question for those of these actions, on all nodes. `actions`: lists with commas.
pub fn question<'a>(actions: impl IntoIterator<Item = &'a str>) -> String {
    let actions: BTreeSet<&str> = actions.into_iter().flat_map(|list| list.split(',')).collect();
    let actions: Vec<&str> = actions.into_iter().collect();
    format!("/_tasks?group_by=none&actions={}", actions.join(","))
}

/// The target of the order to cancel one; what it began itself goes with it.
pub fn cancel(task: &Task) -> String {
    format!("/_tasks/{}/_cancel", task.id)
}

/// What is asked of one.
pub fn about(task: &Task) -> String {
    format!("/_tasks/{}", task.id)
}

/// Whether this says that such a task, and no other of the same id, is running or has run.
pub fn is_it(task: &Task, answer: &[u8]) -> bool {
    let answer: Option<Value> = serde_json::from_slice(answer).ok();
    answer.as_ref().and_then(|answer| answer.get("task")).is_some_and(|said| is_marked(said, &task.mark))
}

/// The marks of all that run. `None`: it does not say so of every node.
pub fn marks(answer: &[u8]) -> Option<BTreeSet<String>> {
    let answer: Map<String, Value> = serde_json::from_slice(answer).ok()?;
    if answer.keys().any(|name| name != "tasks") {
        return None;
    }
    let marks = answer.get("tasks")?.as_array()?.iter().filter_map(mark);
    Some(marks.map(str::to_owned).collect())
}

fn mark(said: &Value) -> Option<&str> {
    mark_in(said.get("headers")?.as_object()?)
}

fn mark_in<'a>(headers: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Option<&'a str> {
    headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("x-opaque-id"))?.1.as_str()
}

fn is_marked(said: &Value, expected: &str) -> bool {
    mark(said) == Some(expected)
}

/// An answer about one task, for the person whose it is: without the node's names and addresses, and the ids of others.
#[derive(Debug)]
pub(super) struct Shown {
    pub task: Task,
    /// The id that it was asked for by.
    pub sealed: String,
}

/// In the place of what names a node.
const NOWHERE: &str = "-";
const GONE: &str = r#"{"error":{"root_cause":[{"type":"resource_not_found_exception","reason":"the task isn't running and hasn't stored its results"}],"type":"resource_not_found_exception","reason":"the task isn't running and hasn't stored its results"},"status":404}"#;

impl Part for Shown {
    fn view(&self, path: &Path, _: &Viewer<'_>) -> View {
        View::Filtered(path.clone())
    }

    fn every_status(&self) -> bool {
        true
    }

    fn absent(&self) -> Option<(u16, &'static str)> {
        Some((404, GONE))
    }

    fn show(&self, path: &Path, _: &Viewer<'_>, answer: &[u8]) -> Result<Vec<u8>, Hidden> {
        let answer: Map<String, Value> = serde_json::from_slice(answer).map_err(|_| Hidden::Strange)?;
        let mut shown = Map::new();
        for (name, value) in answer {
            let value = match name.as_str() {
                "task" if is_marked(&value, &self.task.mark) => self.one(value),
                "task" => return Err(Hidden::NotThere),
                "nodes" => self.nodes(&value)?,
                "completed" | "response" | "error" | "status" | "node_failures" | "task_failures" => {
                    self.veiled(value)
                }
                _ => return Err(Hidden::Strange),
            };
            shown.insert(name, value);
        }
        // A result is of the task that it stands beside.
        if shown.contains_key("response") && !shown.contains_key("task") {
            return Err(Hidden::NotThere);
        }
        let pretty = path.parameter("pretty").is_some_and(|said| said != "false");
        let written = if pretty { serde_json::to_vec_pretty(&shown) } else { serde_json::to_vec(&shown) };
        written.map_err(|_| Hidden::Wrong(Wrong::Bad("the answer cannot be written")))
    }
}

impl Shown {
    /// What is said of the task itself.
    fn one(&self, said: Value) -> Value {
        let mut said = self.veiled(said);
        if let Some(members) = said.as_object_mut() {
            members.remove("parent_task_id");
            members.remove("children");
            // Clients read both as what they are.
            members.insert("id".into(), 0.into());
            members.insert("headers".into(), json!({}));
        }
        said
    }

    /// Those of the tasks of all nodes that are this one.
    fn nodes(&self, nodes: &Value) -> Result<Value, Hidden> {
        let mut tasks = Map::new();
        for node in nodes.as_object().ok_or(Hidden::Strange)?.values() {
            let said = node.get("tasks").and_then(Value::as_object).ok_or(Hidden::Strange)?;
            for (id, said) in said {
                if *id == self.task.id && is_marked(said, &self.task.mark) {
                    tasks.insert(self.sealed.clone(), self.one(said.clone()));
                }
            }
        }
        Ok(match tasks.is_empty() {
            true => json!({}),
            false => json!({NOWHERE: {"name": NOWHERE, "tasks": tasks}}),
        })
    }

    /// The same without what a node is called, by itself or within a text.
    fn veiled(&self, value: Value) -> Value {
        match value {
            Value::String(text) => {
                let text = text.replace(&self.task.id, &self.sealed);
                let node = self.task.id.split(':').next().filter(|node| !node.is_empty());
                Value::String(node.map_or(text.clone(), |node| text.replace(node, NOWHERE)))
            }
            Value::Array(list) => list.into_iter().map(|value| self.veiled(value)).collect(),
            Value::Object(members) => {
                let veiled = members.into_iter().map(|(name, value)| match name.as_str() {
                    "node" | "node_id" | "node_name" | "host" | "ip" | "transport_address" => {
                        (name, NOWHERE.into())
                    }
                    "parent_task_id" | "children" => (name, Value::Null),
                    _ => (name, self.veiled(value)),
                });
                veiled.collect()
            }
            other => other,
        }
    }
}

/// Those that have a mark and may be cancelled. `None`: the answer has another form, or says that some nodes did not
/// answer.
pub fn running(answer: &[u8]) -> Option<Vec<Task>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Answer {
        tasks: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        node: String,
        id: u64,
        #[serde(default)]
        cancellable: bool,
        #[serde(default)]
        headers: BTreeMap<String, Value>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    // It becomes a part of a URL.
    let plain = |node: &str| node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let task = |said: Said| {
        let mark = mark_in(&said.headers)?;
        let fits = said.cancellable && !said.node.is_empty() && plain(&said.node);
        fits.then(|| Task { id: format!("{}:{}", said.node, said.id), mark: mark.to_owned() })
    };
    Some(answer.tasks.into_iter().filter_map(task).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &str) -> Result<String, Hidden> {
        let task = Task { id: "EAvRpe13:291".into(), mark: "alice/s-1/7".into() };
        let part = Shown { task, sealed: "SEALED".into() };
        let viewer = Viewer {
            user: "alice",
            level: &crate::model::AccessLevel::Read,
            sees_everything: false,
            only: None,
            covers: &|_| false,
        };
        let shown = part.show(&Path::parse("/_tasks/x").unwrap(), &viewer, answer.as_bytes())?;
        Ok(String::from_utf8(shown).unwrap())
    }

    #[test]
    fn an_answer_tells_of_the_task_that_was_asked_for_and_of_no_node() {
        let said = r#"{"node":"EAvRpe13","id":291,"action":"a","parent_task_id":"EAvRpe13:290",
            "status":{"slices":[{"node":"EAvRpe13"}]},"children":[{"id":292}],"headers":{"X-Opaque-Id":"alice/s-1/7"}}"#;
        let one = r#"{"action":"a","headers":{},"id":0,"node":"-","status":{"slices":[{"node":"-"}]}}"#;
        assert_eq!(
            shown(&format!(r#"{{"completed":true,"task":{said},"response":{{"took":1}}}}"#)).unwrap(),
            format!(r#"{{"completed":true,"response":{{"took":1}},"task":{one}}}"#)
        );
        // Another one of the same number, after the node was started again.
        let others = said.replace("alice/s-1/7", "bob/s-2/1");
        assert!(matches!(shown(&format!(r#"{{"task":{others}}}"#)), Err(Hidden::NotThere)));
        assert!(matches!(shown(r#"{"task":{"node":"EAvRpe13","id":291}}"#), Err(Hidden::NotThere)));
        let nodes = format!(
            r#"{{"nodes":{{"EAvRpe13":{{"name":"one","host":"10.0.0.1","ip":"10.0.0.1:9300","tasks":{{
                "EAvRpe13:291":{said},"EAvRpe13:292":{said}}}}},"X":{{"tasks":{{"EAvRpe13:291":{others}}}}}}}}}"#
        );
        assert_eq!(
            shown(&nodes).unwrap(),
            format!(r#"{{"nodes":{{"-":{{"name":"-","tasks":{{"SEALED":{one}}}}}}}}}"#)
        );
        let missing = r#"{"node_failures":[{"reason":"Failed node [EAvRpe13]","node_id":"EAvRpe13",
            "caused_by":{"reason":"task [EAvRpe13:291] is not found"}}],"nodes":{}}"#;
        assert_eq!(
            shown(missing).unwrap(),
            r#"{"node_failures":[{"caused_by":{"reason":"task [SEALED] is not found"},"node_id":"-","reason":"Failed node [-]"}],"nodes":{}}"#
        );
        for strange in ["", "[]", r#"{"tasks":[]}"#, r#"{"nodes":[]}"#, r#"{"nodes":{"a":{}}}"#] {
            assert_eq!(shown(strange), Err(Hidden::Strange), "{strange}");
        }
        let task = Task { id: "EAvRpe13:291".into(), mark: "alice/s-1/7".into() };
        assert!(is_it(&task, format!(r#"{{"task":{said}}}"#).as_bytes()));
        assert!(!is_it(&task, format!(r#"{{"task":{others}}}"#).as_bytes()) && !is_it(&task, b"{}"));
        let list = format!(r#"{{"tasks":[{said},{others},{{"headers":{{}}}}]}}"#);
        assert_eq!(marks(list.as_bytes()), Some(["alice/s-1/7", "bob/s-2/1"].map(str::to_owned).into()));
        assert_eq!(marks(br#"{"node_failures":[],"tasks":[]}"#), None);
    }

    #[test]
    fn tasks_are_told_apart_by_the_header_of_their_request() {
        // As OpenSearch 3.4.0 says it.
        let answer = br#"{"tasks":[
            {"node":"EAvRpe13Tme2xSeJqFClmQ","id":291,"type":"transport","action":"indices:data/write/update/byquery",
             "start_time_in_millis":1795945132072,"running_time_in_nanos":236316887763,"cancellable":true,
             "cancelled":false,"headers":{"X-Opaque-Id":"alice/s-1/7"}},
            {"node":"EAvRpe13Tme2xSeJqFClmQ","id":292,"type":"transport","action":"indices:data/write/update/byquery",
             "cancellable":true,"headers":{}},
            {"node":"EAvRpe13Tme2xSeJqFClmQ","id":293,"cancellable":false,"headers":{"X-Opaque-Id":"alice/s-1/7"}},
            {"node":"a/../_all","id":294,"cancellable":true,"headers":{"X-Opaque-Id":"alice/s-1/7"}},
            {"node":"","id":295,"cancellable":true,"headers":{"X-Opaque-Id":"alice/s-1/7"}}]}"#;
        let found = running(answer).unwrap();
        let expected = Task { id: "EAvRpe13Tme2xSeJqFClmQ:291".into(), mark: "alice/s-1/7".into() };
        assert_eq!(found, std::slice::from_ref(&expected));
        assert_eq!(cancel(&expected), "/_tasks/EAvRpe13Tme2xSeJqFClmQ:291/_cancel");
        assert_eq!(running(br#"{"nodes":{}}"#), None);
        assert_eq!(running(br#"{"tasks":[{"node":1}]}"#), None);
        assert_eq!(question(["b,a", "a"]), "/_tasks?group_by=none&actions=a,b");
    }
}
