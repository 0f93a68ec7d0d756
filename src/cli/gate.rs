//! `serve` and `check`: the commands about the gate itself.
//!
//! They read the configuration, set up the gate's own messages and hand on; running is `app`'s.

use std::io;
use std::path::Path;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::render;
use crate::app::{self, Gate, Inspected};
use crate::config::{self, LogFormat, Logging, Mistake};

/// What has to be said for a gate without a log to serve.
const UNLOGGED: &str = "TIDEGATE_NOTHING_ON_RECORD";

pub(super) fn serve(path: &Path) -> anyhow::Result<()> {
    if cfg!(feature = "unlogged") {
        if std::env::var_os(UNLOGGED).is_none_or(|said| said != "yes") {
            anyhow::bail!(
                "this gate was built for benches (--features unlogged) and puts NOTHING on record; to measure with it: {UNLOGGED}=yes"
            );
        }
        super::complain("NOTHING IS PUT ON RECORD: this gate was built for benches (--features unlogged)");
    }
    let settings = config::load(path).map_err(|mistakes| listed(&mistakes))?;
    messages(&settings.logging)?;
    let targets = settings
        .targets
        .iter()
        .map(|target| target.name.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let control = settings.control.socket.clone();
    let started = move |gate: &Gate| {
        let listen = gate
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        tracing::info!(listen, targets, control = %control.display(), version = env!("CARGO_PKG_VERSION"), "the gate is open");
    };
    // For control, provisioning and the clock; sessions have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the operating system gives no threads")?;
    Ok(runtime.block_on(app::serve(settings, || config::load(path), started))?)
}

/// The gate's own messages go to standard error: standard output is for answers.
fn messages(logging: &Logging) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&logging.level).context("log.level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let set = match logging.format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("the gate's messages cannot be set up: {error}"))
}

pub(super) fn check(path: &Path, offline: bool) -> anyhow::Result<()> {
    let settings = config::load(path).map_err(|mistakes| listed(&mistakes))?;
    let targets: Vec<String> = settings
        .targets
        .iter()
        .map(|target| format!("{} ({})", target.name, target.address()))
        .collect();
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let policies = settings.policies.as_ref().map_or_else(
        || "no policies: nobody can ask for access, grants are made by hand".to_owned(),
        |policies| format!("policies: {} (set {:.12})", policies.ids().count(), policies.hash()),
    );
    let (log, key) = (&settings.audit.dir, &settings.audit.key);
    let made = if key.exists() { "" } else { " (made at the first start)" };
    render::print(&format!(
        "{} is good: {} for {}\n{policies}\naudit log: {}, signed with {}{made}",
        path.display(),
        listen.join(", "),
        targets.join(", "),
        log.display(),
        key.display()
    ))?;
    let inspected = super::wait_for(async { Ok(app::inspect(&settings, offline).await?) })?;
    for Inspected { target, lines, .. } in &inspected {
        for line in lines {
            render::print(&format!("{target}: {line}"))?;
        }
    }
    let lacking = inspected.iter().filter(|inspected| inspected.lacks);
    let lacking: Vec<String> = lacking.map(|inspected| inspected.target.to_string()).collect();
    anyhow::ensure!(
        lacking.is_empty(),
        "{} should not be served as things are: see above for what is missing or refused",
        lacking.join(", ")
    );
    Ok(())
}

fn listed(mistakes: &[Mistake]) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(lines.join("\n"))
}
