//! The lexer against PostgreSQL's own, through a real server that executes nothing of what it is asked.
//!
//! The oracle. A Parse message has the server's scanner and grammar read a text to its end, and nothing is executed. What the server
//! answers says how it was taken apart:
//!
//! - an error has a position, and it is the beginning of a token; `syntax error at or near "…"` repeats that token: both have to be
//!   ours, too, so every literal, name and comment in front of it ends where ours does;
//! - `unterminated …` is a token that ours says has no end, and it begins there;
//! - `cannot insert multiple commands` has several statements for us, and what is accepted has one, all of whose tokens end.
//!
//! Texts are statements with pieces put in, taken out and changed places, with characters whose second byte is a quote's neighbour.
//! A sign that no grammar knows is one of the pieces: it is an error where it is code, and nothing within a literal.
//!
//! The values. `SELECT` of literals put together from such pieces is executed: the server's values, and how many statements it
//! has found, have to be ours.
//!
//! `LEXER_TEXTS` says how many texts there are for each setting (a few thousand by default), `LEXER_SEED` where they begin.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::corpus;
use crate::demo::testkit;
use crate::protocol::lexer::{Backslashes, Encoding, Lexer, LexerSettings, Token, TokenKind};

/// Texts of each kind for each encoding and setting.
const TEXTS: u64 = 1_500;
/// So many are on their way to the server at once.
const BATCH: usize = 50;
/// Encodings, each with characters of its own; some have a backslash, a bracket or a letter for their second byte.
const ENCODINGS: [(&str, &[&[u8]]); 6] = [
    (
        "UTF8",
        &[
            b"\xc3\xa4",
            b"\xe6\x97\xa5",
            b"\xe2\x82\xac",
            b"\xf0\x9f\x98\x80",
            b"\xe3\x82\xbd",
        ],
    ),
    ("LATIN1", &[b"\xe4", b"\xe9", b"\xfc", b"\xdf", b"\xa7"]),
    (
        "SJIS",
        &[
            b"\x83\x5c",
            b"\x95\x5c",
            b"\x8e\x9a",
            b"\xb1",
            b"\x83\x7b",
            b"\x83\x60",
            b"\x83\x7c",
            b"\x83\x40",
            b"\x83\x41",
        ],
    ),
    (
        "GBK",
        &[
            b"\x81\x5c",
            b"\xd5\x5c",
            b"\x81\x40",
            b"\xc4\xe3",
            b"\x81\x7c",
            b"\x81\x60",
            b"\x81\x61",
        ],
    ),
    (
        "BIG5",
        &[b"\xa5\x5c", b"\xb3\x5c", b"\xa4\xa4", b"\xa5\x7c", b"\xa4\x40", b"\xa4\x61"],
    ),
    (
        "GB18030",
        &[b"\x81\x5c", b"\xd5\x5c", b"\x81\x30\x84\x36", b"\xc4\xe3", b"\x81\x40"],
    ),
];
/// What is put into texts.
const PIECES: [&str; 62] = [
    "'",
    "'",
    "''",
    "\\",
    "\\'",
    "\\\\",
    "\"",
    "\"\"",
    "E'",
    "e'a\\",
    "'\n'",
    "' \n --x\n '",
    "'\r'",
    "N'",
    "n'\\'",
    "B'",
    "X'1",
    "U&'",
    "u&\"",
    " UESCAPE '!'",
    "\\0061",
    "!0061",
    "$$",
    "$a$",
    "$",
    "$x",
    "$1",
    "--",
    "-- '\n",
    "/*",
    "*/",
    "/**/",
    "\n",
    "\r",
    " ",
    "\t",
    "\x0c",
    ";",
    ";",
    "\x01",
    "\x01",
    "\x01",
    "1",
    ".",
    "..",
    "e",
    "0x",
    "_1",
    "+",
    "-",
    "@",
    "|",
    "&",
    "(",
    ")",
    ",",
    "::",
    "=",
    "<",
    "select ",
    "a",
    "`",
];
/// What literals are put together from.
const IN_LITERALS: [&str; 16] = [
    "a", "b ", "\\", "\\'", "\\\\", "''", "\"", "\n", "$$", "$a$", "--", "/*", "*/", ";", "\\n", "\\101",
];

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below.max(1) as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.next(some.len())]
    }
}

/// A text by its characters: the server counts these, so the test need not know where one ends.
#[derive(Clone, Default)]
struct Characters(Vec<Vec<u8>>);

