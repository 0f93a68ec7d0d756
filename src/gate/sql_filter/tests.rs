//! A corpus of texts: what each rule stops, what it lets through, and what the parser misreads, which the database has to stop.

use proptest::prelude::*;

use super::*;
use crate::protocol::lexer::texts_of_one_shape;
use crate::protocol::lexer::{Backslashes, Encoding};

mod regression;

fn rails(rules: &FilterRules) -> SqlFilter {
    SqlFilter::new(rules, "read-only".parse().unwrap()).unwrap()
}

fn only(statements: &[&str]) -> FilterRules {
    FilterRules {
        statements: Some(statements.iter().map(|kind| (*kind).to_owned()).collect()),
        ..FilterRules::default()
    }
}

/// The rule that refuses a text.
fn rule(rails: &SqlFilter, sql: &str) -> Option<&'static str> {
    let refused = rails.judge(sql.as_bytes(), LexerSettings::default());
    refused.map(|refused| refused.rule.name())
}

#[track_caller]
fn all(rails: &SqlFilter, expected: Option<&str>, texts: &[&str]) {
    for text in texts {
        assert_eq!(rule(rails, text), expected, "{text}");
    }
}

/// A profile as it is meant to be: reading, nothing that is not known.
fn restricted() -> SqlFilter {
    rails(&FilterRules {
        refuse_unknown: true,
        deny_tables: vec!["shop.cards".to_owned()],
        ..only(&["select", "show", "explain", "copy", "prepare", "execute", "set", "cursor"])
    })
}

#[test]
fn reading_passes() {
    let texts = [
        "SELECT 1",
        "",
        ";;",
        "-- nothing\n",
        "select * from shop.orders o join customers c using (id) where o.total > 5::numeric order by 1 limit 3",
        "with x as (select * from orders) select count(*) from x",
        "BEGIN; SELECT 1; COMMIT",
        "begin isolation level serializable read only",
        "ROLLBACK TO SAVEPOINT a",
        "show all",
        "EXPLAIN (ANALYZE, BUFFERS) SELECT 1",
        "copy (select * from orders) to stdout with (format csv)",
        "prepare p (int) as select $1",
        "execute p(3)",
        "set search_path = shop",
        "set client_encoding = 'UTF8'",
        "set standard_conforming_strings to on",
        "reset all",
        "select pg_catalog.set_config('search_path', '', false)",
        "declare c cursor for select * from orders",
        "select 'delete from x', $$; drop table y$$, E'it\\'s', U&'d\\0061t\\+000061', \"a;b\" from \"Weird Table\"",
        "select /* /* nested; delete from x */ */ 1",
        "select a -- ; delete from x",
        "select a -- x\r, b",
        "select 1 where 'a\\' || $$x$$ = '2'",
    ];
    all(&restricted(), None, &texts);
}

/// What drivers and tools say by themselves.
#[test]
fn housekeeping_is_known() {
    let rails = rails(&FilterRules {
        refuse_unknown: true,
        ..only(&["select", "show", "set", "cursor", "notify", "prepare"])
    });
    let texts = [
        // psycopg
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        "DEALLOCATE \"_pg3_0\"",
        "DEALLOCATE ALL",
        // asyncpg
        "SELECT pg_advisory_unlock_all()",
        "CLOSE ALL",
        "UNLISTEN *",
        "RESET ALL",
        // JDBC
        "SET extra_float_digits = 3",
        "SET application_name = 'a''b'",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        // SQLAlchemy
        "select pg_catalog.version()",
        "show standard_conforming_strings",
        "SELECT 1 /* ping */",
        // psql
        "SELECT c.oid, n.nspname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname OPERATOR(pg_catalog.~) '^(orders)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) \
         ORDER BY 2, 3;",
        "SELECT d.datname as \"Name\", pg_catalog.array_to_string(d.datacl, E'\\n') FROM pg_catalog.pg_database d ORDER BY 1;",
        "DISCARD ALL",
    ];
    all(&rails, None, &texts);
}

