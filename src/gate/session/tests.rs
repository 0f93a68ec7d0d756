//! A panic within a session, at a gate that runs; and the memory of a session.

mod notices;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::relay::tests::live;
use super::start::StartedSession;
use super::{arrived, begin, carry, run, watch};
use crate::app::RunningGate;
use crate::audit;
use crate::audit::event::{Event, Who};
use crate::base::diagnostics::Diagnostics;
use crate::config::GateSettings;

fn settings(folder: &Path) -> GateSettings {
    std::fs::write(folder.join("orders.password"), "s3cret\n").unwrap();
    let text = "listen = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n\
                [targets.orders]\naddress = \"127.0.0.1:1\"\ndatabase = \"orders\"\nuser = \"orders_app\"\n";
    crate::config::from_text(&folder.join("tidegate.toml"), text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_its_session_alone_and_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let log = settings.audit.dir.clone();
    let gate = RunningGate::start(settings, Diagnostics::default()).await.unwrap();
    let shared = Arc::clone(gate.shared());
    let who = Who {
        session: "se_0000000000".parse().unwrap(),
        grant: "gr_0000000000".parse().unwrap(),
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    };
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
    let entry = shared.registry.enter(live(Arc::new(who.clone()), client, &shared.clock));
    let live = Arc::clone(entry.live());
    let breaking = async move {
        let _entry = entry;
        tokio::task::yield_now().await;
        panic!("as a test wants it");
    };
    carry(&live, Box::pin(breaking), &shared).await;
    assert_eq!((shared.registry.unfinished(), shared.registry.list().len()), (0, 0));
    let records = audit::read(&log, &audit::Filter::default()).unwrap();
    let ended = records.filter_map(|record| match record.unwrap().event {
        Event::SessionEnded(ended) => Some(ended.into_owned()),
        _ => None,
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!((&ended[0].who, ended[0].ending.as_str()), (&who, "gate_fault"));
    // Its target is not there to say so.
    assert_eq!((ended[0].backend_gone, ended[0].client_told), (Some(false), Some(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_panics_is_on_record_and_nobody_elses_end() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let log = settings.audit.dir.clone();
    let gate = RunningGate::start(settings, Diagnostics::default()).await.unwrap();
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
    let breaking = async {
        tokio::task::yield_now().await;
        panic!("as a test wants it");
    };
    assert!(arrived(Box::pin(breaking), client, gate.shared()).await.is_none());
    let records = audit::read(&log, &audit::Filter::default()).unwrap();
    let refused = records.filter_map(|record| match record.unwrap().event {
        Event::Refused(refused) => Some((refused.ending.to_string(), refused.client)),
        _ => None,
    });
    let expected = ("gate_fault".to_owned(), client.ip());
    assert_eq!(refused.collect::<Vec<_>>(), [expected]);
}

/// Size of the futures that a function returns.
fn future_size<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_running_session_is_held_once_and_without_its_end() {
    // Limits of the allocator's size classes, less the header of a task.
    let task = future_size(run);
    assert!(task <= 384, "the task of a connection takes {task} bytes");
    let supervision = future_size(watch::run);
    assert!(supervision <= 512, "the supervision takes {supervision} bytes");
    let session = size_of::<StartedSession>();
    assert!(session <= 2560, "a session takes {session} bytes");
    let login = future_size(begin);
    assert!(login <= 7168, "a login takes {login} bytes");
}
