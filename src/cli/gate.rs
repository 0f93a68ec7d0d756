//! `serve` and `check`: the commands about the gate itself.
//!
//! They only read the configuration and hand it on; running is `app`'s.

use std::path::Path;

use anyhow::Context;

use super::render;
use crate::config::{self, Mistake};

pub(super) fn serve(path: &Path) -> anyhow::Result<()> {
    let settings = config::load(path).map_err(|mistakes| listed(&mistakes))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the operating system gives no threads")?;
    let load = || config::load(path);
    let started = |gate: &crate::app::Gate| {
        let listen: Vec<String> = gate.addresses().iter().map(ToString::to_string).collect();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = listen.join(", "), "listening");
    };
    Ok(runtime.block_on(crate::app::serve(settings, load, started))?)
}

pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let settings = config::load(path).map_err(|mistakes| listed(&mistakes))?;
    let targets: Vec<String> = settings
        .targets
        .iter()
        .map(|target| format!("{} ({})", target.name, target.address()))
        .collect();
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let file = path.display();
    render::print(&format!(
        "{file} is good: {} would serve {}",
        listen.join(", "),
        targets.join(", ")
    ))?;
    Ok(())
}

fn listed(mistakes: &[Mistake]) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(lines.join("\n"))
}
