//! `psql`, `exec`, `env`: access for a program. A live grant that covers the request is joined, otherwise a new one is
//! requested; the program gets a login in its environment.
//!
//! The gate decides on the access.
//!
//! INVARIANT: no program has a secret in its arguments, and the person's own token is not in the program's environment.

mod connection;
mod variables;
mod verification;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, getpgrp, kill_process};

use super::access::{AccessArgs, enter, submit};
use super::args::GatePlace;
use super::client::ControlClient;
use super::line;
use super::render;
use super::render::{left, time, visible};
use super::speech::{complain, note};
use super::views::to;
use super::wait::{Signals, code_of, until_granted};
use crate::base::clock::Clock;
use crate::base::duration;
use crate::control::model::{AccessBody, EmptyBody, GrantView, RequestBody};
use crate::model::ids::{GrantId, RequestId};
use variables::ConnectionVariables;
use verification::VerificationVariables;

pub use variables::VariableFormat;

/// A psql session.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate psql orders --for 30m --reason BUG-812
  tidegate psql orders --profile read-write --for 1h --reason \"fix the totals\" --ticket SHOP-99
  tidegate psql orders -- -c 'select count(*) from customers'

psql joins a live grant of yours with the same profile (without --profile: the target's narrowest)
if it covers your --for, --sessions and --ticket; a new --reason is recorded. Otherwise it requests
access. While you wait for approval, Ctrl-C withdraws the request; later psql gets it. psql gets its
login through PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and PGSSLROOTCERT. The exit
code is psql's.")]
pub struct PsqlArgs {
    /// Target, profile and terms of the request.
    #[command(flatten)]
    pub wanted: AccessArgs,
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
    /// Releases the grant when psql ends, instead of keeping it until its window closes
    #[arg(long)]
    pub release: bool,
    /// Suppresses the gate's notice of the grant and its end
    #[arg(long)]
    pub no_welcome: bool,
    /// Arguments for psql
    #[arg(last = true, value_name = "PSQL ARGUMENTS")]
    pub arguments: Vec<OsString>,
}

/// Command to run with access.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate exec orders --for 20m --reason \"ci 4711\" -- pytest -n 8
  tidegate exec orders --for 5m --reason backup -- sh -c 'pg_dump > orders.sql'

The command gets PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE and DATABASE_URL, and does not get
TIDEGATE_TOKEN. It verifies the gate: PGSSLROOTCERT and NODE_EXTRA_CA_CERTS name a file with the
gate's certificate, and PGSSLMODE is verify-full; stricter settings and certificates of your own
are kept. SIGINT, SIGTERM and SIGHUP are passed on. The exit code is the command's: 128+n if signal
n ended it, 127 if it is not found, 126 if it cannot be run. A grant created for the command is
released at the end. With an exclusive profile the command gets a grant of its own, starts when its
turn in line comes, and has the target until it ends.")]
pub struct ExecArgs {
    /// Target, profile and terms of the request.
    #[command(flatten)]
    pub wanted: AccessArgs,
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
    /// Also releases a grant that existed before
    #[arg(long)]
    pub release: bool,
    /// Suppresses the gate's notice of the grant and its end (through PGOPTIONS)
    #[arg(long)]
    pub no_welcome: bool,
    /// The command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Access for this shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eval \"$(tidegate env orders --for 30m --reason BUG-812)\"
  tidegate env orders --for 30m --reason BUG-812 --format fish | source
  tidegate env orders --format dotenv > .env.local

The output contains a password, valid until the window closes; `tidegate release GRANT` closes it.")]
pub struct EnvArgs {
    /// Target, profile and terms of the request.
    #[command(flatten)]
    pub wanted: AccessArgs,
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
    /// Format of the output
    #[arg(long, value_enum, default_value_t = VariableFormat::Sh)]
    pub format: VariableFormat,
    /// Suppresses the gate's notice of the grant and its end (through PGOPTIONS)
    #[arg(long)]
    pub no_welcome: bool,
}

/// Error of a program that cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program}: {reason}; {}", remedy(program))]
pub(crate) struct StartProgramError {
    program: String,
    pub(super) reason: io::Error,
}

fn remedy(program: &str) -> &'static str {
    match program {
        "psql" => {
            "install PostgreSQL's client (postgresql-client on Debian and Ubuntu), or use another client with: tidegate env TARGET"
        }
        _ => "is it installed and in PATH?",
    }
}

/// Variables removed from a program's environment: those that would lead it elsewhere, and the person's own token.
const REMOVED_VARIABLES: [&str; 3] = ["PGHOSTADDR", "PGSERVICE", "TIDEGATE_TOKEN"];

/// Grant to work under.
struct ProgramAccess {
    grant: GrantId,
    /// True if the grant was made for this command.
    made: bool,
}

pub(super) async fn psql(config: &Path, args: PsqlArgs) -> anyhow::Result<u8> {
    if on_path("psql").is_none() {
        // Before an approver is asked for access that cannot be used.
        return Err(StartProgramError {
            program: "psql".to_owned(),
            reason: io::ErrorKind::NotFound.into(),
        }
        .into());
    }
    let program = ChildProgram {
        name: OsStr::new("psql"),
        arguments: &args.arguments,
        // Ctrl-C stops psql's statement, not psql and not this program.
        interrupts: false,
        welcome: !args.no_welcome,
        alone: false,
    };
    program.run(args.place.person(config)?, &args.wanted, |_| args.release).await
}

pub(super) async fn exec(config: &Path, args: ExecArgs) -> anyhow::Result<u8> {
    let Some((name, arguments)) = args.command.split_first() else {
        anyhow::bail!("exec needs a command after --");
    };
    let program = ChildProgram {
        name,
        arguments,
        interrupts: !at_the_terminal(),
        welcome: !args.no_welcome,
        alone: true,
    };
    program
        .run(args.place.person(config)?, &args.wanted, |made| made || args.release)
        .await
}

pub(super) async fn env(config: &Path, args: EnvArgs) -> anyhow::Result<u8> {
    let client = args.place.person(config)?;
    let access = obtain(&client, &args.wanted, false, &mut Signals::new()?).await?;
    line::tell(&client, &access.grant).await?;
    let variables = variables(&client, &access, !args.no_welcome).await?;
    render::print(&variables.written(args.format)?)?;
    Ok(0)
}

/// Joins a live grant that covers the request, or waits for a new one: the gate decides which. `alone`: see [`enter`].
async fn obtain(client: &ControlClient, wanted: &AccessArgs, alone: bool, stops: &mut Signals) -> anyhow::Result<ProgramAccess> {
    let AccessBody { joined, request } = enter(client, wanted, alone).await?;
    if let Some(view) = joined {
        let now = Clock::system(None).now();
        note(&joining(&view, wanted));
        note(&window(&view, now));
        return Ok(ProgramAccess {
            grant: view.grant.id().clone(),
            made: false,
        });
    }
    let request = request.context("the gate's answer has neither a grant nor a request")?;
    granted(client, request, wanted, stops).await
}

/// Waits until a request is granted.
async fn granted(
    client: &ControlClient,
    request: RequestBody,
    wanted: &AccessArgs,
    stops: &mut Signals,
) -> anyhow::Result<ProgramAccess> {
    let request = until_granted(client, request, wanted.wait_at_most, stops)
        .await?
        .request
        .request;
    let grant = request
        .grant()
        .context("the gate approved the request without a grant")?
        .clone();
    if request.wish.break_glass {
        note(&broken(&request.id));
    }
    if let Ok(view) = client.get::<GrantView>(&format!("/v1/grants/{grant}"), &()).await {
        note(&window(&view, Clock::system(None).now()));
    }
    Ok(ProgramAccess { grant, made: true })
}

/// Returns the message that a live grant is joined, and whether the new reason is recorded.
pub(super) fn joining(view: &GrantView, wanted: &AccessArgs) -> String {
    let grant = &view.grant;
    let before = grant.reason().map(|reason| format!(", requested with: {}", visible(reason)));
    let now = match wanted.reason.as_deref() {
        Some(reason) if grant.reason() != Some(reason.trim()) => "; your new reason is recorded",
        _ => "",
    };
    format!("joining your live grant {}{}{now}", grant.id(), before.unwrap_or_default())
}

/// Returns the words for somebody who has opened a grant that nobody approved.
pub(super) fn broken(request: &RequestId) -> String {
    format!("break-glass: nobody has approved this; request {request} waits for somebody to review it")
}

/// Until when one can work, said before one begins.
pub(super) fn window(view: &GrantView, now: Timestamp) -> String {
    let grant = &view.grant;
    match grant.until() {
        Some(until) => format!(
            "{} until {}, {} left (grant {id}; more time: tidegate extend {id} --by 30m)",
            to(grant),
            time(until),
            left(until, now),
            id = grant.id()
        ),
        None => format!(
            "{} for {} from the first connect (grant {})",
            to(grant),
            duration::show(grant.window()),
            grant.id()
        ),
    }
}

/// Returns a new login, as the variables that a program needs to connect with it.
async fn variables(client: &ControlClient, access: &ProgramAccess, welcome: bool) -> anyhow::Result<ConnectionVariables> {
    let login = connection::login(client, &access.grant).await?;
    let variables = ConnectionVariables::of(&login, &VerificationVariables::of(&login, client));
    Ok(if welcome {
        variables
    } else {
        variables.without_welcome(std::env::var("PGOPTIONS").ok().as_deref())
    })
}

/// Requests access of its own, connects through the gate, works there, and gives the grant back.
pub(super) async fn with_connection<T>(
    client: &ControlClient,
    wanted: &AccessArgs,
    application: &str,
    work: impl AsyncFnOnce(&tokio_postgres::Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut stops = Signals::new()?;
    let request = submit(client, wanted).await?;
    let access = granted(client, request, wanted, &mut stops).await?;
    let worked = async {
        line::until_turn(client, &access.grant, wanted.wait_at_most, &mut stops).await?;
        connection::connected(client, &access.grant, application, work).await
    };
    let worked = worked.await;
    give_back(client, &access).await;
    worked
}

/// Gives the grant back. A failure is reported but does not change the exit code, since the program has done its work.
async fn give_back(client: &ControlClient, access: &ProgramAccess) {
    let path = format!("/v1/grants/{}/release", access.grant);
    if let Err(error) = client.post::<GrantView>(&path, &EmptyBody {}).await {
        complain(&format!("cannot release grant {}: {error}", access.grant));
    }
}

/// Returns true if this process is in the terminal's foreground group: then a Ctrl-C reaches both it and the program it
/// started.
pub(super) fn at_the_terminal() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| rustix::termios::tcgetpgrp(&terminal).is_ok_and(|foreground| foreground == getpgrp()))
}