impl Characters {
    /// A text of ours; what is not ASCII becomes a character of the encoding.
    fn of(text: &str, random: &mut Random, own: &[&[u8]]) -> Self {
        let character = |character: char| match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => vec![byte],
            _ => random.of(own).to_vec(),
        };
        Self(text.chars().map(character).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Where the character begins that the server counts so, from 1 on.
    fn place(&self, position: usize) -> Option<usize> {
        let before = self.0.get(..position.checked_sub(1)?)?;
        Some(before.iter().map(Vec::len).sum())
    }

    /// Puts something in, takes something out, or moves it.
    fn change(&mut self, random: &mut Random, own: &[&[u8]]) {
        let at = random.next(self.0.len() + 1);
        let some = self.0.len().saturating_sub(at).min(1 + random.next(8));
        match random.next(10) {
            0 => drop(self.0.splice(at..at + some, [])),
            1 => {
                let moved: Vec<_> = self.0.splice(at..at + some, []).collect();
                let to = random.next(self.0.len() + 1);
                self.0.splice(to..to, moved);
            }
            2..5 => self.0.insert(at, random.of(own).to_vec()),
            _ => {
                let piece = Self::of(random.of(&PIECES), random, own);
                self.0.splice(at..at, piece.0);
            }
        }
    }
}

/// What the server says to a text.
#[derive(Debug, Default)]
struct Answer {
    code: Option<String>,
    message: Vec<u8>,
    position: Option<usize>,
    /// The error is one of a text within the text: a value that is read as a type's name.
    within_a_value: bool,
    /// The rows of its statements.
    rows: Vec<Vec<Option<Vec<u8>>>>,
}

/// A connection that sends bytes as they are.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr, encoding: &str, conforming: &str) -> Self {
        let options = format!("-c standard_conforming_strings={conforming} -c backslash_quote=on -c client_min_messages=error");
        let mut body = vec![0, 3, 0, 0];
        for text in [
            "user",
            "postgres",
            "database",
            "postgres",
            "client_encoding",
            encoding,
            "options",
            &options,
            "",
        ] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let mut connection = Self(BufReader::new(TcpStream::connect(address).unwrap()));
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        connection.send(&[&length[..], &body].concat());
        let answer = connection.answer();
        assert_eq!(answer.code, None, "{}", String::from_utf8_lossy(&answer.message));
        connection
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// What the server thinks of texts, which it does not execute.
    fn parse(&mut self, texts: &[Vec<u8>]) -> Vec<Answer> {
        let mut bytes = Vec::new();
        for text in texts {
            bytes.extend(message(b'P', &[b"\0", text.as_slice(), b"\0\0\0"].concat()));
            bytes.extend(message(b'S', b""));
        }
        self.send(&bytes);
        texts.iter().map(|_| self.answer()).collect()
    }

    fn query(&mut self, text: &[u8]) -> Answer {
        self.send(&message(b'Q', &[text, b"\0"].concat()));
        self.answer()
    }

