//! `serve` and `check`: the commands about the gate itself.
//!
//! They read the configuration and set up the gate's own messages; `app` runs the gate.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::client_error::ClientError;
use super::render::{self, joined};
use crate::app::{self, Readiness, RunningGate, TargetInspection};
use crate::base::diagnostics::{Diagnostics, MessageForm};
use crate::base::supervision::panic_text;
use crate::base::tls::fingerprint_of;
use crate::config::{self, GateSettings, LogFormat, LoggingSettings, TlsFiles};
use crate::ledger;

/// Environment variable that permits a gate without a log to serve.
const UNLOGGED_VARIABLE: &str = "TIDEGATE_NOTHING_ON_RECORD";

/// Exit code of a check whose only findings are about a target.
const NOT_READY_EXIT_CODE: u8 = 8;

/// Longest time to wait at the end for standard error to take the last messages.
const LAST_MESSAGES_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the gate and returns the exit code. Errors are printed by then, in a way that cannot block.
pub(super) fn serve(path: &Path) -> anyhow::Result<u8> {
    if cfg!(feature = "unlogged") {
        if std::env::var_os(UNLOGGED_VARIABLE).is_none_or(|said| said != "yes") {
            anyhow::bail!(
                "this gate was built for benches (--features unlogged) and writes NO AUDIT LOG; to run it anyway: {UNLOGGED_VARIABLE}=yes"
            );
        }
        super::speech::complain("NO AUDIT LOG: this gate was built for benches (--features unlogged)");
    }
    let settings = config::load(path).map_err(ClientError::Config)?;
    let diagnostics = messages(&settings.logging)?;
    let targets = joined(settings.targets.iter().map(|target| &target.upstream.name), ", ");
    for file in &settings.exposed {
        tracing::warn!(file = %file.display(), "every user of this machine can read a secret file; run chmod o= on it");
    }
    let control = settings.control.socket.clone();
    let started = move |gate: &RunningGate| {
        let listen = joined(gate.addresses(), ", ");
        tracing::info!(listen, targets, control = %control.display(), version = env!("CARGO_PKG_VERSION"), "the gate is open");
    };
    // For the control API, provisioning and the clock; sessions have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start a thread")?;
    let served = runtime.block_on(app::serve(settings, &diagnostics, || config::load(path), started));
    // Do not wait: every task has had its time limit.
    runtime.shutdown_background();
    let code = match served {
        Ok(()) => 0,
        Err(error) => {
            super::speech::complain_to(&mut diagnostics.clone(), &format!("{:#}", anyhow::Error::from(error)), None);
            1
        }
    };
    let _ = diagnostics.flush(LAST_MESSAGES_TIMEOUT);
    Ok(code)
}

/// Sends the gate's own messages to standard error, through a queue that does not block; standard output is for answers.
fn messages(logging: &LoggingSettings) -> anyhow::Result<Diagnostics> {
    let filter = EnvFilter::try_new(&logging.level).context("log.level")?;
    let coloured = io::IsTerminal::is_terminal(&io::stderr());
    let form = match logging.format {
        LogFormat::Text if coloured => MessageForm::Coloured,
        LogFormat::Text => MessageForm::Text,
        LogFormat::Json => MessageForm::Json,
    };
    let diagnostics = Diagnostics::start(io::stderr(), form).context("cannot start a thread")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(diagnostics.clone())
        // It would print them to the same standard error.
        .log_internal_errors(false);
    let set = match logging.format {
        LogFormat::Text => builder.with_ansi(coloured).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))?;
    // The default hook writes to standard error itself, on the thread that panics.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current().name().unwrap_or("without a name").to_owned();
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread, at, panic = panic_text(panic.payload()), "a thread panicked");
    }));
    Ok(diagnostics)
}

