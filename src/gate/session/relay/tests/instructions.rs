//! Processor instructions that a statement takes on the data path and in the background, on a fixed trace: a figure that needs no
//! quiet machine, so that a change that costs more is seen at once.
//!
//! callgrind counts them, in the unoptimised build that all tests use: they say whether a change made it worse, not what a release
//! costs.

use std::process::Command;

use super::*;
use crate::audit::compactor;
use crate::audit::segment::Segment;

/// Compiler for which [`RECORDED`] holds; another one makes other instructions of the same program.
const RECORDED_WITH: &str = "rustc 1.95.0";
/// Instructions per statement of each trace. After a change that is meant to cost more, or less, they are what the test prints.
/// Machines differ by 4 %, for the C library chooses its functions by what the processor has: these are in the middle.
const RECORDED: [(&str, u64); 5] = [
    ("simple_statements", 296_000),
    ("extended_statements", 320_000),
    ("prepared_statements", 304_000),
    ("known_shapes", 328_000),
    ("compaction", 182_000),
];
/// Deviation that is no change, in percent.
const TOLERANCE: u64 = 5;
/// Statements of a trace that are counted, and those before them that are not.
const STATEMENTS: u32 = 200;
const WARM_UP: u32 = 50;

/// Client, relay and server of a trace, on one thread.
struct Trace {
    client: TcpStream,
    server: TcpStream,
    relay: Relay,
    _folder: tempfile::TempDir,
}

/// What the client sends for one statement, and what the server answers.
type Exchange = fn(u32) -> (Vec<u8>, Vec<u8>);

fn simple(n: u32) -> (Vec<u8>, Vec<u8>) {
    let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid = {};\0", n * 7919 % 100_000);
    let row = b"\0\x01abalance\0\0\0\x40\x06\0\x04\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let answer = [message(b'T', row), message(b'D', b"\0\x01\0\0\0\x010"), complete()];
    (message(b'Q', text.as_bytes()), answer.concat())
}

fn prepared(n: u32) -> (Vec<u8>, Vec<u8>) {
    bound(n, b"P0_1")
}

fn extended(n: u32) -> (Vec<u8>, Vec<u8>) {
    let (asked, answer) = bound(n, b"");
    let parse = message(b'P', b"\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0");
    ([parse, asked].concat(), [message(b'1', b""), answer].concat())
}

