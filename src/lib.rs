//! Tidegate: PostgreSQL access that closes on time.
//!
//! A wire-protocol gate in front of QA databases. This page is the table of contents, in layer order: a room imports only from
//! those above it (`tests/architecture` holds the exact graph, and that no two files import each other).
//!
//! - [`base`]: helpers that know nothing of the product: time, text, secrets, tasks, TLS
//! - [`model`]: nouns of the product: names and ids, requests, grants, endings (pure)
//! - [`protocol`]: PostgreSQL on the wire and in text: messages, SCRAM, OAUTHBEARER, tokens of SQL (pure)
//! - [`identity`]: identities and their verification
//! - [`audit`]: the audit log: events, chain, journal, search, verification, evidence
//! - [`ledger`]: the only place where a grant changes
//! - [`access`]: use cases of requests and grants, the policies that decide them, limits on strangers
//! - [`database`]: work at the target: connections, roles and privileges, the end of backends, undo
//! - [`gate`]: client connections: handshake, session, guard rails, counters
//! - [`chat`]: answers from a chat: signatures, clicks, who has clicked
//! - [`outbound`]: webhooks about requests and grants, and the log to a syslog receiver
//! - [`control`]: HTTP API
//! - [`console`]: the use cases as pages for a browser
//! - [`config`]: configuration file to checked settings
//! - [`app`]: startup, operation and drain of the gate
//! - [`cli`]: command line
//! - [`demo`]: the main use case with nothing configured, and the throwaway PostgreSQL that tests and benches use too
//! - [`fuzzing`]: entry points of all parsers of foreign bytes, for fuzzers

pub mod access;
pub mod app;
pub mod audit;
pub mod base;
pub mod chat;
pub mod cli;
pub mod config;
pub mod console;
pub mod control;
pub mod database;
pub mod demo;
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod identity;
pub mod ledger;
pub mod model;
pub mod outbound;
pub mod protocol;
