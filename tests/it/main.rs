//! The gate as a whole, against a real PostgreSQL, with real clients: `psql` and `tokio-postgres`.
//!
//! One program, one file per behaviour:
//! - `demo`: what a newcomer runs first
//! - `tour`: a tester's way from the grant to the first rows, and what the log says about it
//! - `support`: the servers, the clients, the waiting
#![allow(missing_docs, reason = "tests, not a library")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test says what it expects, and fails otherwise"
)]

mod demo;
mod support;
mod tour;
