//! Setup that all lanes share, and the description of the machine at the head of the results.
//!
//! It measures nothing.

use std::fmt::Write as _;
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tidegate::audit::segment;
use tidegate::demo::testkit::{ServerOptions, TestPostgres};

use crate::lanes::{BENCH, Lane, Stage};

/// Starts a server without durability (so that the figures show the gate and not the disk), with a role, a database and a
/// certificate.
pub(crate) async fn stage(gate: &Path, unlogged: Option<&Path>, sessions: u32) -> Result<Stage> {
    let connections = (sessions + 200).to_string();
    let settings = [
        ("max_connections", &*connections),
        ("shared_buffers", "1GB"),
        ("max_wal_size", "4GB"),
        ("autovacuum", "off"),
    ];
    let server = TestPostgres::start(&ServerOptions {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..ServerOptions::default()
    })?;
    // In the server's folder, which is removed at any end of the bench, and whose owner pgbouncer runs as.
    let folder = server.folder().join("bench");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let password = server.password().expose().clone();
    let client = server.client("postgres").await?;
    client
        .batch_execute(&format!("CREATE ROLE {BENCH} LOGIN PASSWORD '{password}'"))
        .await?;
    client
        .batch_execute(&format!("CREATE DATABASE {BENCH} OWNER {BENCH}"))
        .await?;
    let verifier = client
        .query_one("SELECT rolpassword FROM pg_authid WHERE rolname = $1", &[&BENCH])
        .await?
        .get(0);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let (certificate, key) = (folder.join("localhost.crt"), folder.join("localhost.key"));
    fs::write(&certificate, cert.pem())?;
    fs::write(&key, signing_key.serialize_pem())?;
    Ok(Stage {
        server,
        password,
        verifier,
        certificate,
        key,
        gate: gate.to_owned(),
        unlogged: unlogged.map(Path::to_owned),
        folder,
    })
}

/// Returns the head of the results: date, machine and versions.
pub(crate) fn heading(gate: &Path) -> String {
    let mut text = String::from("# What the gate costs\n\nWritten by `make bench`; do not edit. ");
    let _ = writeln!(text, "{}.\n", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"));
    let cpu = find("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = find("/proc/meminfo", "MemTotal").unwrap_or_default();
    let system = find("/etc/os-release", "PRETTY_NAME").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(
        text,
        "- machine: {cores} cores, {cpu}; {memory}; {}, Linux {}",
        system.trim_matches('"'),
        kernel.trim()
    );
    for (program, arguments) in [
        (&*gate.to_string_lossy(), &["version"][..]),
        ("pgbench", &["--version"]),
        ("pgbouncer", &["--version"]),
        ("haproxy", &["-v"]),
        ("rustc", &["--version"]),
    ] {
        if let Some(version) = first_line(program, arguments) {
            let _ = writeln!(text, "- {version}");
        }
    }
    text.push_str("\nClient, middle and server share these cores. ");
    text
}

/// Returns a note that compares the statements on record with the queries sent. pgbench sends some of its own at its start, so
/// there are more records.
pub(crate) fn audit_note(lane: &Lane) -> Option<String> {
    let (mut records, mut bytes) = (0.0, 0);
    for segment in segment::list(&lane.audit_folder()?).ok()? {
        for record in segment.open().ok()?.split(b'\n') {
            let record = record.ok()?;
            bytes += record.len();
            // Quotes in SQL are escaped, so no statement can contain this text.
            if find_bytes(&record, b",\"event\":\"statement\"") {
                records += 1.0;
            }
        }
    }
    let (name, queries, megabytes) = (lane.kind.name(), lane.queries.get(), bytes / 1_000_000);
    let verdict = if records >= queries {
        "none is missing"
    } else {
        "**RECORDS ARE MISSING**"
    };
    let counted = |name: &str| lane.metric(name).unwrap_or(f64::NAN) / records;
    Some(format!(
        "{name}: {records} statements on record ({megabytes} MB) for {queries} queries of pgbench: {verdict}; for each statement \
         {:.3} writes of the log and {:.4} syncs.",
        counted("tidegate_audit_writes_total"),
        counted("tidegate_audit_syncs_total")
    ))
}

fn find_bytes(line: &[u8], wanted: &[u8]) -> bool {
    line.windows(wanted.len()).any(|window| window == wanted)
}

/// Returns the value of `name: value` or `name=value`.
fn find(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([':', '=', ' ', '\t']).trim().to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
