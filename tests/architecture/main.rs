//! The shape of the house, held by a test: who may import whom, what is pure, how long a file may be, that each module says what
//! it is for.
//!
//! It reads the source as text and runs nothing of it. Code under `#[cfg(test)]` is not looked at: tests may use what they need.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests, not a library"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod circles;

/// Every room in layer order, with what it imports. A room may import only from rows above its own, so there is no cycle.
const LAYERS: &[(&str, &str)] = &[
    ("base", ""),
    ("model", "base"),
    ("protocol", "base model"),
    ("identity", "base model"),
    ("audit", "base model protocol"),
    ("ledger", "base model protocol identity audit"),
    ("access", "base model protocol identity audit ledger"),
    ("database", "base model protocol audit ledger"),
    ("gate", "base model protocol audit ledger access database"),
    ("chat", "base model"),
    ("outbound", "base model audit ledger chat"),
    ("control", "base model audit ledger access gate chat"),
    ("console", "base model audit ledger access gate control"),
    ("config", "base model identity audit access database gate chat outbound"),
    (
        "app",
        "base model identity audit ledger access database gate chat outbound control console config",
    ),
    (
        "cli",
        "base model identity audit ledger access database gate control config app",
    ),
    ("demo", "base cli"),
    ("fuzzing", "base protocol identity audit gate chat control config"),
];

/// No task, socket, file, clock or randomness: what these need comes as an argument.
const PURE: &[&str] = &[
    "base/backoff",
    "base/columns",
    "base/duration",
    "base/times",
    "base/visible",
    "model/",
    "protocol/",
    "database/copy",
    "database/rights",
    "gate/sql_filter",
    "access/policy",
    "chat/answer",
    "chat/click",
    "chat/signature",
];
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "tokio",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::env",
    "::now(",
    "getrandom",
    "SystemTime",
];

/// Maximum lines of a file, without its tests. A file is one idea; a longer one has two.
const MAX_FILE_LINES: usize = 600;

/// Tasks that are not `restarted` or `essential` (`supervision`) on the line that spawns them: how many a file has, and why they may.
const UNWATCHED: &[(&str, usize, &str)] = &[
    ("app/accept.rs", 1, "one connection; its panic is caught and on record"),
    ("app/session_runtime.rs", 1, "for those who call it"),
    ("app/mod.rs", 9, "each is `restarted` or `essential` where it is made"),
    (
        "app/reap.rs",
        1,
        "records of sessions without a target: what is missing stays open in the store",
    ),
    (
        "app/serve.rs",
        2,
        "the start, which is awaited; the watchdog's, whose silence ends the gate",
    ),
    ("audit/follow.rs", 1, "one answer"),
    ("control/listen.rs", 2, "one connection each"),
    (
        "control/routes/chat.rs",
        1,
        "one click in a chat; whoever clicked sees that nothing came of it",
    ),
    ("identity/jwks.rs", 1, "one fetch of an issuer's keys"),
    ("ledger/commit.rs", 1, "one change, which is awaited"),
    ("database/provision/connection.rs", 1, "one connection"),
    (
        "database/provision/mod.rs",
        1,
        "a target's terminator: the watch over ends sees that it is there",
    ),
    ("database/provision/roles.rs", 1, "one role, which is awaited"),
    ("gate/session/end.rs", 1, "the close of one connection"),
    (
        "gate/session/watch.rs",
        1,
        "the late record of one session; without it the next start puts one",
    ),
];
const SPAWNS: [&str; 4] = ["tokio::spawn(", "runtime.spawn(", "crew.spawn(", "connections.spawn("];

struct Source {
    /// Relative to `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("a path has a first part").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// How many names its module path has: `session::relay` has two.
    fn depth(&self) -> usize {
        let named = |part: &&str| *part != "mod.rs";
        self.path.to_str().expect("UTF-8").split('/').filter(named).count()
    }