/// What ten drivers and their pools say when a connection is opened, tried and given back; what named cursors, `\\copy` and `pg_dump` say.
#[test]
#[expect(clippy::too_many_lines, reason = "a list of texts")]
fn presets_follow_what_drivers_need() {
    let of = |preset: &str| {
        rails(&FilterRules {
            refuse_unknown: true,
            ..only(&[preset])
        })
    };
    let texts = [
        // asyncpg
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
        "SELECT pg_catalog.set_config('jit', 'off', false)",
        // psycopg, with a named cursor
        "DECLARE \"c\" CURSOR WITH HOLD FOR SELECT * FROM orders",
        "DECLARE \"c\" NO SCROLL CURSOR FOR SELECT * FROM orders",
        "FETCH FORWARD 100 FROM \"c\"",
        "FETCH FORWARD ALL FROM \"c\"",
        "MOVE FORWARD 3 IN \"c\"",
        "CLOSE \"c\"",
        "DEALLOCATE ALL",
        // JDBC, HikariCP
        "SET extra_float_digits = 3",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET statement_timeout TO '30s'",
        // node-postgres, postgres.js, knex, sequelize, typeorm
        "SET client_encoding TO 'utf8'",
        "SHOW server_version;",
        "START TRANSACTION;",
        "DISCARD ALL",
        "LISTEN orders_changed",
        // Npgsql
        "CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP",
        "RESET ALL",
        // pgx
        "-- ping",
        "deallocate all",
        // Django, Rails
        "SELECT set_config('TimeZone', 'UTC', false)",
        "SET client_min_messages TO 'warning'",
        "SET SESSION timezone TO 'UTC'",
        "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE SAVEPOINT a",
        // psql, pg_dump
        "COPY orders TO STDOUT",
        "COPY (SELECT * FROM orders) TO STDOUT WITH (FORMAT csv, HEADER)",
        "LOCK TABLE public.orders, public.customers IN ACCESS SHARE MODE",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "SELECT pg_catalog.set_config('search_path', '', false);",
        "SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'",
        "PREPARE p(pg_catalog.oid) AS SELECT 1 WHERE $1 = 1",
        "EXECUTE p('16384')",
        // People
        "EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM orders",
        "EXPLAIN SELECT 1",
        "TABLE orders",
        "SELECT * FROM orders FOR NO KEY UPDATE",
        "SELECT (c).* FROM customers c",
        "SELECT name COLLATE \"C\" FROM customers ORDER BY name COLLATE \"de-x-icu\"",
        "SELECT * FROM orders WHERE id BETWEEN SYMMETRIC 9 AND 1",
        "SELECT * FROM orders WHERE id NOT BETWEEN SYMMETRIC 9 AND 1",
        "SELECT oid FROM pg_class WHERE relkind OPERATOR(pg_catalog.=) ANY (array['r', 'S']) AND relname OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default",
        "VALUES (1)",
    ];
    let (read, write) = (of("@read"), of("@write"));
    all(&read, None, &texts);
    all(&write, None, &texts);
    let changes = [
        "INSERT INTO orders VALUES (1)",
        "UPDATE orders SET n = 1 WHERE id = 1",
        "DELETE FROM orders WHERE id = 1",
        "COPY orders FROM STDIN",
        "NOTIFY orders_changed",
        "LOCK TABLE orders",
    ];
    all(&write, None, &changes);
    all(&read, Some("statements"), &changes);
    all(
        &read,
        Some("statements"),
        &["EXPLAIN ANALYZE DELETE FROM orders", "LOCK TABLE orders IN SHARE MODE"],
    );
    let never = [
        "DROP TABLE orders",
        "TRUNCATE orders",
        "CREATE TABLE t (a int)",
        "GRANT SELECT ON orders TO PUBLIC",
    ];
    all(&read, Some("statements"), &never);
    all(&write, Some("statements"), &never);
}

#[test]
fn a_kind_is_allowed_and_refused_with_its_parts() {
    let parts = [
        "COPY orders TO STDOUT",
        "UNLISTEN *",
        "LOCK TABLE orders IN ACCESS SHARE MODE",
    ];
    all(&rails(&only(&["copy", "notify", "lock"])), None, &parts);
    all(&rails(&only(&["!copy", "!notify", "!lock"])), Some("statements"), &parts);
    all(&rails(&only(&["@read", "!cursor"])), Some("statements"), &["CLOSE ALL"]);
    let with_more = rails(&only(&["@read", "ddl"]));
    all(&with_more, None, &["CREATE TEMP TABLE t (a int)", "SELECT 1"]);
}

#[test]
fn kinds_are_found_wherever_they_are() {
    let texts = [
        "DELETE FROM orders WHERE id = 1",
        "select 1; insert into orders values (1)",
        "/* select */ insert into orders default values",
        "with gone as (delete from orders where id = 1 returning *) select * from gone",
        "with x as (select 1) update orders set n = 2 where id = 1",
        "select * from (with gone as (update orders set n = 1 where id = 1 returning *) select * from gone) s",
        "explain analyze delete from orders where id = 1",
        "explain (analyze true) insert into orders select 1",
        "copy (delete from orders where id = 1 returning *) to stdout",
        "copy (with x as (insert into orders values (1) returning 1) select * from x) to stdout",
        "prepare p as delete from orders where id = 1",
        "explain analyze with gone as (delete from orders where true returning *) select 1",
        "merge into orders o using x on o.id = x.id when matched then delete",
        "select * into copy_of from orders",
        "create table copy_of as select * from orders",
        "create view v as select 1",
        "drop table orders",
        "truncate orders",
        "alter table orders add column y int",
        "grant select on orders to public",
        "lock table orders",
        "listen x",
        "vacuum orders",
        "select 1;\n\n;;DROP TABLE orders --",
    ];
    all(&restricted(), Some("statements"), &texts);
}

