//! `tidegate demo`: the main use case on one machine with nothing configured.
//!
//! It uses only what a user could: the program's own commands, `psql`, a driver. Everything it started ends with it, also on
//! Ctrl-C and `kill -9` (by the lab's keepers).
//!
//! INVARIANT: every figure it prints was checked, and a broken promise makes it fail. A figure that is only late is marked.

mod approval;
mod env;
mod measure;
mod psql;
mod roles;
mod rules;
mod screen;
mod stay;
mod tester;
pub mod testkit;

use anyhow::bail;

use crate::cli::command_line::DemoArgs;
use crate::cli::wait::Signals;
use env::DemoEnv;
use screen::DemoScreen;

const DEMO_TARGET: &str = "shop";

/// Runs the demo to its end, or to Ctrl-C.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut screen = DemoScreen::new();
    let (interrupted, staying) = runtime.block_on(async {
        let (mut env, mut stops) = (None, Signals::new()?);
        let outcome = tokio::select! {
            outcome = play(&mut screen, &mut env) => Some(outcome),
            _ = stops.next() => None,
        };
        let staying = args.stay && matches!(outcome, Some(Ok(())));
        if let (true, Some(env)) = (staying, &env) {
            tokio::select! {
                outcome = stay::hold(&mut screen, env, &args.window) => outcome?,
                _ = stops.next() => {}
            }
        }
        let interrupted = outcome.is_none();
        // Blocks until the server and its folder are gone.
        drop(env);
        outcome.transpose().map(|_| (interrupted, staying))
    })?;
    drop(runtime);
    screen.blank()?;
    screen.note("Stopped the gate and the database, removed their folders.")?;
    if interrupted {
        bail!("interrupted");
    }
    if !staying {
        screen.note("To try it by hand: make demo ARGS=--stay (or: tidegate demo --stay)")?;
    }
    Ok(())
}

async fn play(screen: &mut DemoScreen, env: &mut Option<DemoEnv>) -> anyhow::Result<()> {
    screen.title("Tidegate: PostgreSQL access that closes on time")?;

    screen.heading("A database, and the gate in front of it")?;
    let env = env.insert(DemoEnv::set(screen).await?);
    roles::apply(screen, env).await?;
    roles::show(screen, env).await?;

    screen.heading("Ana asks, a rule says yes: she works until her window closes")?;
    let end = tester::work(screen, env).await?;
    measure::ended(env, &end.grant).await?;

    screen.heading("Ana wants to write, with plain psql: it waits until Bo says yes, and ends when he says so")?;
    let steps = approval::play(screen, env).await?;

    screen.heading("What is left: the roles of the profiles, none of a grant; and what security sees")?;
    roles::gone(env).await?;
    let left = roles::show(screen, env).await?;
    env.show(screen, None, &["log", "--identity", env.ana.name]).await?;

    screen.heading("Measured")?;
    measure::report(screen, env, &end, steps.as_ref(), left).await
}

/// Returns the connection string of a client, without the password.
fn connection_string(port: u16, user: &str, database: &str) -> String {
    format!("host=127.0.0.1 port={port} dbname={database} user={user} sslmode=require")
}
