use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::protocol::lexer::{Encoding, Lexer, TokenKind};

/// As a session reads texts whose setting nobody has changed.
fn sql(text: &[u8], whole: bool) -> RedactedSql<'_> {
    super::sql(text, whole, LexerSettings::default())
}

const OFF: LexerSettings = LexerSettings {
    strings: Backslashes::Escape,
    encoding: Encoding::UTF8,
};
const UNSETTLED: LexerSettings = LexerSettings {
    strings: Backslashes::Unsettled,
    encoding: Encoding::UTF8,
};

fn redacted(text: &str) -> (String, u32) {
    let redaction = sql(text.as_bytes(), true);
    (String::from_utf8(redaction.text.into_owned()).unwrap(), redaction.places)
}

#[track_caller]
fn becomes(text: &str, expected: &str) {
    assert_eq!(redacted(text).0, expected, "{text}");
}

#[track_caller]
fn stays(text: &str) {
    assert_eq!(redacted(text), (text.to_owned(), 0));
}

#[test]
fn passwords_of_roles() {
    becomes(
        "ALTER ROLE bob WITH ENCRYPTED PASSWORD 'hunter2' VALID UNTIL '2027-01-01'",
        "ALTER ROLE bob WITH ENCRYPTED PASSWORD '***' VALID UNTIL '2027-01-01'",
    );
    becomes(
        "create user bob password/* a */E'hun\\'ter' in role x",
        "create user bob password/* a */'***' in role x",
    );
    becomes("CREATE USER bob PASSWORD $a$it's$a$", "CREATE USER bob PASSWORD '***'");
    becomes("CREATE USER bob PASSWORD 'a'\n'b'", "CREATE USER bob PASSWORD '***'");
    becomes(
        "CREATE USER bob PASSWORD U&'d\\0061t' LOGIN",
        "CREATE USER bob PASSWORD '***' LOGIN",
    );
    // psql's \password: the verifier is as good as the password to who can guess.
    becomes(
        "ALTER USER \"x y\" PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$a:b'",
        "ALTER USER \"x y\" PASSWORD '***'",
    );
    // Without its quotes it is an error, and on record.
    becomes("ALTER ROLE bob PASSWORD hunter2 LOGIN", "ALTER ROLE bob PASSWORD '***' LOGIN");
    becomes(
        "ALTER ROLE bob PASSWORD \"hunter2\"; select 1",
        "ALTER ROLE bob PASSWORD '***'; select 1",
    );
    stays("ALTER ROLE bob PASSWORD NULL VALID UNTIL 'infinity'");
    stays("SET password_encryption = 'scram-sha-256'");
}

#[test]
fn values_of_secret_names() {
    becomes(
        "UPDATE u SET password = 'a', name = 'b'",
        "UPDATE u SET password = '***', name = 'b'",
    );
    becomes(
        "SELECT * FROM u WHERE password='a' AND name = 'b'",
        "SELECT * FROM u WHERE password='***' AND name = 'b'",
    );
    becomes(
        "UPDATE u SET password = crypt('a', gen_salt('bf')), n = 'c'",
        "UPDATE u SET password = crypt('***', gen_salt('***')), n = 'c'",
    );
    becomes(
        "SELECT * FROM u WHERE lower(u.\"clientSecret\") IN ('a', 'b') OR x = 'y'",
        "SELECT * FROM u WHERE lower(u.\"clientSecret\") IN ('***', '***') OR x = 'y'",
    );
    becomes(
        "UPDATE u SET password = 'a' || 'b'::text || 'c' WHERE n = 'd'",
        "UPDATE u SET password = '***' || '***'::text || '***' WHERE n = 'd'",
    );
    becomes(
        "UPDATE u SET password = text 'a' WHERE n = 'd'",
        "UPDATE u SET password = text '***' WHERE n = 'd'",
    );
    becomes(
        "INSERT INTO u (name, password) VALUES ('a', 'b'), ('c', md5('d')) ON CONFLICT DO NOTHING",
        "INSERT INTO u (name, password) VALUES ('a', '***'), ('c', md5('***')) ON CONFLICT DO NOTHING",
    );
    becomes("SET app.secret_key TO hunter2", "SET app.secret_key TO '***'");
    becomes(
        "SET LOCAL app.password = 12345;SELECT 1",
        "SET LOCAL app.password = '***';SELECT 1",
    );
    becomes(
        "SELECT set_config('app.password', 'a', false)",
        "SELECT set_config('app.password', '***', false)",
    );
    becomes(
        "SELECT * FROM t WHERE d->>'password' = 'a'",
        "SELECT * FROM t WHERE d->>'password' = '***'",
    );
    becomes(
        "SELECT json_build_object('password', 'a', 'user', 'b')",
        "SELECT json_build_object('password', '***', 'user', 'b')",
    );
    stays("SELECT password, 'x' FROM u WHERE name = 'y'");
    stays("UPDATE u SET password = new_password WHERE name = 'y'");
    stays("SELECT * FROM passengers WHERE password IS NOT NULL AND name = 'y'");
    stays("CREATE TABLE u (name text DEFAULT 'x', password text NOT NULL)");
    stays("SELECT 'a secret of price' FROM t WHERE x LIKE '%password%' AND y = 'z'");
}