#[test]
fn what_cannot_be_told_is_refused_where_the_profile_is_restricted() {
    let texts = [
        "selec 1",
        "delete from orders where (",
        "'open",
        "$x$ open",
        "/* open",
        "do $$begin delete from orders; end$$",
        "call clean_up()",
        "prepare transaction 'x'",
        "create rule r as on select to orders do instead select 1",
        "select 1; do $$begin end$$",
    ];
    let open = rails(&FilterRules {
        refuse_unknown: true,
        ..FilterRules::default()
    });
    all(&open, Some("unknown"), &texts);
    let no_text = |text: &[u8]| open.judge(text, LexerSettings::default());
    assert!(matches!(no_text(b"select * from \xff"), Some(refused) if refused.rule == FilterRule::Unknown));
    assert_eq!(
        no_text(b"select '\xff'"),
        None,
        "the target refuses it, or takes it for what it is"
    );
    assert!(matches!(open.judge_call(), Some(refused) if refused.rule == FilterRule::Unknown));
    // Who names it wants it.
    let calls = rails(&FilterRules {
        refuse_unknown: true,
        ..only(&["call"])
    });
    all(&calls, None, &["call clean_up()"]);
    assert_eq!(calls.judge_call(), None);
    let deep = |levels| format!("select {}1", "1 + ".repeat(levels));
    assert_eq!(rule(&open, &deep(600)), Some("unknown"));
    assert_eq!(rule(&open, &deep(490)), None);
}

/// A FunctionCall is of the kind `call`, and what it runs is not known.
#[test]
fn function_calls_are_calls() {
    let rule = |rules: &FilterRules| rails(rules).judge_call().map(|refused| refused.rule.name());
    let restricted = |rules| FilterRules {
        refuse_unknown: true,
        ..rules
    };
    for rules in [only(&["select"]), only(&["!call"]), only(&[])] {
        assert_eq!(rule(&rules), Some("statements"), "{rules:?}");
    }
    for rules in [only(&["!drop"]), FilterRules::default()] {
        assert_eq!(rule(&rules), None, "{rules:?}");
        assert_eq!(rule(&restricted(rules)), Some("unknown"));
    }
    assert_eq!(rule(&restricted(only(&["select", "call"]))), None);
}

#[test]
fn where_it_is_not_restricted_words_are_judged_as_far_as_they_go() {
    let rails = rails(&FilterRules {
        deny_tables: vec!["shop.cards".to_owned()],
        ..only(&["!drop", "!truncate"])
    });
    all(
        &rails,
        None,
        &[
            "selec 1",
            "create rule r as on insert to orders do nothing",
            "select * from orders",
            "delete from orders",
        ],
    );
    all(
        &rails,
        Some("statements"),
        &[
            "drop table orders",
            "truncate orders",
            "drop what ever this is (",
            "selec 1; /* ; */ DROP (",
            "drop role r",
        ],
    );
    all(
        &rails,
        Some("deny_tables"),
        &[
            "selec * from Cards",
            "create rule r as on insert to shop.cards do nothing",
            "create trigger t after insert on cards execute function f()",
        ],
    );
    let call = rails.judge_call();
    assert_eq!(call, None);
}

/// Lets pass what cannot be read, if its words say nothing else.
fn lenient() -> SqlFilter {
    rails(&FilterRules {
        need_where: true,
        deny_tables: vec!["shop.cards".to_owned(), "\"Odd One\"".to_owned()],
        ..only(&["!insert", "!drop", "!ddl", "!execute", "!privilege"])
    })
}

/// Mostly what PostgreSQL reads and the gate does not, where the operator says `unknown = "allow"`.
#[test]
fn words_find_rows_where_texts_cannot_be_read() {
    let rails = lenient();
    let texts = [
        "delete from orders *",
        "DELETE/**/FROM orders *",
        "select 1; update orders * set n = 1",
        "(delete from orders *",
        "with x as (select 1) delete from orders *",
        "with gone as (delete from orders * returning *) select * from gone",
        "explain analyze delete from orders *",
        "explain (analyze) update orders * set n = 1",
        "prepare p as delete from orders *",
        "copy (delete from orders * returning *) to stdout",
        "declare c cursor for with gone as (delete from orders * returning 1) select 1",
        "do $$begin delete from orders; end$$",
        "do 'begin delete from orders; end'",
        "do language plpgsql $x$begin execute 'update orders set n = 1'; end$x$",
    ];
    all(&rails, Some("need_where"), &texts);
}

