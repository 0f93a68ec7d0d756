//! Statements to try lexers and parsers with: those of PostgreSQL's regression files where they are, which `make regress` fetches, and
//! a few of our own, so that there always are some.

use std::path::{Path, PathBuf};

use crate::protocol::lexer::Lexer;

/// Statements of our own, with one of each kind of token.
pub(crate) const STATEMENTS: [&str; 24] = [
    "SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE o.total > 5.5e1 AND c.city = 'Köln' LIMIT 3",
    "INSERT INTO notes (id, text) VALUES (1, 'it''s'), (2, E'it\\'s\\n'), ($1, $2::text) ON CONFLICT (id) DO NOTHING",
    "UPDATE orders SET note = 'a' -- comment 'of' it\n 'b', total = total * 1.1 WHERE id IN (SELECT 1 UNION ALL SELECT 2)",
    "DELETE FROM orders WHERE note = E'a'\n'b\\'' AND id = 3 /* nested /* comment */ ' */",
    "SELECT $$it's$$, $a$ $b$ $a$, $_x1$;$_x1$ AS \"a \"\"name\"\"\"",
    "SELECT U&'d\\0061t\\+000061' UESCAPE '\\', U&\"d!0061t\" UESCAPE '!', N'nchar', B'0101'\n'11', X'1F'",
    "SELECT a ->> 'k', b #>> '{a,b}', c @> d, e <@ f, g || h, i !~~* j, k <-> l, - 1, @ -2, m <> n, o != p, q <= r, s >= t",
    "SELECT f(a => 1, b := 2), x[1:2], (c).*, y::numeric(10,2), INTERVAL '1 day', DATE '2020-01-01'",
    "CREATE TABLE t (id int PRIMARY KEY, name text DEFAULT 'x' CHECK (name <> ''), made timestamptz)",
    "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS $f$ SELECT a + 1; $f$",
    "DO $do$ BEGIN PERFORM 'it''s'; RAISE NOTICE '%', $$x$$; END $do$",
    "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM t WHERE n < 10) SELECT sum(n) FROM t",
    "COPY orders (id, note) FROM STDIN WITH (FORMAT csv, DELIMITER E'\\t', QUOTE '\"', NULL '')",
    "SELECT 'a' 'b'",
    "SELECT 1; SELECT 2",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "SET search_path TO \"My Schema\", public",
    "SELECT * FROM orders FOR NO KEY UPDATE OF orders SKIP LOCKED",
    "SELECT '\\', 'a\\b', '\\\\', E'\\\\', E'\\x41\\101\\u00e4\\U000000e4'",
    "TABLE orders",
    "SELECT count(*) FILTER (WHERE a IS NOT NULL) OVER (PARTITION BY b ORDER BY c DESC NULLS LAST) FROM t",
    "SELECT CASE WHEN a THEN 'x' ELSE 'y' END, a IS DISTINCT FROM b, c BETWEEN SYMMETRIC 1 AND 2, d LIKE 'a\\%b' ESCAPE '\\'",
    "EXPLAIN (ANALYZE, FORMAT json) SELECT 1",
    "SELECT 1-1, 1--1\n, 2+/* */3, 4*-5, 6@-7, 8<-9, 1 .5, 1..2",
];

/// The regression files: in the folder that `REGRESS_SQL` names, or where `make regress` has put them.
pub(crate) fn files() -> Vec<PathBuf> {
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

/// The statements of the regression files.
pub(crate) fn regression() -> Vec<String> {
    let mut all = Vec::new();
    for path in files() {
        let bytes = std::fs::read(&path).unwrap();
        let sql = without_psql(&String::from_utf8_lossy(&bytes));
        all.extend(statements(&sql).into_iter().map(str::to_owned));
    }
    all
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