    /// Without comments and without what is only there for tests.
    fn code(&self) -> String {
        let mut code = String::new();
        let mut lines = self.text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                // An item on one line; a block goes on to its closing brace in the same column.
                let indent = line.len() - line.trim_start().len();
                let end = " ".repeat(indent) + "}";
                if lines.next().is_some_and(|item| !item.ends_with(';')) {
                    while lines.next().is_some_and(|line| line != end) {}
                }
                continue;
            }
            if !line.trim_start().starts_with("//") {
                code.push_str(line);
            }
            code.push('\n');
        }
        code
    }
}

/// All production source but the two roots, which hold no code of their own.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name
                .strip_suffix(".rs")
                .is_some_and(|stem| !matches!(stem, "tests" | "testing"))
            {
                let text = fs::read_to_string(&path).expect("readable source");
                let path = path.strip_prefix(&root).expect("below src").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.retain(|source| !matches!(source.path.to_str(), Some("lib.rs" | "main.rs")));
    assert!(found.len() > 50, "the source was not found below {}", root.display());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn words_after<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

fn check(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_table_has_no_cycle_and_is_the_contents_of_the_library() {
    for (row, (module, imports)) in LAYERS.iter().enumerate() {
        for import in imports.split_whitespace() {
            let above = LAYERS[..row].iter().any(|(name, _)| *name == import);
            assert!(above, "`{module}` may not import `{import}`: it is not above it");
        }
    }
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    let contents = library.lines().filter(|line| line.starts_with("//! - ["));
    let contents: Vec<_> = contents
        .flat_map(|line| words_after(line.split("]:").next().unwrap_or(line), "[`"))
        .collect();
    let table: Vec<_> = LAYERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        contents, table,
        "the table of contents in src/lib.rs has the modules in the same order"
    );
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let (module, code, path) = (source.module(), source.code(), source.path.display());
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{path}: module `{module}` is not in the table"));
            continue;
        };
        for import in words_after(&code, "crate::") {
            if import != module && allowed.split_whitespace().all(|name| name != import) {
                faults.push(format!("{path}: `{module}` may not import `{import}`"));
            }
            used.insert((module.clone(), import.to_owned()));
        }
        if code.contains(&"super::".repeat(source.depth())) {
            faults.push(format!(
                "{path}: reaches out of `{module}` by `super`; write `crate::`, which this test sees"
            ));
        }
    }
    for (module, allowed) in LAYERS {
        for import in allowed.split_whitespace() {
            if !used.contains(&((*module).to_owned(), import.to_owned())) {
                faults.push(format!(
                    "`{module}` does not import `{import}` any more: take the edge off the table"
                ));
            }
        }
    }
    check(&faults);
}

#[test]
fn no_file_imports_itself_through_others() {
    let module = |path: &Path| {
        let path = path.to_str().expect("UTF-8").trim_end_matches(".rs").trim_end_matches("/mod");
        path.replace('/', "::")
    };
    let code: BTreeMap<_, _> = sources().iter().map(|source| (module(&source.path), source.code())).collect();
    let circles = circles::circles(&code);
    check(&circles.iter().map(|circle| circle.join(", ")).collect::<Vec<_>>());
}

#[test]
fn pure_modules_touch_nothing_outside() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source.code();
        let path = source.path.to_str().expect("UTF-8");
        if PURE.iter().any(|pure| path.starts_with(pure)) {
            let found = IMPURE.iter().filter(|word| code.contains(**word));
            faults.extend(found.map(|word| format!("{}: `{word}` in a pure module", source.path.display())));
        }
        // clippy.toml names the standard library's; this one it would also forbid to tests.
        if !path.starts_with("base/clock") && code.contains("Instant::now(") {
            faults.push(format!("{}: reads a clock; only clock.rs does", source.path.display()));
        }
    }
    check(&faults);
}

