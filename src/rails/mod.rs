//! A profile's guard rails: which statements are refused before the database sees them.
//!
//! It is the seat belt, not the wall: what a statement may do is decided by the database, by the rights of the profile's role.

mod rules;

pub use rules::Rules;