#[test]
fn words_find_kinds_and_tables_where_texts_cannot_be_read() {
    let rails = lenient();
    let texts = [
        "with x as (select 1) insert into orders * values (1)",
        "explain analyze insert into orders * values (1)",
        "explain analyze create table copy_of as select * from orders *",
        "explain analyze execute p * (1)",
        "create role r in role admins superuser what",
        "select * into copy_of from orders *",
        "with x as (select 1) select * into copy_of from orders * ",
        "create rule r as on insert to orders do also delete from orders",
        "create function f() returns void language sql begin atomic delete from orders; end",
        "create schema s create table t (n int) create view v as select 1",
        "alter table orders * rename to other",
        "do $$begin drop table orders; end$$",
    ];
    all(&rails, Some("statements"), &texts);
    let texts = [
        "selec * from shop.cards",
        "table cards *",
        "select * from only (cards) *",
        "selec * from U&\"c\\0061rds\"",
        "select * from u&\"c!0061rds\" uescape '!'",
        "lock table \"Odd One\" *",
        "do $$begin perform * from cards; end$$",
    ];
    all(&rails, Some("deny_tables"), &texts);
    let texts = [
        "select * from orders * for update",
        "select * from orders * for no key update",
        "select a, 'delete from x' from orders * -- update",
        "do $$begin raise notice 'x'; end$$",
    ];
    all(&rails, None, &texts);
    // Where not even words are sure, all count.
    let unsettled = |text: &str| {
        let refused = rails.judge(text.as_bytes(), LexerSettings::UNSETTLED);
        refused.map(|refused| refused.rule.name())
    };
    assert_eq!(unsettled(r"select '\'' ; drop table x --'"), Some("statements"));
    assert_eq!(unsettled(r"select '\'' ; delete from x --'"), Some("need_where"));
    assert_eq!(unsettled(r"select '\d', 'a'"), None);
    // By default none of all these passes, whatever rule there is.
    let by_default = self::rails(&FilterRules {
        need_where: true,
        refuse_unknown: true,
        ..FilterRules::default()
    });
    for text in ["delete from orders *", "do $$begin raise notice 'x'; end$$", "table cards *"] {
        assert_eq!(rule(&by_default, text), Some("unknown"), "{text}");
    }
}

#[test]
fn where_is_needed_wherever_rows_go() {
    let rails = rails(&FilterRules {
        need_where: true,
        ..FilterRules::default()
    });
    let texts = [
        "delete from orders",
        "DELETE FROM ONLY orders /* where */ -- where\n",
        "update orders set n = 1",
        "update orders set n = (select 1 where true)",
        "with gone as (delete from orders returning *) select * from gone where true",
        "explain analyze update orders set n = 1",
        "copy (delete from orders returning *) to stdout",
        "prepare p as update orders set n = $1",
        "select 1 where true; delete from orders",
        "delete from orders using x",
    ];
    all(&rails, Some("need_where"), &texts);
    all(
        &rails,
        None,
        &[
            "delete from orders where id = 1",
            "update orders set n = 1 where true",
            // These say which rows in another way, or are kinds of their own (`statements`).
            "insert into orders values (1) on conflict (id) do update set n = 1",
            "merge into orders o using x on true when matched then delete",
            "truncate orders",
            // What was prepared was judged then.
            "execute p",
            "select * from orders for update",
        ],
    );
}

#[test]
fn tables_are_denied_early() {
    let rails = rails(&FilterRules {
        deny_tables: vec![
            "shop.cards".to_owned(),
            "secrets".to_owned(),
            "hr.*".to_owned(),
            "\"Odd One\"".to_owned(),
        ],
        ..FilterRules::default()
    });
    let texts = [
        "select * from cards",
        "select * from SHOP.Cards",
        "select * from \"shop\".\"cards\"",
        "select * from only shop.cards",
        "table cards",
        "select (select max(x) from cards)",
        "with x as (select * from shop.cards) select * from x",
        "with gone as (delete from cards returning *) select 1",
        "explain analyze select * from cards",
        "copy cards to stdout",
        "copy (select * from cards) to stdout",
        "prepare p as select * from cards",
        "declare c cursor for select * from cards",
        "insert into orders select * from cards",
        "select * from a_schema.secrets",
        "select * from hr.people",
        "drop table hr.people",
        "select * from \"Odd One\"",
        "create view v as select * from cards",
        "create index on cards (id)",
        "alter table shop.cards add column x int",
        "truncate orders, cards",
        "lock table cards",
        "grant select on cards to public",
        "comment on table shop.cards is 'x'",
        "vacuum cards",
        "select * into copy_of from cards",
        "insert into orders values (1) on conflict (id) do update set n = (select 1 from cards)",
        "create table x (n int references cards)",
        "create table x () inherits (cards)",
        "create trigger t after insert on \"Odd One\" execute function f()",
        "merge into cards using x on true when matched then delete",
        "create table x (like cards)",
    ];
    all(&rails, Some("deny_tables"), &texts);
    all(
        &rails,
        None,
        &[
            "select * from orders",
            "select 'cards'",
            "select cards from orders",
            "select * from other.cards",
            "select * from \"Cards\"",
            "with cards as (select 1) select * from cards",
            "select * from people",
            "select * from odd_one",
        ],
    );
}

