//! Helpers that know nothing of the product: time, text, secrets, tasks, TLS configurations.

pub mod backoff;
pub mod clock;
pub mod columns;
pub mod diagnostics;
pub mod duration;
pub mod error_chain;
pub mod folder_lock;
pub mod secret;
pub mod supervision;
pub mod times;
pub mod tls;
pub mod visible;