#[test]
fn tasks_are_watched_over() {
    let mut faults = Vec::new();
    for source in sources() {
        // Tools of tests and commands: their end is the command's.
        if matches!(source.module().as_str(), "cli" | "demo" | "fuzzing") {
            continue;
        }
        let code = source.code();
        let spawns = code.lines().filter(|line| SPAWNS.iter().any(|spawn| line.contains(spawn)));
        let unwatched = spawns.filter(|line| !line.contains("restarted(") && !line.contains("essential("));
        let found = unwatched.count();
        let excused = UNWATCHED.iter().find(|(file, ..)| source.path == Path::new(file));
        let allowed = excused.map_or(0, |(_, count, _)| *count);
        if found != allowed {
            faults.push(format!(
                "{}: {found} tasks that nobody watches over, the table has {allowed}",
                source.path.display()
            ));
        }
    }
    check(&faults);
}

/// An error's own text is often the least of it: tokio-postgres says "db error", and the reason is what it comes from.
#[test]
fn messages_say_what_an_error_comes_from() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !source.path.ends_with("diagnostics.rs")) {
        let code = source.code();
        let bare = |line: &&str| ["%error,", "?error,", "= %fault,"].iter().any(|bare| line.contains(bare));
        faults.extend(code.lines().filter(bare).map(|line| {
            let path = source.path.display();
            format!("{path}: `{}`: write `error = %in_one_line(&error)`", line.trim())
        }));
    }
    check(&faults);
}

#[test]
fn every_file_says_what_it_is_for_and_is_no_longer_than_it_needs() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = source.path.display();
        if !source.text.starts_with("//! ") {
            faults.push(format!(
                "{path}: does not begin with `//!`: what it is for, what it does not do, the law it keeps"
            ));
        }
        // Comments count: whoever reads the file reads them too.
        let tests = source.text.find("#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
        let lines = source.text[..tests].lines().count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{path}: {lines} lines, the most is {MAX_FILE_LINES}: split it"));
        }
    }
    check(&faults);
}

/// A property of PostgreSQL's dialect that a new version of sqlparser adds would have the trait's default in the copy, silently.
#[test]
fn the_copy_of_the_parsers_dialect_is_whole() {
    let methods = |text: &str| -> BTreeSet<String> {
        let signatures = text.lines().filter_map(|line| line.strip_prefix("    fn "));
        let names = signatures.filter_map(|signature| signature.split('(').next());
        names.map(str::to_owned).collect()
    };
    let original = the_parsers_dialect();
    let (_, original) = original
        .split_once("impl Dialect for PostgreSqlDialect")
        .expect("the dialect");
    let copy =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/audit/sql_analysis/budget.rs")).expect("the copy");
    let (_, body) = copy.split_once("impl Dialect for Budgeted").expect("the copy");
    let listed = body
        .split_once("as_postgres! {")
        .and_then(|(_, rest)| rest.split_once('}'))
        .expect("its list")
        .0;
    let mut forwarded = methods(body);
    forwarded.extend(listed.split_whitespace().map(str::to_owned));
    let original = methods(original);
    assert!(original.len() > 40, "{original:?}");
    let missing: Vec<_> = original.difference(&forwarded).collect();
    assert!(missing.is_empty(), "not forwarded: {missing:?}");
}

/// The source that this build was made of, as the compiler noted it beside the test's own program.
fn the_parsers_dialect() -> String {
    let program = std::env::current_exe().expect("this program");
    let files = fs::read_dir(program.parent().expect("a folder")).expect("a readable folder");
    let notes = files.flatten().map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("sqlparser-") && name.ends_with(".d")
    });
    let newest = notes
        .max_by_key(|path| path.metadata().and_then(|of| of.modified()).ok())
        .expect("the parser was built");
    let note = fs::read_to_string(newest).expect("a readable note");
    let source = note.split_whitespace().find(|path| path.ends_with("dialect/postgresql.rs"));
    fs::read_to_string(source.expect("the dialect")).expect("readable source")
}
