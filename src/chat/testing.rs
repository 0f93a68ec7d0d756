//! Settings for the tests of this room.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChatSettings, SLACK_API};
use crate::base::secret::Secret;

/// Returns the settings of one workspace without users of its own.
pub(super) fn settings() -> ChatSettings {
    ChatSettings {
        signing_secret: Secret::new("s3cret".to_owned()),
        teams: BTreeSet::from(["T1".to_owned()]),
        users: BTreeMap::new(),
        api_token: None,
        api: SLACK_API.to_owned(),
        link: None,
    }
}
