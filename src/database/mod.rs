//! Work at the target: authenticated connections, roles and privileges of profiles, the end of backends.

pub mod provision;
pub mod rights;
pub mod upstream;
