//! `audit tail | search | verify`.

use serde_json::Value;

use crate::admin::body::{SearchParams, TailParams};
use crate::cli::Context;
use crate::cli::arguments::{AuditCommand, SearchArguments};
use crate::cli::audit_line::{Printer, Row, read, render};
use crate::cli::client::with_query;
use crate::cli::failure::Outcome;
use crate::cli::output::{counted, print, print_json, tell};
use crate::model::limits::AUDIT_LINES_SHOWN;

pub async fn run(context: &Context, command: AuditCommand) -> Outcome {
    match command {
        AuditCommand::Tail { follow, lines } => tail(context, lines, follow).await,
        AuditCommand::Search(arguments) => search(context, *arguments).await,
        AuditCommand::Verify => verify(context).await,
    }
}

async fn tail(context: &Context, lines: usize, follow: bool) -> Outcome {
    let path = with_query("/v1/audit/tail", &TailParams { lines: Some(lines), follow });
    if follow && !context.json {
        // What comes later cannot wait for its result: each line is printed as it comes.
        let mut printer = Printer::default();
        return context.client.lines(&path, |line| print(&printer.line(&read(line)))).await;
    }
    shown(context, &path).await.map(drop)
}

async fn search(context: &Context, arguments: SearchArguments) -> Outcome {
    // For people the newest are enough, and they say when there are more; programs get all.
    let limit = arguments.limit.or((!context.json).then_some(AUDIT_LINES_SHOWN));
    let params = SearchParams {
        user: arguments.user,
        session: arguments.session,
        target: arguments.target,
        event: arguments.event,
        table: arguments.table,
        verb: arguments.verb,
        text: arguments.text,
        since: arguments.since,
        until: arguments.until,
        limit,
    };
    let count = shown(context, &with_query("/v1/audit/search", &params)).await?;
    if arguments.limit.is_none() && limit == Some(count) {
        tell(&format!("these are the newest {count} lines; --limit N shows more"));
    }
    if count == 0 && !context.json {
        tell("no line matches");
    }
    Ok(())
}

/// Prints the lines of an answer and says how many there were.
async fn shown(context: &Context, path: &str) -> Outcome<usize> {
    let mut count = 0;
    if context.json {
        let each = |line: &str| {
            count += 1;
            print(&format!("{line}\n"))
        };
        context.client.lines(path, each).await?;
        return Ok(count);
    }
    let mut rows: Vec<Row> = Vec::new();
    let each = |line: &str| {
        rows.push(read(line));
        Ok(())
    };
    context.client.lines(path, each).await?;
    print(&render(&rows))?;
    Ok(rows.len())
}

async fn verify(context: &Context) -> Outcome {
    let verified: Value = context.client.get("/v1/audit/verify").await?;
    if context.json {
        return print_json(&verified);
    }
    let number = |key: &str| verified[key].as_u64().unwrap_or_default();
    print(&format!(
        "the chain is whole: {} in {}, numbers {} to {}\nits end is {}\n",
        counted(number("lines") as usize, "line"),
        counted(number("files") as usize, "file"),
        number("first"),
        number("last"),
        verified["chain"].as_str().unwrap_or_default(),
    ))
}
