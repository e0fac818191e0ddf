//! `demo`: Tidegate in front of a real database server, from nothing, with a story that shows what it is
//! for. Every line of output is the real output of a client, of the server or of `tidegate` itself, and
//! each step checks what it shows.
//!
//! Reading order: `story` tells it; `stage` is the folder and the processes, and leaves nothing behind;
//! `postgres`, `node` and `psql` start and drive the three programs. `mariadb` is the same story on another server.

mod certificates;
mod evidence;
mod mariadb;
mod node;
mod postgres;
mod psql;
mod say;
mod session;
mod stage;
mod story;

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::arguments::{DemoArguments, DemoTarget};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output::tell;

use stage::Stage;

/// Sets the stage, tells the story, and with `--once` stops; else stays up until Ctrl-C. However it
/// ends, the processes are gone and the folder is removed.
pub fn run(arguments: &DemoArguments) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime does not start: {error}")))?;
    runtime.block_on(async {
        // Before anything is made: a signal from now on ends in tidying up.
        let interrupted = interruption()?;
        let play = match arguments.target {
            DemoTarget::Postgres => {
                Play::Postgres(postgres::Programs::find(arguments.postgres_bin.as_deref())?)
            }
            DemoTarget::Mariadb => Play::Mariadb(mariadb::Programs::find()?),
        };
        let mut stage = Stage::build(play.accounts())?;
        let outcome = tokio::select! {
            outcome = perform(&mut stage, play, arguments.once) => outcome,
            signal = interrupted => ending(signal, arguments.once),
        };
        if let Err(failure) = &outcome
            && !failure.quiet
        {
            tell(&stage.last_words());
        }
        let cleared = stage.clear().await;
        outcome.and(cleared)
    })
}

/// What is played.
enum Play {
    Postgres(postgres::Programs),
    Mariadb(mariadb::Programs),
}

impl Play {
    /// Whom the server may run as where we are root.
    fn accounts(&self) -> &'static [&'static str] {
        match self {
            Self::Postgres(_) => &["postgres", "nobody"],
            Self::Mariadb(_) => &["mysql", "nobody"],
        }
    }
}

async fn perform(stage: &mut Stage, play: Play, once: bool) -> Outcome {
    match play {
        Play::Postgres(programs) => {
            let scene = story::prepare(stage, programs).await?;
            story::tell(stage, &scene).await?;
            if !once {
                story::invite(&scene).await?;
            }
        }
        Play::Mariadb(programs) => {
            let scene = mariadb::story::prepare(stage, programs).await?;
            mariadb::story::tell(stage, &scene).await?;
            if !once {
                mariadb::story::invite(&scene).await?;
            }
        }
    }
    if once {
        return say::closing("That is all; everything that was started is stopped and removed.");
    }
    // Somebody may stop one of the two; else this waits for a signal.
    Err(Failure::new(stage.somebody_ended().await))
}

/// Ctrl-C is how the demo is meant to be left; in the middle of `--once` nothing was proven.
fn ending(signal: &'static str, once: bool) -> Outcome {
    match once {
        true => Err(Failure::new(format!("stopped by {signal} before the end"))),
        false => say::closing("Stopping; everything that was started is removed."),
    }
}

fn interruption() -> Outcome<impl Future<Output = &'static str>> {
    let on = |kind| signal(kind).map_err(|error| Failure::new(format!("no signals can be had: {error}")));
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut hangup = on(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}
