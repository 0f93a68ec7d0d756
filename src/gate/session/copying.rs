//! Login that waits while its grant's own database is made, which may take longer than a client waits in silence: the client is told
//! what happens.
//!
//! This module makes no database. The copy goes on if the client leaves; the next login finds it.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::sleep;

use super::SharedState;
use super::limits::length;
use super::waiting::{left, tell};
use crate::base::tls::Transport;
use crate::database::provision::{CopyProgress, GrantRoles};
use crate::model::ending::{Ending, EndingText};
use crate::model::ids::GrantId;
use crate::protocol::wire::{encode, error_response};

/// Time without a notice at the beginning: most databases are made by then. Also the interval of looks at a gate that shuts down.
const QUIET: Duration = Duration::from_secs(1);

/// Client that has no session yet.
pub(super) struct PendingClient<'a> {
    pub(super) transport: &'a mut Transport,
    /// True if AuthenticationOk has been sent, without which libpq accepts no notices.
    pub(super) welcomed: &'a mut bool,
    /// Interval between notices.
    pub(super) repeat: Duration,
}

impl PendingClient<'_> {
    /// Waits for the account of a grant, which may take the making of a database, and tells the client meanwhile.
    pub(super) async fn wait_for<T>(
        &mut self,
        made: impl Future<Output = T>,
        (roles, grant): (&GrantRoles, &GrantId),
        shared: &SharedState,
    ) -> Result<T, Ending> {
        tokio::pin!(made);
        let began = shared.clock.moment().instant;
        let mut next = began;
        let mut out = BytesMut::new();
        loop {
            tokio::select! {
                biased;
                made = &mut made => return Ok(made),
                () = sleep(QUIET) => {}
                ending = left(self.transport), if *self.welcomed => return Err(ending),
            }
            if shared.draining() {
                return Err(Ending::Draining);
            }
            let now = shared.clock.moment().instant;
            let Some((template, progress)) = roles.copying(grant).filter(|_| now >= next) else {
                continue;
            };
            next = now.checked_add(self.repeat).unwrap_or(now);
            if !std::mem::replace(self.welcomed, true) {
                encode::authentication_ok(&mut out);
            }
            let so_far = now.saturating_duration_since(began);
            out.extend(error_response::notice(&words(grant, &template, progress, so_far)));
            tell(self.transport, &mut out).await?;
        }
    }
}

fn words(grant: &GrantId, template: &str, progress: CopyProgress, so_far: Duration) -> EndingText {
    let so_far = length(so_far);
    let (message, hint) = match progress {
        CopyProgress::Copying => (
            format!("copying \"{template}\" for grant {grant}: {so_far} so far"),
            "the login goes on by itself when the copy is complete".to_owned(),
        ),
        CopyProgress::TemplateInUse => (
            format!("the template \"{template}\" is in use, so it cannot be copied yet: tried for {so_far}"),
            format!("close the connections to {template}; the login goes on by itself then"),
        ),
    };
    EndingText {
        code: "01000",
        message,
        detail: None,
        hint: Some(hint),
    }
}