#[test]
fn how_texts_are_read_stays_as_it_is() {
    let rails = rails(&FilterRules {
        need_where: true,
        ..FilterRules::default()
    });
    let texts = [
        "set standard_conforming_strings = off",
        "SET LOCAL Standard_Conforming_Strings TO 'off'",
        "set session \"client_encoding\" to 'SJIS'",
        "set names 'SJIS'",
        "set backslash_quote = on_or_what",
        "set escape_string_warning = off",
        "set client_encoding = default",
        "reset client_encoding",
        "reset standard_conforming_strings",
        "select set_config('standard_conforming_strings', 'off', false)",
        "select pg_catalog.set_config( 'CLIENT_ENCODING' , 'SJIS', true) from x",
        "select * from set_config('client_' || 'encoding', 'SJIS', false)",
        "select \"set_config\"($1, $2, false)",
        "select set_config(E'client\\x5fencoding', 'SJIS', false)",
        "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
        "select 1; set standard_conforming_strings = off",
        "prepare p as select set_config($1, $2, false)",
    ];
    all(&rails, Some("settings"), &texts);
    all(
        &rails,
        None,
        &[
            "set work_mem = '1GB'",
            "select set_config from settings_of_ours",
            "select * from pg_settings",
        ],
    );
}

#[test]
fn a_length_is_a_rule_by_itself() {
    let rails = rails(&FilterRules {
        max_sql_bytes: Some(20),
        ..FilterRules::default()
    });
    assert_eq!(rails.longest(), 20);
    all(&rails, None, &["selec 1", "drop table x", "12345678901234567890"]);
    all(&rails, Some("max_sql_bytes"), &["123456789012345678901"]);
    // Without one, what is longer than is read cannot be told.
    let text = format!("select '{}'", "x".repeat(MAX_SQL_BYTES));
    assert_eq!(rule(&restricted(), &text), Some("unknown"));
    assert_eq!(rule(&self::rails(&FilterRules::default()), &text), None);
    // Who allows what is unknown has it judged by its beginning; a length closes that.
    let behind = format!("{}; delete from orders", " ".repeat(MAX_SQL_BYTES));
    let lenient = FilterRules {
        need_where: true,
        ..FilterRules::default()
    };
    assert_eq!(self::rails(&lenient).judge_long(&behind.as_bytes()[..MAX_SQL_BYTES]), None);
    let short = FilterRules {
        max_sql_bytes: Some(MAX_SQL_BYTES as u64),
        ..lenient
    };
    assert_eq!(rule(&self::rails(&short), &behind), Some("max_sql_bytes"));
}

#[test]
fn rules_that_cannot_be_meant() {
    let mistake = |rules: FilterRules| SqlFilter::new(&rules, "p".parse().unwrap()).unwrap_err().to_string();
    assert!(mistake(only(&["selekt"])).contains("unknown kind of statement `selekt`; use @read, @write, select, insert"));
    assert!(mistake(only(&["!"])).contains("`!`"));
    for table in ["", "a.b.c", "*", "shop.*.*", "a.b.*", "car*", "\"open"] {
        let rules = FilterRules {
            deny_tables: vec![table.to_owned()],
            ..FilterRules::default()
        };
        assert!(mistake(rules).contains("is not a table"), "{table}");
    }
    for found in [0, 1 + MAX_SQL_BYTES as u64] {
        let rules = FilterRules {
            max_sql_bytes: Some(found),
            ..FilterRules::default()
        };
        assert!(mistake(rules).contains("use 1 to 131072"));
    }
}

#[test]
fn an_empty_list_allows_transactions_only() {
    let none = rails(&only(&[]));
    all(&none, Some("statements"), &["select 1", "begin; select 1"]);
    all(&none, None, &["begin", "rollback", ""]);
}

#[test]
fn a_refusal_says_which_rule_and_how_to_ask_for_more() {
    let Some(refused) = restricted().judge(b"drop table orders", LexerSettings::default()) else {
        panic!("it passed")
    };
    let words = refused.words();
    assert_eq!(words.code, "42501");
    assert_eq!(
        words.message,
        "the guard rails of profile \"read-only\" do not allow this statement"
    );
    assert_eq!(
        words.detail.as_deref(),
        Some(
            "Rule \"statements\": statements of kind \"drop\" are not allowed. Allowed are transaction, select, show, explain, \
             copy, prepare, execute, set, cursor."
        )
    );
    assert!(words.hint.unwrap().contains("tidegate request"));
}

