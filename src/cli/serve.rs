//! `serve`: one process that is the node and its admin API, until it is told to stop.

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::admin::{self, Admin};
use crate::config::{Log, NodeConfig};
use crate::proxy::{Node, NodeControl, SetLog};

/// Serves until SIGTERM or SIGINT, then drains; a second signal hurries. SIGHUP reloads. The error is
/// one sentence.
pub(super) fn serve(file: &Path, config: NodeConfig) -> Result<(), String> {
    let set_log = start_log(&config.log)?;
    no_core_files();
    // For all but the sessions, which have their own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("no worker threads can be started: {error}"))?;
    let served = runtime.block_on(run(file, config, set_log));
    // What is still open by now has been told to go.
    runtime.shutdown_background();
    served
}

async fn run(file: &Path, config: NodeConfig, set_log: SetLog) -> Result<(), String> {
    let say = |error: std::io::Error| format!("no signals can be waited for: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(say)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(say)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(say)?;
    // With a handler a file that reaches its size limit is an error like a full disk, not our death.
    let _too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map_err(say)?;

    let listening = admin::listen(&config.admin).await?;
    let audit_directory = config.audit.directory.clone();
    let node = Node::start(file, config, set_log).await?;
    let admin = Arc::new(Admin {
        ledger: node.ledger.clone(),
        keys: node.keys.clone(),
        registry: node.registry.clone(),
        trail: node.trail.clone(),
        audit_directory,
        metrics: node.metrics.clone(),
        node: node.clone(),
    });
    let (stop_admin, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(listening.serve(admin, async {
        let _ = stopped.await;
    }));
    tracing::info!("ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // What came of it has been logged.
            _ = hangup.recv() => drop(node.reload().await),
        }
    }
    let cut = node
        .stop(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    // The admin API answers until the end: that is when people want to see what still runs.
    let _ = stop_admin.send(());
    let _ = serving.await;
    tracing::info!(cut, "stopped");
    Ok(())
}

/// A core file would hold connectors' passwords.
fn no_core_files() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "core files cannot be switched off");
    }
}

/// Logs go to standard error. What is returned changes the filter while running.
fn start_log(log: &Log) -> Result<SetLog, String> {
    let (layer, handle) = reload::Layer::<EnvFilter, Registry>::new(filter(&log.level)?);
    let registry = tracing_subscriber::registry().with(layer);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = if log.json {
        registry.with(lines.json()).try_init()
    } else {
        let colour =
            std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
        registry.with(lines.with_ansi(colour)).try_init()
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))?;
    Ok(Box::new(move |level| handle.reload(filter(level)?).map_err(|error| error.to_string())))
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level)
        .map_err(|error| format!("log.level = {level:?} is no filter: {error}; one is \"info\", \"debug\" or \"info,tidegate::pool=debug\""))
}
