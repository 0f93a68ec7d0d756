//! Bytes to PostgreSQL messages and back, incrementally, with limits.
//!
//! It touches no socket, no clock and no memory beyond what it is handed, and it knows nothing of sessions.
//! The law: the same bytes give the same messages however they are cut.

pub mod backend;
pub mod binary;
pub mod encode;
pub mod error_response;
pub mod frame;
pub mod frontend;
pub mod startup;
