//! The statements of PostgreSQL's own regression files, which `make regress` fetches: how many of them are read, how fast, and whether
//! words find the kinds that the parser finds.

use std::time::{Duration, Instant};

use super::*;
use crate::protocol::lexer::tests::corpus;

/// No statement of those files takes longer, not even in a debug build on a busy machine.
const MOST: Duration = Duration::from_millis(500);

/// Whether the server's own grammar knows a text: a mistake that it finds later has another SQLSTATE, for the most part.
async fn is_valid(client: &tokio_postgres::Client, text: &str) -> bool {
    let error = client.prepare(text).await.err();
    error.is_none_or(|error| error.code() != Some(&tokio_postgres::error::SqlState::SYNTAX_ERROR))
}

#[tokio::test]
#[ignore = "needs PostgreSQL's regression files: make regress, or REGRESS_SQL=folder"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn the_regression_files_are_judged() {
    let texts = corpus::regression();
    if texts.is_empty() {
        println!("no regression files: `make regress` fetches them, REGRESS_SQL names them");
        return;
    }
    let server = crate::demo::testkit::TestPostgres::start(&crate::demo::testkit::ServerOptions::default()).unwrap();
    let client = server.client("postgres").await.unwrap();
    let rails = rails(&FilterRules {
        need_where: true,
        refuse_unknown: true,
        ..FilterRules::default()
    });
    let (mut valid, mut read, mut agree, mut times) = (0_u32, 0_u32, 0_u32, Vec::new());
    let mut unlike = std::collections::BTreeMap::<String, u32>::new();
    for text in texts.iter().map(String::as_str) {
        let start = Instant::now();
        let broken = rails.broken(text.as_bytes(), LexerSettings::default());
        let took = start.elapsed();
        assert!(took < MOST, "{took:?}: {text}");
        if !is_valid(&client, text).await {
            continue;
        }
        valid += 1;
        times.push(took);
        let parsed = parse::tokens(text.as_bytes(), LexerSettings::default()).and_then(parse::statements);
        let known = broken.broken.is_none_or(|broken| broken.rule().0 != FilterRule::Unknown) && parsed.is_ok();
        read += u32::from(known);
        let Ok(parsed) = parsed else { continue };
        let kinds = FilterFindings::of(&parsed).kinds;
        let by_words = inspect::kinds_by_words(text.as_bytes(), LexerSettings::default());
        // Words that find more are right to; those that find less would let pass what is not allowed.
        let missed: Vec<_> = kinds
            .iter()
            .filter(|kind| inspect::CHANGING_KINDS.contains(kind) && !by_words.contains(kind))
            .collect();
        if missed.is_empty() && kinds.iter().any(|kind| by_words.contains(kind)) {
            agree += 1;
        } else if known {
            *unlike.entry(format!("{by_words:?} {kinds:?}")).or_default() += 1;
        }
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{valid} valid statements: {read} known ({} %), p50 {:?}, p99 {:?}, longest {:?}",
        read * 100 / valid,
        at(50),
        at(99),
        at(100)
    );
    println!("parser and words agree on {agree}; else: {unlike:?}");
    assert!(read * 100 >= valid * 80, "{read} of {valid}");
    assert!(unlike.is_empty(), "{unlike:?}");
}
