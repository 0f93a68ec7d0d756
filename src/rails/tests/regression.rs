//! The statements of PostgreSQL's own regression files, which `make regress` fetches: how many of them are read, how fast, and whether
//! words find the kinds that the parser finds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::lexer::Lexer;

/// No statement of those files takes longer, not even in a debug build on a busy machine.
const MOST: Duration = Duration::from_millis(500);

/// The files: in the folder that `REGRESS_SQL` names, or where `make regress` has put them.
fn files() -> Vec<PathBuf> {
    let fetched = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/regress/source");
        let versions = std::fs::read_dir(source).ok()?;
        let folder = |entry: std::io::Result<std::fs::DirEntry>| Some(entry.ok()?.path().join("src/test/regress/sql"));
        versions.filter_map(folder).find(|folder| folder.is_dir())
    };
    let Some(folder) = std::env::var_os("REGRESS_SQL").map(PathBuf::from).or_else(fetched) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
}

/// A file without what psql does by itself: its commands, and what it sends as the data of a `COPY`.
fn without_psql(text: &str) -> String {
    let (mut sql, mut data) = (String::new(), false);
    for line in text.lines() {
        if data {
            data = line != "\\.";
        } else if !line.trim_start().starts_with('\\') {
            sql.push_str(line);
            sql.push('\n');
            let words = line.to_lowercase();
            data = words.contains("from stdin") && words.trim_end().ends_with(';');
        }
    }
    sql
}

fn statements(sql: &str) -> Vec<&str> {
    let (mut lexer, mut begins, mut open, mut all) = (Lexer::new(sql.as_bytes()), None, 0, Vec::new());
    while let Some(token) = lexer.next_code() {
        let begin = *begins.get_or_insert(token.start);
        open += i32::from(token.is_sign(b'(')) - i32::from(token.is_sign(b')'));
        if token.is_sign(b';') && open <= 0 {
            all.extend(sql.get(begin..token.start));
            (begins, open) = (None, 0);
        }
    }
    all.retain(|text| !text.is_empty());
    all
}

/// Whether the server's own grammar knows a text: a mistake that it finds later has another SQLSTATE, for the most part.
async fn is_valid(client: &tokio_postgres::Client, text: &str) -> bool {
    let error = client.prepare(text).await.err();
    error.is_none_or(|error| error.code() != Some(&tokio_postgres::error::SqlState::SYNTAX_ERROR))
}

#[tokio::test]
#[ignore = "needs PostgreSQL's regression files: make regress, or REGRESS_SQL=folder"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
async fn the_regression_files_are_judged() {
    let files = files();
    if files.is_empty() {
        println!("no regression files: `make regress` fetches them, REGRESS_SQL names them");
        return;
    }
    let server = crate::lab::Postgres::start(&crate::lab::Options::default()).unwrap();
    let client = server.client("postgres").await.unwrap();
    let rails = rails(&Rules {
        need_where: true,
        refuse_unknown: true,
        ..Rules::default()
    });
    let (mut valid, mut read, mut agree, mut times) = (0_u32, 0_u32, 0_u32, Vec::new());
    let mut unlike = std::collections::BTreeMap::<String, u32>::new();
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let sql = without_psql(&String::from_utf8_lossy(&bytes));
        for text in statements(&sql) {
            let start = Instant::now();
            let broken = rails.broken(text.as_bytes());
            let took = start.elapsed();
            assert!(took < MOST, "{took:?}: {text}");
            if !is_valid(&client, text).await {
                continue;
            }
            valid += 1;
            times.push(took);
            let parsed = parse::tokens(text).and_then(parse::statements);
            let known = broken.is_none_or(|broken| broken.rule != Rule::Unknown) && parsed.is_ok();
            read += u32::from(known);
            let Ok(parsed) = parsed else { continue };
            let kinds = Found::of(&parsed).kinds;
            let by_words = look::kinds_by_words(text.as_bytes());
            // Words that find more are right to; those that find less would let pass what is not allowed.
            let missed: Vec<_> = kinds
                .iter()
                .filter(|kind| look::CHANGES.contains(kind) && !by_words.contains(kind))
                .collect();
            if missed.is_empty() && kinds.iter().any(|kind| by_words.contains(kind)) {
                agree += 1;
            } else if known {
                *unlike.entry(format!("{by_words:?} {kinds:?}")).or_default() += 1;
            }
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
