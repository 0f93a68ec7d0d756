//! Delivery to other systems: webhooks about requests and grants, and the log to a syslog receiver.

pub mod forward;
pub mod notify;
