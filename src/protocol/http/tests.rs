//! Requests that real clients sent, and what is made of them.

use super::routes::Routed;
use super::*;
use crate::model::Reach;

/// One file of `golden/`: requests as they came over the wire, each behind a line with the number of its bytes.
fn requests(file: &'static [u8]) -> Vec<(&'static str, &'static [u8])> {
    let (mut rest, mut requests) = (file, Vec::new());
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (std::str::from_utf8(&rest[..end]).unwrap(), &rest[end + 1..]);
        if line.starts_with('#') || line.is_empty() {
            rest = after;
            continue;
        }
        let (request, after) = after.split_at(line.parse().unwrap());
        let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        requests.push((std::str::from_utf8(&request[..head]).unwrap(), &request[head + 4..]));
        rest = after;
    }
    requests
}

fn said(protocol: &str, file: &'static [u8]) -> String {
    let api = api(protocol).unwrap();
    let mut text = String::new();
    for (head, body) in requests(file) {
        let mut lines = head.split("\r\n");
        let line: Vec<_> = lines.next().unwrap().split(' ').collect();
        let header = |name: &str| {
            let known = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
            head.split("\r\n")
                .find(known)
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim())
        };
        let path = Path::parse(line[1]);
        let touch = path
            .clone()
            .map_err(Wrong::Bad)
            .and_then(|path| Ok(api.route(line[0], &path)?.asked(body)?.touch()));
        let kind = match (body.is_empty(), header("content-type")) {
            (true, _) => String::new(),
            (false, Some(kind)) if api.reads(kind) && ContentType::parse(kind).is_none() => {
                format!(" {kind}")
            }
            (false, kind) => format!(" {:?}", kind.and_then(ContentType::parse)),
        };
        let touch = match touch {
            Ok(touch) => match touch.reach {
                Reach::Names(names) => format!("{} {names:?}", touch.level),
                Reach::Everything(why) => format!("{} everything: {why}", touch.level),
            },
            Err(wrong) => format!("{wrong:?}"),
        };
        let proof = match header("authorization").map(credentials) {
            None => "nobody",
            Some(None) => "strange",
            Some(Some(Credentials::Named(_))) => "named",
            Some(Some(Credentials::Bearer(_))) => "bearer",
        };
        text.push_str(&format!("{} {} ({proof}){kind} -> {touch}\n", line[0], line[1]));
    }
    text
}

#[test]
fn what_opensearch_py_asks() {
    insta::assert_snapshot!(said("opensearch", include_bytes!("golden/opensearch-py-3.2.0.txt")));
}

#[test]
fn what_elasticsearch_py_asks() {
    insta::assert_snapshot!(said("elasticsearch", include_bytes!("golden/elasticsearch-py-9.5.1.txt")));
}

#[test]
fn what_the_console_of_rabbitmq_asks() {
    insta::assert_snapshot!(said("rabbitmq", include_bytes!("rabbit/golden/console-3.10.8.txt")));
}

#[test]
fn every_protocol_of_requests_is_an_api() {
    for entry in PROTOCOLS {
        let api = api(entry.name).unwrap();
        for refusal in &Refusal::every() {
            let answer = api.answer(refusal);
            assert!((400..600).contains(&answer.status), "{} {}", entry.name, answer.status);
            assert!(answer.body.contains(refusal.code()), "{} {}", entry.name, answer.body);
        }
        assert!(api.route("GET", &Path::parse(api.probe()).unwrap()).is_ok(), "{}", entry.name);
        assert!(api.sent_on().iter().all(|name| !["authorization", "cookie", "host"].contains(name)));
        assert!(api.told().iter().all(|name| !["set-cookie", "www-authenticate"].contains(name)));
    }
    assert!(api("postgres").is_none());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz_http(&data);
        }

        /// However the actions are mixed and spelt, each index that one names is found, and nothing else.
        #[test]
        fn a_bulk_touches_what_its_actions_name(
            actions in proptest::collection::vec((0..4usize, "[a-z]{1,8}", "\\PC{0,20}", any::<bool>()), 1..12),
        ) {
            let mut body = String::new();
            let mut named = std::collections::BTreeSet::new();
            for (verb, index, text, escaped) in &actions {
                let verb = ["index", "create", "update", "delete"][*verb];
                let key = if *escaped { "\\u005findex" } else { "_index" };
                body += &format!("{{\"{verb}\":{{\"_id\":{},\"{key}\":\"{index}\"}}}}\n", serde_json::json!(text));
                if verb != "delete" {
                    // What a document says of indices is no name.
                    body += &format!("{{\"_index\":\"other\",\"delete\":{}}}\n", serde_json::json!(text));
                }
                named.insert(index.clone());
            }
            let path = Path::parse("/_bulk").unwrap();
            let touch = Routed::of("POST", &path).unwrap().asked(body.as_bytes()).unwrap().touch();
            prop_assert_eq!(touch.reach, Reach::Names(named));
        }

        /// A lookup is found at any depth of a tree of queries.
        #[test]
        fn a_lookup_is_found_at_any_depth(way in proptest::collection::vec(0..6usize, 0..12), index in "[a-z]{1,8}") {
            let mut query = format!("{{\"terms\":{{\"f\":{{\"index\":\"{index}\",\"id\":\"1\",\"path\":\"p\"}}}}}}");
            for step in way {
                query = [
                    "{\"bool\":{\"must\":@}}",
                    "{\"bool\":{\"filter\":[{\"match_all\":{}},@]}}",
                    "{\"constant_score\":{\"filter\":@}}",
                    "{\"nested\":{\"path\":\"p\",\"query\":@}}",
                    "{\"dis_max\":{\"queries\":[@]}}",
                    "{\"function_score\":{\"query\":@}}",
                ][step].replace('@', &query);
            }
            let path = Path::parse("/logs/_search").unwrap();
            let body = format!("{{\"query\":{query}}}");
            let touch = Routed::of("POST", &path).unwrap().asked(body.as_bytes()).unwrap().touch();
            let names = [index, "logs".to_owned()].into_iter().collect();
            prop_assert_eq!(touch.reach, Reach::Names(names));
        }
    }
}
