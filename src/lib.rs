//! Tidegate: PostgreSQL access that closes on time.
//!
//! A wire-protocol gate in front of QA databases. This page is the table of contents, in layer order: a module imports only
//! from those above it (`tests/architecture` holds the exact graph).
//!
//! - [`backoff`]: waits between attempts (pure)
//! - [`error_chain`], [`clock`], [`folder_lock`], [`duration`], [`times`], [`columns`], [`ids`], [`visible`], [`names`], [`secret`]:
//!   the nouns
//! - [`diagnostics`]: non-blocking output of the gate's own messages
//! - [`supervision`]: tasks and threads whose end is noticed
//! - [`ending`]: reasons why sessions end, with SQLSTATE and message (pure)
//! - [`wire`]: bytes to PostgreSQL messages and back (pure)
//! - [`scram`]: both sides of SCRAM-SHA-256, one message at a time (pure)
//! - [`lexer`]: tokens of SQL text as PostgreSQL reads it, under the settings of a session (pure)
//! - [`rights`]: rights of a profile, and the changes that give a database these rights (pure)
//! - [`grant`]: grants, their legal changes, and the `Permit` (pure)
//! - [`request`]: requests for access, and their legal steps (pure)
//! - [`tls`]: TLS configurations
//! - [`identity`]: identities and their verification
//! - [`quota`]: limits on the resources of one identity
//! - [`audit`]: the audit log: event, journal, reader
//! - [`evidence`]: reports and exports of the log for auditors and their tools
//! - [`sql_filter`]: guard rails: a check of statements against the rules of a profile (pure)
//! - [`policy`]: access decisions by Cedar policies (pure)
//! - [`ledger`]: the only place where a grant changes
//! - [`strangers`]: connections, failures and records of unauthenticated peers
//! - [`access`]: use cases of requests and grants: ask, approve, extend, give back
//! - [`frontend`]: handshake with a client, up to its authentication or refusal
//! - [`upstream`]: authenticated connection to the target; requires a `Permit`
//! - [`provision`]: provisioning connections: end backends, create and drop the roles of grants, apply profiles
//! - [`metrics`]: counters of the gate, for Prometheus
//! - [`session`]: one connection from accept to ending
//! - [`notify`]: signed webhooks about requests, from a durable outbox
//! - [`forward`]: forwarding of the log to a syslog receiver, and of checkpoints to webhooks
//! - [`control`]: HTTP API
//! - [`config`]: configuration file to checked settings
//! - [`app`]: startup, operation and drain of the gate
//! - [`testkit`]: throwaway PostgreSQL for the demo, the tests and the benches
//! - [`cli`]: command line
//! - [`fuzzing`]: entry points of all parsers of foreign bytes, for fuzzers

pub mod access;
pub mod app;
pub mod audit;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod columns;
pub mod config;
pub mod control;
pub mod diagnostics;
pub mod duration;
pub mod ending;
pub mod error_chain;
pub mod evidence;
pub mod folder_lock;
pub mod forward;
pub mod frontend;
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod identity;
pub mod ids;
pub mod ledger;
pub mod lexer;
pub mod metrics;
pub mod names;
pub mod notify;
pub mod policy;
pub mod provision;
pub mod quota;
pub mod request;
pub mod rights;
pub mod scram;
pub mod secret;
pub mod session;
pub mod sql_filter;
pub mod strangers;
pub mod supervision;
pub mod testkit;
pub mod times;
pub mod tls;
pub mod upstream;
pub mod visible;
pub mod wire;
