//! Work at the target: authenticated connections, roles and privileges of profiles, copies of templates, the end of backends,
//! undo of recorded changes.

pub mod copy;
pub mod provision;
pub mod rights;
pub mod undo;
pub mod upstream;
