//! What proves the log, and who gets it.

use serde_json::Value;

use super::people::Team;
use crate::audit::verify::{SavedCheckpoint, VerifyExpectation, verify_folder};

#[tokio::test]
async fn a_checkpoint_is_for_readers_of_the_log_and_its_key_for_operators_to_change() {
    let team = Team::start().await;
    for first in ["GET /v1/audit/checkpoint", "POST /v1/audit/rotate-key"] {
        let (status, problem) = team.says(&team.ana, first, &Value::Null).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &"urn:tidegate:problem:denied".into()),
            "{first}"
        );
    }
    let line = team.served.json("GET /v1/audit/checkpoint", "").await.to_string();
    let kept = SavedCheckpoint::parse(line.as_bytes()).unwrap();
    let rotated = team.served.json("POST /v1/audit/rotate-key", "").await;
    assert_ne!(rotated["key"], kept.checkpoint.key.to_string());
    let now = team.served.json("GET /v1/audit/checkpoint", "").await;
    assert_eq!(now["key"], rotated["key"]);
    let expected = VerifyExpectation {
        key: Some(kept.checkpoint.key),
        kept: Some(kept),
        from_start: true,
        ..VerifyExpectation::default()
    };
    let verdict = verify_folder(&team.served.state("audit"), &expected, |_| ()).unwrap();
    assert_eq!(verdict.flaw, None);
    let log = team.served.ask("GET /v1/log?event=key_changed", true, "").await;
    assert!(log.contains(r#""vouched":true,"by":"admin""#), "{log}");
    // Without a place for it there is no new key, and the old one goes on.
    std::fs::remove_file(team.served.state("audit-key.pem")).unwrap();
    std::fs::create_dir(team.served.state("audit-key.pem.next")).unwrap();
    let problem = team.served.json("POST /v1/audit/rotate-key", "").await;
    assert_eq!(problem["type"], "urn:tidegate:problem:key-kept", "{problem}");
    assert!(problem["remedy"].as_str().unwrap().contains("audit.key"), "{problem}");
    team.served.stop().await;
}
