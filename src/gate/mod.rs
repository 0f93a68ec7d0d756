//! Client connections: handshake, session, guard rails, and their counters.

pub mod frontend;
pub mod metrics;
pub mod session;
pub mod sql_filter;