/// What passes although it does what the rules do not want: nobody can tell it from the text. The role's privileges have to stop
/// it, and do; it is here so that nobody believes the rails would.
#[tokio::test]
async fn what_only_the_database_can_stop() {
    const MADE: &str = "
        CREATE SCHEMA shop;
        CREATE TABLE shop.orders AS SELECT n FROM generate_series(1, 3) n;
        CREATE TABLE shop.cards (pan text);
        CREATE VIEW shop.view_of_cards AS SELECT * FROM shop.cards;
        CREATE FUNCTION shop.clean_up() RETURNS void LANGUAGE sql AS 'DELETE FROM shop.orders';
        CREATE FUNCTION shop.run(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; END';
        CREATE FUNCTION shop.add(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM shop.orders; RETURN 1; END';
        CREATE OPERATOR shop.+ (FUNCTION = shop.add, LEFTARG = int, RIGHTARG = int);
        CREATE ROLE reader;
        GRANT USAGE ON SCHEMA shop TO reader;
        GRANT SELECT ON shop.orders TO reader;
        SET SESSION AUTHORIZATION reader;";
    let texts = [
        // A function does anything, and so do operators and casts.
        "select shop.clean_up()",
        "select shop.run('drop table shop.' || 'orders')",
        "select 1 operator(shop.+) 1",
        "select query_to_xml('select * from shop.cards', true, true, '')",
        // A view has other tables.
        "select * from shop.view_of_cards",
        // It locks rows.
        "select * from shop.orders for update",
        // Prepared by a function, unseen.
        "select shop.run('prepare p as delete from shop.orders'); execute p",
        // It reads and writes the server's files.
        "select lo_import('/etc/passwd')",
        "copy shop.orders to program 'id'",
        // What a literal is made of nobody sees.
        "prepare p2 as select shop.run($1); execute p2('drop table shop.orders')",
        // Two statements if a function has turned standard_conforming_strings off.
        r"select shop.run('set standard_conforming_' || 'strings = off')",
        r"select 'a\' || $$x'; delete from shop.orders --$$",
    ];
    let server = crate::demo::testkit::TestPostgres::start(&crate::demo::testkit::ServerOptions::default()).unwrap();
    let client = server.client("postgres").await.unwrap();
    client.batch_execute(MADE).await.unwrap();
    for text in texts {
        assert_eq!(rule(&restricted(), text), None, "{text}");
        let refused = client.batch_execute(text).await.err();
        let code = refused.as_ref().and_then(|error| Some(error.code()?.code()));
        let expected = if text.contains("standard_conforming_") {
            None
        } else {
            Some("42501")
        };
        assert_eq!(code, expected, "{text}: {refused:?}");
    }
    let left = client.query_one("SELECT count(*) FROM shop.orders", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 3);
}

/// A session's settings and a text of its own, whatever it looks like under others.
#[test]
fn texts_are_judged_as_the_session_reads_them() {
    let rails = rails(&FilterRules {
        need_where: true,
        refuse_unknown: true,
        ..FilterRules::default()
    });
    let judged = |strings: Backslashes, encoding: &str, text: &[u8]| {
        let encoding = Encoding::of_name(encoding.as_bytes());
        let refused = rails.judge(text, LexerSettings { strings, encoding });
        refused.map(|refused| refused.rule.name())
    };
    let (on, off, unsettled) = (Backslashes::Ordinary, Backslashes::Escape, Backslashes::Unsettled);
    // Continued on the next line, it still has escapes.
    let text = b"SELECT E'a'\n'b\\''; DELETE FROM orders; --'";
    assert_eq!(judged(on, "UTF8", text), Some("need_where"));
    let text = br"SELECT '\', '; DELETE FROM orders; --'";
    assert_eq!(judged(on, "UTF8", text), None);
    assert_eq!(judged(off, "UTF8", text), Some("need_where"));
    assert_eq!(judged(unsettled, "UTF8", text), Some("unknown"));
    assert_eq!(judged(on, "UTF8", text), None, "it is not remembered for other settings");
    let text = br"select 'a\d' from t where b = 'c\\'";
    assert_eq!(judged(unsettled, "UTF8", text), None, "the same under both");
    // The second byte is one of a character: the literal ends behind it.
    let text = b"SELECT E'\x83\\'; DELETE FROM orders; --'";
    for encoding in ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030"] {
        assert_eq!(judged(on, encoding, text), Some("need_where"), "{encoding}");
    }
    assert_eq!(
        judged(on, "JOHAB", text),
        Some("unknown"),
        "PostgreSQL takes no such character"
    );
    assert_eq!(judged(on, "unsettled", text), Some("unknown"));
    assert_eq!(judged(on, "LATIN1", text), None, "one literal");
    assert_eq!(judged(on, "LATIN1", b"select '\xe4' from orders"), None);
    let text = b"select * from \xe4";
    assert_eq!(judged(on, "LATIN1", text), Some("unknown"), "a name that cannot be compared");
    assert_eq!(judged(unsettled, "unsettled", "select '€ straße'".as_bytes()), None);
}

/// What PostgreSQL reads is read, however seldom it is written.
#[test]
fn spellings_that_the_parser_does_not_know() {
    let rails = rails(&FilterRules {
        need_where: true,
        deny_tables: vec!["shop.cards".to_owned()],
        refuse_unknown: true,
        ..FilterRules::default()
    });
    let texts = [
        "SELECT * FROM orders FOR NO KEY UPDATE",
        "select * from orders o for key share of o nowait",
        "TABLE orders",
        "table only orders order by 1 limit 3",
        "(table orders)",
        "with x as (table orders) table x",
        "explain (costs off) table orders",
        "explain analyze table orders",
        "insert into orders table others",
        "create view v as table orders",
        "declare c cursor for table orders",
        "copy (table orders) to stdout",
        "select 1 union all table orders",
        "SELECT (c).* FROM customers c",
        "select (c).name, (f(c)).*, c.* from customers c",
        "select U&'d!0061ta' uescape '!', U&\"n!0061me\" uescape E'!' from public.U&\"custom\\0065rs\"",
        "select 'a'\n'b', E'a'\n'b\\'', n'c', b'1' -- x\n '0', x'1F'",
        "select 0x1F, 1_000, .5, 1., 1e5, a[1:2] from orders",
        "select a ->> 'b', c #>> '{d}', e @> f, g <-> h, i !~* 'j', |/ 4, l ?| m from orders",
        "select $a$x$a$, $$ ' $$",
        "select 1 // '\n; delete from orders; --'",
        "create table x (a int); alter table x add column b int; drop table x",
    ];
    all(&rails, None, &texts);
    let texts = [
        "table cards",
        "with x as (select 1) table shop.cards",
        "select 1 union table cards",
        "select * from U&\"c\\0061rds\"",
        "select * from u&\"c!0061rds\" uescape '!'",
        "insert into orders table only cards",
    ];
    all(&rails, Some("deny_tables"), &texts);
    let texts = [
        "select 1 \\d",
        "select 1..2",
        "select {d '1'}",
        "select * from u&\"c\\006\"",
        "select u&'a' uescape 'ab'",
    ];
    all(&rails, Some("unknown"), &texts);
}

/// Texts on which lexers fall out, or once did: none of them may be taken for something harmless.
#[test]
fn what_parsers_misread_is_not_known() {
    let texts = [
        // One is an operator and a comment to PostgreSQL.
        "select 1 <-- '\n 2; delete from orders; --'",
        "select 1 +/* '\n */ 2; delete from orders; --'",
        "select 2 *-- $$\n 3; delete from orders -- $$",
        "select 1 @-- '\n; delete from orders; select '",
        "select 1 #-- '\n; delete from orders; select '",
        // Names and literals by code points.
        "select U&\"set\\005fconfig\"('client_encoding', 'SJIS', false)",
        "select * from U&\"\\0063ards\"",
        // A comment ends with a carriage return alone.
        "select 1 -- '\r; delete from orders; --'",
        // Not space to PostgreSQL.
        "select 1\u{a0}; delete from orders",
        "select\u{3000}1; delete from orders",
        // Tags of dollar quotes.
        "select $a$ $b$ $a$; delete from orders; select $b$ $b$",
        "select $ä$ ; $ä$; delete from orders",
        "select a$$; delete from orders; --$$",
        // Backslashes.
        "select 'a\\'; delete from orders; --'",
        "select E'a\\'; select '; delete from orders; --'",
        "select N'a\\'; delete from orders; --'",
        "select B'1\\'; delete from orders; --'",
        // What continues a literal.
        "select 'a'\n'; delete from orders; --'; delete from orders",
        "select `a; delete from orders; --`",
        "select 1 //* '*/; delete from orders; --'",
        "select {d '1; delete from orders; --'}; delete from orders",
        "select [1; delete from orders; --]",
        // Where a parser stops, or takes what follows for data.
        "select 1 end; delete from orders",
        "select 1 end delete from orders",
        "copy orders from stdin; delete from orders",
        "copy orders from stdin;\n\\.\ndelete from orders",
    ];
    for text in texts {
        assert!(rule(&restricted(), text).is_some(), "{text}");
    }
}

#[test]
fn judged_once() {
    let rails = restricted();
    for _ in 0..2 {
        all(&rails, Some("statements"), &["drop table orders"]);
        all(&rails, None, &["select 1"]);
    }
    assert_eq!(rails.known.len(), 2);
    // However much comes, what is remembered is bounded.
    for n in 0..100_000 {
        rails.known.insert(format!("select {n}").into_bytes().into(), None);
    }
    assert!(rails.known.weight() <= CACHE_BYTES, "{}", rails.known.weight());
    let long = format!("select '{}'", "x".repeat(MAX_CACHED_TEXT_BYTES));
    let before = rails.known.get(long.as_bytes());
    assert_eq!(
        (rule(&rails, &long), before),
        (None, rails.known.get(long.as_bytes())),
        "too long to be remembered"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_judged(text in proptest::collection::vec(any::<u8>(), 0..80), pieces in "(select|'|\\$\\$|;|--|/\\*|\\*/|delete from t|\"|E'|\\\\|\\(|\\)|,|a| |\n){0,30}") {
        let rails = restricted();
        let _ = rails.judge(&text, LexerSettings::default());
        let verdict = rails.judge(pieces.as_bytes(), LexerSettings::default());
        prop_assert_eq!(&verdict, &rails.judge(pieces.as_bytes(), LexerSettings::default()), "the same again");
    }

    /// Blanking literals changes no verdict: a text is judged alike whatever was judged before, also one that differs in its literals
    /// alone.
    #[test]
    fn the_shape_decides((one, other) in texts_of_one_shape()) {
        let loose = FilterRules { need_where: true, deny_tables: vec!["shop.cards".to_owned()], ..only(&["select", "insert", "update", "delete"]) };
        let strict = FilterRules { refuse_unknown: true, ..loose.clone() };
        for rules in [loose, strict] {
            let judge = |text: &str| rails(&rules).judge(text.as_bytes(), LexerSettings::default());
            let (alone, both) = (judge(&other), rails(&rules));
            let _ = both.judge(one.as_bytes(), LexerSettings::default());
            prop_assert_eq!(both.judge(other.as_bytes(), LexerSettings::default()), alone, "{} after {}", other, one);
        }
    }

    /// A statement that is not allowed does not become so by what stands around it.
    #[test]
    fn a_delete_is_not_hidden(
        before in proptest::sample::select(vec!["", "select 1;", "/* ' */", "-- '\n", "select 'a''b';", "select $a$ ' $a$;", "select \"a'b\";", ";;", "select E'\\'';"]),
        after in proptest::sample::select(vec!["", ";", "-- '", "/* ' */", "; select ''''", "; select $$ ; $$"]),
    ) {
        let text = format!("{before} delete from orders where id = 1 {after}");
        prop_assert_eq!(rule(&restricted(), &text), Some("statements"), "{}", text);
    }
}

/// Prints what a verdict costs, known and not; run in release.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn measure() {
    let texts = [
        "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;",
        "UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 99999;",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);",
        "BEGIN",
        "SELECT o.id, o.total, c.name, sum(i.price * i.amount) OVER (PARTITION BY o.id ORDER BY i.id) FROM shop.orders o \
         JOIN shop.customers c ON c.id = o.customer LEFT JOIN shop.items i ON i.order_id = o.id \
         WHERE o.created_at BETWEEN $1 AND $2 AND c.country IN ('DE', 'AT', 'CH') AND (o.status = 'open' OR o.total > 100.0) \
         GROUP BY o.id, c.name, i.id HAVING count(*) > 1 ORDER BY o.total DESC NULLS LAST LIMIT 50 OFFSET 100",
        "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT sum(n) FROM t",
    ];
    let rails = rails(&FilterRules {
        need_where: true,
        refuse_unknown: true,
        deny_tables: vec!["shop.cards".to_owned()],
        ..only(&["select", "insert", "update"])
    });
    for text in texts {
        let time = |count: u32, judge: &dyn Fn()| {
            let start = std::time::Instant::now();
            (0..count).for_each(|_| judge());
            start.elapsed() / count
        };
        let uncached = time(2000, &|| {
            std::hint::black_box(
                rails
                    .broken(std::hint::black_box(text.as_bytes()), LexerSettings::default())
                    .broken,
            );
        });
        let cached = time(200_000, &|| {
            std::hint::black_box(rails.judge(std::hint::black_box(text.as_bytes()), LexerSettings::default()));
        });
        println!("{} bytes: cached {cached:?}, uncached {uncached:?}", text.len());
    }
    let long = format!(
        "INSERT INTO t VALUES {}(0, 'x')",
        "(1234, 'some text', 5.5), ".repeat(MAX_SQL_BYTES / 26 - 2)
    );
    let start = std::time::Instant::now();
    std::hint::black_box(rails.broken(long.as_bytes(), LexerSettings::default()));
    println!("{} bytes: {:?}", long.len(), start.elapsed());
}
