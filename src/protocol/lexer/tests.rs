//! Tokens by hand, and laws that hold for any bytes. That they are PostgreSQL's is tested against a server (`against_postgresql`).

mod against_postgresql;
pub(crate) mod corpus;

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use TokenKind::{Ambiguous, Comment, Dollar, Escaped, Literal, Number, Parameter, Quoted, Sign, Unfinished, Word};

const OFF: LexerSettings = LexerSettings {
    strings: Backslashes::Escape,
    encoding: Encoding::UTF8,
};

fn tokens(text: &[u8], settings: LexerSettings) -> Vec<(TokenKind, String)> {
    let Some(masked) = settings.mask(text) else {
        return vec![(Ambiguous, String::new())];
    };
    let mut lexer = Lexer::under(&masked, settings);
    std::iter::from_fn(|| lexer.next())
        .map(|token| (token.kind, String::from_utf8_lossy(token.within(text).text).into_owned()))
        .collect()
}

#[track_caller]
fn under(settings: LexerSettings, text: &str, expected: &[(TokenKind, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
    assert_eq!(tokens(text.as_bytes(), settings), expected, "{text}");
}

#[track_caller]
fn is(text: &str, expected: &[(TokenKind, &str)]) {
    under(LexerSettings::default(), text, expected);
}

#[test]
fn words_names_and_literals() {
    is(
        "select $1::text",
        &[(Word, "select"), (Parameter, "$1"), (Sign, "::"), (Word, "text")],
    );
    is(r"'it''s\' x", &[(Literal, r"'it''s\'"), (Word, "x")]);
    is(r"E'it\'s' x", &[(Escaped, r"E'it\'s'"), (Word, "x")]);
    is(
        r#"U&'d\0061' u&"x" "a""b""#,
        &[(Literal, r"U&'d\0061'"), (Quoted, r#"u&"x""#), (Quoted, r#""a""b""#)],
    );
    is("u&x", &[(Word, "u"), (Sign, "&"), (Word, "x")]);
    is(
        "xe'a' ne'a'",
        &[(Word, "xe"), (Literal, "'a'"), (Word, "ne"), (Literal, "'a'")],
    );
    is("$$'$$ $a$ $$ $a$", &[(Dollar, "$$'$$"), (Dollar, "$a$ $$ $a$")]);
    is(
        "$a$ $ab$a$ $1$$",
        &[(Dollar, "$a$ $ab$a$"), (Parameter, "$1"), (Unfinished, "$$")],
    );
    is("a$b$ ä$", &[(Word, "a$b$"), (Word, "ä$")]);
    is("'open", &[(Unfinished, "'open")]);
    is("$x$ open $X$", &[(Unfinished, "$x$ open $X$")]);
    is("\"open", &[(Unfinished, "\"open")]);
    is("a \\d\n", &[(Word, "a"), (Sign, "\\"), (Word, "d")]);
}

#[test]
fn a_literal_goes_on_behind_a_line_break_as_it_began() {
    for gap in ["\n", "\r", " \n\t", "\n--x '\n", " -- it's\n", "\x0b\n\x0c", "\n--\r--\n\n"] {
        let text = format!(r"E'a'{gap}'b\''; x '");
        is(
            &text,
            &[
                (Escaped, &format!(r"E'a'{gap}'b\''")),
                (Sign, ";"),
                (Word, "x"),
                (Unfinished, "'"),
            ],
        );
        let text = format!(r"'a'{gap}'b\' '");
        is(&text, &[(Literal, &format!(r"'a'{gap}'b\'")), (Unfinished, "'")]);
        is(&format!("x'1'{gap}'2'"), &[(Literal, &format!("x'1'{gap}'2'"))]);
        is(&format!("u&'1'{gap}'2'"), &[(Literal, &format!("u&'1'{gap}'2'"))]);
    }
    is("'a' 'b'", &[(Literal, "'a'"), (Literal, "'b'")]);
    is("'a'/*\n*/'b'", &[(Literal, "'a'"), (Comment, "/*\n*/"), (Literal, "'b'")]);
    is("'a' -- 'b'", &[(Literal, "'a'"), (Comment, "-- 'b'")]);
    is("'a'\n-'b'", &[(Literal, "'a'"), (Sign, "-"), (Literal, "'b'")]);
    is("\"a\"\n\"b\"", &[(Quoted, "\"a\""), (Quoted, "\"b\"")]);
    is("$$a$$\n'b'", &[(Dollar, "$$a$$"), (Literal, "'b'")]);
    is("'a'\ne'b'", &[(Literal, "'a'"), (Escaped, "e'b'")]);
}

#[test]
fn two_quotes_are_two_literals_behind_bits() {
    is(r"b'1''\'", &[(Literal, "b'1'"), (Literal, r"'\'")]);
    under(OFF, r"b'1''\' x'", &[(Literal, "b'1'"), (Escaped, r"'\' x'")]);
}

#[test]
fn backslashes_are_what_the_setting_says() {
    let text = r"select '\', '; delete from t; --'";
    under(
        OFF,
        text,
        &[
            (Word, "select"),
            (Escaped, r"'\', '"),
            (Sign, ";"),
            (Word, "delete"),
            (Word, "from"),
            (Word, "t"),
            (Sign, ";"),
            (Comment, "--'"),
        ],
    );
    is(
        text,
        &[
            (Word, "select"),
            (Literal, r"'\'"),
            (Sign, ","),
            (Literal, "'; delete from t; --'"),
        ],
    );
    under(OFF, r"n'\'' x", &[(Escaped, r"n'\''"), (Word, "x")]);
    let unsettled = LexerSettings {
        strings: Backslashes::Unsettled,
        ..OFF
    };
    under(unsettled, text, &[(Word, "select"), (Ambiguous, text.get(7..).unwrap())]);
    under(
        unsettled,
        r"'\d\\' E'\'' x",
        &[(Literal, r"'\d\\'"), (Escaped, r"E'\''"), (Word, "x")],
    );
}

#[test]
fn comments_and_operators() {
    is(
        "a/* /* */ ' */b--c'\nd",
        &[
            (Word, "a"),
            (Comment, "/* /* */ ' */"),
            (Word, "b"),
            (Comment, "--c'"),
            (Word, "d"),
        ],
    );
    is("--a\rb", &[(Comment, "--a"), (Word, "b")]);
    is("/**/ /*/*/*/ */*/*/", &[(Comment, "/**/"), (Comment, "/*/*/*/ */*/*/")]);
    is("/* /* */", &[(Unfinished, "/* /* */")]);
    is("a<--'\n", &[(Word, "a"), (Sign, "<"), (Comment, "--'")]);
    is("a+/*'*/", &[(Word, "a"), (Sign, "+"), (Comment, "/*'*/")]);
    is("a=-1", &[(Word, "a"), (Sign, "="), (Sign, "-"), (Number, "1")]);
    is(
        "a@-1 <=-+ ||",
        &[
            (Word, "a"),
            (Sign, "@-"),
            (Number, "1"),
            (Sign, "<="),
            (Sign, "-"),
            (Sign, "+"),
            (Sign, "||"),
        ],
    );
    is(
        "a:=b..c",
        &[(Word, "a"), (Sign, ":="), (Word, "b"), (Sign, ".."), (Word, "c")],
    );
}

#[test]
fn numbers_as_the_versions_that_take_them() {
    is(
        "1.5e3 .5 1. 1..2",
        &[
            (Number, "1.5e3"),
            (Number, ".5"),
            (Number, "1."),
            (Number, "1"),
            (Sign, ".."),
            (Number, "2"),
        ],
    );
    is(
        "0x1F 0b_01 0o17 1_000",
        &[(Number, "0x1F"), (Number, "0b_01"), (Number, "0o17"), (Number, "1_000")],
    );
    is(
        "1from 1e'a' 1e+x $1or",
        &[
            (Number, "1"),
            (Word, "from"),
            (Number, "1"),
            (Escaped, "e'a'"),
            (Number, "1"),
            (Word, "e"),
            (Sign, "+"),
            (Word, "x"),
            (Parameter, "$1"),
            (Word, "or"),
        ],
    );
}

/// PostgreSQL before 15 reads a number and a name; later versions refuse these texts.
#[test]
fn a_word_that_touches_a_number_is_whole() {
    is("0b0from", &[(Number, "0"), (Word, "b0from")]);
    is("0x1where", &[(Number, "0"), (Word, "x1where")]);
    is("1_0from", &[(Number, "1"), (Word, "_0from")]);
    is("1e1_0from", &[(Number, "1e1"), (Word, "_0from")]);
    is(
        "0b1 from 0o7,",
        &[(Number, "0b1"), (Word, "from"), (Number, "0o7"), (Sign, ",")],
    );
}

#[test]
fn a_run_of_operator_characters_has_an_end() {
    let run = "+".repeat(MAX_OPERATOR_RUN);
    let tokens = tokens(run.as_bytes(), LexerSettings::default());
    assert_eq!(tokens.len(), MAX_OPERATOR_RUN, "each a sign");
    is(&format!("1 {run}+"), &[(Number, "1"), (Ambiguous, &format!("{run}+"))]);
    is("@/**/@", &[(Sign, "@"), (Comment, "/**/"), (Sign, "@")]);
}

#[test]
fn dollar_tags_that_may_be_the_same_in_another_encoding() {
    is("$ä$ ; $ä$ x", &[(Dollar, "$ä$ ; $ä$"), (Word, "x")]);
    is("$ä$ $ö$ $ä$", &[(Ambiguous, "$ä$ $ö$ $ä$")]);
    is("$a$ $ö$ $a$", &[(Dollar, "$a$ $ö$ $a$")]);
}

fn encoded(name: &str) -> LexerSettings {
    LexerSettings {
        encoding: Encoding::of_name(name.as_bytes()),
        ..LexerSettings::default()
    }
}

/// In each of these a byte that looks like a backslash, a bracket or a letter belongs to a character.
#[test]
fn the_second_byte_of_a_character_is_no_sign() {
    let kinds = |encoding: &str, text: &[u8]| {
        tokens(text, encoded(encoding))
            .into_iter()
            .map(|(kind, _)| kind)
            .collect::<Vec<_>>()
    };
    for (encoding, character) in [
        ("SJIS", &b"\x83\x5c"[..]),
        ("sjis", b"\xe0\x5c"),
        ("SHIFT_JIS_2004", b"\x83\x7c"),
        ("BIG5", b"\xa5\x5c"),
        ("GBK", b"\x81\x5c"),
        ("UHC", b"\x81\x5c"),
        ("GB18030", b"\x81\x5c"),
        ("GB18030", b"\x81\x30\x81\x30"),
        ("JOHAB", b"\xb0\xa1"),
        ("JOHAB", b"\x8f\xb0\xa1"),
    ] {
        let text = [b"E'", character, b"' x ", character].concat();
        assert_eq!(kinds(encoding, &text), [Escaped, Word, Word], "{encoding} {character:x?}");
        // Nobody knows how it goes on behind a character that is none.
        let cut = [b"x ", &character[..character.len() - 1], b"'"].concat();
        assert_eq!(kinds(encoding, &cut), [Ambiguous], "{encoding} {character:x?}");
        let tag = [b"$", character, b"$ $", character, b"$"].concat();
        assert_eq!(kinds(encoding, &tag), [Ambiguous], "{encoding} {character:x?}");
    }
    assert_eq!(kinds("SJIS", b"'\xb1' x"), [Literal, Word], "half width: one byte");
    assert_eq!(kinds("LATIN1", b"E'\xe4\\'' x"), [Escaped, Word]);
    assert_eq!(kinds("EUC_JP", b"E'\xa4\xa2\\'' x"), [Escaped, Word]);
    assert_eq!(kinds("none of these", b"x"), [Word], "ASCII is the same in all");
    assert_eq!(kinds("none of these", b"E'\x83\\'' x"), [Ambiguous]);
    assert_eq!(
        kinds("unsettled", "'Straße', '日本語 €' ".as_bytes()),
        [Literal, Sign, Literal],
        "in none another text"
    );
    assert_eq!(
        kinds("unsettled", "E'é\\'' x".as_bytes()),
        [Escaped, Word],
        "two bytes are two in all of them"
    );
    assert_eq!(kinds("unsettled", "E'日\\'' x".as_bytes()), [Ambiguous]);
    assert!(!LexerSettings::do_not_matter_to(b"'\\'") && !LexerSettings::do_not_matter_to("ä".as_bytes()));
    assert!(LexerSettings::do_not_matter_to(b"select 'a'"));
}

fn first(text: &str) -> Token<'_> {
    Lexer::new(text.as_bytes()).next().unwrap()
}

#[test]
fn values_of_literals() {
    let value = |text: &'static str| {
        first(text)
            .value()
            .map(|value| String::from_utf8(value.into_owned()).unwrap())
    };
    for (text, said) in [
        ("'a''b'", "a'b"),
        ("'a\\'", "a\\"),
        ("'a' -- it\n 'b'\r'''c'", "ab'c"),
        (r"E'\a\n\'\\\101\x41\x4' '", "a\n'\\AA\u{4}"),
        (r"E'\u00e4\U0001F600\ud83d\ude00\xg'", "ä😀😀xg"),
        ("$x$a'\\$x$", "a'\\"),
        ("n'a'", "a"),
        ("x'1F'\n'2'", "1F2"),
        ("E'a'\n'\\''", "a'"),
    ] {
        assert_eq!(value(text).as_deref(), Some(said), "{text}");
    }
    for text in [
        r"E'\ud83d'",
        r"E'\ud83d\u0041'",
        r"E'\u00g0'",
        r"E'\udc00'",
        r"E'\U00110000'",
        "word",
        "12",
    ] {
        assert_eq!(value(text), None, "{text}");
    }
}

#[test]
fn names_as_postgresql_stores_them() {
    let name = |text: &'static str| first(text).identifier().map(Cow::into_owned);
    for (text, stored) in [
        ("Customers", "customers"),
        ("\"Order \"\"Items\"\"\"", "Order \"Items\""),
        ("U&\"custom\\0065rs\"", "customers"),
        ("u&\"d\\\\\\+01F600\"\"\"", "d\\😀\""),
        ("ÄB", "Äb"),
    ] {
        assert_eq!(name(text).as_deref(), Some(stored), "{text}");
    }
    assert_eq!(first("u&\"c!0061r\\ds\"").code_points(b'!').as_deref(), Some("car\\ds"));
    assert_eq!(first("u&'c!0061r''s'").code_points(b'!').as_deref(), Some("car's"));
    for escape in *b"a+' \"" {
        assert_eq!(first("u&\"x\"").code_points(escape), None);
    }
    for text in ["u&\"\\00\"", "u&\"\\d83d\"", "u&\"\\0000\"", "u&\"\\d83dx\"", "'a'"] {
        assert_eq!(name(text), None, "{text}");
    }
    let long = "a".repeat(70);
    assert_eq!(
        Lexer::new(long.as_bytes()).next().unwrap().identifier().as_deref(),
        long.get(..63)
    );
    let long = "ä".repeat(40);
    assert_eq!(
        Lexer::new(long.as_bytes()).next().unwrap().identifier(),
        None,
        "40 in LATIN1, 31 in UTF-8"
    );
}

fn settings() -> impl Strategy<Value = LexerSettings> {
    let strings = proptest::sample::select(vec![Backslashes::Ordinary, Backslashes::Escape, Backslashes::Unsettled]);
    let names = ["UTF8", "LATIN1", "SJIS", "BIG5", "GBK", "JOHAB", "GB18030", "unsettled"];
    (strings, proptest::sample::select(names.to_vec())).prop_map(|(strings, name)| LexerSettings {
        strings,
        encoding: Encoding::of_name(name.as_bytes()),
    })
}

proptest! {
    #[test]
    fn any_bytes_are_taken_apart(
        text in prop_oneof![
            "['\"$/*\\-eEuUnNbBxX&a1_. \\\\\n\r:;,()<+=@]{0,60}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..60),
        ],
        settings in settings(),
    ) {
        let Some(masked) = settings.mask(&text) else { return Ok(()) };
        prop_assert_eq!(masked.len(), text.len());
        let mut lexer = Lexer::under(&masked, settings);
        let mut end = 0;
        while let Some(token) = lexer.next() {
            prop_assert!(token.start >= end && !token.text.is_empty());
            prop_assert!(text[end..token.start].iter().copied().all(is_space));
            prop_assert_eq!(token.text, &masked[token.start..token.end()]);
            prop_assert_eq!(token.within(&masked), token);
            prop_assert!(!matches!(token.kind, Ambiguous | Unfinished) || token.end() == text.len());
            let _ = (token.value(), token.identifier(), token.code_points(b'!'));
            end = token.end();
        }
        prop_assert!(text[end..].iter().copied().all(is_space));
    }

    /// What is unsettled is read in one way only where it is read so under every setting.
    #[test]
    fn unsettled_is_all_of_them(
        text in prop_oneof!["['eEnNbu& \\\\\n\\-x;]{0,30}", "['E \\\\;日é€a@\\[]{0,20}"].prop_map(String::into_bytes),
        encoding in proptest::sample::select(vec!["UTF8", "SJIS", "BIG5", "GBK", "JOHAB", "GB18030"]),
        strings in proptest::sample::select(vec![Backslashes::Ordinary, Backslashes::Escape]),
    ) {
        let shape = |settings| {
            let ends = tokens(&text, settings);
            ends.into_iter().map(|(kind, text)| (if kind == Escaped { Literal } else { kind }, text)).collect::<Vec<_>>()
        };
        let unsettled = shape(LexerSettings::UNSETTLED);
        let settled = LexerSettings { strings, encoding: Encoding::of_name(encoding.as_bytes()) };
        let certain = unsettled.iter().all(|(kind, _)| *kind != Ambiguous);
        prop_assert_eq!(LexerSettings::are_all_alike_to(&text), certain);
        if certain && settled.mask(&text).is_some() {
            prop_assert_eq!(unsettled, shape(settled));
        }
        if LexerSettings::do_not_matter_to(&text) {
            prop_assert_eq!(shape(LexerSettings::UNSETTLED), shape(LexerSettings::default()));
        }
    }
}

#[test]
fn a_shape_is_the_text_without_values() {
    let of = |text: &str| {
        let shape = String::from_utf8(shape(text.as_bytes())?).unwrap();
        Some(shape.strip_suffix('\0').unwrap().to_owned())
    };
    for (text, expected) in [
        ("SELECT a FROM t WHERE id = 4711", "SELECT a FROM t WHERE id = 0"),
        ("  select /* ' */ 'it''s'\n 'more',1.5,$1 -- end", "select '',1.5,$1"),
        (
            "insert into t values (1, 'a'), (22, 'b');",
            "insert into t values (0, ''), (0, '');",
        ),
        ("select 1;\n((values (2)))", "select 0; ((values (0)))"),
        ("select E'a', B'1', 0x1F, 1234567890, 1e3", "select E'a', B'1', 0x1F, 0, 1e3"),
        ("select 1..2", "select 0..0"),
        ("select 1x1F, 0x1F, 1b0from, 12 b", "select 1x1F, 0x1F, 1b0from, 0 b"),
    ] {
        assert_eq!(of(text).as_deref(), Some(expected), "{text}");
    }
    for text in [
        "set client_encoding = 'utf8'",
        "select 1; set client_encoding = 'latin1'",
        "select set_config('client_encoding', 'x', false)",
        "select pg_catalog.\"SET_CONFIG\"('a', 'b', false)",
        "do 'begin end'",
        "select U&'\\0061'",
        "select 'no end",
        "explain select 1",
    ] {
        assert_eq!(of(text), None, "{text}");
    }
}
