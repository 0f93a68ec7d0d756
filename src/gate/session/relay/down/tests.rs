use std::sync::Arc;

use super::*;
use crate::audit::event::Who;
use crate::audit::values::ParameterDisplay;
use crate::base::clock::Clock;
use crate::gate::metrics::Metrics;
use crate::gate::session::RecordLimits;
use crate::gate::session::filter::SessionFilter;
use crate::gate::sql_filter::{FilterRules, SqlFilter};
use crate::model::ids::{GrantId, SessionId};
use crate::protocol::wire::frame::BodyPiece;

/// A tap that has forwarded a refused Query, and one that is not refused behind it.
fn recorder() -> StatementRecorder {
    let who = Who {
        session: SessionId::from_random([1; 10]),
        grant: GrantId::from_random([2; 10]),
        identity: "ana@example.com".parse().unwrap(),
        target: "orders".parse().unwrap(),
        profile: None,
    };
    let keep = RecordLimits {
        sql: 1000,
        parameter: 100,
        show: ParameterDisplay::Full,
        key: crate::audit::values::ValueKey::for_test(),
    };
    let clock = Clock::manual("2026-11-23T09:05:07Z".parse().unwrap());
    let now = clock.moment();
    let mut recorder = StatementRecorder::new(Arc::new(who), keep, clock);
    let rules = FilterRules {
        statements: Some(vec!["select".to_owned()]),
        ..FilterRules::default()
    };
    let rails = SqlFilter::new(&rules, "p".parse().unwrap()).unwrap();
    recorder.guard = Some(SessionFilter::new(
        Arc::new(rails),
        "orders".parse().unwrap(),
        Metrics::default(),
        64 << 10,
    ));
    for (text, refused) in [(&b"drop table t\0"[..], true), (b"select 1\0", false)] {
        let piece = BodyPiece {
            tag: b'Q',
            length: u32::try_from(text.len()).unwrap(),
            bytes: text,
            first: true,
            last: true,
        };
        assert_eq!(recorder.refuses(&piece).is_some(), refused);
        recorder.client(&piece, now).unwrap();
    }
    recorder
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn error(severity: &str, code: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0Mwords\0\0").as_bytes())
}

/// What the client reads of what the target says in these chunks.
fn heard(chunks: &[&[u8]]) -> Result<Vec<u8>, RelayStop> {
    let (mut down, mut recorder, pool) = (TargetToClient::new(), recorder(), BufferPool::default());
    let mut read = Vec::new();
    for chunk in chunks {
        let bytes = [&std::mem::take(&mut down.carried), *chunk].concat();
        down.chunk.preset(&pool, &bytes);
        down.look(&mut recorder)?;
        read.extend_from_slice(down.chunk.bytes());
        down.chunk.sent = down.chunk.bytes().len();
        // What the session could end with now.
        assert_eq!(down.tail().whole, down.framer.at_boundary());
    }
    assert!(down.at_boundary());
    Ok(read)
}

fn rows() -> Vec<u8> {
    [
        message(b'T', b"\0\0"),
        message(b'D', b"\0\0"),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

#[test]
fn an_error_is_replaced_wherever_it_is_cut() {
    let status = message(b'S', b"TimeZone\0UTC\0");
    let stream = [status.clone(), error("ERROR", "08P01"), message(b'Z', b"I"), rows()].concat();
    let whole = heard(&[&stream]).unwrap();
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.contains("C42501") && !text.contains("08P01"), "{text}");
    assert!(whole.starts_with(&status) && whole.ends_with(&[message(b'Z', b"I"), rows()].concat()));
    for cut in 0..stream.len() {
        let (start, end) = stream.split_at(cut);
        assert_eq!(heard(&[start, end]).unwrap(), whole, "{cut}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(heard(&bytes).unwrap(), whole);
}

#[test]
fn only_its_own_error_is_replaced() {
    // The second is of the statement behind it.
    let second = [error("ERROR", "22012"), message(b'Z', b"I")].concat();
    let stream = [error("ERROR", "08P01"), message(b'Z', b"I"), second.clone()].concat();
    let read = heard(&[&stream]).unwrap();
    assert!(read.ends_with(&second));
    // The session ends: that is about the session.
    let fatal = error("FATAL", "57P01");
    for cut in 0..fatal.len() {
        let (start, end) = fatal.split_at(cut);
        assert_eq!(heard(&[start, end]).unwrap(), fatal);
    }
}

#[test]
fn an_error_that_has_no_end_is_not_postgresql() {
    let long = message(b'E', &[b'x'; 2 * MAX_CARRIED_BYTES]);
    assert!(matches!(
        heard(&[&long[..100 + MAX_CARRIED_BYTES], &long[100 + MAX_CARRIED_BYTES..]]),
        Err(RelayStop::TargetBroken)
    ));
}