    /// All up to where it is ready.
    fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) - 4;
            let mut body = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut body).unwrap();
            match head[0] {
                b'Z' => return answer,
                b'D' => answer.rows.push(row(&body)),
                b'E' => {
                    for field in body.split(|byte| *byte == 0).filter(|field| field.len() > 1) {
                        let text = || String::from_utf8_lossy(&field[1..]).into_owned();
                        match field[0] {
                            b'C' => answer.code = Some(text()),
                            b'M' => answer.message = field[1..].to_vec(),
                            b'P' => answer.position = text().parse().ok(),
                            b'W' => answer.within_a_value = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn row(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let (mut rest, mut values) = (&body[2..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, behind) = behind.split_at(length.unwrap_or(0));
        values.push(length.map(|_| value.to_vec()));
        rest = behind;
    }
    values
}

fn tokens(masked: &[u8], settings: LexerSettings) -> Vec<Token<'_>> {
    let mut lexer = Lexer::under(masked, settings);
    std::iter::from_fn(|| lexer.next_code()).collect()
}

/// How many statements there are that have a token.
fn statements(tokens: &[Token<'_>]) -> usize {
    let statements = tokens.split(|token| token.is_sign(b';'));
    statements.filter(|tokens| !tokens.is_empty()).count()
}

/// What the test has seen.
#[derive(Debug, Default)]
struct Seen {
    texts: u64,
    accepted: u64,
    placed: u64,
    repeated: u64,
    several: u64,
    unfinished: u64,
    ambiguous: u64,
    not_converted: u64,
    values: u64,
}

/// How the two fall out about a text, if they do.
fn disagreement(text: &Characters, settings: LexerSettings, answer: &Answer, seen: &mut Seen) -> Option<String> {
    seen.texts += 1;
    let bytes = text.bytes();
    if matches!(answer.code.as_deref(), Some("22021" | "22P05")) {
        // Not converted to the server's encoding, or made invalid by escapes.
        seen.not_converted += 1;
        return None;
    }
    let Some(masked) = settings.mask(&bytes) else {
        return Some("its characters are not told apart".to_owned());
    };
    let tokens = tokens(&masked, settings);
    if tokens.iter().any(|token| token.kind == TokenKind::Ambiguous) {
        seen.ambiguous += 1;
        return None;
    }
    let unfinished = tokens.last().filter(|token| token.kind == TokenKind::Unfinished);
    let message = String::from_utf8_lossy(&answer.message).into_owned();
    // A rule, a schema and a body in SQL have statements within.
    let nests = ["atomic", "rule"]
        .iter()
        .any(|word| tokens.iter().any(|token| token.is(word)));
    if answer.code.is_none() {
        seen.accepted += 1;
        let several = statements(&tokens) > 1 && !nests;
        return (unfinished.is_some() || several).then(|| "it has no end, or several statements, and was accepted".to_owned());
    }
    if message.starts_with("cannot insert multiple commands") {
        seen.several += 1;
        return (statements(&tokens) < 2 || unfinished.is_some()).then(|| "it has several statements".to_owned());
    }
    if answer.within_a_value {
        return None;
    }
    let place = text.place(answer.position?)?;
    seen.placed += 1;
    if place == bytes.len() {
        return unfinished.map(|_| format!("{message}: it has no end"));
    }
    let found = tokens.iter().find(|token| token.start <= place && place < token.end());
    let Some(token) = found else {
        return Some(format!("{message}: there is no token at {place}"));
    };
    // N'…' is two tokens; and a mistake in an escape is told where it is.
    let national = matches!(token.text, [b'n' | b'N', b'\'', ..]);
    let begins = token.start == place || national && token.start + 1 == place;
    if message.starts_with("unterminated") {
        seen.unfinished += 1;
        return (token.kind != TokenKind::Unfinished || !begins).then(|| format!("{message}: not at {place}"));
    }
    let within = ["escape", "Unicode", "surrogate", "unsafe"]
        .iter()
        .any(|word| message.contains(word));
    if !begins && !within {
        return Some(format!("{message}: at {place}, but the token begins at {}", token.start));
    }
    let other = !national && repeats_another(token.within(&bytes), &answer.message, seen);
    other.then(|| format!("{message}: another token at {place}"))
}

/// Whether the server repeats another token than ours.
fn repeats_another(token: Token<'_>, message: &[u8], seen: &mut Seen) -> bool {
    let said = message
        .strip_prefix(b"syntax error at or near \"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(said) = said.filter(|_| !token.is_by_code_points()) else {
        return false;
    };
    seen.repeated += 1;
    said != token.text
}

/// The values of a text that is nothing but `SELECT 'a', 'b'; SELECT 'c'`, masked; `None` if it is something else for us.
fn values(tokens: &[Token<'_>]) -> Option<Vec<Vec<Vec<u8>>>> {
    let mut all = Vec::new();
    for statement in tokens.split(|token| token.is_sign(b';')).filter(|tokens| !tokens.is_empty()) {
        let (select, literals) = statement.split_first()?;
        let literals = literals.split(|token| token.is_sign(b','));
        let value = |literal: &[Token<'_>]| match literal {
            [literal] => literal.value().map(Cow::into_owned),
            // A column with its name.
            [literal, name] if matches!(name.kind, TokenKind::Word | TokenKind::Quoted) => literal.value().map(Cow::into_owned),
            _ => None,
        };
        all.push(literals.map(value).collect::<Option<_>>().filter(|_| select.is("select"))?);
    }
    Some(all)
}

/// A `SELECT` of literals; the server may find something else in it.
fn select(random: &mut Random, own: &[&[u8]]) -> Characters {
    let mut text = Characters::default();
    let mut add = |piece: &str, random: &mut Random| text.0.extend(Characters::of(piece, random, own).0);
    for statement in 0..=random.next(3) {
        add(if statement == 0 { "SELECT " } else { "; SELECT " }, random);
        for literal in 0..=random.next(3) {
            add(if literal == 0 { "" } else { ", " }, random);
            let (open, close) = random.of(&[
                ("'", "'"),
                ("E'", "'"),
                ("'", "'\n'x'"),
                ("E'a' -- '\n '", "'"),
                ("n'", "'"),
                ("$$", "$$"),
                ("$a$", "$a$"),
                ("$ä$", "$ä$"),
                ("/* ' */'", "'--'\n"),
            ]);
            // A character of its own in a tag has to be the same at both ends.
            let own = String::from_utf8(own[0].to_vec()).map_or("x".to_owned(), |own| own);
            add(&open.replace('ä', &own), random);
            for _ in 0..random.next(5) {
                let piece = if random.next(3) == 0 { "ä" } else { random.of(&IN_LITERALS) };
                add(piece, random);
            }
            add(&close.replace('ä', &own), random);
        }
    }
    text
}

/// One connection's worth of texts; how the two fall out.
#[expect(clippy::too_many_lines, reason = "one connection's work, from its texts to their faults")]
fn compare(
    address: SocketAddr,
    (encoding, own): (&str, &[&[u8]]),
    off: bool,
    statements: &[String],
    seen: &mut Seen,
) -> Vec<String> {
    let texts = number("LEXER_TEXTS").unwrap_or(TEXTS);
    let settings = LexerSettings {
        strings: if off { Backslashes::Escape } else { Backslashes::Ordinary },
        encoding: Encoding::of_name(encoding.as_bytes()),
    };
    let mut random = Random(
        number("LEXER_SEED")
            .unwrap_or(1)
            .wrapping_mul(1 + encoding.len() as u64 + u64::from(off)),
    );
    let mut connection = Connection::open(address, encoding, if off { "off" } else { "on" });
    let mut faults = Vec::new();
    let mut fault = |text: &Characters, what: String| {
        let mut shown = String::new();
        let _ = write!(shown, "{encoding}, off {off}: {what}\n  {}", text.bytes().escape_ascii());
        faults.push(shown);
    };
    let mut left = usize::try_from(texts).unwrap();
    while left > 0 {
        let change = |random: &mut Random| {
            let mut text = Characters::of(&statements[random.next(statements.len())], random, own);
            for _ in 0..random.next(4) {
                text.change(random, own);
            }
            text
        };
        let batch: Vec<Characters> = (0..BATCH.min(left)).map(|_| change(&mut random)).collect();
        left -= batch.len();
        let bytes: Vec<_> = batch.iter().map(Characters::bytes).collect();
        for (text, answer) in batch.iter().zip(connection.parse(&bytes)) {
            if let Some(what) = disagreement(text, settings, &answer, seen) {
                fault(text, what);
            }
        }
    }
    for _ in 0..texts {
        let text = select(&mut random, own);
        let answer = connection.query(&text.bytes());
        if answer.code.is_some() {
            if let Some(what) = disagreement(&text, settings, &answer, seen) {
                fault(&text, what);
            }
            continue;
        }
        let bytes = text.bytes();
        let masked = settings.mask(&bytes).unwrap_or_default();
        let tokens = tokens(&masked, settings);
        if tokens.iter().any(|token| token.kind == TokenKind::Ambiguous) {
            seen.ambiguous += 1;
            continue;
        }
        seen.values += 1;
        let masked = |value: Option<Vec<u8>>| settings.mask(&value.unwrap_or_default()).unwrap_or_default().into_owned();
        let said: Vec<Vec<_>> = answer
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(masked).collect())
            .collect();
        if values(&tokens).as_ref() != Some(&said) {
            fault(&text, format!("{:?} and not {said:?}", values(&tokens)));
        }
    }
    faults
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn texts_are_taken_apart_as_postgresql_does() {
    let mut statements: Vec<String> = corpus::STATEMENTS.map(str::to_owned).to_vec();
    let own = statements.len();
    statements.extend(corpus::regression());
    let from_files = statements.len() - own;
    // A third of them are ours, however many the others are.
    for _ in 0..from_files / own / 2 {
        statements.extend(corpus::STATEMENTS.map(str::to_owned));
    }
    let server = testkit::TestPostgres::start(&testkit::ServerOptions {
        auth: testkit::ServerAuth::Trust,
        ..testkit::ServerOptions::default()
    })
    .unwrap();
    let (mut seen, mut faults, mut by_encoding) = (Seen::default(), Vec::new(), BTreeMap::new());
    for encoding in ENCODINGS {
        for off in [false, true] {
            let found = compare(server.address(), encoding, off, &statements, &mut seen);
            by_encoding.insert((encoding.0, off), found.len());
            faults.extend(found);
        }
    }
    println!("{from_files} statements of files, {own} of ours: {seen:?}");
    println!("disagreements {}: {by_encoding:?}", faults.len());
    assert!(faults.is_empty(), "{}", faults[..faults.len().min(20)].join("\n"));
    // The oracle has had something to say.
    for count in [seen.accepted, seen.repeated, seen.several, seen.unfinished, seen.values] {
        assert!(count * 50 > seen.texts.min(2_500), "{seen:?}");
    }
    assert!(seen.ambiguous * 20 < seen.texts, "{seen:?}");
}
