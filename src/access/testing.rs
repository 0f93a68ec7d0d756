//! Rules for the tests of this module and of those that need an access service.
//!
//! It is not part of the program.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{AccessRules, LineLimits, LineRules, RequestCaps};
use crate::access::policy::Policies;
use crate::identity::Issuers;
use crate::model::sign_in::SignInLimits;

/// Two targets, the first with three profiles.
pub(crate) fn rules(policies: Option<Arc<Policies>>) -> AccessRules {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect();
    AccessRules {
        policies,
        targets: BTreeMap::from([
            (
                "orders".parse().expect("a name"),
                names(&["read-only", "read-write", "owner"]),
            ),
            ("payments".parse().expect("a name"), names(&["default"])),
        ]),
        words: BTreeMap::new(),
        issuers: Arc::new(Issuers::default()),
        caps: RequestCaps::default(),
        default_window: Duration::from_mins(30),
        default_sessions: 10,
        pending_for: Duration::from_hours(1),
        activate_within: Duration::from_hours(1),
        requests_per_minute: 30,
        sign_ins: SignInLimits::default(),
        console_address: None,
        token_life: Duration::from_hours(90 * 24),
        use_modes: BTreeMap::new(),
        line: LineRules {
            limits: LineLimits { grants: 200, of_one: 50 },
            kept: Duration::from_secs(30),
        },
    }
}
