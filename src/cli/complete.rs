//! Shell completion of words that only the gate knows: targets, profiles, requests, grants.
//!
//! It asks the gate of the environment, the login or the configuration; options in the line being typed are ignored.
//!
//! INVARIANT: it writes nothing and takes no longer than [`COMPLETION_TIMEOUT`]. If the gate does not answer, there are no candidates.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::CompletionCandidate;
use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::GatePlace;
use super::client::ControlClient;
use super::endpoint::UsualCaller;
use super::render::visible;
use super::views::{to, wanted};
use crate::base::duration;
use crate::config::DEFAULT_FILE;
use crate::control::model::{Grants, GrantsQuery, RequestsBody, RequestsQuery, TargetBody, Targets};
use crate::model::request::RequestState;

/// Environment variable with which a shell asks for candidates; its value names the shell.
pub(super) const COMPLETE_VARIABLE: &str = "TIDEGATE_COMPLETE";
/// Longest time that the user waits after pressing the tab key.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);

/// Returns the candidates of an argument that names a target.
pub(super) fn targets() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(known_targets(&config()).map(|target| target.name.to_string())))
}

/// Returns the candidates of an argument that names a target, and a profile after a slash.
pub(super) fn destinations() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(known_destinations(&config())))
}

/// Returns the candidates of an argument that names a profile.
pub(super) fn profiles() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(known_profiles(&config())))
}

/// Returns the candidates of an argument that names a request to be decided.
pub(super) fn pending() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        known_requests(&RequestsQuery {
            status: Some(RequestState::Pending),
            ..RequestsQuery::default()
        })
    })
}

/// Returns the candidates of an argument that names any request.
pub(super) fn requests() -> ArgValueCandidates {
    ArgValueCandidates::new(|| known_requests(&RequestsQuery::default()))
}

/// Returns the candidates of an argument that names a break-glass access to be reviewed.
pub(super) fn unreviewed() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        known_requests(&RequestsQuery {
            unreviewed: true,
            ..RequestsQuery::default()
        })
    })
}

/// Returns the candidates of an argument that names a live grant, for the person who has it.
pub(super) fn own_grants() -> ArgValueCandidates {
    ArgValueCandidates::new(|| known_grants(&config(), UsualCaller::Person))
}

/// Returns the candidates of an argument that names a live grant, for an operator.
pub(super) fn grants() -> ArgValueCandidates {
    ArgValueCandidates::new(|| known_grants(&config(), UsualCaller::Operator))
}

/// Returns the configuration, whose gate is asked unless the environment or the login names another.
fn config() -> PathBuf {
    let named = std::env::var_os("TIDEGATE_CONFIG").filter(|name| !name.is_empty());
    named.map_or_else(|| PathBuf::from(DEFAULT_FILE), PathBuf::from)
}

fn candidates(words: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    words.into_iter().map(CompletionCandidate::new).collect()
}

fn known_targets(config: &Path) -> impl Iterator<Item = TargetBody> {
    let found: Option<Targets> = ask(config, UsualCaller::Person, "/v1/targets", &());
    found.into_iter().flat_map(|found| found.targets)
}

fn known_destinations(config: &Path) -> impl Iterator<Item = String> {
    known_targets(config).flat_map(|target| {
        let profiles = target.profiles.iter().map(|profile| target.name.with(Some(profile)));
        [vec![target.name.to_string()], profiles.collect()].concat()
    })
}

fn known_profiles(config: &Path) -> BTreeSet<String> {
    let profiles = known_targets(config).flat_map(|target| target.profiles);
    profiles.map(|profile| profile.to_string()).collect()
}

fn known_requests(query: &RequestsQuery) -> Vec<CompletionCandidate> {
    let found: Option<RequestsBody> = ask(&config(), UsualCaller::Person, "/v1/requests", query);
    described(found.into_iter().flat_map(|found| found.requests), |view| {
        let wish = &view.request.wish;
        let window = duration::show(wish.window);
        let about = format!("{} {} for {window}, {}", wish.identity, wanted(wish), view.status);
        (view.request.id.to_string(), about)
    })
}

