//! `reload`: makes the gate read its configuration again, and shows the result.
//!
//! It reads no file itself: the gate knows its file, and reports the mistakes in it.

use std::path::Path;

use super::args::RemoteArgs;
use super::render;
use crate::control::model::Reload;

pub(super) async fn run(config: &Path, remote: &RemoteArgs) -> anyhow::Result<()> {
    let done: Reload = remote.place.operator(config)?.post("/v1/reload", &()).await?;
    remote.show(&done, |done| render::visible(&done.detail))
}
