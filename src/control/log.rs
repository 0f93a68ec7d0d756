//! `GET /v1/log`: records of the audit log as JSON Lines, those there are and, if asked, those that come.

use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(super) struct Stopped(pub(super) watch::Receiver<bool>);

pub(super) async fn records() {}
