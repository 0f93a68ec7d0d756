//! Delivery to other systems: webhooks about requests, and the log to a syslog receiver.

pub mod forward;
pub mod notify;