/// Prints the fingerprint that users compare before they trust the gate.
pub(super) fn fingerprint(path: &Path) -> anyhow::Result<()> {
    let settings = config::load(path).map_err(ClientError::Config)?;
    let cert = match &settings.tls {
        TlsFiles::Given { cert, .. } => cert.clone(),
        TlsFiles::SelfSigned { dir, .. } => dir.join("tls.crt"),
    };
    if matches!(settings.tls, TlsFiles::SelfSigned { .. }) && !cert.exists() {
        anyhow::bail!("the gate has no certificate yet; its first start creates {}", cert.display());
    }
    Ok(render::print(&fingerprint_of(&cert)?.to_string())?)
}

/// Checks the configuration and returns the exit code: [`NOT_READY_EXIT_CODE`] if only a target is not ready, unless the check is for a
/// start.
pub(super) fn check(path: &Path, offline: bool, start: bool) -> anyhow::Result<u8> {
    let settings = config::load(path).map_err(ClientError::Config)?;
    let targets = settings.targets.iter();
    let targets = targets.map(|target| format!("{} ({})", target.upstream.name, target.address()));
    let policies = settings.policies.as_ref().map_or_else(
        || "no policies: requests are refused, and only an operator can create grants".to_owned(),
        |policies| format!("policies: {} (set {:.12})", policies.ids().count(), policies.hash()),
    );
    let oauth = settings
        .oauth
        .oauth_user
        .as_ref()
        .map_or_else(String::new, |(user, discovery)| {
            let issuer = discovery.issuer();
            format!("\nclients of libpq 18 sign in with: user={user} oauth_issuer={issuer} oauth_client_id=…")
        });
    let (log, key) = (&settings.audit.dir, &settings.audit.key);
    let made = if key.exists() { "" } else { " (created at the first start)" };
    render::print(&format!(
        "{} is valid: {} for {}\n{policies}{oauth}\naudit log: {}, signed with {}{made}",
        path.display(),
        joined(&settings.listen, ", "),
        joined(targets, ", "),
        log.display(),
        key.display()
    ))?;
    warn(&settings)?;
    let inspected = super::wait_for(async { Ok(app::inspect(&settings, offline).await) })?;
    for TargetInspection { target, lines, .. } in &inspected {
        for line in lines {
            render::print(&format!("{target}: {line}"))?;
        }
    }
    let named = |state: Readiness| {
        let those = inspected.iter().filter(|inspected| inspected.state == state);
        joined(those.map(|inspected| &inspected.target), ", ")
    };
    let (refused, lacking) = (named(Readiness::Refused), named(Readiness::Lacking));
    anyhow::ensure!(
        refused.is_empty(),
        "not safe to serve: {refused}; see above for what is missing or refused"
    );
    if lacking.is_empty() {
        return Ok(0);
    }
    super::speech::complain(&format!(
        "not ready: {lacking}; see above for what is missing. Its sessions are refused until then; other targets are served"
    ));
    Ok(if start { 0 } else { NOT_READY_EXIT_CODE })
}

/// Prints warnings about settings that are valid but may be unintended.
fn warn(settings: &GateSettings) -> anyhow::Result<()> {
    for file in &settings.exposed {
        let file = file.display();
        render::print(&format!(
            "warning: every user of this machine can read the secret in {file}; run: chmod o= {file}"
        ))?;
    }
    let users = match ledger::groups_of_users(&settings.state_dir.join("ledger.sqlite")) {
        Ok(users) => users,
        Err(error) => {
            render::print(&format!("warning: cannot read the groups of users: {error}"))?;
            BTreeMap::new()
        }
    };
    for user in users.keys().filter(|user| settings.oauth.is_oauth_user(user.as_str())) {
        render::print(&format!(
            "warning: clients that name the user {user} are asked to sign in, not for that user's token; set another \
             identity.oauth_user"
        ))?;
    }
    for line in config::unknown_names(settings, &users) {
        render::print(&format!("warning: {line}"))?;
    }
    Ok(())
}
