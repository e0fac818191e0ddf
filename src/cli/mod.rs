//! The command line. Everything but `serve`, `check` and `demo` goes through the admin API of a
//! running node.

mod arguments;
mod audit;
mod audit_line;
mod client;
mod connect;
mod credential;
mod demo;
mod explain;
mod failure;
mod grant;
mod locate;
mod node;
mod output;
mod resources;
mod serve;
mod session;
mod target;
mod time;
mod user;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, Place};
use client::Client;
use failure::{Failure, Outcome};

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let Arguments { place, command } = Arguments::parse();
    let outcome = match command {
        Command::Serve => node::serve(&place),
        Command::Check { files } => resources::check(&place, &files),
        Command::Demo(arguments) => demo::run(&arguments),
        command => ask(place, command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.quiet {
                output::tell(&failure.to_string());
            }
            ExitCode::FAILURE
        }
    }
}

/// What a command that asks a running node works with.
struct Context {
    client: Client,
    json: bool,
}

/// Runs a command that asks a running node.
fn ask(place: Place, command: Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime does not start: {error}")))?;
    let socket = locate::socket(place.socket, place.config.as_deref())?;
    let context = Context { client: Client::new(socket), json: place.json };
    runtime.block_on(dispatch(&context, command))
}

async fn dispatch(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Serve | Command::Check { .. } | Command::Demo(_) => Ok(()),
        Command::Reload => node::reload(context).await,
        Command::Status => node::status(context).await,
        Command::Backup { file } => node::backup(context, file).await,
        Command::Apply { files, dry_run, prune } => resources::apply(context, &files, dry_run, prune).await,
        Command::Export => resources::export(context).await,
        Command::Target(command) => target::run(context, command).await,
        Command::User(command) => user::run(context, command).await,
        Command::Credential(command) => credential::run(context, command).await,
        Command::Grant(command) => grant::run(context, command).await,
        Command::Session(command) => session::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Connect { target, user, level, database } => {
            connect::run(context, target, user, level, database).await
        }
        Command::Explain { user, target, level, database, from, at, request, body } => {
            let request = request.map(|line| explain::request(&line, body.as_deref())).transpose()?;
            let request =
                crate::admin::body::ExplainRequest { user, target, level, database, from, at, request };
            explain::run(context, &request).await
        }
    }
}
