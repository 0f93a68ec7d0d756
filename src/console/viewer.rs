//! Viewer of a page: what the frame shows of a caller.
//!
//! It allows nothing: the answers only shape the navigation.

use super::templates::frame::Viewer;
use crate::access::Caller;
use crate::access::policy::Action;
use crate::control::ControlContext;

/// Returns the viewer that a caller is.
pub(super) fn viewer(gate: &ControlContext, caller: &Caller) -> Viewer {
    Viewer {
        name: caller.name().to_owned(),
        reads_log: gate.service.would(caller, Action::ReadLog),
        administers: gate.service.would(caller, Action::Administer),
    }
}
