//! Every endpoint that Elasticsearch and OpenSearch publish is served or is refused for a reason that is written down:
//! a newer specification with something new in it fails here until somebody decides.

use std::collections::BTreeSet;

use crate::support::cluster::fetched;

const ROUTES: &str = include_str!("../../src/protocol/http/elastic.routes");
const REFUSED: &str = include_str!("../../src/protocol/http/elastic.refused");
const SPECIFICATIONS: [&str; 3] = ["elasticsearch-7.10.2", "elasticsearch-9.5.3", "opensearch-3.1.0"];

/// A line of one of the two files: methods, and the parts of a path, of which `**` is all that may follow.
struct Known {
    line: &'static str,
    methods: Vec<&'static str>,
    parts: Vec<&'static str>,
}

fn known(line: &'static str) -> Known {
    let mut words = line.strip_prefix("route ").unwrap_or(line).split_whitespace();
    let methods = words.next().expect("methods").split(',').collect();
    let path = words.next().expect("a path");
    Known { line, methods, parts: parts(path) }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Known {
    fn holds(&self, method: &str, path: &str) -> bool {
        let said = parts(path);
        let known = self.parts.strip_suffix(&["**"]);
        let (known, all) = known.map_or((self.parts.as_slice(), false), |known| (known, true));
        (self.methods == ["*"] || self.methods.contains(&method))
            && (known.len() == said.len() || all && known.len() < said.len())
            && known.iter().zip(said).all(|(known, said)| {
                // What is a word of the API is no name of ours, and the other way round.
                *known == said || known.starts_with('{') && said.starts_with('{')
            })
    }
}

/// Each published method and path of one specification.
fn published(specification: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for file in
        std::fs::read_dir(fetched("specifications").join(specification).join("api")).expect("its files")
    {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        let api: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for about in api.as_object().expect("an object").values() {
            for path in about["url"]["paths"].as_array().into_iter().flatten() {
                for method in path["methods"].as_array().expect("methods") {
                    let path = path["path"].as_str().expect("a path");
                    found.insert((method.as_str().expect("a text").to_owned(), path.to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn every_published_endpoint_is_served_or_refused_for_a_reason() {
    let routes: Vec<_> = lines(ROUTES).filter(|line| line.starts_with("route ")).map(known).collect();
    let refused: Vec<_> = lines(REFUSED).filter(|line| !line.starts_with("because ")).map(known).collect();
    assert!(lines(REFUSED).next().is_some_and(|line| line.starts_with("because ")));
    let (mut open, mut twice, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
    for specification in SPECIFICATIONS {
        let published = published(specification);
        assert!(published.len() > 250, "{specification}: {}", published.len());
        let mut served = 0;
        for (method, path) in &published {
            let is_served = routes.iter().any(|known| known.holds(method, path));
            let by: Vec<_> = refused.iter().filter(|known| known.holds(method, path)).collect();
            used.extend(by.iter().map(|known| known.line));
            served += usize::from(is_served);
            match (is_served, by.is_empty()) {
                (false, true) => open.push(format!("{specification}: {method} {path}")),
                (true, false) => twice.push(format!("{method} {path}")),
                _ => {}
            }
        }
        println!("{specification}: {served} of {} published are served", published.len());
    }
    assert!(open.is_empty(), "neither served nor refused: {open:#?}");
    assert!(twice.is_empty(), "served and refused: {twice:#?}");
    let unused: Vec<_> =
        refused.iter().filter(|known| !used.contains(known.line)).map(|known| known.line).collect();
    assert!(unused.is_empty(), "refused, and nobody publishes it: {unused:#?}");
}
