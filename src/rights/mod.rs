//! What a profile means at the database, and what the roles there are called (pure).
//!
//! It speaks to no server.

mod role;

pub use role::{InvalidMarker, LONGEST_NAME, Marker, RoleName, grant_role, profile_role, quoted, quoted_text};
