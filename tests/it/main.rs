//! The gate as a whole, against a real PostgreSQL, with real clients: `psql` and `tokio-postgres`.
//!
//! One program, one file per behaviour:
//! - `cancel`: Ctrl-C, and whose statement it stops
//! - `demo`: what a newcomer runs first
//! - `log`: what the log says is what the server ran
//! - `tour`: a tester's way from the grant to the first rows, and what the log says about it
//! - `wire`: the protocol from the first byte to bulk data, broken and slow
//! - `support`: the servers, the clients, the waiting
#![allow(missing_docs, reason = "tests, not a library")]

mod cancel;
mod demo;
mod log;
mod support;
mod tour;
mod wire;
