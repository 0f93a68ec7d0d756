//! Encoders and incremental parsers of PostgreSQL messages, with limits.
//!
//! This module uses no socket, no clock and no memory beyond its arguments, and does not depend on sessions.
//!
//! INVARIANT: the same bytes give the same messages however they are cut.

pub mod backend;
pub mod binary;
pub mod encode;
pub mod error_response;
pub mod frame;
pub mod frontend;
pub mod startup;