#[test]
fn options_and_connection_strings() {
    becomes(
        "CREATE USER MAPPING FOR x SERVER s OPTIONS (user 'u', password 'a')",
        "CREATE USER MAPPING FOR x SERVER s OPTIONS (user 'u', password '***')",
    );
    becomes(
        "ALTER SERVER s OPTIONS (SET host 'h', SET aws_secret_access_key 'a', ADD x 'y')",
        "ALTER SERVER s OPTIONS (SET host 'h', SET aws_secret_access_key '***', ADD x 'y')",
    );
    becomes(
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=a' PUBLICATION p",
        "CREATE SUBSCRIPTION s CONNECTION '***' PUBLICATION p",
    );
    becomes(
        "SELECT dblink('postgresql://u:a@h/db', 'select 1')",
        "SELECT dblink('***', 'select 1')",
    );
    becomes(
        "SELECT dblink_connect($$host=h password = a$$)",
        "SELECT dblink_connect('***')",
    );
    becomes(
        "SELECT dblink_connect('host=h password=' || 'a')",
        "SELECT dblink_connect('host=h password=' || '***')",
    );
    becomes(
        "INSERT INTO c VALUES ('{\"password\": \"a\"}', 'x')",
        "INSERT INTO c VALUES ('***', 'x')",
    );
    becomes(
        "SELECT 1 /* password=a */ -- passwd: b\n+ 1",
        "SELECT 1 /* password='***' */ -- passwd: '***'\n+ 1",
    );
    becomes("COPY t FROM PROGRAM 'curl https://u:a@h/x'", "COPY t FROM PROGRAM '***'");
    stays("SELECT dblink('host=h passfile=/x', 'select 1')");
    stays("SELECT 'https://h/p' WHERE 'a@b' = 'c'");
}

#[test]
fn keys_of_functions() {
    becomes(
        "SELECT pgp_sym_encrypt('data', 'a', 'cipher-algo=aes256')",
        "SELECT pgp_sym_encrypt('data', '***', 'cipher-algo=aes256')",
    );
    becomes(
        "SELECT hmac(x, convert_to('a', 'UTF8'), 'sha256')",
        "SELECT hmac(x, convert_to('***', '***'), 'sha256')",
    );
    let redaction = sql(b"UPDATE u SET password = $3, x = $1 WHERE y = pgp_sym_decrypt(z, $2)", true);
    assert_eq!(redaction.parameters, SecretParameters::These(vec![2, 3]));
    assert_eq!(redaction.places, 0);
    let redaction = sql(b"INSERT INTO u (a, password, b) VALUES ($1, $2, $3), ($4, $5, $6)", true);
    assert_eq!(redaction.parameters, SecretParameters::These(vec![2, 5]));
}

