//! Terminals: their width, text cut or broken to it, and a moving line on standard error.
//!
//! It reads nothing and changes no mode of the terminal.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Writes text; errors are ignored, since a terminal that has gone away is no reason to stop.
pub(super) fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Returns the width in characters of the terminal that `output` goes to, 80 if it reports none; `None` if it is no terminal.
pub(super) fn width_of(output: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let columns = || tcgetwinsize(output).map_or(0, |size| usize::from(size.ws_col));
    output
        .is_terminal()
        .then(columns)
        .map(|columns| if columns == 0 { 80 } else { columns })
}

/// Returns the text, cut to this number of columns.
#[must_use]
pub(super) fn fitted(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// Blanks in front of what a message goes on with on its next line.
pub(super) const CONTINUATION_INDENT: usize = 4;

/// Returns the line, broken between words where it is wider than so many columns, so that no id is cut in two; what it goes on
/// with is indented.
#[must_use]
pub(super) fn wrapped(line: &str, columns: usize, indent: usize) -> String {
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
        rest = format!("{:indent$}{}", "", after.trim_start());
    }
    lines.push(rest);
    lines.join("\n")
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
            let wrapped = wrapped(line, columns, 4);
            assert!(
                wrapped.lines().all(|line| line.chars().count() <= columns),
                "{columns}: {wrapped}"
            );
            let words: Vec<_> = wrapped.split_whitespace().collect();
            assert_eq!(words, line.split_whitespace().collect::<Vec<_>>());
        }
        assert_eq!(wrapped(line, 100, 4), line);
        assert_eq!(wrapped("a  b  rq_4k2m9x0a7b", 8, 4), "a  b\n    rq_4k2m9x0a7b");
        assert_eq!(wrapped("rq_4k2m9x0a7b", 8, 4), "rq_4k2m9x0a7b");
        assert_eq!(wrapped("", 8, 4), "");
    }
}
