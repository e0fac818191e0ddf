//! `explain`: why a login would be let in, or not.

use crate::admin::body::{ExplainAnswer, ExplainRequest};
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

fn render(answer: &ExplainAnswer, now: Time) -> String {
    let mut text = facts(&[
        ("login", if answer.allowed { "let in" } else { "refused" }.to_owned()),
        ("why", answer.why.clone()),
        ("grant", answer.grant.map(|grant| grant.to_string()).unwrap_or_default()),
        ("level", answer.level.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("until", answer.until.map(|until| time::show_both(until, now)).unwrap_or_default()),
    ]);
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

#[cfg(test)]
mod tests {
    use super::*;

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
