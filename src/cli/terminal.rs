//! Standard error on a terminal: its width, a moving line, a line above the input line, the window's title.
//!
//! It reads nothing and changes no mode of the terminal.
//!
//! INVARIANT: the previous title is restored when a [`WindowTitle`] is dropped.

use std::io::{self, Write};

/// Writes text; errors are ignored, since a terminal that has gone away is no reason to stop.
pub(super) fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Returns the width of the terminal in characters.
pub(super) fn columns() -> usize {
    let columns = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).map_or(80, |size| usize::from(size.ws_col));
    // A terminal that does not know its width reports 0.
    if columns == 0 { 80 } else { columns }
}

/// Returns the width of the terminal that standard output goes to; 80 if it reports none.
#[must_use]
pub(super) fn width_of_output() -> usize {
    let columns = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(80, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns }
}

/// Returns the text, cut to this number of columns.
#[must_use]
pub(super) fn fitted(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Blanks in front of what a line goes on with.
const INDENT: &str = "    ";

/// The line, broken between words where it is wider than so many columns, so that no id is cut in two.
#[must_use]
pub(super) fn wrapped(line: &str, columns: usize) -> String {
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    while let Some((end, _)) = rest.char_indices().nth(columns) {
        let (head, tail) = rest.split_at(end);
        let at = if tail.starts_with(' ') { Some(end) } else { head.rfind(' ') };
        let (before, after) = rest.split_at(at.unwrap_or(0));
        // A word that is longer than a line is left to the terminal.
        if before.trim().is_empty() {
            break;
        }
        lines.push(before.trim_end().to_owned());
        rest = format!("{INDENT}{}", after.trim_start());
    }
    lines.push(rest);
    lines.join("\n")
}

/// Capabilities of a terminal, by its name (`TERM`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TerminalAbility {
    /// Writes one line after the other.
    Lines,
    /// Moves its cursor and inserts lines.
    Cursor,
    /// Also has a title.
    Title,
}

impl TerminalAbility {
    pub(super) fn of(name: Option<&str>) -> Self {
        match name {
            None | Some("" | "dumb" | "unknown") => Self::Lines,
            // The Linux console has no window, and an old one waits in vain for the end of the title.
            Some("linux") => Self::Cursor,
            Some(_) => Self::Title,
        }
    }
}

/// Returns the sequence that writes `line` above the cursor's line, which it leaves as it is together with the cursor, so that
/// the user's input stays visible. `line` must fit into one row.
#[must_use]
pub(super) fn above(line: &str, ability: TerminalAbility) -> String {
    match ability {
        TerminalAbility::Lines => format!("\n{line}\n"),
        // Make sure that there is a row below (IND, CUU), save the column (DECSC), insert a row (IL) and write there, and go
        // back one row further down (DECRC, CUD). ECMA-48 and DEC VT102: every terminal emulator has them.
        TerminalAbility::Cursor | TerminalAbility::Title => format!("\u{1b}D\u{1b}[A\u{1b}7\r\u{1b}[L{line}\u{1b}8\u{1b}[B"),
    }
}

/// Title of the terminal's window.
#[derive(Debug)]
pub(super) struct WindowTitle {
    possible: bool,
    shown: Option<String>,
}

impl WindowTitle {
    pub(super) fn new(ability: TerminalAbility) -> Self {
        Self {
            possible: ability == TerminalAbility::Title,
            shown: None,
        }
    }

    /// Shows `text`; `None` restores the previous title.
    pub(super) fn show(&mut self, text: Option<String>) {
        if self.possible && self.shown != text {
            write(&change(self.shown.as_deref(), text.as_deref()));
            self.shown = text;
        }
    }
}

impl Drop for WindowTitle {
    fn drop(&mut self) {
        self.show(None);
    }
}

/// Returns the sequence from one title to the next. The terminal stores the original title (XTWINOPS 22 and 23); if it cannot,
/// there is none afterwards.
fn change(from: Option<&str>, to: Option<&str>) -> String {
    match (from, to) {
        (None, Some(to)) => format!("\u{1b}[22;2t\u{1b}]2;{to}\u{7}"),
        (Some(_), Some(to)) => format!("\u{1b}]2;{to}\u{7}"),
        (Some(_), None) => "\u{1b}]2;\u{7}\u{1b}[23;2t".to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(fitted("orders", 6), "orders");
        assert_eq!(fitted("orders", 5), "orde…");
        assert_eq!(fitted("orders", 0), "…");
    }

    #[test]
    fn a_word_is_never_broken_in_two() {
        let line = "request rq_4k2m9x0a7b is still pending; tidegate withdraw rq_4k2m9x0a7b takes it back";
        for columns in 17..100 {
            let wrapped = wrapped(line, columns);
            assert!(
                wrapped.lines().all(|line| line.chars().count() <= columns),
                "{columns}: {wrapped}"
            );
            let words: Vec<_> = wrapped.split_whitespace().collect();
            assert_eq!(words, line.split_whitespace().collect::<Vec<_>>());
        }
        assert_eq!(wrapped(line, 100), line);
        assert_eq!(wrapped("a  b  rq_4k2m9x0a7b", 8), "a  b\n    rq_4k2m9x0a7b");
        assert_eq!(wrapped("rq_4k2m9x0a7b", 8), "rq_4k2m9x0a7b");
        assert_eq!(wrapped("", 8), "");
    }

    #[test]
    fn a_terminal_is_asked_for_no_more_than_it_can() {
        assert_eq!(TerminalAbility::of(None), TerminalAbility::Lines);
        assert_eq!(TerminalAbility::of(Some("dumb")), TerminalAbility::Lines);
        assert_eq!(TerminalAbility::of(Some("linux")), TerminalAbility::Cursor);
        assert_eq!(TerminalAbility::of(Some("xterm-256color")), TerminalAbility::Title);
        assert!(!above("5m left", TerminalAbility::Lines).contains('\u{1b}'));
        let mut none = WindowTitle::new(TerminalAbility::Cursor);
        none.show(Some("5m left".to_owned()));
        assert_eq!(none.shown, None);
    }

    #[test]
    fn the_title_is_kept_once_and_put_back_once() {
        let steps = [None, Some("5m left"), Some("4m left"), None];
        let written: String = steps.iter().zip(&steps[1..]).map(|(from, to)| change(*from, *to)).collect();
        assert_eq!(
            written,
            "\u{1b}[22;2t\u{1b}]2;5m left\u{7}\u{1b}]2;4m left\u{7}\u{1b}]2;\u{7}\u{1b}[23;2t"
        );
    }
}
