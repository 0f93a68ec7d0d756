//! `clock show|set-right`: the gate's time beside the machine's, for operators.
//!
//! Each command is one call to the control API; the ledger handles the consequences.

use std::path::Path;

use clap::Subcommand;

use super::args::Remote;
use super::client::Client;
use super::reach::Whose;
use super::render;
use crate::control::model::{ClockView, ReasonBody};

/// Shows and sets the gate's time.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows the gate's time beside the machine's, and why the machine's is not believed
    Show {
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Makes the gate's time what the machine's clock says, on record; going back ends every grant first
    #[command(after_help = "\
Example:
  tidegate clock set-right --reason \"the clock was ten years ahead for a minute\"

The gate believes no large step of the machine's clock that nothing confirms. See that the machine's clock is right before.")]
    SetRight {
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) async fn run(config: &Path, command: Command) -> anyhow::Result<()> {
    let client = |remote: &Remote| Client::new(Whose::Operator, config, &remote.place);
    let (view, remote): (ClockView, Remote) = match command {
        Command::Show { remote } => (client(&remote)?.get("/v1/clock", &()).await?, remote),
        Command::SetRight { reason, remote } => {
            let view = client(&remote)?.post("/v1/clock/set-right", &ReasonBody { reason }).await?;
            (view, remote)
        }
    };
    render::show(remote.printing.output, &view, |view| {
        let mut rows = vec![
            ("gate time", view.gate_time.to_string()),
            ("machine's clock", view.machine_time.to_string()),
        ];
        rows.extend(view.doubt.as_deref().map(|doubt| ("doubt", render::visible(doubt))));
        render::list(&rows)
    })
}
