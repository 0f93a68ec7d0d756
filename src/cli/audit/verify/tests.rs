use std::fs;

use super::*;
use crate::audit::Journal;
use crate::audit::event::{Event, Reloaded};

/// A gate's folder with its configuration and a log of a few segments.
fn gate() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidegate.toml");
    fs::write(
        &config,
        "[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"orders_app\"\n",
    )
    .unwrap();
    let settings = crate::audit::JournalSettings {
        segment_bytes: 1500,
        ..crate::audit::JournalSettings::in_folder(&dir.path().join("tidegate-state"))
    };
    fs::create_dir(dir.path().join("tidegate-state")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(&settings, Clock::system(None)).unwrap();
        for line in 0..30 {
            let event = Event::Reloaded(Reloaded {
                accepted: true,
                detail: format!("line {line}"),
            });
            journal.record(&event).await.unwrap();
        }
        journal.close().await;
    });
    (dir, config)
}

fn audit(config: &Path) -> PathBuf {
    config.with_file_name("tidegate-state").join("audit")
}

/// The exit code for these places, with this key and checkpoint.
fn code(config: &Path, places: &[&Path], key: Option<&str>, since: Option<&Path>) -> u8 {
    let args = VerifyArgs {
        places: places.iter().map(|place| place.to_path_buf()).collect(),
        key: key.map(str::to_owned),
        checkpoint: since.map(|path| path.display().to_string()),
        ledger: None,
        place: args::GatePlace {
            control: None,
            token_file: None,
        },
        printing: OutputArgs {
            output: OutputFormat::Table,
            json: false,
        },
    };
    crate::cli::wait_for(async { Ok(run(config, &args).await) }).unwrap()
}

#[test]
fn the_configured_log_a_copy_of_it_and_some_of_its_files() {
    let (dir, config) = gate();
    let log = audit(&config);
    assert_eq!(code(&config, &[], None, None), 0);
    let key = config.with_file_name("tidegate-state").join("audit-key.pub");
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&log).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let nowhere = dir.path().join("nowhere.toml");
    assert_eq!(code(&nowhere, &[&copy], key.to_str(), None), 0);
    let base64 = super::super::source::named(key.to_str().unwrap()).unwrap().to_string();
    assert_eq!(code(&nowhere, &[&copy], Some(&base64), None), 0);
    let (second, third) = (copy.join("audit-000002.jsonl"), copy.join("audit-000003.jsonl"));
    assert_eq!(code(&nowhere, &[&third, &second], key.to_str(), None), 0);
    assert_eq!(code(&nowhere, &[&second, &log.join("audit-000002.jsonl")], None, None), 2);
    // A segment between them is missed.
    let first = copy.join("audit-000001.jsonl");
    assert_eq!(code(&nowhere, &[&first, &third], None, None), 1);
    // What came since a checkpoint.
    let kept = log.join("checkpoint.json");
    assert_eq!(code(&nowhere, &[&copy], key.to_str(), Some(&kept)), 0);
}

#[test]
fn what_is_wrong_is_1_and_what_cannot_be_read_is_2() {
    let (dir, config) = gate();
    let log = audit(&config);
    let other = crate::audit::key::SigningKey::load_or_make(&dir.path().join("other.pem")).unwrap();
    assert_eq!(code(&config, &[], Some(&other.public().to_string()), None), 1);
    for (places, key) in [
        (vec![dir.path().join("nothing")], None),
        (vec![config.clone()], None),
        // A folder without a log.
        (vec![dir.path().to_path_buf()], None),
        (vec![log.clone()], Some("/nonexistent.pub")),
        (vec![log.clone()], Some(config.to_str().unwrap())),
        (vec![log.clone(), log.clone()], None),
    ] {
        let places: Vec<_> = places.iter().map(PathBuf::as_path).collect();
        assert_eq!(code(&config, &places, key, None), 2, "{places:?} {key:?}");
    }
    assert_eq!(code(&config, &[&log], None, Some(&config)), 2);
    assert_eq!(code(&dir.path().join("nowhere.toml"), &[], None, None), 2);
    // A log without a line, as somebody leaves it who empties it.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("audit-000001.jsonl"), "").unwrap();
    assert_eq!(code(&config, &[&empty], None, None), 1);
    assert_eq!(code(&config, &[&empty], Some(&other.public().to_string()), None), 1);
    // Lines that the checkpoint beside them covers.
    let newest = crate::audit::segment::list(&log).unwrap().pop().unwrap().path;
    let text = fs::read_to_string(&newest).unwrap();
    let shorter: Vec<_> = text.lines().collect();
    fs::write(&newest, shorter[..shorter.len() - 2].join("\n") + "\n").unwrap();
    assert_eq!(code(&config, &[], None, None), 1);
}

/// Whatever the files are called.
#[test]
fn the_report_names_the_line_and_steers_no_terminal() {
    let verdict = |flaw| VerifyReport {
        log: None,
        segments: 3,
        lines: 42,
        bytes: 12_345_678,
        first: 1,
        last: 41,
        proven: 40,
        keys: vec!["0123456789abcdef".to_owned()],
        key_given: true,
        held_to: Some(39),
        held_against: vec![CheckedCheckpoint {
            source: crate::audit::saved_checkpoint::CheckpointSource::Beside,
            covers: 39,
        }],
        flaw,
        remarks: vec!["cut \u{1b}[2J".to_owned()],
    };
    let told = |verdict: &VerifyReport| {
        let report = JsonReport {
            whole: verdict.is_whole(),
            reason: verdict.flaw.as_ref().map(|flaw| visible(&flaw.to_string())),
            remedy: verdict.flaw.as_ref().map(LogFlaw::remedy),
            key_from: Some("audit\u{1b}]0;x.pub"),
            verdict,
        };
        words(&report, 0.25)
    };
    let flaw = LogFlaw::Line {
        file: "/tmp/\u{1b}[31m/audit-000002.jsonl".into(),
        line: 3,
        seq: 17,
        breach: crate::audit::chain::ChainBreach::Changed,
    };
    let text = [told(&verdict(None)), told(&verdict(Some(flaw)))].join("\n---\n");
    assert!(!text.contains('\u{1b}'));
    insta::assert_snapshot!(text);
}
