//! What the tests share: one PostgreSQL per test program, gates of their own, clients, and waiting with generous bounds.
//!
//! It asserts nothing about the gate.
#![allow(dead_code, unused_imports, reason = "not every test file needs every helper")]

mod clients;
mod random;
pub mod raw;
mod wait;

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tidegate::lab::{Gate, Login, Options, Postgres, Shop};

pub use clients::{Said, psql, suite, suite_in_clear};
pub use random::{Random, seed};
pub use wait::{PATIENCE, eventually, within};

/// The target's name in every test's configuration.
pub const TARGET: &str = "shop";
/// Whom grants are for, where it does not matter.
pub const ANA: &str = "ana@example.com";

/// The database all tests of this program share; its keeper ends it with the program.
pub struct Database {
    pub server: Postgres,
    pub shop: Shop,
}

/// Starts the database on first use. Blocks; fine in async tests too.
pub fn database() -> &'static Database {
    static DATABASE: OnceLock<Database> = OnceLock::new();
    DATABASE.get_or_init(|| start(&Options::default()))
}

/// A database of a test's own, where the shared one will not do.
pub fn start(options: &Options) -> Database {
    let server = Postgres::start(options).expect("a throwaway PostgreSQL");
    // A test may be inside a runtime already, and runtimes do not nest in one thread.
    let shop = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(Shop::make(&server))
        });
        made.join().expect("no panic").expect("the shop")
    });
    Database { server, shop }
}

/// The built program.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tidegate"))
}

/// A gate in front of the shared database; `more` is added to its configuration (tables only).
pub fn gate_with(more: &str) -> Gate {
    gate_before(database(), "", more)
}

/// A gate in front of the shared database, as it comes.
pub fn gate() -> Gate {
    gate_with("")
}

/// A gate in front of any database; `lines` go into the target's table.
pub fn gate_before(database: &Database, lines: &str, more: &str) -> Gate {
    let config = format!("{}{more}", database.shop.target_table(TARGET, lines));
    Gate::start(binary(), &config, &[database.shop.password_file()]).expect("a gate")
}

/// A grant for Ana.
pub fn grant(gate: &Gate, window: &str) -> Login {
    gate.grant(ANA, TARGET, window, &[]).expect("a grant")
}

/// The audit log as it is on disk, line by line.
pub fn records(gate: &Gate) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(gate.audit_folder())
        .expect("the audit folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a readable log"))
        .collect();
    // A line still being written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("valid JSON"))
        .collect()
}

/// The records of one kind that concern one grant.
pub fn records_of(gate: &Gate, grant: &str, event: &str) -> Vec<Value> {
    records(gate)
        .into_iter()
        .filter(|record| record["event"] == event && record["grant"] == grant)
        .collect()
}
