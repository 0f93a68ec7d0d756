//! Errors and notes beside a command's output (`--quiet`), and colours of status words in it (`--color`).
//!
//! Notes and colours are set once, before a command runs. If they are not set, as in tests, notes are printed and nothing is
//! coloured. Colours are added after control characters were made visible, and never to JSON or CSV.

use std::io::{self, Write};
use std::sync::OnceLock;

use anstream::AutoStream;
use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};

use super::terminal::{self, CONTINUATION_INDENT};
use crate::base::visible::visible;

static SPEECH: OnceLock<SpeechSettings> = OnceLock::new();

#[derive(Debug, Clone, Copy, Default)]
struct SpeechSettings {
    quiet: bool,
    coloured: bool,
}

/// Sets both. Without a choice, output is coloured on a terminal, unless `NO_COLOR` is set.
pub(super) fn settle(quiet: bool, color: ColorChoice) {
    let coloured = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
    };
    let _ = SPEECH.set(SpeechSettings { quiet, coloured });
}

fn settled() -> SpeechSettings {
    SPEECH.get().copied().unwrap_or_default()
}

/// Returns true if only errors and the command's output are to be printed.
pub(super) fn is_quiet() -> bool {
    settled().quiet
}

/// Prints an error or a warning.
pub(super) fn complain(text: &str) {
    complain_to(&mut io::stderr(), text, terminal::width_of(&io::stderr()));
}

/// Tells the user what went wrong. Where nobody can be told any more there is nothing else to do.
pub(super) fn complain_to(output: &mut impl Write, text: &str, columns: Option<usize>) {
    for line in text.lines() {
        let line = format!("tidegate: {}", visible(line));
        let line = columns.map_or_else(
            || line.clone(),
            |columns| terminal::wrapped(&line, columns, CONTINUATION_INDENT),
        );
        let _ = output.write_all(format!("{line}\n").as_bytes());
    }
}

/// Prints a note, which is neither an error nor the command's output.
pub(super) fn note(text: &str) {
    if !is_quiet() {
        complain(text);
    }
}

/// Returns the text with its status words coloured, if colours are enabled.
pub(super) fn in_colour(text: String) -> String {
    if settled().coloured { painted(&text) } else { text }
}

/// Column headings and a field name whose values are status words.
const STATUS_HEADINGS: [&str; 2] = ["STATUS", "STATE"];
const STATUS_FIELD: &str = "status ";

/// Colours a status in each row below a heading, up to an empty line, and in a field of that name.
fn painted(text: &str) -> String {
    let mut at = None;
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let head = STATUS_HEADINGS.iter().find_map(|head| place_of(line, head));
        at = match (head, line.is_empty()) {
            (Some(_), _) => head,
            (None, true) => None,
            (None, false) => at,
        };
        let field = line
            .strip_prefix(STATUS_FIELD)
            .map(|rest| line.len() - rest.trim_start().len());
        let here = if head.is_some() { None } else { field.or(at) };
        lines.push(here.and_then(|at| with_colour(line, at)).unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n")
}

/// Returns the position of a heading in a line that consists of headings.
fn place_of(line: &str, head: &str) -> Option<usize> {
    let heads = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b' ');
    let at = format!("{line} ").find(&format!(" {head} "))?;
    heads.then_some(at + 1)
}

/// Returns the line with the status word at character `at` coloured, if there is a known one after a space.
fn with_colour(line: &str, at: usize) -> Option<String> {
    let (start, _) = line.char_indices().nth(at)?;
    let (before, rest) = line.split_at_checked(start)?;
    let end = rest.find([' ', ',']).unwrap_or(rest.len());
    let (word, after) = rest.split_at_checked(end)?;
    let style = style_of(word).filter(|_| before.ends_with(' '))?;
    Some(format!("{before}{style}{word}{style:#}{after}"))
}

/// Returns the colour of a status word: green for usable, yellow for pending, red for refused or revoked, dimmed for ended.
fn style_of(word: &str) -> Option<Style> {
    let style = match word {
        "ready" | "active" | "approved" | "enabled" => AnsiColor::Green.on_default(),
        "pending" => AnsiColor::Yellow.on_default(),
        "denied" | "rejected" | "revoked" | "disabled" => AnsiColor::Red.on_default(),
        "lapsed" | "expired" | "ended" | "released" | "withdrawn" | "idle" => Style::new().dimmed(),
        _ => return None,
    };
    Some(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEN: &str = "\u{1b}[32m";
    const RED: &str = "\u{1b}[31m";
    const PLAIN: &str = "\u{1b}[0m";

    #[test]
    fn words_of_status_have_colours_and_others_none() {
        let table = " GRANT          TARGET  STATUS   REASON\n gr_0123456789  orders  active   revoked\n gr_0123456780  öders   revoked, x\n\n gr_0123456780  active  active";
        let expected = format!(
            " GRANT          TARGET  STATUS   REASON\n gr_0123456789  orders  {GREEN}active{PLAIN}   revoked\n gr_0123456780  öders   {RED}revoked{PLAIN}, x\n\n gr_0123456780  active  active"
        );
        assert_eq!(painted(table), expected);
        assert_eq!(
            painted("grant   active\nstatus  active\nreason  status  active"),
            format!("grant   active\nstatus  {GREEN}active{PLAIN}\nreason  status  active")
        );
        // A word that is not known, and one that is in the way of another column.
        for plain in [
            " STATUS\n unheard-of",
            " STATE\n xactive",
            "The STATUS\n active",
            "status",
            "",
        ] {
            assert_eq!(painted(plain), plain);
        }
    }

    #[test]
    fn nothing_is_coloured_that_was_not_settled() {
        assert_eq!(in_colour("status  active".to_owned()), "status  active");
    }
}
