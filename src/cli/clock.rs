//! `clock show|set-right`: the gate's time beside the machine's, for operators.
//!
//! Each command is one call to the control API; the ledger handles the consequences.

use std::path::Path;

use clap::Subcommand;

use super::args::RemoteArgs;
use super::render;
use crate::control::model::{ClockView, ReasonBody};

/// Shows and sets the gate's time.
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Compares gate time with the machine's clock, and shows the reason if the gate ignores the machine's clock
    Show {
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Sets gate time to the machine's clock and records that; a step back first ends all grants
    #[command(after_help = "\
Example:
  tidegate clock set-right --reason \"the clock was ten years ahead for a minute\"

The gate ignores a large, unconfirmed step of the machine's clock. First check that the machine's clock is right.")]
    SetRight {
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

pub(super) async fn run(config: &Path, command: ClockCommand) -> anyhow::Result<()> {
    let (view, remote): (ClockView, RemoteArgs) = match command {
        ClockCommand::Show { remote } => (remote.place.operator(config)?.get("/v1/clock", &()).await?, remote),
        ClockCommand::SetRight { reason, remote } => {
            let body = ReasonBody { reason };
            (
                remote.place.operator(config)?.post("/v1/clock/set-right", &body).await?,
                remote,
            )
        }
    };
    remote.show(&view, |view| {
        let mut rows = vec![
            ("gate time", view.gate_time.to_string()),
            ("machine's clock", view.machine_time.to_string()),
        ];
        rows.extend(view.doubt.as_deref().map(|doubt| ("doubt", render::visible(doubt))));
        render::list(&rows)
    })
}
