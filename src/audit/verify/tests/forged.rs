//! What somebody can do who may write the folder and knows how the chain is made, but has not the key.

use super::*;

impl Log {
    /// The chain after all of it.
    fn tip(&self) -> ChainTip {
        let lines = self.segments.iter().flatten();
        lines.fold(ChainTip::START, |tip, line| tip.follow(line).unwrap())
    }

    /// When its last line was written.
    fn end(&self) -> Timestamp {
        let last = self.segments.iter().flatten().next_back();
        last.map_or(Timestamp::UNIX_EPOCH, |line| LogRecord::parse(line).unwrap().time)
    }

    fn lines(&self) -> u64 {
        self.segments.iter().map(Vec::len).sum::<usize>() as u64
    }

    /// Adds a line that fits the chain.
    fn forge(&mut self, at: Timestamp, event: &Event<'_>) {
        let (mut lines, mut out) = (LineBuffer::default(), Vec::new());
        lines.push(at, event).unwrap();
        let _ = lines.iter().fold(self.tip(), |tip, line| tip.seal(&mut out, line));
        out.pop();
        self.segments.last_mut().unwrap().push(out);
    }

    /// Adds lines so many seconds apart, from the end on.
    fn forge_lines(&mut self, count: i64, apart: i64) {
        let end = self.end();
        for line in 0..count {
            let detail = "nothing to be seen here".to_owned();
            let event = Event::Reloaded(Reloaded { accepted: true, detail });
            self.forge(end + SignedDuration::from_secs(apart * line), &event);
        }
    }

    fn forge_segment(&mut self) {
        let (tip, end) = (self.tip(), self.end());
        self.segments.push(Vec::new());
        let began = SegmentBegan {
            log: self.kept.checkpoint.log.clone(),
            segment: u32::try_from(self.segments.len()).unwrap(),
            previous: tip.link,
            key: self.key,
            rest_void: false,
        };
        self.forge(end, &Event::SegmentBegan(Cow::Owned(began)));
    }

    /// Signs it with another key, under the name of this one.
    fn forge_checkpoint(&mut self, key: &SigningKey, name: PublicKey) {
        let checkpoint = Checkpoint {
            key: name,
            ..Checkpoint::sign(&self.kept.checkpoint.log, self.tip(), self.end(), key)
        };
        self.forge(self.end(), &Event::Checkpoint(Cow::Owned(checkpoint)));
    }

    /// The same in a folder where its first file has this number.
    fn held_from(&self, number: u32, expected: &VerifyExpectation) -> VerifyReport {
        let dir = tempfile::tempdir().unwrap();
        for (number, lines) in (number..).zip(&self.segments) {
            let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
            std::fs::write(dir.path().join(segment::name(number)), text).unwrap();
        }
        verify_folder(dir.path(), expected, |_| ()).unwrap()
    }
}

fn without_key() -> VerifyExpectation {
    VerifyExpectation {
        from_start: true,
        ..VerifyExpectation::default()
    }
}

fn another_key() -> SigningKey {
    SigningKey::load_or_make(&tempfile::tempdir().unwrap().path().join("key.pem")).unwrap()
}

#[test]
fn a_log_that_nobody_has_signed_is_not_proven_by_a_key() {
    let mut log = log();
    log.segments = Vec::new();
    log.forge_segment();
    log.forge_lines(20, 0);
    assert_eq!(
        log.flaw(),
        Some(LogFlaw::WrongKey {
            expected: log.key.id(),
            found: Vec::new()
        })
    );
    // Without a key nobody said who should have signed it.
    assert_eq!(log.held_from(1, &without_key()).flaw, None);
}

#[test]
fn a_log_without_a_line_proves_nothing() {
    let mut log = log();
    log.segments = vec![Vec::new()];
    assert_eq!(log.flaw(), Some(LogFlaw::Empty));
    assert_eq!(log.held_from(1, &without_key()).flaw, Some(LogFlaw::Empty));
    log.segments.clear();
    assert_eq!(log.flaw(), Some(LogFlaw::Empty));
    // It is known what should be there.
    assert!(matches!(
        log.held_from(1, &log.whole()).flaw,
        Some(LogFlaw::Truncated { last: 0, .. })
    ));
}