fn known_grants(config: &Path, whose: UsualCaller) -> Vec<CompletionCandidate> {
    let found: Option<Grants> = ask(config, whose, "/v1/grants", &GrantsQuery::default());
    described(found.into_iter().flat_map(|found| found.grants), |view| {
        let about = format!("{} {}, {}", view.grant.identity(), to(&view.grant), view.status);
        (view.grant.id().to_string(), about)
    })
}

fn described<T>(views: impl Iterator<Item = T>, words: impl Fn(T) -> (String, String)) -> Vec<CompletionCandidate> {
    let candidate = |(id, about): (String, String)| CompletionCandidate::new(id).help(Some(visible(&about).into()));
    views.map(words).map(candidate).collect()
}

/// Asks the gate, and returns `None` if it cannot be found or does not answer in time.
fn ask<T: DeserializeOwned>(config: &Path, whose: UsualCaller, path: &str, query: &impl Serialize) -> Option<T> {
    let place = GatePlace {
        control: None,
        token_file: None,
    };
    within(&ControlClient::new(whose, config, &place).ok()?, path, query)
}

fn within<T: DeserializeOwned>(client: &ControlClient, path: &str, query: &impl Serialize) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(COMPLETION_TIMEOUT, client.get(path, query)).await });
    // Do not wait for a pending host name lookup.
    runtime.shutdown_background();
    answer.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Served;

    fn words(candidates: &[CompletionCandidate]) -> Vec<String> {
        let word = |candidate: &CompletionCandidate| candidate.get_value().to_string_lossy().into_owned();
        candidates.iter().map(word).collect()
    }

    #[tokio::test]
    async fn the_gate_knows_the_words() {
        let served = Served::start().await;
        let id = super::super::tests::made(&served).await;
        let config = served.dir.path().join("tidegate.toml");
        let asked = move || {
            let grants = known_grants(&config, UsualCaller::Operator);
            let about = grants.first().and_then(|grant| grant.get_help()).map(ToString::to_string);
            (
                known_targets(&config)
                    .map(|target| target.name.to_string())
                    .collect::<Vec<_>>(),
                known_destinations(&config).collect::<Vec<_>>(),
                known_profiles(&config),
                words(&grants),
                about,
            )
        };
        let (targets, destinations, profiles, grants, about) = tokio::task::spawn_blocking(asked).await.unwrap();
        assert!(targets.contains(&"orders".to_owned()), "{targets:?}");
        assert!(destinations.contains(&"orders/read-only".to_owned()), "{destinations:?}");
        assert!(profiles.contains("read-only"), "{profiles:?}");
        assert_eq!(grants, [id]);
        let about = about.unwrap();
        assert!(about.contains("ana@example.com orders") && about.contains("ready"), "{about}");
        served.stop().await;
    }

    /// A gate that accepts and never answers, and one that is not there.
    #[test]
    fn where_no_gate_answers_there_are_no_words_soon() {
        let dir = tempfile::tempdir().unwrap();
        let (config, token) = (dir.path().join("tidegate.toml"), dir.path().join("token"));
        std::fs::write(&token, "tg_0123").unwrap();
        let clock = crate::base::clock::Clock::system(None);
        let silent = std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap();
        for socket in ["control.sock", "nobody.sock"] {
            let address = format!("unix:{}", dir.path().join(socket).display());
            let place = GatePlace {
                control: Some(address),
                token_file: Some(token.clone()),
            };
            let client = ControlClient::new(UsualCaller::Person, &config, &place).unwrap();
            let began = clock.moment().instant;
            let found: Option<Targets> = within(&client, "/v1/targets", &());
            assert!(found.is_none());
            let took = clock.moment().instant.saturating_duration_since(began);
            assert!(took < COMPLETION_TIMEOUT * 20, "{took:?}");
        }
        drop(silent);
        assert_eq!(known_targets(&config).count(), 0);
    }
}
