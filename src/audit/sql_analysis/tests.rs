//! What texts are about: names that are tables and names that are not, classes, and what cannot be read.

use std::borrow::Cow;

use proptest::prelude::*;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::*;
use crate::audit::event::{OutsideText, SqlText};
use crate::protocol::lexer::texts_of_one_shape;

fn reading_of(sql: &str) -> SqlAnalysis {
    SqlAnalysis::under(LexerSettings::default(), sql)
}

fn read(sql: &str) -> (String, String) {
    let reading = reading_of(sql);
    assert_eq!(reading.unparsed, None, "{sql}");
    let tables: Vec<_> = reading.tables.iter().map(ToString::to_string).collect();
    let classes: Vec<_> = reading.classes.iter().map(|class| class.as_str()).collect();
    (tables.join(" "), classes.join(" "))
}

fn is(sql: &str, tables: &str, classes: &str) {
    assert_eq!(read(sql), (tables.to_owned(), classes.to_owned()), "{sql}");
}

#[test]
fn tables_by_the_names_postgresql_knows() {
    is("SELECT 1", "", "select");
    is("SELECT * FROM Customers c WHERE c.id = $1", "customers", "select");
    is(r#"SELECT * FROM Shop."Order Items" AS i"#, r#"shop."Order Items""#, "select");
    is("SELECT * FROM a, b JOIN c ON true LEFT JOIN d USING (x)", "a b c d", "select");
    is("SELECT * FROM generate_series(1, 3) AS g, a", "a", "select");
    is(
        "SELECT (SELECT max(x) FROM a) FROM b WHERE EXISTS (SELECT 1 FROM c)",
        "a b c",
        "select",
    );
    is("SELECT * FROM a UNION SELECT * FROM b", "a b", "select");
    is("SELECT * FROM a FOR UPDATE OF a", "a", "select");
    is("SELECT * INTO copy_of FROM a", "copy_of a", "select ddl");
    is("VALUES (1)", "", "select");
    is("SELECT * FROM ONLY a, ONLY b FETCH FIRST 1 ROWS ONLY", "a b", "select");
}

#[test]
fn names_of_a_with_clause_are_no_tables() {
    is("WITH x AS (SELECT * FROM a) SELECT * FROM x JOIN b ON true", "a b", "select");
    is("WITH a AS (SELECT * FROM a) SELECT * FROM a", "a", "select");
    is("WITH x AS (SELECT 1), y AS (SELECT * FROM x) SELECT * FROM y", "", "select");
    is("WITH x AS (SELECT * FROM y), y AS (SELECT 1) SELECT * FROM x", "y", "select");
    is(
        "WITH RECURSIVE x AS (SELECT 1 UNION SELECT * FROM x) SELECT * FROM x",
        "",
        "select",
    );
    is("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) s, x", "x", "select");
    is("WITH x AS (SELECT 1) SELECT * FROM public.x", "public.x", "select");
    is(
        "WITH gone AS (DELETE FROM a USING b WHERE true RETURNING *) INSERT INTO c SELECT * FROM gone",
        "a b c",
        "delete insert",
    );
    is(
        "WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone",
        "a",
        "select delete",
    );
}

#[test]
fn statements_by_class() {
    is("INSERT INTO a (x) VALUES (1) ON CONFLICT DO NOTHING", "a", "insert");
    is("INSERT INTO a SELECT * FROM b", "a b", "insert");
    is("UPDATE a SET x = 1 FROM b WHERE a.id = b.id", "a b", "update");
    is("DELETE FROM ONLY a WHERE x IN (SELECT y FROM b)", "a b", "delete");
    is("MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE", "a b", "merge");
    is("TRUNCATE a, b", "a b", "truncate");
    is("COPY a (x, y) FROM STDIN", "a", "copy");
    is("COPY (SELECT * FROM a) TO STDOUT", "a", "copy");
    is("CREATE TABLE a (x int)", "a", "ddl");
    is("CREATE VIEW v AS SELECT * FROM a", "v a", "ddl");
    is("ALTER TABLE a ADD COLUMN y int", "a", "ddl");
    is("DROP TABLE a, b", "a b", "ddl");
    is("CREATE INDEX i ON a (x)", "a", "ddl");
    is("GRANT SELECT ON a TO r", "a", "privilege");
    is("CREATE ROLE r", "", "privilege");
    is("BEGIN", "", "transaction");
    is("COMMIT", "", "transaction");
    is("ROLLBACK", "", "transaction");
    is("START TRANSACTION READ ONLY", "", "transaction");
    is("UPDATE ONLY a SET x = 1", "a", "update");
    is("SAVEPOINT s", "", "transaction");
    is("SET search_path = a", "", "set");
    is("SHOW search_path", "", "show");
    is("EXPLAIN ANALYZE DELETE FROM a", "a", "explain delete");
    is("PREPARE p AS SELECT * FROM a", "a", "prepare select");
    is("DECLARE c CURSOR FOR SELECT * FROM a", "a", "cursor");
    is("LISTEN x", "", "notify");
    is(
        "BEGIN; UPDATE a SET x = 1; SELECT * FROM b; COMMIT",
        "a b",
        "transaction update select",
    );
    is("COPY a FROM STDIN; DROP TABLE b", "a b", "copy ddl");
    is("", "", "");
}

#[test]
fn the_tables_that_a_statement_changes() {
    for (sql, written) in [
        ("SELECT * FROM a FOR UPDATE", ""),
        ("INSERT INTO a SELECT * FROM b", "a"),
        ("UPDATE Shop.A SET x = 1 FROM b WHERE a.id = b.id", "shop.a"),
        ("DELETE FROM ONLY a USING b WHERE a.id = b.id", "a"),
        ("MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE", "a"),
        ("TRUNCATE a, b", "a b"),
        ("COPY a FROM STDIN", "a"),
        ("COPY a TO STDOUT", ""),
        ("COPY (SELECT * FROM a) TO STDOUT", ""),
        (
            "WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO c SELECT * FROM gone JOIN b ON true",
            "a c",
        ),
        ("SELECT * INTO c FROM a", "c"),
        ("CREATE TABLE c AS SELECT * FROM a", "c"),
        ("CREATE VIEW v AS SELECT * FROM a", ""),
        ("ALTER TABLE a ADD COLUMN y int", "a"),
        ("DROP TABLE a, b", "a b"),
        ("EXPLAIN DELETE FROM a", ""),
        ("EXPLAIN ANALYZE DELETE FROM a", "a"),
        ("EXPLAIN (VERBOSE, ANALYZE) DELETE FROM a", "a"),
        ("PREPARE p AS DELETE FROM a; DELETE FROM b", "b"),
    ] {
        let found: Vec<_> = reading_of(sql).written.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), written, "{sql}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let reading = reading_of("DELETE FROM customers WHERE (");
    assert_eq!(reading.unparsed, Some(ParseFailure::Syntax));
    assert_eq!(reading.classes, [CommandClass::Delete]);
    let table = |name: &str| name.parse::<TableName>().unwrap();
    assert!(reading.may_name(&table("public.Customers"), "DELETE FROM customers WHERE ("));
    assert!(!reading.may_name(&table("orders"), "DELETE FROM customers WHERE ("));
    assert!(reading_of("EXECUTE p(1)").opaque);
    assert_eq!(reading_of("SELECT 1 END; DROP TABLE a").unparsed, Some(ParseFailure::Syntax));
    let block = "DO $$ BEGIN DELETE FROM Customers; END $$";
    assert!(reading_of(block).may_name(&table("customers"), block));
    let mut readings = AnalysisCache::default();
    let cut = readings.of(&SqlText {
        text: OutsideText(Cow::Borrowed("SELECT 1")),
        length: Some(9_000_000),
        ..SqlText::default()
    });
    assert_eq!(cut.unparsed, Some(ParseFailure::Cut));
}

#[test]
fn table_names_as_people_write_them() {
    let table = |text: &str| text.parse::<TableName>().unwrap();
    for text in [
        "customers",
        "shop.customers",
        r#"shop."Order Items""#,
        r#""a.b".c"#,
        r#""a""b""#,
    ] {
        assert_eq!(table(text).to_string(), text);
    }
    assert_eq!(table("Shop.Customers").to_string(), "shop.customers");
    for text in ["", ".", "a.", ".a", "a.b.c", r#""a"#, r#""a"b"#] {
        assert_eq!(text.parse::<TableName>(), Err(TableNameError), "{text}");
    }
    assert!(table("a").may_be(&table("s.a")) && table("s.a").may_be(&table("a")));
    assert!(!table("s.a").may_be(&table("t.a")) && !table("a").may_be(&table("b")));
}

#[test]
fn names_of_classes_are_those_in_the_log() {
    for class in CommandClass::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
}

/// On the stack of a runtime's thread, in the build with the largest frames.
#[test]
fn a_hostile_text_does_not_use_up_the_stack() {
    let many = 100_000;
    let texts = [
        format!("SELECT 1{}", "+1".repeat(many)),
        format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
        format!("SELECT 1{}", "::int".repeat(many)),
        format!("SELECT x{}", "[1]".repeat(many)),
        format!("SELECT 1{}", " UNION SELECT 1,2".repeat(many)),
        format!("SELECT {}1", "NOT ".repeat(many)),
        format!("SELECT {}1", "- ".repeat(many)),
        format!("SELECT {}1", "+".repeat(many)),
        format!("SELECT {}1", "@/**/".repeat(many)),
        format!("SELECT 1 WHERE 1{}", " OR f(1, 2)".repeat(many)),
        format!("SELECT x{}", " COLLATE a".repeat(many)),
        format!("SELECT x{}", " IS NULL".repeat(many)),
        format!("SELECT * FROM a{}", " JOIN a ON true".repeat(many)),
        format!("SELECT {}1", "(SELECT ".repeat(many)),
        format!("SELECT {}1", "CASE WHEN ".repeat(many)),
        format!("SELECT {}1", "ARRAY[".repeat(many)),
    ];
    let read = move || texts.iter().map(|text| reading_of(text).unparsed).collect::<Vec<_>>();
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(read).unwrap();
    assert!(thread.join().unwrap().contains(&Some(ParseFailure::Deep)));
    let deep = |count: usize| format!("SELECT 1{}", "+1".repeat(count));
    let most = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || reading_of(&deep(490)).unparsed);
    assert_eq!(most.unwrap().join().unwrap(), None);
    let rows = format!("INSERT INTO a VALUES (1, -1){}", ", (1, 2 + 3)".repeat(10_000));
    assert_eq!(reading_of(&rows).unparsed, None);
}

proptest! {
    #[test]
    fn any_text_is_read_or_not(text in "\\PC{0,200}") {
        let _ = reading_of(&text);
    }

    #[test]
    fn any_words_of_sql_are_read_or_not(words in proptest::collection::vec("(select|from|with|as|a|b|\\(|\\)|,|;|insert into|values|1|'x'|union|delete|copy|do|\\$\\$|where|=|\\.|\"|join|on|in)", 0..30)) {
        let _ = reading_of(&words.join(" "));
    }
}

#[test]
fn no_text_is_thought_about_for_long() {
    // Each of them doubles the parser's work with each level, or could.
    let shapes = [
        ("SELECT ", "position(", ")"),
        ("SELECT ", "a IN ((", "))"),
        ("SELECT * FROM ", "(", ")"),
        ("SELECT ", "CAST(", " AS int)"),
        ("SELECT ", "f(x => ", ")"),
        ("SELECT ", "CASE WHEN (", ") THEN 1 END"),
        ("SELECT ", "ARRAY[(", ")]"),
        ("SELECT ", "extract(year from ", ")"),
        ("SELECT ", "trim(both from ", ")"),
        ("SELECT ", "substring(", " from 1)"),
        ("SELECT ", "overlay(", " placing 1 from 2)"),
        ("SELECT ", "EXISTS((SELECT ", "))"),
        ("SELECT ", "(SELECT ", ")"),
        ("INSERT INTO t ", "(SELECT * FROM ", ")"),
        ("EXPLAIN ", "(", ")"),
    ];
    let read = move || {
        for (head, open, close) in shapes {
            for levels in [10, 20, 30, 45, 60] {
                let _ = reading_of(&format!("{head}{}1{}", open.repeat(levels), close.repeat(levels)));
            }
        }
        let nested = format!("SELECT {}1{}", "position(".repeat(45), ")".repeat(45));
        reading_of(&nested).unparsed
    };
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(read()));
    // A second in a debug build; minutes to years without a budget.
    let unparsed = told.recv_timeout(std::time::Duration::from_mins(2)).expect("an answer");
    assert_eq!(unparsed, Some(ParseFailure::Deep));
}

