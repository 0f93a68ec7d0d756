//! Arguments that several commands share.
//!
//! It imports no command: each has its own arguments beside it, and `command_line` has the tree of all.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};

use crate::model::names::{NameError, ProfileName, TargetName};

/// Heading of the options that many commands share.
pub(super) const COMMON_HEADING: &str = "Common options";

/// Target, with one of its profiles if named: `orders` or `orders/read-only`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnTarget {
    /// Name of the target.
    pub target: TargetName,
    /// Name of the profile.
    pub profile: Option<ProfileName>,
}

impl FromStr for OnTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (target, profile) = match text.split_once('/') {
            Some((target, profile)) => (target, Some(profile.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            target: target.parse()?,
            profile,
        })
    }
}

/// Returns the profile that `place` names, or else `--profile`. Both may name it, if it is the same.
pub(super) fn one_profile<P: Display + PartialEq>(place: &str, named: Option<P>, option: Option<P>) -> anyhow::Result<Option<P>> {
    match (named, option) {
        (Some(named), Some(other)) if named != other => {
            anyhow::bail!("{place} sets the profile {named}, --profile sets {other}; use one of them")
        }
        (named, option) => Ok(named.or(option)),
    }
}

/// Address of the gate, and output format.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Address of the gate.
#[derive(Debug, Clone, Args)]
pub struct GatePlace {
    /// Address of the gate's control API: unix:/path or https://host:port [env: TIDEGATE_CONTROL]
    /// [default: from `tidegate login` or the configuration]
    #[arg(long, value_name = "ADDRESS", help_heading = COMMON_HEADING)]
    pub control: Option<String>,

    /// File with your token [env: TIDEGATE_TOKEN_FILE, or the token itself: TIDEGATE_TOKEN]
    /// [default: from `tidegate login` or the configuration]
    #[arg(long, value_name = "FILE", help_heading = COMMON_HEADING)]
    pub token_file: Option<PathBuf>,
}

/// Output format of answers, or of records.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs<Format: ValueEnum + Send + Sync + 'static = OutputFormat> {
    /// Output format
    #[arg(long, short, value_enum, default_value = "table", default_value_if("json", ArgPredicate::IsPresent, "json"), help_heading = COMMON_HEADING)]
    pub output: Format,
    /// Prints JSON, like `--output json`
    #[arg(long, conflicts_with = "output", help_heading = COMMON_HEADING)]
    pub json: bool,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text for people
    Table,
    /// JSON for scripts
    Json,
}
