//! One function for each reader of bytes from outside, for fuzzers: `fuzz/` calls them, and so do the tests with some thousand inputs.
//!
//! It is no part of the product. A function returns whatever it is given; a panic, a hang or a heap that grows is a finding. What the
//! readers promise beside that is asserted here.
#![allow(missing_docs, clippy::missing_panics_doc, reason = "called by fuzzers only")]

use std::path::Path;
use std::sync::LazyLock;

use bytes::BytesMut;

use crate::audit::{self, redact, sql_analysis::SqlAnalysis};
use crate::base::secret::Secret;
use crate::base::visible;
use crate::chat::{self, ChatSettings, Click};
use crate::config;
use crate::control;
use crate::gate::sql_filter::SqlFilter;
use crate::identity;
use crate::protocol::lexer::{Backslashes, Lexer, LexerSettings};
use crate::protocol::oauth_bearer::{self, Credentials};
use crate::protocol::scram::{self, ClientKeys, Mechanism, Verifier};
use crate::protocol::wire::frame::{BodyBuffer, Framer, LengthLimit};
use crate::protocol::wire::startup::{self, FirstPacket};
use crate::protocol::wire::{backend, binary, frontend};

/// A target: its name, which is that of its file and of its folder of seeds, and its function.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[FuzzTarget] = &[
    ("frame", frame),
    ("startup", startup),
    ("scram_server", scram_server),
    ("scram_client", scram_client),
    ("oauth_bearer", oauth_bearer),
    ("jwt", jwt),
    ("chat_click", chat_click),
    ("chat_signature", chat_signature),
    ("cookies", cookies),
    ("same_origin", same_origin),
    ("lexer", lexer),
    ("redaction", redaction),
    ("log_line", log_line),
    ("log_summary", log_summary),
    ("log_packed", log_packed),
    ("log_folder", log_folder),
    ("configuration", configuration),
];

/// Cuts a stream into messages twice, whole and in pieces, and reads the bodies.
pub fn frame(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    for limit in [frontend::limit as LengthLimit, backend::limit] {
        let whole = messages(limit, stream, stream.len().max(1));
        let pieces = messages(limit, stream, usize::from(*size).max(1));
        assert_eq!(whole, pieces, "where a chunk ends must not matter");
        for (tag, body) in whole {
            read_body(tag, &body);
        }
    }
}

/// Messages shorter than this are put together.
const MAX_SHORT_MESSAGE_BYTES: usize = 4096;

