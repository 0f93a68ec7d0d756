//! Settings of our own that make the target notice a gate that is gone.
//!
//! It does not decide how often it looks. The law it keeps: a target that does not know one of them is used without it, said
//! once in the gate's log and remembered, never silently and never with a login lost.
//!
//! `tcp_user_timeout` is not among them, on neither side: it also breaks connections whose receiver merely does not read for a
//! while (tcp(7): "buffered data may remain untransmitted"), as happens to a COPY that waits for a lock, or behind a client that
//! is slow to read a result.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::names::TargetName;

/// A busy backend looks every so often whether its connection is still there; since PostgreSQL 14, on systems that can tell.
const CHECK_INTERVAL: &str = "client_connection_check_interval";

/// A backend notices within a minute that the gate's machine is gone; the system's default is two hours.
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// Which of them the target has refused.
#[derive(Debug, Default)]
pub(super) struct Belts {
    no_check_interval: AtomicBool,
    no_keepalives: AtomicBool,
}

impl Belts {
    /// What to send with the next startup packet.
    pub(super) fn worn(&self, check_interval: Duration) -> Vec<(&'static str, String)> {
        let mut worn = Vec::with_capacity(4);
        if !check_interval.is_zero() && !self.no_check_interval.load(Ordering::Relaxed) {
            // PostgreSQL takes whole milliseconds up to i32::MAX; zero would mean never.
            let millis = check_interval.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
            worn.push((CHECK_INTERVAL, millis.to_string()));
        }
        if !self.no_keepalives.load(Ordering::Relaxed) {
            worn.extend(KEEPALIVES.map(|(name, value)| (name, value.to_owned())));
        }
        worn
    }

    /// Whether the refusal is about one of those that were `worn`; then it is not worn again. A server before 14 says 42704, one
    /// that cannot check says 22023, pgbouncer says 08P01; each names the setting.
    pub(super) fn take_off(&self, target: &TargetName, worn: &[(&'static str, String)], message: &str) -> bool {
        let Some((name, _)) = worn.iter().find(|(name, _)| message.contains(name)) else {
            return false;
        };
        let refused = if *name == CHECK_INTERVAL {
            &self.no_check_interval
        } else {
            &self.no_keepalives
        };
        refused.store(true, Ordering::Relaxed);
        tracing::warn!(
            %target,
            setting = name,
            "the target does not take a setting by which it would notice a dead gate: it is used without"
        );
        true
    }
}