/// A checkpoint that was kept spares what is before it only where that is there.
#[test]
fn segments_that_were_deleted_are_missed_since_a_checkpoint_in_them() {
    let mut log = log();
    let early = SavedCheckpoint::parse(log.segments[0].last().unwrap()).unwrap();
    let number = u32::try_from(log.segments.len()).unwrap();
    log.segments.drain(..log.segments.len() - 1);
    let since = VerifyExpectation {
        kept: Some(early),
        skip: true,
        ..log.whole()
    };
    let missing = LogFlaw::Missing {
        first: 1,
        last: number - 1,
    };
    assert_eq!(log.held_from(number, &since).flaw, Some(missing));
    // Of some files nobody says that they are all, but the checkpoint has to be in them.
    let files = VerifyExpectation {
        from_start: false,
        ..since
    };
    assert!(matches!(log.held_from(number, &files).flaw, Some(LogFlaw::Beheaded { .. })));
}

#[test]
fn a_segment_that_is_missing_among_those_that_are_spared_is_missed() {
    let log = log();
    let dir = tempfile::tempdir().unwrap();
    for (number, lines) in (1..).zip(&log.segments).filter(|(number, _)| *number != 2) {
        std::fs::write(
            dir.path().join(segment::name(number)),
            [lines.join(&b'\n'), b"\n".to_vec()].concat(),
        )
        .unwrap();
    }
    let since = VerifyExpectation {
        skip: true,
        ..log.whole()
    };
    let flaw = verify_folder(dir.path(), &since, |_| ()).unwrap().flaw;
    assert_eq!(flaw, Some(LogFlaw::Missing { first: 2, last: 2 }));
}

#[test]
fn the_last_segment_under_the_first_ones_name_is_not_the_first() {
    let mut log = log();
    log.segments.drain(..log.segments.len() - 1);
    for from_start in [true, false] {
        let expected = VerifyExpectation {
            from_start,
            kept: None,
            ..log.whole()
        };
        assert!(matches!(log.held_from(1, &expected).flaw, Some(LogFlaw::Follows { .. })));
    }
    // One that says it is the first begins with nothing before it.
    let text = String::from_utf8(log.segments[0][0].clone()).unwrap();
    let number = LogRecord::parse(text.as_bytes()).unwrap().seq - 1;
    let Event::SegmentBegan(began) = LogRecord::parse(text.as_bytes()).unwrap().event else {
        panic!("{text}")
    };
    let mut tip = ChainTip {
        seq: number,
        link: began.previous,
    };
    let mut lines = LineBuffer::default();
    let first = SegmentBegan {
        segment: 1,
        ..began.into_owned()
    };
    lines.push(log.end(), &Event::SegmentBegan(Cow::Owned(first))).unwrap();
    let mut out = Vec::new();
    tip = lines.iter().fold(tip, |tip, line| tip.seal(&mut out, line));
    assert!(tip.seq > 1);
    out.pop();
    log.segments = vec![vec![out]];
    assert!(matches!(log.held_from(1, &without_key()).flaw, Some(LogFlaw::Follows { .. })));
}

#[test]
fn a_removal_counts_only_where_it_is_signed() {
    let mut log = log();
    let removed = SegmentsRemoved {
        first: 1,
        last: 2,
        last_seq: log.segments[..2].iter().map(Vec::len).sum::<usize>() as u64,
        link: log.tip().link,
    };
    log.forge(log.end(), &Event::SegmentsRemoved(removed));
    assert_eq!(log.flaw(), None);
    log.segments.drain(..2);
    let verdict = log.held_from(
        3,
        &VerifyExpectation {
            kept: None,
            ..log.whole()
        },
    );
    assert_eq!(verdict.flaw, Some(LogFlaw::Missing { first: 1, last: 2 }));
}

