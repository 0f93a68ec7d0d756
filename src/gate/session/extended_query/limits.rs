//! Limits on the prepared statements and portals of a session and of all sessions of an identity. A message beyond a limit is
//! refused like a statement, and the session continues.
//!
//! Executing, closing and SQL (`DEALLOCATE`) are always allowed, so a client can always get below the limit again.

use std::sync::Arc;

use super::ExtendedQueryState;
use crate::gate::sql_filter::{FilterRule, StatementRefusal};

/// Maximum number of prepared statements of one session, and of portals.
const MAX_NAMES: usize = 50_000;
const TOO_MANY_HINT: &str =
    "give up prepared statements that are not needed any more (DEALLOCATE, or a smaller statement cache of the driver)";

impl ExtendedQueryState {
    /// Returns the refusal if a Parse or Bind (by its tag) must not be forwarded now. A Parse is refused slightly earlier than a
    /// Bind, so that statements that are already prepared can still be executed.
    pub(in crate::gate::session) fn over_limit(&self, tag: u8) -> Option<Arc<StatementRefusal>> {
        let (names, bytes) = match tag {
            b'P' => (self.statements.len(), self.held.full_for_statements()),
            b'B' => (self.portals.len(), self.held.full_for_portals()),
            _ => return None,
        };
        let (rule, message, detail) = if let Some(limit) = bytes {
            (
                FilterRule::PreparedBytes,
                "your sessions hold as many bytes of prepared statements and portals as they may",
                format!(
                    "All your sessions together may hold {limit} bytes; the last eighth is for portals. The session goes on."
                ),
            )
        } else if names >= MAX_NAMES {
            (
                FilterRule::PreparedNames,
                "this session holds as many prepared statements or portals as it may",
                format!("It may hold {MAX_NAMES} of each. The session goes on."),
            )
        } else {
            return None;
        };
        Some(Arc::new(StatementRefusal {
            rule,
            message: message.to_owned(),
            detail,
            hint: TOO_MANY_HINT.to_owned(),
        }))
    }
}
