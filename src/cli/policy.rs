//! `policy`: checks a folder of policies, runs its test tables, and explains the answer to a request.
//!
//! `check`, `test` and `explain --dir` use the files in the folder, which a running gate may not have read yet. Without
//! `--dir`, `ask` sends the query of `explain` to the gate.

mod ask;

pub(super) use ask::words as verdict_words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::args::{GatePlace, OnTarget, OutputArgs, OutputFormat, one_profile};
use super::client_error::ClientError;
use super::{complete, render};
use crate::access::policy::{Action, Policies, QuestionContext, table};
use crate::base::clock::Clock;
use crate::base::duration;
use crate::base::times::{Coming, TimeError};
use crate::config::{DEFAULT_WINDOW, PolicyLocation, policies, policy_place};
use crate::control::model::{ExplanationBody, VerdictBody};
use crate::identity::{Identity, IdentitySource};
use crate::model::arrival::{Arrival, CallerVia};
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName, ProfileName, Vocabulary as _};
use crate::model::request::RequestSpec;

/// Checks, explains and tests the policies in a folder.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Checks the folder against its schema; prints all mistakes with file and line
    Check {
        /// Folder of the policies, and output format.
        #[command(flatten)]
        folder: PolicyFolder,
    },
    /// Shows the decision of the policies, the policies behind it, and the changes that would permit it
    #[command(after_help = "\
Examples:
  tidegate policy explain --target orders/read-write --for 2h
  tidegate policy explain extend --grant gr_4k2m9x0a7b
  tidegate policy explain approve --request rq_4k2m9x0a7b
  tidegate policy explain administer --as lena@example.com
  tidegate policy explain --dir policies --as ana@example.com --group qa --target orders --for 2h

Everyone may ask about themselves. Asking about others (--as, --group) needs the right to read the
log or to administer. With --dir, the policies come from a folder, without a gate.")]
    Explain(Box<ExplainArgs>),
    /// Runs the tables of cases in the folder (tests/*.toml)
    Test {
        /// Folder of the policies, and output format.
        #[command(flatten)]
        folder: PolicyFolder,
    },
}

/// Folder of the policies, and output format.
#[derive(Debug, Clone, Args)]
pub struct PolicyFolder {
    /// Folder of the policies [default: set in the configuration, or `policies` beside it]
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Time zone of hours and weekdays in policies, like Europe/Berlin [default: set in the configuration, or UTC]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub zone: Option<TimeZone>,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Question about a decision, without effect.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Action: request, auto-approve, break-glass, approve, extend, revoke, read-log, administer [default: request]
    #[arg(value_parser = PossibleValuesParser::new(Action::ALL.map(Action::name)), hide_possible_values = true, conflicts_with_all = ["dir", "zone"])]
    pub action: Option<String>,
    /// Identity that acts [default: you]
    #[arg(long = "as", value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// Group of the identity; can be repeated [default: its own groups]
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<GroupName>,
    /// Target, with an optional profile: `orders` or `orders/read-write`
    #[arg(long, value_name = "TARGET[/PROFILE]", add = complete::destinations())]
    pub target: Option<OnTarget>,
    /// Profile, if not named with the target [default: the target's narrowest]
    #[arg(long, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<ProfileName>,
    /// Length of the window, like 30m or 2h30m [default: set by the gate]
    #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
    pub window: Option<Duration>,
    /// Request (for approve)
    #[arg(long, value_name = "REQUEST", conflicts_with = "dir", add = complete::requests())]
    pub request: Option<RequestId>,
    /// Grant (for extend and revoke)
    #[arg(long, value_name = "GRANT", conflicts_with = "dir", add = complete::grants())]
    pub grant: Option<GrantId>,
    /// Reason
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Ticket
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
    /// Time: 2026-08-03T10:00 in the policies' zone, 2026-08-03T08:00Z, or 18:30, tomorrow 9:00 in yours [default: now]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub at: Option<String>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// Maximum number of concurrent sessions [default: set by the gate]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: Option<u32>,
    /// Number of active grants of the identity (with --dir)
    #[arg(long, value_name = "NUMBER", requires = "dir")]
    pub active_grants: Option<u32>,
    /// Way by which the identity comes (with --dir) [default: api, or console with --signed-in-ago]
    #[arg(long, value_name = "WAY", value_parser = vias(), requires = "dir")]
    pub via: Option<CallerVia>,
    /// Age of the identity's sign-in, like 10m (with --dir) [default: none, or 0s via console or cli]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, requires = "dir")]
    pub signed_in_ago: Option<Duration>,
    /// Issuer of the identity's token (with --dir) [default: a local user's token]
    #[arg(long, value_name = "URL", requires = "dir")]
    pub issuer: Option<String>,
    /// Claim of a CI system's token, like repository=shop/orders; can be repeated (with --dir)
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim, requires = "dir")]
    pub claim: Vec<(String, String)>,
    /// Asks about access without an approver, reviewed afterwards
    #[arg(long)]
    pub break_glass: bool,
    /// Folder of the policies, and output format.
    #[command(flatten)]
    pub folder: PolicyFolder,
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
}