fn bound(n: u32, name: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let value = (n * 7919 % 100_000).to_string();
    let length = u8::try_from(value.len()).unwrap();
    let value = [&[length][..], value.as_bytes()].concat();
    let bind = [b"\0", name, b"\0\0\0\0\x01\0\0\0", &value, b"\0\x01\0\0"].concat();
    let asked = [
        message(b'B', &bind),
        message(b'D', b"P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ];
    let row = b"\0\x01abalance\0\0\0\x40\x06\0\x04\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let answer = [
        message(b'2', b""),
        message(b'T', row),
        message(b'D', b"\0\x01\0\0\0\x010"),
        complete(),
    ];
    (asked.concat(), answer.concat())
}

fn prepare(_: u32) -> (Vec<u8>, Vec<u8>) {
    let parse = b"P0_1\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0";
    let asked = [message(b'P', parse), message(b'S', b"")];
    (asked.concat(), [message(b'1', b""), message(b'Z', b"I")].concat())
}

fn complete() -> Vec<u8> {
    [message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

impl Trace {
    async fn new() -> Self {
        let (client, (end, address)) = connected().await;
        let (server, (target, _)) = connected().await;
        let folder = tempfile::tempdir().unwrap();
        let relay = relay((Transport::Plain(end), address), Transport::Plain(target), folder.path());
        Self {
            client,
            server,
            relay,
            _folder: folder,
        }
    }

    async fn run(&mut self, exchange: Exchange, statements: std::ops::Range<u32>) {
        let (client, server) = (&mut self.client, &mut self.server);
        let script = async {
            let mut bytes = vec![0; 4096];
            for n in statements {
                let (asked, answer) = exchange(n);
                client.write_all(&asked).await.unwrap();
                server.read_exact(&mut bytes[..asked.len()]).await.unwrap();
                server.write_all(&answer).await.unwrap();
                client.read_exact(&mut bytes[..answer.len()]).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            stop = self.relay.run() => panic!("{stop:?}"),
            () = script => {}
        }
    }
}

async fn connected() -> (TcpStream, (TcpStream, SocketAddr)) {
    let doors = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(doors.local_addr().unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    (stream, doors.accept().await.unwrap())
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs what is counted. callgrind knows this function by its name.
#[inline(never)]
fn counted_by_callgrind(work: impl FnOnce()) {
    work();
}

fn trace(exchange: Exchange, guarded: bool) {
    let runtime = runtime();
    let mut trace = runtime.block_on(Trace::new());
    // Its thread would write now and then what the session would have, depending on how fast callgrind is.
    let folder = tempfile::tempdir().unwrap();
    let settings = JournalSettings::in_folder(folder.path());
    trace.relay.journal = Journal::open_without_thread(&settings, trace.relay.clock.clone()).unwrap();
    if !guarded {
        trace.relay.recorder.guard = None;
    }
    runtime.block_on(trace.run(prepare, 0..1));
    runtime.block_on(trace.run(exchange, 0..WARM_UP));
    counted_by_callgrind(|| runtime.block_on(trace.run(exchange, WARM_UP..WARM_UP + STATEMENTS)));
}

#[test]
#[ignore = "a trace for `instructions_per_statement_are_as_recorded`"]
fn simple_statements() {
    trace(simple, false);
}

#[test]
#[ignore = "a trace for `instructions_per_statement_are_as_recorded`"]
fn extended_statements() {
    trace(extended, false);
}

#[test]
#[ignore = "a trace for `instructions_per_statement_are_as_recorded`"]
fn prepared_statements() {
    trace(prepared, false);
}

/// Under guard rails, with texts that were never seen of a shape that was.
#[test]
#[ignore = "a trace for `instructions_per_statement_are_as_recorded`"]
fn known_shapes() {
    trace(simple, true);
}

/// Packing and summarising what the statements left in the log.
#[test]
#[ignore = "a trace for `instructions_per_statement_are_as_recorded`"]
fn compaction() {
    let runtime = runtime();
    let mut trace = runtime.block_on(Trace::new());
    runtime.block_on(trace.run(simple, 0..STATEMENTS));
    runtime.block_on(async {
        trace.relay.journal.defer(&mut trace.relay.recorder.outcomes);
        trace.relay.journal.close().await;
    });
    let segment = Segment::at(&trace.relay.journal.settings().dir.join("audit-000001.jsonl")).unwrap();
    counted_by_callgrind(|| compactor::pack(&segment).unwrap());
}

#[test]
fn instructions_per_statement_are_as_recorded() {
    let compiler = Command::new("rustc").arg("--version").output();
    let compiler = compiler.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("left out: no valgrind on this machine");
        return;
    }
    let is_recorded = compiler.is_ok_and(|compiler| compiler.starts_with(RECORDED_WITH));
    let counted = RECORDED.map(|(trace, _)| (trace, count(trace)));
    println!("instructions per statement: {counted:?}");
    for ((trace, recorded), (_, counted)) in RECORDED.into_iter().zip(counted) {
        let deviates = counted.abs_diff(recorded) * 100 > recorded * TOLERANCE;
        assert!(
            !deviates || !is_recorded,
            "{trace}: {counted} instructions per statement, recorded are {recorded}"
        );
    }
}

/// Returns the instructions that callgrind counts per statement of a trace.
fn count(trace: &str) -> u64 {
    let program = std::env::current_exe().unwrap();
    let name = format!("{}::{trace}", module_path!().split_once("::").unwrap().1);
    let said = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted_by_callgrind*")
        .arg(program)
        .args(["--ignored", "--exact", &name, "--test-threads=1"])
        .output()
        .unwrap();
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let collected = said
        .split_once("Collected : ")
        .map(|(_, rest)| rest.split_whitespace().next());
    match collected {
        Some(Some(instructions)) if said.contains("1 passed") => instructions.parse::<u64>().unwrap() / u64::from(STATEMENTS),
        _ => panic!("callgrind counted nothing:\n{said}"),
    }
}