/// pgvector's distance is not a comparison, although sqlparser takes it for MySQL's.
#[test]
fn an_operator_of_an_extension_binds_like_any_other() {
    let text = "SELECT id FROM docs WHERE 0.3 BETWEEN emb <=> '[1]' AND 1";
    assert_eq!(reading_of(text).unparsed, None);
}

/// The shortcut for everyday operators gives what sqlparser gives.
#[test]
fn everyday_operators_are_sqlparsers() {
    let text = "a < b > c <= d >= e <> f != g + h - i / j % k || l";
    let known = Tokenizer::new(&budget::POSTGRES, text).tokenize().unwrap();
    let operators = |tokens: Vec<Token>| -> Vec<Token> {
        let is_other = |token: &Token| matches!(token, Token::Word(_) | Token::Whitespace(_));
        tokens.into_iter().filter(|token| !is_other(token)).collect()
    };
    let found = parse::tokens(text.as_bytes(), LexerSettings::default()).unwrap();
    assert_eq!(operators(found), operators(known));
}

proptest! {
    /// The analysis of one text of a shape is that of all: nothing but their literals differs.
    #[test]
    fn a_shape_is_analysed_once((one, other) in texts_of_one_shape()) {
        let mut both = AnalysisCache::default();
        let of = |readings: &mut AnalysisCache, text: &str| readings.of(&SqlText { text: OutsideText(Cow::Borrowed(text)), ..SqlText::default() });
        of(&mut both, &one);
        prop_assert_eq!(of(&mut both, &other), of(&mut AnalysisCache::default(), &other), "{} after {}", other, one);
    }
}