/// Returns the first file called `name` in the folders of `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Program to run.
struct ChildProgram<'a> {
    name: &'a OsStr,
    arguments: &'a [OsString],
    /// True if SIGINT and SIGQUIT are passed on; they are not if the terminal sends them to both.
    interrupts: bool,
    /// True if its sessions begin with the gate's notice.
    welcome: bool,
    /// True if it is a run of its own, which shares an exclusive profile with no other and keeps it to its end.
    alone: bool,
}

impl ChildProgram<'_> {
    /// Obtains access and runs the program to its end, with a login of its own; passes signals on. Then gives the grant back, if
    /// `release` says so for a grant that was made for this program or not.
    async fn run(&self, client: ControlClient, wanted: &AccessArgs, release: impl Fn(bool) -> bool) -> anyhow::Result<u8> {
        let mut stops = Signals::new()?;
        let access = obtain(&client, wanted, self.alone, &mut stops).await?;
        let exclusive = match line::until_turn(&client, &access.grant, wanted.wait_at_most, &mut stops).await {
            Ok(exclusive) => exclusive,
            Err(error) => {
                // A grant that was made for this program leaves the line for good.
                if access.made {
                    give_back(&client, &access).await;
                }
                return Err(error);
            }
        };
        let ended = match variables(&client, &access, self.welcome).await {
            Ok(variables) => {
                let kept = async {
                    if exclusive && self.alone {
                        line::keep(&client, &access.grant).await
                    } else {
                        std::future::pending().await
                    }
                };
                tokio::select! {
                    ended = self.run_with(&variables, &mut stops) => ended,
                    never = kept => match never {},
                }
            }
            Err(error) => Err(error),
        };
        if release(access.made) {
            give_back(&client, &access).await;
        }
        ended
    }

    async fn run_with(&self, variables: &ConnectionVariables, stops: &mut Signals) -> anyhow::Result<u8> {
        let mut command = tokio::process::Command::new(self.name);
        command.args(self.arguments);
        for name in REMOVED_VARIABLES {
            command.env_remove(name);
        }
        command.envs(variables.all());
        let ended = run_to_its_end(command, self.interrupts, stops).await;
        Ok(ended.map_err(|reason| StartProgramError {
            program: self.name.to_string_lossy().into_owned(),
            reason,
        })?)
    }
}

/// Runs a command to its end and returns its exit code; passes signals on to it, SIGINT and SIGQUIT only if `interrupts`.
pub(super) async fn run_to_its_end(
    mut command: tokio::process::Command,
    interrupts: bool,
    stops: &mut Signals,
) -> io::Result<u8> {
    let mut child = command.spawn()?;
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    loop {
        tokio::select! {
            status = child.wait() => return Ok(code(status?)),
            stop = stops.next() => {
                let passed_on = interrupts || !matches!(stop, Signal::INT | Signal::QUIT);
                if let Some(process) = process.filter(|_| passed_on) {
                    // It may have ended just now.
                    let _ = kill_process(process, stop);
                }
            }
        }
    }
}

/// Returns the exit code, as a shell reports it.
fn code(status: ExitStatus) -> u8 {
    let exited = status.code().map(|code| u8::try_from(code).unwrap_or(1));
    exited.or_else(|| status.signal().map(code_of)).unwrap_or(1)
}

#[cfg(test)]
mod tests;