/// Parses a time. A date stays as written, for the zone of the policies; other times are in this machine's zone.
fn moment(text: &str) -> Result<String, TimeError> {
    let coming = Coming::parse(text)?;
    if text.trim().get(4..5) == Some("-") {
        return Ok(text.trim().to_owned());
    }
    Ok(coming.time(&super::zone::now()).to_string())
}

fn vias() -> impl TypedValueParser<Value = CallerVia> {
    let named = |name: String| CallerVia::from_name(&name).ok_or("unknown way");
    PossibleValuesParser::new(CallerVia::ALL.iter().map(|via| via.as_str())).try_map(named)
}

fn zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|_| format!("unknown time zone {text:?}; write it like Europe/Berlin"))
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a claim like repository=shop/orders")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl ExplainArgs {
    /// Moves a profile that is named with the target to `profile`.
    fn name_profile_once(&mut self) -> anyhow::Result<()> {
        let named = self.target.as_mut().and_then(|target| target.profile.take());
        self.profile = one_profile("--target", named, self.profile.take())?;
        Ok(())
    }
}

impl PolicyFolder {
    /// Returns the named folder and zone; values that are not named come from the configuration, if there is one.
    fn place(&self, config: &Path) -> anyhow::Result<PolicyLocation> {
        let configured = if config.exists() && (self.dir.is_none() || self.zone.is_none()) {
            policy_place(config).map_err(ClientError::Config)?
        } else {
            PolicyLocation::beside(config)
        };
        Ok(PolicyLocation {
            dir: self.dir.clone().unwrap_or(configured.dir),
            zone: self.zone.clone().unwrap_or(configured.zone),
        })
    }
}

/// Loads the policies; `consequence` ends the error, which has all mistakes with the paths of their files.
fn load(place: &PolicyLocation, output: OutputFormat, consequence: &str) -> anyhow::Result<Policies> {
    let parsed = match policies::read(&place.dir) {
        Ok((schema, sources)) => {
            let parsed = Policies::parse(&schema, &sources, place.zone.clone());
            parsed.map_err(|error| placed(&place.dir, error.0))
        }
        Err(error) => Err(vec![error.to_string()]),
    };
    parsed.or_else(|wrong| failed(output, consequence, &wrong))
}

/// Adds the folder to lines that begin with the name of a file.
fn placed(dir: &Path, lines: Vec<String>) -> Vec<String> {
    let place = |line: String| dir.join(line).display().to_string();
    lines.into_iter().map(place).collect()
}

pub(super) async fn run(config: &Path, command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Check { folder } => check(config, &folder),
        PolicyCommand::Explain(mut args) => {
            args.name_profile_once()?;
            match args.folder.dir {
                None => ask::explain(config, *args).await,
                Some(_) => explain(config, *args),
            }
        }
        PolicyCommand::Test { folder } => test(config, &folder),
    }
}

/// Returns the error; for scripts also prints the mistakes as JSON.
fn failed<T>(output: OutputFormat, what: &str, wrong: &[String]) -> anyhow::Result<T> {
    if output == OutputFormat::Json {
        render::show(output, &json!({ "good": false, "wrong": wrong }), Value::to_string)?;
    }
    anyhow::bail!("{}\n{what}", wrong.join("\n"))
}

