//! `target check`: a connector's rights as the server has them, and what one person can do to another under
//! the same login, tried with two connections.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Exchange, run_script};
use super::pool::Pool;
use crate::model::limits;
use crate::protocol::session::{
    Act, Check, Facts, Findings, Logins, Purpose, Report, Severity, Termination, Upkeep, Wire,
};
use crate::tls::Stream;

/// A connection for a check, which nobody is ever lent.
struct Visit<W: Wire> {
    stream: Stream,
    facts: W::Facts,
}

/// Why an act did not come to its end.
enum Stopped {
    /// The server refused it, or stopped it.
    Refused,
    /// The connection is gone.
    Gone,
    Other(String),
}

impl<W: Wire> Pool<W> {
    /// What the connector may do there.
    pub async fn check(self: &Arc<Self>) -> Result<Vec<Check>, String> {
        let upkeep = Upkeep::new();
        let mut visit = self.visit(&upkeep).await?;
        let purpose = Purpose::Check { upkeep: &upkeep, level: self.level.as_str() };
        let mut checks = self.run(&mut visit, purpose).await.map_err(Stopped::said)?.checks;
        checks.push(self.trial(&upkeep, visit).await?);
        checks.sort_by_key(|check| std::cmp::Reverse(check.severity));
        Ok(checks)
    }

    /// The SQL that makes well-formed logins, from a look at this pool's database.
    pub async fn form(&self, logins: &Logins) -> Result<String, String> {
        let upkeep = Upkeep::new();
        let mut visit = self.visit(&upkeep).await?;
        let purpose = Purpose::Form { upkeep: &upkeep, logins };
        Ok(self.run(&mut visit, purpose).await.map_err(Stopped::said)?.form)
    }

    async fn visit(&self, upkeep: &Upkeep) -> Result<Visit<W>, String> {
        let plan = self.plan.load_full();
        let secret = self.secrets.read(&plan.secret).map_err(|error| error.to_string())?;
        let login = plan.dialer.login(&*self.wire, upkeep, (&self.database, ""), &secret).await;
        let (stream, facts) = login.map_err(|fault| fault.to_string())?;
        let mut visit = Visit { stream, facts };
        let findings = self.run(&mut visit, Purpose::Probe(upkeep)).await.map_err(Stopped::said)?;
        visit.facts.apply(&findings);
        Ok(visit)
    }

    async fn run(
        &self,
        visit: &mut Visit<W>,
        purpose: Purpose<'_, W::Settings>,
    ) -> Result<Findings, Stopped> {
        let mut script = self.wire.script(purpose, &visit.facts);
        let limit = self.plan.load().dialer.timeout.max(Duration::from_secs(10)) + limits::TRIAL;
        match tokio::time::timeout(limit, run_script(&mut visit.stream, &mut script)).await {
            Ok(Ok(Report::Done(findings))) => Ok(findings),
            Ok(Ok(Report::Refused(error))) if error.kind.ends_connection() => Err(Stopped::Gone),
            Ok(Ok(Report::Refused(_))) => Err(Stopped::Refused),
            Ok(Ok(Report::Unclean(what))) => Err(Stopped::Other(what)),
            Ok(Err(Exchange::Io(_))) => Err(Stopped::Gone),
            Ok(Err(error)) => Err(Stopped::Other(error.to_string())),
            Err(_) => Err(Stopped::Other(Exchange::Timeout.to_string())),
        }
    }

    /// One connection of this login runs something, another one looks at it, stops it and ends it.
    async fn trial(self: &Arc<Self>, upkeep: &Upkeep, mut victim: Visit<W>) -> Result<Check, String> {
        let mut other = self.visit(upkeep).await?;
        let Some(of) = victim.facts.termination() else {
            let what = "not tried what people under this connector can do to each other: the server does not say which \
                        connection is which (is there a pooler in front of it?)";
            return Ok(Check { severity: Severity::Warning, what: what.into(), sql: None });
        };
        let (seen, stopped) = {
            let suffer = self.run(&mut victim, Purpose::Try { upkeep, act: Act::Run });
            let act = async {
                let seen = self.look(upkeep, &mut other, &of).await;
                let stop = self.run(&mut other, Purpose::Try { upkeep, act: Act::Stop(&of) }).await;
                (seen, stop.is_ok())
            };
            let (suffered, (seen, asked)) = tokio::join!(suffer, act);
            (seen, asked && matches!(suffered, Err(Stopped::Refused | Stopped::Gone)))
        };
        let ended = self.run(&mut other, Purpose::Try { upkeep, act: Act::End(&of) }).await.is_ok();
        let cannot_end = self.try_cut(upkeep, ended).await?;
        Ok(verdict(seen, stopped, ended, cannot_end, W::SHARED_LOGIN))
    }

