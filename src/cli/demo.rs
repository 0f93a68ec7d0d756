//! `tidegate demo`: the main job on one machine with nothing configured.
//!
//! (The command itself is built beside the throwaway PostgreSQL it needs.)

/// What `tidegate demo` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keeps everything up afterwards and prints a connection string to try by hand
    #[arg(long)]
    pub stay: bool,
}

pub(super) fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
