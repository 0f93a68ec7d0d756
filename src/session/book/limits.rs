//! The limits on what a session, and all sessions of an identity, may have prepared: what is beyond is refused as a statement is, and the
//! session goes on.
//!
//! Executing, closing and SQL (`DEALLOCATE`) pass in any case, so there is always a way back.

use std::sync::Arc;

use super::Book;
use crate::rails::{Refused, Rule};

/// Prepared statements of one session; portals too.
const MAX_NAMES: usize = 50_000;
const GIVE_UP: &str =
    "give up prepared statements that are not needed any more (DEALLOCATE, or a smaller statement cache of the driver)";

impl Book {
    /// Why no Parse or Bind (by its tag) is to be forwarded now, if so. A Parse is refused a little before a Bind: what is prepared
    /// already can be run all the same.
    pub(in crate::session) fn over_limit(&self, tag: u8) -> Option<Arc<Refused>> {
        let (names, bytes) = match tag {
            b'P' => (self.statements.len(), self.held.full_for_statements()),
            b'B' => (self.portals.len(), self.held.full_for_portals()),
            _ => return None,
        };
        let (rule, message, detail) = if let Some(limit) = bytes {
            (
                Rule::PreparedBytes,
                "your sessions hold as many bytes of prepared statements and portals as they may",
                format!(
                    "All your sessions together may hold {limit} bytes; the last eighth is for portals. The session goes on."
                ),
            )
        } else if names >= MAX_NAMES {
            (
                Rule::PreparedNames,
                "this session holds as many prepared statements or portals as it may",
                format!("It may hold {MAX_NAMES} of each. The session goes on."),
            )
        } else {
            return None;
        };
        Some(Arc::new(Refused {
            rule,
            message: message.to_owned(),
            detail,
            hint: GIVE_UP.to_owned(),
        }))
    }
}
