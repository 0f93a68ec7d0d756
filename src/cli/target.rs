//! `target`: how a target stands with its profiles and the roles of its grants.
//!
//! It changes nothing.

mod status;

use std::path::Path;

use clap::Subcommand;

/// Shows how a target stands.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// Shows the roles of a target's grants as its server has them: whose, until when, how many are logged in, what is left over
    #[command(after_help = "\
Examples:
  tidegate target status orders
  tidegate target status orders --output json

It asks the running gate, which asks the server. More backends than sessions: somebody has come in
past the gate, and is ended within a minute or so.")]
    Status(status::StatusArgs),
}

pub(super) async fn run(config: &Path, command: TargetCommand) -> anyhow::Result<()> {
    match command {
        TargetCommand::Status(args) => status::run(config, args).await,
    }
}
