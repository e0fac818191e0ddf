//! What a cluster goes on with when the connection that asked for it is closed: tasks. Each has the `X-Opaque-Id` of
//! its request, which the proxy puts on, so what one request began is found among those of all others by that alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

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

/// Those that have a mark and may be cancelled. `None`: the answer has another form.
pub fn running(answer: &[u8]) -> Option<Vec<Task>> {
    #[derive(Deserialize)]
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
        let mark =
            said.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-opaque-id"))?.1.as_str()?;
        let fits = said.cancellable && !said.node.is_empty() && plain(&said.node);
        fits.then(|| Task { id: format!("{}:{}", said.node, said.id), mark: mark.to_owned() })
    };
    Some(answer.tasks.into_iter().filter_map(task).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
