//! `reload`: has the gate read its configuration again, and shows what came of it.
//!
//! It reads no file itself: which one, and what is wrong with it, is the gate's to say.

use std::path::Path;

use super::args::Remote;
use super::client::Client;
use super::reach::Whose;
use super::render;
use crate::control::model::Reload;

pub(super) async fn run(config: &Path, remote: &Remote) -> anyhow::Result<()> {
    let client = Client::new(Whose::Operator, config, &remote.place)?;
    let done: Reload = client.post("/v1/reload", &()).await?;
    render::show(remote.printing.output, &done, |done| render::visible(&done.detail))
}
