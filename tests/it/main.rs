//! The gate as a whole, against a real PostgreSQL, with real clients: `psql` and `tokio-postgres`.
//!
//! One program, one file per behaviour:
//! - `tour`: a tester's way from the grant to the first rows, and what the log says about it
//! - `support`: the servers, the clients, the waiting
#![allow(missing_docs, reason = "tests, not a library")]

mod support;
mod tour;