    /// Why a connection could not be ended the way that a cut does it, if it could not: that must work whatever
    /// people may not do.
    async fn try_cut(self: &Arc<Self>, upkeep: &Upkeep, ended: bool) -> Result<Option<String>, String> {
        if self.plan.load().upkeep.is_none() {
            let why = "the target needs a login for that ([target.upkeep])";
            return Ok((!ended).then(|| why.to_owned()));
        }
        let visit = self.visit(upkeep).await?;
        match visit.facts.termination() {
            Some(of) => Ok(self.terminate(&of).await.err()),
            None => Ok(Some("which connection is which is not known".into())),
        }
    }

    /// Whether the text of what runs there can be read. A busy server takes a moment to start it.
    async fn look(&self, upkeep: &Upkeep, other: &mut Visit<W>, of: &Termination) -> bool {
        for _ in 0..limits::TRIAL_LOOKS_MAX {
            for act in [Act::See(of), Act::SeeBehind(of)] {
                match self.run(other, Purpose::Try { upkeep, act }).await {
                    Ok(findings) if findings.seen => return true,
                    _ => {}
                }
            }
            tokio::time::sleep(limits::TRIAL_LOOK).await;
        }
        false
    }
}

/// What the trial has shown, in one line.
fn verdict(seen: bool, stopped: bool, ended: bool, cannot_end: Option<String>, remedy: &str) -> Check {
    let can = [(seen, "read"), (stopped, "cancel"), (ended, "end")];
    let able: Vec<_> = can.iter().filter(|(can, _)| *can).map(|(_, word)| *word).collect();
    let unable: Vec<_> = can.iter().filter(|(can, _)| !*can).map(|(_, word)| *word).collect();
    let mut what = "tried with two connections: ".to_owned();
    what += &match (able.as_slice(), unable.as_slice()) {
        ([], _) => {
            "a person under this connector can neither read, cancel nor end what another one runs".to_owned()
        }
        (able, []) => format!("a person under this connector can {} what another one runs", listed(able)),
        (able, unable) => format!(
            "a person under this connector can {} what another one runs, but not {} it",
            listed(able),
            listed(unable)
        ),
    };
    let mut severity = if able.is_empty() { Severity::Note } else { Severity::Warning };
    if !able.is_empty() {
        what += "; ";
        what += remedy;
    }
    if let Some(why) = cannot_end {
        severity = Severity::Danger;
        what += &format!("; and Tidegate cannot end a connection that does not stop when it is cut: {why}");
    }
    Check { severity, what, sql: None }
}

fn listed(words: &[&str]) -> String {
    match words {
        [before, last] => format!("{before} and {last}"),
        [front @ .., last] if !front.is_empty() => format!("{} and {last}", front.join(", ")),
        words => words.join(""),
    }
}

impl Stopped {
    fn said(self) -> String {
        match self {
            Self::Refused => "the server refused a statement of ours".into(),
            Self::Gone => "the server closed the connection".into(),
            Self::Other(what) => what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_told_in_one_line() {
        let told = |seen, stopped, ended, can_end: bool| {
            let cannot_end = (!can_end).then(|| "why".to_owned());
            let check = verdict(seen, stopped, ended, cannot_end, "ask for it");
            (check.severity, check.what)
        };
        let (severity, what) = told(true, true, true, true);
        assert_eq!(severity, Severity::Warning);
        assert!(what.ends_with("can read, cancel and end what another one runs; ask for it"), "{what}");
        let (severity, what) = told(false, false, true, true);
        assert_eq!(severity, Severity::Warning);
        assert!(what.contains("can end what another one runs, but not read and cancel it"), "{what}");
        let (severity, what) = told(false, false, false, true);
        assert_eq!(severity, Severity::Note);
        assert!(what.contains("neither read, cancel nor end") && !what.contains("upkeep"), "{what}");
        assert_eq!(told(false, false, false, false).0, Severity::Danger);
    }
}
