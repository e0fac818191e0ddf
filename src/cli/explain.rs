//! `explain`: why a login or a request would be let in, or not.

use std::path::Path;

use crate::admin::body::{ExplainAnswer, ExplainRequest, ExplainedRequest, Needs};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::{Table, facts, or_dash, print, print_json};
use crate::cli::{Context, time};
use crate::model::Time;

/// Exit code 1 where the login would be refused.
pub async fn run(context: &Context, request: &ExplainRequest) -> Outcome {
    let answer: ExplainAnswer = context.client.post("/v1/explain", request).await?;
    match context.json {
        true => print_json(&answer)?,
        false => print(&render(&answer, Time::now()))?,
    }
    match answer.allowed {
        true => Ok(()),
        false => Err(Failure::silent()),
    }
}

/// `POST /_msearch`, and the file with its body.
pub fn request(line: &str, body: Option<&Path>) -> Result<ExplainedRequest, Failure> {
    let parts = line.trim().split_once(' ');
    let (method, target) = parts
        .ok_or_else(|| Failure::new("--request is a method and a target, such as 'GET /logs/_search'"))?;
    let body = match body {
        None => String::new(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?,
    };
    Ok(ExplainedRequest { method: method.to_ascii_uppercase(), target: target.trim().to_owned(), body })
}

fn render(answer: &ExplainAnswer, now: Time) -> String {
    let mut text = facts(&[
        (
            if answer.needs.is_some() { "request" } else { "login" },
            if answer.allowed { "let in" } else { "refused" }.to_owned(),
        ),
        ("why", answer.why.clone()),
        ("needs", answer.needs.as_ref().map(needs).unwrap_or_default()),
        ("grant", answer.grant.map(|grant| grant.to_string()).unwrap_or_default()),
        ("level", answer.level.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("until", answer.until.map(|until| time::show_both(until, now)).unwrap_or_default()),
    ]);
    for note in answer.needs.iter().flat_map(|needs| &needs.notes) {
        text += &format!("         ({note})\n");
    }
    let mut table = Table::new(["GRANT", "NAME", "VERDICT"]);
    for considered in &answer.considered {
        let name = or_dash(considered.name.as_ref());
        table.row([considered.grant.to_string(), name, considered.verdict.clone()]);
    }
    if !table.is_empty() {
        text += &format!("\n{}", table.text());
    }
    text
}

fn needs(needs: &Needs) -> String {
    let mut touched = match &needs.everything {
        Some(why) => format!("everything ({why})"),
        None if needs.indices.is_empty() && needs.wildcards.is_empty() => {
            return format!("{}, and names no {}", needs.level, needs.kind);
        }
        None => needs.indices.join(", "),
    };
    if !needs.wildcards.is_empty() {
        let and = if touched.is_empty() { "" } else { " and " };
        touched += &format!("{and}what {} stands for", needs.wildcards.join(", "));
    }
    format!("{} on {touched}", needs.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_takes_is_said() {
        let asked = request("POST  /_msearch?pretty", None).unwrap();
        assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/_msearch?pretty"));
        assert_eq!(request("get /", None).unwrap().method, "GET");
        assert!(request("/_msearch", None).is_err());
        assert!(request("GET /", Some(Path::new("/no/such/file"))).is_err());
        let answer: ExplainAnswer = serde_json::from_value(serde_json::json!({
            "allowed": true, "why": "grant g-1 lets them in", "considered": [],
            "needs": {"level": "read", "indices": ["a", "b"], "notes": ["one", "another"]},
        }))
        .unwrap();
        insta::assert_snapshot!(render(&answer, Time::UNIX_EPOCH), @r"
        request: let in
        why:     grant g-1 lets them in
        needs:   read on a, b
                 (one)
                 (another)
        ");
        let all = Needs {
            level: "admin".parse().unwrap(),
            kind: "indices".into(),
            indices: vec![],
            wildcards: vec![],
            everything: Some("_all".into()),
            notes: vec![],
        };
        assert_eq!(needs(&all), "admin on everything (_all)");
        let nothing = Needs { kind: "vhosts".into(), everything: None, ..all };
        assert_eq!(needs(&nothing), "admin, and names no vhosts");
    }

    #[test]
    fn every_grant_that_was_looked_at_is_named() {
        let answer: ExplainAnswer = serde_json::from_value(serde_json::json!({
            "allowed": false, "why": "no grant is open for this now",
            "considered": [{"grant": "g-0000000000001", "verdict": "ended: the grant was revoked"}],
        }))
        .unwrap();
        insta::assert_snapshot!(render(&answer, Time::UNIX_EPOCH), @r"
        login: refused
        why:   no grant is open for this now

        GRANT            NAME  VERDICT
        g-0000000000001  -     ended: the grant was revoked
        ");
    }
}