fn messages(limit: LengthLimit, stream: &[u8], size: usize) -> Vec<(u8, Vec<u8>)> {
    let (mut framer, mut gather, mut found) = (Framer::new(limit), BodyBuffer::default(), Vec::new());
    for mut chunk in stream.chunks(size) {
        loop {
            match framer.next(&mut chunk) {
                Ok(Some(piece)) => {
                    let tag = piece.tag;
                    if let Some(body) = gather.add(&piece, MAX_SHORT_MESSAGE_BYTES)
                        && piece.last
                    {
                        found.push((tag, body.to_vec()));
                    }
                }
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}

fn read_body(tag: u8, body: &[u8]) {
    match tag {
        b'P' => drop(frontend::Parse::of(body)),
        b'B' => {
            if let Some(bind) = frontend::Bind::of(body) {
                for (binary, value) in bind.values.iter().flat_map(frontend::WireValues::iter) {
                    if let (true, Some(value)) = (binary, value) {
                        for oid in [16, 17, 20, 23, 25, 700, 701, 1007, 1082, 1114, 1184, 1186, 1700, 2950] {
                            let _ = binary::show(oid, value);
                        }
                    }
                }
            }
        }
        b'C' => drop(backend::tag_rows(backend::command_tag(body))),
        b'E' => drop(backend::error_code(body)),
        b't' => drop(backend::parameter_types(body).len()),
        _ => {}
    }
    let _ = binary::bytea(body);
}

/// Reads a packet from its bytes, as the greeting does.
pub fn startup(data: &[u8]) {
    let Ok(missing) = startup::missing(data) else { return };
    if missing > 0 {
        return;
    }
    let Some(length) = data.first_chunk::<4>() else { return };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if let Ok(FirstPacket::Startup(startup)) = FirstPacket::parse(data.get(..length).unwrap_or(data)) {
        let _ = (startup.version(), startup.application_name());
        startup.negotiate(&mut BytesMut::new());
    }
}

static KEYS: LazyLock<ClientKeys> = LazyLock::new(|| ClientKeys::derive(b"secret", b"salt of sixteen!", 4096));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::of(&KEYS, b"salt of sixteen!", 4096));

/// Plays the server to a client's two messages, which a line break parts: as they are, and with the nonce put right.
pub fn scram_server(data: &[u8]) {
    let (first, last) = halves(data);
    for (mechanism, binding) in [
        (Mechanism::ScramSha256, None),
        (Mechanism::ScramSha256, Some(&[7; 32][..])),
        (Mechanism::ScramSha256Plus, Some(&[7; 32][..])),
    ] {
        let start = || scram::server_start(mechanism, first, &VERIFIER, binding, &[1; 18]);
        let Ok((exchange, answer)) = start() else { continue };
        assert!(exchange.finish(last).is_err(), "nobody has the secret");
        let Ok((exchange, _)) = start() else { continue };
        let nonce = String::from_utf8_lossy(&answer);
        let nonce = nonce.split(',').next().unwrap_or_default();
        let last = [b"c=biws,", nonce.as_bytes(), b",p=", last].concat();
        assert!(exchange.finish(&last).is_err(), "nobody has the secret");
    }
}

/// Plays the client to a server's two messages.
pub fn scram_client(data: &[u8]) {
    let (first, last) = halves(data);
    let nonce = "fyko+d2lbbFgONRv9qkxdawL";
    let ours = [b"r=", nonce.as_bytes(), first].concat();
    for first in [first, &ours] {
        let Ok(challenged) = scram::client_start(None, nonce).challenge(first) else {
            continue;
        };
        assert!(challenged.iterations <= 100_000, "no server makes us compute for long");
        let answered = challenged.answer(&KEYS);
        assert!(answered.verify(last).is_err(), "no server has the keys");
    }
}

fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (first, rest) = data.split_at_checked(at).unwrap_or((data, &[]));
    (first, rest.get(1..).unwrap_or_default())
}

/// Reads a client's two messages of OAUTHBEARER, which a line break parts.
pub fn oauth_bearer(data: &[u8]) {
    let (first, last) = halves(data);
    let _ = oauth_bearer::answered(last);
    if let Ok(Credentials::Token(token)) = oauth_bearer::credentials(first) {
        assert!(token.is_ascii() && !token.is_empty(), "a token is visible text");
        let alone = ["n,,\x01auth=Bearer ", token, "\x01\x01"].concat();
        let read = oauth_bearer::credentials(alone.as_bytes());
        assert_eq!(
            read,
            Ok(Credentials::Token(token)),
            "what stands beside a token does not change it"
        );
    }
}

/// Reads a token, and claims as those of a token that was verified.
pub fn jwt(data: &[u8]) {
    identity::read_hostile(data);
}

/// Reads a click in a chat, as if the chat had signed it.
pub fn chat_click(data: &[u8]) {
    let settings = ChatSettings {
        signing_secret: Secret::new(String::new()),
        teams: ["T1".to_owned()].into(),
        users: std::collections::BTreeMap::new(),
        api_token: None,
        api: chat::SLACK_API.to_owned(),
        link: None,
    };
    if let Ok(Some(click)) = Click::parse(data, &settings) {
        assert!(
            click.user.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "it goes into an address"
        );
        assert!(
            click.comment.is_none_or(|text| !text.trim().is_empty()),
            "a comment says something"
        );
    }
}

/// Body of the one call that the secret of these tests has signed, for [`chat_signature`].
const SIGNED_BODY: &[u8] = b"payload=%7B%7D";
/// Its time in Unix seconds, and its signature.
const SIGNED: [&str; 2] = [
    "1531420618",
    "v0=90020873e6bbe3b3515fec3b8fc08453f30f6b3fccd4d8a47b757f016b7334ae",
];

/// Verifies a call of a chat: its time, its signature and its body, parted by line breaks. Nobody but the chat has the secret.
pub fn chat_signature(data: &[u8]) {
    let (time, rest) = halves(data);
    let (signature, body) = halves(rest);
    let (Ok(time), Ok(signature)) = (str::from_utf8(time), str::from_utf8(signature)) else {
        return;
    };
    let secret = Secret::new("8f742231b10e8888abcd99yyyzzz85a5".to_owned());
    let verified = chat::verified(&secret, time, signature, body, 1_531_420_618);
    let signed = ([time, signature], body) == (SIGNED, SIGNED_BODY);
    assert_eq!(verified.is_ok(), signed, "what was signed, and nothing else");
}

/// Reads the cookies of a request.
pub fn cookies(data: &[u8]) {
    control::cookies_hostile(data);
}

/// Reads what a browser says of a form.
pub fn same_origin(data: &[u8]) {
    control::same_origin_hostile(data);
}

/// Cuts SQL into tokens, reads it, and judges it.
pub fn lexer(data: &[u8]) {
    static RAILS: LazyLock<Option<SqlFilter>> = LazyLock::new(|| {
        let rules = crate::gate::sql_filter::FilterRules {
            need_where: true,
            ..crate::gate::sql_filter::FilterRules::default()
        };
        SqlFilter::new(&rules, "fuzzed".parse().ok()?).ok()
    });
    for strings in [Backslashes::Ordinary, Backslashes::Escape, Backslashes::Unsettled] {
        let settings = LexerSettings {
            strings,
            ..LexerSettings::default()
        };
        tokens(data, settings);
        if let Ok(text) = str::from_utf8(data) {
            let _ = SqlAnalysis::under(settings, text);
        }
        if let Some(rails) = &*RAILS {
            let _ = rails.judge(data, settings);
        }
    }
}

/// Each token begins behind the one before, and the last ends with the text at the latest.
fn tokens(text: &[u8], settings: LexerSettings) {
    let (mut lexer, mut at) = (Lexer::under(text, settings), 0);
    while let Some(token) = lexer.next() {
        assert!(token.end() > at && token.end() <= text.len(), "the lexer goes on");
        at = token.end();
        let _ = (token.value(), token.identifier());
    }
}

/// Takes secrets out of SQL and of values.
pub fn redaction(data: &[u8]) {
    let _ = redact::gives_away(data);
    for whole in [true, false] {
        let redacted = redact::sql(data, whole, LexerSettings::default());
        if redacted.places == 0 {
            assert_eq!(redacted.text, data, "a text without a secret stays as it is");
        }
    }
    let hidden = [b"ALTER ROLE x PASSWORD 'hunter2'; /*", data, b"*/"].concat();
    let shown = redact::sql(&hidden, true, LexerSettings::default());
    assert!(
        !shown.text.windows(7).any(|part| part == b"hunter2") || data.windows(7).any(|part| part == b"hunter2"),
        "a password in front of anything is gone"
    );
}

/// Reads a line of the log, and shows it.
pub fn log_line(data: &[u8]) {
    let Some(shown) = audit::show_hostile(data) else { return };
    assert!(
        !shown.contains(|character| character != '\n' && visible::is_unseen(character)),
        "nothing is shown that does something instead of being seen: {shown:?}"
    );
}

/// Reads the summary of a packed segment.
pub fn log_summary(data: &[u8]) {
    audit::summary_hostile(data);
}

/// Reads a packed segment, and summarises it.
pub fn log_packed(data: &[u8]) {
    audit::packed_hostile(data);
}

/// Verifies, reads and surveys a folder with one segment: as it is written, or packed.
pub fn log_folder(data: &[u8]) {
    audit::folder_hostile(data);
}

/// Reads a configuration. Paths in it are none, so that no file is read.
pub fn configuration(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data)
        && !text.contains(['/', '~'])
    {
        let _ = config::from_text(Path::new("/nonexistent/tidegate.toml"), text);
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
