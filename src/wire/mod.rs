//! (under construction)

pub mod error_response;
pub mod startup;
