//! Tidegate: PostgreSQL access that closes on time.
//!
//! A wire-protocol gate in front of QA databases. This page is the table of contents, in layer order: a module imports only
//! from those above it (`tests/architecture.rs` holds the exact graph).
//!
//! - [`causes`], [`clock`], [`folder_lock`], [`duration`], [`times`], [`columns`], [`ids`], [`visible`], [`names`], [`secret`]: the nouns
//! - [`diagnostics`]: the gate's own messages, which hold nothing up
//! - [`supervision`]: the tasks and threads whose end is noticed
//! - [`ending`]: why sessions end, with SQLSTATE and words (pure)
//! - [`wire`]: bytes to PostgreSQL messages and back (pure)
//! - [`scram`]: either side of SCRAM-SHA-256, one message at a time (pure)
//! - [`lexer`]: takes SQL text apart as PostgreSQL does, under the settings of a session (pure)
//! - [`rights`]: what a profile may do at the database, and what has to change there (pure)
//! - [`grant`]: what a grant is, which events may follow which, `Permit` (pure)
//! - [`request`]: what a request for access is, and which steps may follow which (pure)
//! - [`tls`]: the TLS configurations
//! - [`identity`]: who somebody is, and how it is proved
//! - [`metrics`]: what the gate counts
//! - [`quota`]: the limits on what one identity may use up
//! - [`audit`]: the log: event, journal, reader
//! - [`evidence`]: what auditors and their tools are given of the log
//! - [`rails`]: the seat belt: whether a statement is one that a profile wants at all (pure)
//! - [`policy`]: one access question, and the verdict of the policies (pure)
//! - [`ledger`]: the only place where a grant changes
//! - [`strangers`]: those who have proved nothing: their connections, failures and records
//! - [`access`]: what people and pipelines do: ask, approve, extend, give back
//! - [`frontend`]: a TCP stranger becomes a named, authenticated client, or is refused properly
//! - [`upstream`]: an authenticated connection to the target; demands a `Permit`
//! - [`provision`]: the provisioning connections: end backends, make and end the roles of grants, bring profiles in step
//! - [`session`]: one connection from accept to ending
//! - [`notify`]: signed webhooks about requests, from a durable outbox
//! - [`forward`]: the log on its way to a syslog receiver, checkpoints to webhooks
//! - [`control`]: the use-cases and their HTTP API
//! - [`config`]: file to checked settings
//! - [`app`]: assembles, runs, drains
//! - [`lab`]: a throwaway PostgreSQL for the demo, the tests and the benches
//! - [`cli`]: the commands
//! - [`fuzzing`]: each reader of bytes from outside, for fuzzers

pub mod access;
pub mod app;
pub mod audit;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod columns;
pub mod config;
pub mod control;
pub mod diagnostics;
pub mod duration;
pub mod ending;
pub mod evidence;
pub mod folder_lock;
pub mod forward;
pub mod frontend;
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod identity;
pub mod ids;
pub mod lab;
pub mod ledger;
pub mod lexer;
pub mod metrics;
pub mod names;
pub mod notify;
pub mod policy;
pub mod provision;
pub mod quota;
pub mod rails;
pub mod request;
pub mod rights;
pub mod scram;
pub mod secret;
pub mod session;
pub mod strangers;
pub mod supervision;
pub mod times;
pub mod tls;
pub mod upstream;
pub mod visible;
pub mod wire;
