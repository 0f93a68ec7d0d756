//! The audit log.

pub mod event;