#[test]
fn a_checkpoint_in_the_gates_name_proves_nothing_that_it_did_not_sign() {
    let mut log = log();
    let (proven, other) = (log.lines(), another_key());
    log.forge_lines(8, 0);
    log.forge_checkpoint(&other, log.key);
    let bogus = log.segments.last().unwrap().len() as u64;
    log.forge_lines(8, 0);
    log.forge_checkpoint(&other, other.public());
    let verdict = log.verdict();
    assert!(
        matches!(verdict.flaw, Some(LogFlaw::Forged { line, .. }) if line == bogus),
        "{verdict:?}"
    );
    assert_eq!(verdict.proven, proven);
}

/// A gate signs within seconds, by the times of its own lines, and before another segment follows.
#[test]
fn a_tail_that_a_gate_would_have_signed_is_a_flaw() {
    let genuine = log();
    let first = genuine.lines() + 1;
    let mut late = genuine.clone();
    late.forge_lines(100, 1);
    let unsigned = |log: &Log, last, why| assert_eq!(log.flaw(), Some(LogFlaw::Unsigned { first, last, why }), "{why}");
    unsigned(&late, late.lines(), SignatureHint::Late);
    // The same in a segment of its own.
    let mut alone = genuine.clone();
    alone.forge_segment();
    alone.forge_lines(100, 1);
    unsigned(&alone, alone.lines(), SignatureHint::Late);
    // All in one moment, but in two segments.
    let mut two = genuine.clone();
    two.forge_lines(100, 0);
    let last = two.lines();
    two.forge_segment();
    two.forge_lines(1, 0);
    unsigned(&two, last, SignatureHint::Followed);
    // What a gate leaves that is killed within the second looks like this.
    let mut killed = genuine.clone();
    killed.forge_lines(4, 1);
    let verdict = killed.verdict();
    assert_eq!(verdict.flaw, None);
    assert!(verdict.remarks.iter().any(|remark| remark.contains("are not signed yet")));
}

