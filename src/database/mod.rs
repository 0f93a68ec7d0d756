//! Work at the target: authenticated connections, roles and privileges of profiles, copies of templates, the end of backends.

pub mod copy;
pub mod provision;
pub mod rights;
pub mod upstream;
