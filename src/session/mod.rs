//! One connection from accept to ending.

pub mod registry;
