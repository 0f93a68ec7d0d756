use std::fs;

use super::*;
use crate::audit::SignedTip;
use crate::audit::chain::ChainLink;
use crate::model::ids::LogId;

fn tip(log: u8, seq: u64) -> SignedTip {
    SignedTip {
        log: LogId::from_random([log; 10]),
        segment: 3,
        seq,
        link: ChainLink::START.after(&seq.to_be_bytes()),
        line: format!("{{\"seq\":{seq}}}"),
    }
}

#[tokio::test]
async fn the_last_signed_tip_is_read_beside_a_running_gate_and_without_one() {
    let bench = Bench::new();
    let path = bench.folder.path().join("ledger.db");
    assert_eq!(read_log_tip(&bench.folder.path().join("none.db")).unwrap(), None);
    assert_eq!(read_log_tip(&path).unwrap(), None);
    let now = bench.clock.now();
    bench.ledger.remember_log_tip(tip(1, 70), now).await.unwrap();
    assert_eq!(
        read_log_tip(&path).unwrap(),
        Some(tip(1, 70)),
        "beside the gate that writes it"
    );
    bench.ledger.remember_log_tip(tip(1, 60), now).await.unwrap();
    assert_eq!(read_log_tip(&path).unwrap(), Some(tip(1, 70)), "no way back in one log");
    let later = now + jiff::SignedDuration::from_secs(1);
    bench.ledger.remember_log_tip(tip(2, 5), later).await.unwrap();
    assert_eq!(read_log_tip(&path).unwrap(), Some(tip(2, 5)), "the newest log");

    // What a gate that was killed leaves: the write-ahead log, and nobody who has it open.
    let killed = tempfile::tempdir().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::copy(bench.folder.path().join(name), killed.path().join(name)).unwrap();
    }
    assert_eq!(read_log_tip(&killed.path().join("ledger.db")).unwrap(), Some(tip(2, 5)));
}

#[tokio::test]
async fn a_store_in_a_folder_that_cannot_be_written_is_read_all_the_same() {
    let bench = Bench::new();
    bench.ledger.remember_log_tip(tip(1, 70), bench.clock.now()).await.unwrap();
    bench.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().join("odd #1 ?%41");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("ledger.db");
    fs::copy(bench.folder.path().join("ledger.db"), &path).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(read_log_tip(&path).unwrap(), Some(tip(1, 70)));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_tip_that_is_accepted_takes_the_place_of_one_further_on() {
    let bench = Bench::new();
    let (path, now) = (bench.folder.path().join("ledger.db"), bench.clock.now());
    bench.ledger.remember_log_tip(tip(1, 70), now).await.unwrap();
    bench.ledger.accept_log_tip(tip(1, 20), now).await.unwrap();
    assert_eq!(read_log_tip(&path).unwrap(), Some(tip(1, 20)));
}