#[test]
fn sql_within_sql() {
    becomes(
        "DO $x$ BEGIN EXECUTE 'ALTER ROLE b PASSWORD ''a'''; PERFORM 'x'; END $x$",
        "DO $x$ BEGIN EXECUTE '***'; PERFORM 'x'; END $x$",
    );
    becomes(
        "DO $$ BEGIN ALTER ROLE b PASSWORD 'a' VALID UNTIL 'c'; END $$",
        "DO $$ BEGIN ALTER ROLE b PASSWORD '***' VALID UNTIL 'c'; END $$",
    );
    becomes(
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', 'b', 'a'); x := 'y'; END $$",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', '***', '***'); x := 'y'; END $$",
    );
    becomes(
        "DO $$ BEGIN EXECUTE 'ALTER ROLE b PASSWORD ''' || 'a' || ''''; END $$",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE b PASSWORD ''' || '***' || '***'; END $$",
    );
    becomes(
        "PREPARE s AS UPDATE u SET secret = 'a' WHERE n = 'b'",
        "PREPARE s AS UPDATE u SET secret = '***' WHERE n = 'b'",
    );
    // Of a body that cannot be taken apart all literals are blanked, and nothing else.
    becomes("DO $$ PASSWORD 'a $$; SELECT 'x'", "DO $$ PASSWORD '***'$$; SELECT 'x'");
    assert!(sql(b"DO $$ PASSWORD 'a $$; SELECT 'x'", true).unclear);
}

#[test]
fn bodies_of_code_are_shown_without_their_literals() {
    becomes(
        r"DO $x$ BEGIN /* token := 'x' */ PERFORM '\'; DELETE FROM orders WHERE id=2; END $x$",
        "DO $x$ BEGIN /* token := '***' */ PERFORM '***'; DELETE FROM orders WHERE id=2; END $x$",
    );
    // What is no data of its own but a body is code, also where it looks like data, and in quotes.
    becomes("DO $$token=DELETE$$", "DO $$token=DELETE$$");
    becomes(
        "DO '/* token := ''x'' */ BEGIN DELETE FROM orders; ALTER ROLE b PASSWORD ''a''; END'",
        "DO '/* token := ''***'' */ BEGIN DELETE FROM orders; ALTER ROLE b PASSWORD ''***''; END'",
    );
    becomes(
        r"DO E'BEGIN ALTER ROLE b PASSWORD \'a\'; \n DELETE FROM \x6frders; END'",
        r"DO E'BEGIN ALTER ROLE b PASSWORD ''***''; \n DELETE FROM \x6frders; END'",
    );
    // PostgreSQL refuses these escapes; what they stand for is not guessed.
    becomes(
        r"DO E'begin perform dblink_connect(\u27host=h password=a\u27); end'",
        "DO '***'",
    );
    becomes(
        r"DO E'begin perform set_config(\u27app.password\u27, \u27a\u27, false); end'",
        "DO '***'",
    );
    becomes(
        "DO LANGUAGE 'plpgsql' $$ BEGIN ALTER ROLE b PASSWORD 'a'; END $$",
        "DO LANGUAGE 'plpgsql' $$ BEGIN ALTER ROLE b PASSWORD '***'; END $$",
    );
    becomes(
        "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN DO $y$ BEGIN ALTER ROLE b PASSWORD ''a''; END $y$; END'",
        "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN DO $y$ BEGIN ALTER ROLE b PASSWORD ''***''; END $y$; END'",
    );
    becomes(
        "CREATE PROCEDURE f() AS $a$ BEGIN EXECUTE $b$ALTER ROLE b PASSWORD 'a'$b$; DELETE FROM x; END $a$ LANGUAGE plpgsql",
        "CREATE PROCEDURE f() AS $a$ BEGIN EXECUTE $b$ALTER ROLE b PASSWORD '***'$b$; DELETE FROM x; END $a$ LANGUAGE plpgsql",
    );
}

#[test]
fn a_body_in_another_language_is_text_that_could_not_be_read() {
    let cases = [
        // To SQL the first literal would end at the second apostrophe, and the secret stand outside of any.
        (
            "CREATE FUNCTION f() RETURNS int AS $$\n# don't\nmy $password = \"it's\"; q('a');\n$$ LANGUAGE plperl",
            &["it's", "'a'"][..],
            &["CREATE FUNCTION f() RETURNS int AS $$", "$$ LANGUAGE plperl"][..],
        ),
        (
            "DO LANGUAGE plpython3u $x$\ntoken = \"s3cret\"\nplpy.execute('a\\'s3cret2')\nx = 1\n$x$",
            &["s3cret", "s3cret2"],
            &["plpy.execute(", "\nx = 1\n$x$"],
        ),
        (
            "DO $x$ token := \"s3cret\" $x$ LANGUAGE \"plperlu\"; SELECT 'shown'",
            &["s3cret"],
            &["SELECT 'shown'"],
        ),
        (
            "CREATE FUNCTION f() RETURNS text LANGUAGE 'pltcl' AS 'set password \"s3cret\"'",
            &["s3cret"],
            &["LANGUAGE 'pltcl' AS '***'"],
        ),
    ];
    for (text, hidden, shown) in cases {
        for settings in [LexerSettings::default(), UNSETTLED] {
            let redaction = super::sql(text.as_bytes(), true, settings);
            let said = std::str::from_utf8(&redaction.text).unwrap();
            assert!(redaction.unclear, "{text}");
            assert!(hidden.iter().all(|secret| !said.contains(secret)), "{said}");
            assert!(shown.iter().all(|code| said.contains(code)), "{said}");
        }
    }
    // These are SQL's.
    for text in [
        "DO LANGUAGE PLpgSQL $$ BEGIN password := 'a'; END $$",
        "CREATE FUNCTION f(language text, password text) RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$",
        "SELECT language, password FROM t WHERE x = 'a'",
    ] {
        assert!(!sql(text.as_bytes(), true).unclear, "{text}");
    }
}

#[test]
fn no_mark_begins_or_ends_a_comment() {
    becomes("SELECT 6/4711 AS api_key", "SELECT '***'/'***' AS api_key");
    becomes(
        "/* a /* password=x */ b */ DELETE FROM t",
        "/* a /* password='***' */ b */ DELETE FROM t",
    );
    becomes(
        "/* password=x/* */ y */ DELETE FROM t",
        "/* password='***'/* */ y */ DELETE FROM t",
    );
    becomes(
        "/* postgres://u:a@h/d */ DELETE FROM t",
        "/* postgres://u:'***'@h/d */ DELETE FROM t",
    );
    becomes("SET a.token = x,'y; z'; SELECT 1", "SET a.token = '***','y; z'; SELECT 1");
}

#[test]
fn of_what_has_no_end_all_literals_are_blanked() {
    let redaction = sql(b"ALTER ROLE bob PASSWORD 'hunter2", true);
    assert_eq!(
        (&*redaction.text, redaction.places, redaction.unclear),
        (&b"ALTER ROLE bob PASSWORD '***'"[..], 1, true)
    );
    assert_eq!(redaction.parameters, SecretParameters::All);
    // A quote is missing somewhere: what looks like a value is one.
    let redaction = sql(b"SELECT 'abc, password = hunter2', token = hunter3 FROM t WHERE 'x", true);
    assert_eq!(&*redaction.text, b"SELECT '***', token = '***' FROM t WHERE '***'");
    let deep = format!("SELECT password, 'x' {}", "(".repeat(20_000));
    let redaction = sql(deep.as_bytes(), true);
    assert!(redaction.unclear && redaction.text.starts_with(b"SELECT password, '***' ((("));
    // The beginning of a long text ends anywhere, and that is no reason for doubt.
    let redaction = sql(b"INSERT INTO u (name, password) VALUES ('a', 'b'), ('cde', 'hunt", false);
    assert_eq!(
        &*redaction.text,
        b"INSERT INTO u (name, password) VALUES ('a', '***'), ('cde', '***'"
    );
    assert!(!redaction.unclear);
    let redaction = sql(b"SELECT 'a', 'b' ", false);
    assert_eq!(&*redaction.text, b"SELECT 'a', '***' ", "the name may come behind the cut");
    assert_eq!(redaction.parameters, SecretParameters::All);
    let redaction = sql(b"DO $$ BEGIN DELETE FROM t WHERE token = 'x' AND a = 'y", false);
    assert_eq!(
        &*redaction.text,
        b"DO $$ BEGIN DELETE FROM t WHERE token = '***' AND a = '***'"
    );
    let long = format!("/* token {}", "x".repeat(66_000));
    assert_eq!(&*sql(long.as_bytes(), false).text, long.as_bytes(), "a comment");
}

#[test]
fn where_the_setting_is_not_known_both_readings_are_blanked() {
    let both = |text: &'static [u8]| super::sql(text, true, UNSETTLED);
    let redaction = both(br"/*token*/ SELECT '\', '; DELETE FROM orders WHERE id=3; --'");
    assert_eq!((&*redaction.text, redaction.unclear), (&b"/*token*/ SELECT '***'"[..], true));
    assert_eq!(redaction.parameters, SecretParameters::All);
    // One that is in order under one reading only runs under that one or not at all.
    let text = br"/*token*/ DELETE FROM orders WHERE id=1 AND status<>'\'";
    let redaction = both(text);
    assert_eq!(
        (&*redaction.text, redaction.unclear),
        (&b"/*token*/ DELETE FROM orders WHERE id=1 AND status<>'***'"[..], false)
    );
    assert_eq!(sql(text, true), redaction);
    let redaction = both(br"SELECT 'x', 'it\'s' WHERE password = 'a' OR y = 'b'");
    assert_eq!(&*redaction.text, br"SELECT 'x', 'it\'s' WHERE password = '***' OR y = 'b'");
    let body = br"DO $x$ BEGIN /* token := 'x' */ PERFORM '\'; DELETE FROM orders WHERE id=2; END $x$";
    assert_eq!(both(body), sql(body, true));
    // Where both end their literals in the same places there is no doubt.
    let redaction = both(br"SELECT 'C:\\' WHERE password = 'a'");
    assert_eq!(
        (&*redaction.text, redaction.unclear),
        (&b"SELECT '***' WHERE password = '***'"[..], false)
    );
    let escaped = super::sql(br"SELECT 'a\'b' WHERE password = 'c'", true, OFF);
    assert_eq!(&*escaped.text, br"SELECT 'a\'b' WHERE password = '***'");
}

#[test]
fn secrets_whose_name_stands_elsewhere() {
    becomes("SELECT 'a', 'S' AS password, 'b'", "SELECT 'a', '***' AS password, 'b'");
    becomes(
        "SELECT lower('S')::text \"accessToken\" FROM x",
        "SELECT lower('***')::text \"accessToken\" FROM x",
    );
    becomes("SELECT 4711 AS api_key", "SELECT '***' AS api_key");
    becomes(
        "SELECT * FROM u WHERE 'S' = u.password AND name = 'x'",
        "SELECT * FROM u WHERE '***' = u.password AND name = 'x'",
    );
    becomes(
        "SELECT 1 WHERE 'S' = d->>'password' AND y = 'x'",
        "SELECT 1 WHERE '***' = d->>'password' AND y = 'x'",
    );
    becomes(
        "UPDATE u SET (password, name) = ('S', 'x') WHERE id = 5",
        "UPDATE u SET (password, name) = ('***', '***') WHERE id = 5",
    );
    becomes(
        "SELECT 1 FROM u WHERE (password, name) = ('S', 'x') OR y = 'z'",
        "SELECT 1 FROM u WHERE (password, name) = ('***', '***') OR y = 'z'",
    );
    becomes(
        "SELECT 1 FROM u WHERE ('S', 'x') = (password, name) OR y = 'z'",
        "SELECT 1 FROM u WHERE ('***', '***') = (password, name) OR y = 'z'",
    );
    becomes(
        "WITH x(password) AS (VALUES ('S')) SELECT 'y'",
        "WITH x(password) AS (VALUES ('***')) SELECT 'y'",
    );
    becomes(
        "WITH x(a, password) AS NOT MATERIALIZED (SELECT 'a', 'S') SELECT 'y'",
        "WITH x(a, password) AS NOT MATERIALIZED (SELECT '***', '***') SELECT 'y'",
    );
    becomes(
        "CREATE VIEW v(password) AS SELECT 'S'",
        "CREATE VIEW v(password) AS SELECT '***'",
    );
    becomes(
        "SELECT * FROM (VALUES ('a', 'S')) x(name, password) WHERE y = 'z'",
        "SELECT * FROM (VALUES ('***', '***')) x(name, password) WHERE y = 'z'",
    );
}

#[test]
fn secrets_anywhere_in_their_expression() {
    becomes(
        "UPDATE u SET password = CASE WHEN n = 'a' THEN 'S' ELSE x || 'T' END, n = 'b'",
        "UPDATE u SET password = CASE WHEN n = '***' THEN '***' ELSE x || '***' END, n = 'b'",
    );
    becomes(
        "UPDATE u SET password = salt || 'S' COLLATE \"C\" || 'T' WHERE n = 'b'",
        "UPDATE u SET password = salt || '***' COLLATE \"C\" || '***' WHERE n = 'b'",
    );
    becomes(
        "SELECT 1 WHERE password IS DISTINCT FROM 'S' AND a = 'b'",
        "SELECT 1 WHERE password IS DISTINCT FROM '***' AND a = 'b'",
    );
    becomes(
        "SELECT 1 WHERE coalesce(password, '') = 'S' AND a = 'b'",
        "SELECT 1 WHERE coalesce(password, '') = '***' AND a = 'b'",
    );
    becomes(
        "DO $$ DECLARE v_password varchar(9) := 'S'; x text := 'y'; BEGIN NULL; END $$",
        "DO $$ DECLARE v_password varchar(9) := '***'; x text := 'y'; BEGIN NULL; END $$",
    );
    becomes(
        "SELECT set_password('bob', 'S'), 'x'",
        "SELECT set_password('***', '***'), 'x'",
    );
    becomes("EXECUTE p('S', 5); SELECT 'x'", "EXECUTE p('***', '***'); SELECT 'x'");
    becomes("UPDATE u SET token = $$S$$, n = 'x'", "UPDATE u SET token = '***', n = 'x'");
    becomes(
        "UPDATE u SET password = coalesce(CASE WHEN secret = 'a' THEN 'b' END, 'S')",
        "UPDATE u SET password = coalesce(CASE WHEN secret = '***' THEN '***' END, '***')",
    );
    let secret = |text: &'static str| sql(text.as_bytes(), true).parameters;
    assert_eq!(secret("SELECT $1, $2 AS password"), SecretParameters::These(vec![2]));
    assert_eq!(
        secret("SELECT 1 WHERE $1 = password AND x = $2"),
        SecretParameters::These(vec![1])
    );
    assert_eq!(secret("EXECUTE p($1)"), SecretParameters::These(vec![1]));
}

#[test]
fn an_insert_that_is_more_than_rows_has_secrets_anywhere() {
    for (text, expected) in [
        ("SELECT 'a', 'S'", "SELECT '***', '***'"),
        ("(SELECT 'S', 5)", "(SELECT '***', '***')"),
        (
            "WITH x AS (VALUES ('a', 'S')) TABLE x",
            "WITH x AS (VALUES ('***', '***')) TABLE x",
        ),
        (
            "VALUES ('a', 'S') UNION SELECT 'b', 'T'",
            "VALUES ('a', '***') UNION SELECT '***', '***'",
        ),
        ("VALUES ('a', (SELECT 'S'))", "VALUES ('a', (SELECT '***'))"),
        ("VALUES ('a', 4711)", "VALUES ('a', '***')"),
        (
            "OVERRIDING USER VALUE VALUES ('a', 'S')",
            "OVERRIDING USER VALUE VALUES ('a', '***')",
        ),
        (
            "SELECT a, 'S' FROM (VALUES ('a')) v(a)",
            "SELECT a, '***' FROM (VALUES ('***')) v(a)",
        ),
    ] {
        becomes(
            &format!("INSERT INTO u (name, password) {text}"),
            &format!("INSERT INTO u (name, password) {expected}"),
        );
    }
    becomes(
        "WITH i AS (INSERT INTO u (password) SELECT 'S' RETURNING id) SELECT 'x' FROM i",
        "WITH i AS (INSERT INTO u (password) SELECT '***' RETURNING id) SELECT 'x' FROM i",
    );
    becomes(
        "INSERT INTO u (password) WITH i AS (INSERT INTO l (a) VALUES ('x') RETURNING a) SELECT 'S' FROM i",
        "INSERT INTO u (password) WITH i AS (INSERT INTO l (a) VALUES ('***') RETURNING a) SELECT '***' FROM i",
    );
    let redaction = sql(b"INSERT INTO u (name, password) SELECT $1, $2", true);
    assert_eq!(redaction.parameters, SecretParameters::These(vec![1, 2]));
}

#[test]
fn what_only_sounds_like_a_secret_stays_readable() {
    stays("SELECT * FROM passwords_changed WHERE id = 5");
    stays("SELECT * FROM token t WHERE t.id = 5 AND t.name = 'x' ORDER BY 1");
    stays("SELECT id, token, 'x' FROM secret WHERE id IN (1, 2) AND n = 'a' LIMIT 10");
    stays("INSERT INTO secret (id, name) VALUES (1, 'x')");
    stays("INSERT INTO user_token (id, name) SELECT 1, 'x'");
    stays("UPDATE token SET used = 'x' WHERE id = 5");
    stays("SELECT name, 'x' FROM u WHERE id = 5 AND password IS NULL ORDER BY name LIMIT 5");
    stays("SELECT 'x', count(*) FROM (SELECT password FROM u) q WHERE y = 'z'");
    stays("CREATE TABLE token (id int DEFAULT 5, kind text DEFAULT 'x')");
    stays("ALTER DATABASE token SET work_mem TO '1GB'");
}

/// Every shape that once made the scan begin anew at each of its parts, and others like them.
const SHAPES: &[&str] = &[
    "+",
    "-+",
    "@/**/",
    "pwd",
    "a://",
    "://",
    "://a:b",
    "password ",
    "password=",
    "password=%",
    "password'",
    "password \\",
    "token (",
    "hmac(",
    "hmac('x',",
    "hmac(hmac('x',",
    "(",
    "((password)=",
    "('a'=(password))",
    "'a'=(",
    r"'\' ",
    "do $a$ ",
    "do '",
    "as '",
    "create function as $b$ password=",
    "case when ",
    "case password ",
    "$a$ ",
    "$a",
    "$password$ ",
    "/*",
    "--password\n",
    "'password' ",
    "'a',",
    "'a'||",
    "'%password' ",
    "'pwd",
    "E'\\''",
    "\"password\" ",
    "insert into u (password) ",
    "insert into u (password) values ('a',",
    "1 ",
    "$1,",
    "a.",
    "execute p(",
    "with x(password) as (",
    "password is distinct from ",
    "private key----",
    "{\"pwd\":",
    "=",
    "'' ",
    "u&'",
    ");",
    "token0123456789",
    "secret_",
];

/// Far more than one pass takes in an unoptimized build on a busy machine, and far less than beginning anew at each part: that
/// took minutes for these.
const PATIENCE: Duration = Duration::from_secs(8);

/// What looking at a value, and at a text, made of this shape takes.
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn cost(shape: &str) -> Duration {
    let value = shape.repeat((1 << 20) / shape.len());
    let text = &value.as_bytes()[..128 << 10];
    let start = Instant::now();
    let _ = gives_away(value.as_bytes());
    let _ = sql(text, true);
    let _ = sql(text, false);
    let _ = super::sql(text, true, UNSETTLED);
    start.elapsed()
}

#[test]
fn a_value_of_any_shape_is_looked_at_in_one_pass() {
    for shape in SHAPES {
        let took = cost(shape).max(cost(&format!("{shape} ")));
        assert!(took < PATIENCE, "{shape:?}: {took:?}");
    }
}

/// Prints what the shapes cost; run in release.
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn measure() {
    let mut all: Vec<_> = SHAPES
        .iter()
        .flat_map(|shape| [(*shape).to_owned(), format!("{shape} ")])
        .map(|shape| {
            let text = shape.repeat((1 << 20) / shape.len());
            let start = Instant::now();
            let given = gives_away(text.as_bytes());
            let value = start.elapsed();
            let whole = [
                (false, LexerSettings::default()),
                (true, LexerSettings::default()),
                (true, UNSETTLED),
            ]
            .map(|(whole, settings)| {
                let start = Instant::now();
                let places = super::sql(&text.as_bytes()[..250_000], whole, settings).places;
                (start.elapsed(), places)
            });
            let text = whole.into_iter().max().unwrap();
            (value, text, shape, given)
        })
        .collect();
    all.sort_by_key(|(value, (text, _), ..)| std::cmp::Reverse(*value.max(text)));
    for (value, (text, places), shape, given) in all.iter().take(8) {
        println!("{shape:?}: a value of 1 MB {value:?} ({given}), a text of 250 KB {text:?} ({places} places)");
    }
}

#[test]
fn values_that_give_passwords_away() {
    for value in [
        "host=h password=x",
        "password = 'x'",
        "postgres://u:p%40@h/db",
        r#"{"db": {"Password": "x"}}"#,
        r#"{\"password\":\"x\"}"#,
        "-----BEGIN RSA PRIVATE KEY-----\nMII",
        "ALTER ROLE a PASSWORD 'x'",
    ] {
        assert!(gives_away(value.as_bytes()), "{value}");
    }
    for value in [
        "password",
        "password=",
        "my passwords: none",
        "http://h:80/x",
        "x://u@h",
        "the secret of tea",
    ] {
        assert!(!gives_away(value.as_bytes()), "{value}");
    }
}

/// Statements with a secret in the place of `@`.
const PLACES: &[&str] = &[
    "ALTER ROLE r~PASSWORD~'@'~VALID~UNTIL~'2030-01-01'",
    "CREATE~USER r~WITH~ENCRYPTED~PASSWORD~'@'",
    "CREATE ROLE r~PASSWORD~$q$@$q$~LOGIN",
    "CREATE ROLE r~PASSWORD~E'@'",
    "UPDATE t SET a = 'b',~password~=~'@' WHERE c = 'd'",
    "UPDATE t SET~(a, password)~=~('b', '@')",
    "SELECT * FROM t WHERE~password~=~lower('@')~OR a = 'b'",
    "INSERT INTO t (a,~password) VALUES ('b',~'@')",
    "CREATE USER MAPPING FOR r SERVER s OPTIONS (user~'u',~password~'@')",
    "ALTER USER MAPPING FOR r SERVER s OPTIONS~(SET~password~'@')",
    "CREATE SUBSCRIPTION s CONNECTION~'host=h password=@ user=u' PUBLICATION p",
    "SELECT dblink('host=h password=''@''',~'SELECT 1')",
    "SELECT dblink('postgresql://u:@@h/d',~'SELECT 1')",
    "SELECT pgp_sym_encrypt('d',~'@')",
    "SELECT pgp_sym_decrypt(x,~'@', 'y')",
    "SELECT set_config('a.password',~'@', true)",
    "SET~a.password~=~'@'",
    "SET~a.password~TO~@",
    "DO $$ BEGIN~ALTER ROLE r~PASSWORD~'@'; END $$",
    "DO $$ BEGIN EXECUTE~'ALTER ROLE r PASSWORD ''@'''; END $$",
    "PREPARE p AS~UPDATE t SET~password~=~'@'",
    "SELECT 1;~ALTER ROLE r~PASSWORD~'@';~SELECT 2",
    "INSERT INTO t VALUES ('{\"password\":\"@\"}')",
    "INSERT INTO t (a,~password)~SELECT 'b',~'@'",
    "SELECT 'b',~'@'~AS~password",
    "SELECT~lower('@')~token",
    "UPDATE t SET~(password,~a)~=~('@',~'b')",
    "SELECT 1 WHERE~(password,~a)~=~('@',~'b')",
    "WITH x(password)~AS~(VALUES~('@')) SELECT 1",
    "SELECT 1 WHERE~'@'~=~password AND a = 'b'",
    "UPDATE t SET password~=~CASE~WHEN a THEN~'@'~END",
    "SELECT 1 WHERE password~IS~NOT~DISTINCT~FROM~'@'",
    "INSERT INTO t (api_key)~(VALUES~('@'))",
];