fn check(config: &Path, folder: &PolicyFolder) -> anyhow::Result<()> {
    let place = folder.place(config)?;
    let dir = &place.dir;
    let consequence = "a gate would reject this policy set and keep its current one";
    let policies = load(&place, folder.printing.output, consequence)?;
    let ids: Vec<_> = policies.ids().collect();
    let value = json!({ "good": true, "policies": ids, "policy_set": policies.hash() });
    render::show(folder.printing.output, &value, |_| {
        let (dir, count, hash) = (dir.display(), ids.len(), policies.hash());
        format!("{dir} is valid: {count} policies, set {hash}")
    })
}

fn test(config: &Path, folder: &PolicyFolder) -> anyhow::Result<()> {
    let place = folder.place(config)?;
    let dir = &place.dir;
    let policies = load(&place, folder.printing.output, "no case was tested")?;
    let tables = policies::read_tables(dir)?;
    let outcome = table::run(&policies, &tables);
    if outcome.cases == 0 && outcome.failures.is_empty() {
        anyhow::bail!(
            "{}: no test cases found; add [[case]] tables to *.toml files there",
            dir.join("tests").display()
        );
    }
    if !outcome.failures.is_empty() {
        let (failures, cases) = (outcome.failures.len(), outcome.cases);
        let wrong = placed(&dir.join("tests"), outcome.failures);
        return failed(folder.printing.output, &format!("{failures} of {cases} cases failed"), &wrong);
    }
    let value = json!({ "good": true, "cases": outcome.cases, "policy_set": policies.hash() });
    render::show(folder.printing.output, &value, |_| {
        format!("{}: all {} cases passed", dir.display(), outcome.cases)
    })
}

fn explain(config: &Path, args: ExplainArgs) -> anyhow::Result<()> {
    let consequence = "this policy set has mistakes, so nothing can be explained";
    let policies = load(&args.folder.place(config)?, args.folder.printing.output, consequence)?;
    let now = match &args.at {
        Some(text) => policies
            .time(text)
            .ok_or_else(|| anyhow::anyhow!("--at {text}: write a time like 2026-08-03T10:00, or 2026-08-03T08:00Z"))?,
        None => Clock::system(None).now(),
    };
    let missing = |what: &str| anyhow::anyhow!("with --dir, {what} is required");
    let groups: BTreeSet<_> = args.group.into_iter().collect();
    let identity = Identity {
        name: args.identity.ok_or_else(|| missing("the identity (--as)"))?,
        groups,
        source: args.issuer.map_or(IdentitySource::Local, IdentitySource::Issuer),
        claims: args.claim.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let wish = RequestSpec {
        identity: identity.name.clone(),
        groups: identity.groups.clone(),
        issuer: None,
        claims: BTreeMap::new(),
        target: args.target.ok_or_else(|| missing("the target (--target)"))?.target,
        profile: args.profile.map_or_else(|| "read-only".parse(), Ok)?,
        window: args.window.unwrap_or(DEFAULT_WINDOW),
        reason: args.reason,
        ticket: args.ticket,
        max_sessions: args.sessions.unwrap_or(1),
        break_glass: args.break_glass,
    };
    let context = QuestionContext {
        now,
        client: args.from,
        active_grants: args.active_grants.unwrap_or(0),
        arrival: Arrival::stated(args.via, args.signed_in_ago).map_err(|why| anyhow::anyhow!("--signed-in-ago: {why}"))?,
    };
    let explanation = explained(&policies, &identity, &wish, context);
    render::show(args.folder.printing.output, &as_json(&explanation), |_| told(&explanation))
}

/// Returns the answer of a folder's policies, in the form of a gate's answer.
fn explained(policies: &Policies, identity: &Identity, wish: &RequestSpec, context: QuestionContext) -> ExplanationBody {
    ExplanationBody::of_request(policies, identity, Action::Request, wish, context, None)
}

fn as_json(explanation: &ExplanationBody) -> Value {
    let flat = |answer: &VerdictBody, mut more: Value| {
        if let (Value::Object(more), Value::Object(verdict)) = (&mut more, json!(answer)) {
            more.extend(verdict);
        }
        more
    };
    let remedies = explanation.remedies.iter();
    let remedies: Vec<Value> = remedies
        .map(|remedy| flat(&remedy.answer, json!({ "change": remedy.change })))
        .collect();
    let more = json!({ "policies": explanation.policies, "remedies": remedies, "policy_set": explanation.policy_set });
    flat(&explanation.answer, more)
}

fn told(explanation: &ExplanationBody) -> String {
    ask::told("", explanation)
}

#[cfg(test)]
mod tests;