#[test]
fn a_time_that_is_none_is_not_taken_for_a_short_one() {
    let mut log = log();
    log.forge_lines(2, 0);
    let last = log.segments.last_mut().unwrap().pop().unwrap();
    let text = String::from_utf8(last).unwrap();
    let body = text.split_once(",\"time\":\"").unwrap().1;
    let line = format!("{}{}\n", r#""time":"9999-99-99T99:99:99.999999Z"#, body.split_at(27).1);
    let (line, _) = line.split_once(",\"chain\":").unwrap();
    let mut out = Vec::new();
    let _ = log.tip().seal(&mut out, format!("{line}}}\n").as_bytes());
    out.pop();
    log.segments.last_mut().unwrap().push(out);
    assert!(
        matches!(
            log.flaw(),
            Some(LogFlaw::Unsigned {
                why: SignatureHint::Late,
                ..
            })
        ),
        "{:?}",
        log.flaw()
    );
}

/// Neither a line without an end nor a year of checkpoints takes memory.
#[test]
fn what_does_not_decide_is_not_held() {
    let mut log = log();
    let dir = tempfile::tempdir().unwrap();
    let place = |number| dir.path().join(segment::name(number));
    let key = another_key();
    for _ in 0..50 {
        log.forge_lines(1, 0);
        log.forge_checkpoint(&key, key.public());
    }
    let last = u32::try_from(log.segments.len()).unwrap();
    std::fs::write(
        place(last),
        [log.segments.last().unwrap().join(&b'\n'), b"\n".to_vec()].concat(),
    )
    .unwrap();
    let segment = Segment::at(&place(last)).unwrap();
    let kept = |wanted: &[ChainTip]| {
        ScanOptions::for_checkpoints(wanted)
            .scan(&segment, &|_| ())
            .unwrap()
            .frames
            .len()
    };
    // One of each key.
    assert_eq!(kept(&[]), 2);
    // And the one that is looked for, which is not the last of its key.
    let found = log
        .segments
        .last()
        .unwrap()
        .iter()
        .rev()
        .skip(1)
        .find_map(|line| SavedCheckpoint::parse(line).ok());
    assert_eq!(kept(&[found.unwrap().checkpoint.tip()]), 3);

    let zeros = vec![0; usize::try_from(segment::MAX_LINE_BYTES).unwrap() + 1];
    let packed = dir.path().join("audit-000001.jsonl.zst");
    std::fs::write(&packed, zstd::encode_all(zeros.as_slice(), 1).unwrap()).unwrap();
    std::fs::remove_file(place(last)).unwrap();
    let verdict = verify_folder(dir.path(), &without_key(), |_| ()).unwrap();
    assert_eq!(
        verdict.flaw,
        Some(LogFlaw::Excess {
            file: packed,
            line: 1,
            excess: ExcessKind::Line
        })
    );
    // A gate that finds it writes nothing behind it.
    let found = crate::audit::recovery::recover(dir.path(), &crate::audit::RememberedTip::NotAsked).unwrap();
    assert!(found.broken && matches!(found.faults.as_slice(), [fault] if fault.fault == JournalFault::ChainBroken));
}

#[test]
fn a_file_with_a_second_name_for_a_number_is_told_and_not_read() {
    let log = log();
    let dir = tempfile::tempdir().unwrap();
    for (number, lines) in (1..).zip(&log.segments) {
        std::fs::write(
            dir.path().join(segment::name(number)),
            [lines.join(&b'\n'), b"\n".to_vec()].concat(),
        )
        .unwrap();
    }
    for stray in [
        "audit-0000002.jsonl",
        "audit-02.jsonl.zst",
        "audit-000000.jsonl",
        "AUDIT-000002.jsonl",
    ] {
        assert_eq!(Segment::at(Path::new(stray)), None);
        std::fs::write(dir.path().join(stray), "scribble\n").unwrap();
    }
    let verdict = verify_folder(dir.path(), &log.whole(), |_| ()).unwrap();
    assert_eq!(verdict.flaw, None);
    assert_eq!(
        verdict
            .remarks
            .iter()
            .filter(|remark| remark.contains("is not a segment"))
            .count(),
        4,
        "{:?}",
        verdict.remarks
    );
    assert_eq!(
        Segment::at(Path::new("audit-1000000.jsonl")).map(|segment| segment.number),
        Some(1_000_000)
    );
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(SavedCheckpoint::beside(dir.path()).unwrap(), None);
    std::fs::create_dir(dir.path().join(CHECKPOINT_FILE)).unwrap();
    assert!(matches!(
        SavedCheckpoint::beside(dir.path()),
        Err(NoCheckpointError::Unreadable(_))
    ));
    assert!(verify_folder(dir.path(), &VerifyExpectation::default(), |_| ()).is_err());
}

#[test]
fn what_the_gate_noted_is_told_in_words() {
    let mut log = log();
    let healed = JournalHealed {
        fault: JournalFault::TornTail,
        since: None,
        refused: 0,
        lost: 2,
        cut_bytes: 12,
        detail: None,
    };
    log.forge(log.end(), &Event::JournalHealed(healed));
    let remarks = log.verdict().remarks;
    let told = "the gate recorded: the log ended in the middle of a record, 12 bytes cut off, 2 outcomes lost";
    assert!(remarks.iter().any(|remark| remark.ends_with(told)), "{remarks:?}");
}

/// A key that vouches in the name of the gate's, and the checkpoint that it does not have.
#[test]
fn a_change_of_keys_that_the_old_key_did_not_sign_is_none() {
    let mut log = log();
    let (proven, other) = (log.lines(), another_key());
    let changed = KeyChanged {
        key: other.public(),
        previous: log.key,
        vouched: true,
        by: "ops".to_owned(),
    };
    log.forge(log.end(), &Event::KeyChanged(changed));
    log.forge_checkpoint(&other, other.public());
    let verdict = log.verdict();
    assert!(
        matches!(verdict.flaw, Some(LogFlaw::Unvouched { after, .. }) if after == proven),
        "{verdict:?}"
    );
}