/// Pieces of code without a literal, numbered so that each can be found again, and what stands between.
fn code_and_literals() -> impl Strategy<Value = Vec<(String, String)>> {
    let glue = prop_oneof![
        proptest::sample::select(
            &[
                " ",
                "\n",
                " = ",
                ", ",
                "; ",
                "(",
                ")",
                " /* don't */ ",
                " -- 'x\n",
                " password ",
                " token = ",
                " AS secret ",
                "::text ",
                " '' ",
                " 'a''b' ",
                r" '\' ",
                r" 'a\' ",
                r" E'\'' ",
                " $$a'b$$ ",
                " $q$ DELETE 'x' $q$ ",
                " DO ",
                " AS ",
                " \"a'b\" ",
                " U&'\\0061' ",
                " || ",
                " CREATE FUNCTION ",
                " EXECUTE ",
                " hmac(",
                " insert into u (token) values ",
            ][..]
        )
        .prop_map(str::to_owned),
        "'[a-z=: \\\\]{0,8}'",
    ];
    proptest::collection::vec(glue, 1..24).prop_map(|glue| {
        let words = (0..).map(|number: u32| format!("zq{number}x"));
        words.zip(glue).collect()
    })
}

proptest! {
    /// Whatever stands around it: a word outside of literals is where it was.
    #[test]
    fn what_is_no_literal_stays(parts in code_and_literals(), cut in proptest::option::of(0_usize..400)) {
        let text: String = parts.iter().flat_map(|(word, glue)| [" ", word, " ", glue]).collect();
        let (text, whole) = match cut {
            Some(cut) if cut < text.len() => (text.get(..cut).unwrap_or_default(), false),
            _ => (&*text, true),
        };
        for settings in [LexerSettings::default(), OFF] {
            // The same code, as PostgreSQL's reading of the two has it.
            let code = |text: &[u8]| {
                let mut lexer = Lexer::under(text, settings);
                let tokens = std::iter::from_fn(|| lexer.next_code());
                let code = tokens.filter(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted | TokenKind::Sign));
                code.map(|token| token.text.to_vec()).collect::<Vec<_>>()
            };
            let finished = {
                let mut lexer = Lexer::under(text.as_bytes(), settings);
                std::iter::from_fn(|| lexer.next()).all(|token| token.kind != TokenKind::Unfinished)
            };
            if finished {
                let shown = super::sql(text.as_bytes(), whole, settings);
                prop_assert_eq!(code(text.as_bytes()), code(&shown.text), "{} became {}", text, String::from_utf8_lossy(&shown.text));
            }
            // The same words, also within bodies.
            let mut lexer = Lexer::under(text.as_bytes(), settings);
            let mut all = lexer;
            let refused = whole && std::iter::from_fn(|| all.next()).any(|token| token.kind == TokenKind::Unfinished);
            let words = std::iter::from_fn(|| lexer.next_code()).filter(|token| token.kind == TokenKind::Word && token.text.starts_with(b"zq"));
            let shown = super::sql(text.as_bytes(), whole, settings);
            let mut rest = &*shown.text;
            for word in words {
                let found = memchr::memmem::find(rest, word.text);
                if refused && found.is_none() {
                    continue;
                }
                prop_assert!(found.is_some(), "{:?} is gone: {} became {}", word, text, String::from_utf8_lossy(&shown.text));
                rest = &rest[found.unwrap() + word.text.len()..];
            }
        }
    }

    #[test]
    fn no_secret_survives(
        place in proptest::sample::select(PLACES),
        secret in "[A-Z0-9]{4,12}zq",
        gaps in proptest::collection::vec(proptest::sample::select(&[" ", "\n", "\t ", " /* 'x */ ", " -- don't\n", "/**/ "][..]), 12),
        upper in any::<bool>(),
        cut in proptest::option::of(0_usize..400),
    ) {
        let mut gaps = gaps.into_iter().cycle();
        let mut text = String::new();
        for part in place.chars() {
            match part {
                '~' => text.push_str(gaps.next().unwrap()),
                '@' => text.push('@'),
                other if upper => text.extend(other.to_uppercase()),
                other => text.extend(other.to_lowercase()),
            }
        }
        // Of `u:@@h` only the first is the secret's place.
        let text = text.replacen('@', &secret, 1);
        let shown = match cut {
            Some(cut) if cut < text.len() => sql(&text.as_bytes()[..cut], false),
            _ => sql(text.as_bytes(), true),
        };
        let result = String::from_utf8(shown.text.clone().into_owned()).unwrap();
        // Of a text that was cut within the secret no part of it may be left either.
        prop_assert!(!result.contains(secret.get(..4).unwrap()), "{} became {}", text, result);
        if cut.is_none() {
            prop_assert!(shown.places > 0);
            prop_assert!(!shown.unclear, "{} became {}", text, result);
            prop_assert_eq!(result.contains("2030-01-01"), text.contains("2030-01-01"));
        }
    }

    #[test]
    fn any_bytes_are_dealt_with(
        parts in proptest::collection::vec(prop_oneof![
            proptest::sample::select(&["password", "'", "''", "\\'", "$$", "$a$", "/*", "*/", "--", "\n", "(", ")", ",", ";", "=", " ", "E'", "insert", "values", "://u:p@", "secret", "set", "alter role", "\"", "$1", "::", "hmac("][..]).prop_map(|part| part.as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ], 0..40),
        whole in any::<bool>(),
    ) {
        let text = parts.concat();
        let shown = sql(&text, whole);
        prop_assert!(shown.places > 0 || *shown.text == text[..]);
        // What is redacted once needs nothing more but what stands for a secret.
        let again = sql(&shown.text, whole);
        prop_assert!(again.text.len() <= shown.text.len() + 5 * again.places as usize);
        for settings in [OFF, UNSETTLED, LexerSettings::UNSETTLED] {
            let shown = super::sql(&text, whole, settings);
            prop_assert!(shown.places > 0 || *shown.text == text[..]);
        }
        let _ = gives_away(&text);
    }

    #[test]
    fn text_without_secret_names_stays(text in "[a-z ='\"();,$*/\\-]{0,60}") {
        let shown = sql(text.as_bytes(), true);
        let named = FINDER.is_match(&text) || text.contains("execute");
        prop_assert!(named || shown.unclear || shown.places == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 10))]

    #[test]
    fn any_mixture_of_shapes_is_looked_at_in_one_pass(
        shapes in proptest::collection::vec(proptest::sample::select(SHAPES), 2..5),
    ) {
        let took = cost(&shapes.concat());
        prop_assert!(took < PATIENCE, "{shapes:?}: {took:?}");
    }
}
