//! Output of the demo: headings, commands, the output of other programs; coloured on a terminal only.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Verdict on a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FigureVerdict {
    Kept,
    /// In the right order, but later than promised: a busy machine does that, too.
    Slow,
    Broken,
}

/// Standard output.
pub(super) struct DemoScreen {
    out: io::Stdout,
    colours: bool,
    terminal: bool,
    headings: u32,
}

impl DemoScreen {
    pub(super) fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        // https://no-color.org
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            out,
            colours,
            terminal,
            headings: 0,
        }
    }

    /// Returns true if a line can be overwritten.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        self.line(&self.paint(BOLD, text))
    }

    /// Prints a numbered heading.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        self.headings += 1;
        self.blank()?;
        self.line(&self.paint(BOLD, &format!("{}. {text}", self.headings)))
    }

    pub(super) fn blank(&self) -> io::Result<()> {
        self.line("")
    }

    pub(super) fn note(&self, text: &str) -> io::Result<()> {
        self.line(&format!("   {text}"))
    }

    /// Prints a command as a user would type it.
    pub(super) fn command(&self, text: &str) -> io::Result<()> {
        self.line(&self.paint(DIM, &format!("   $ {text}")))
    }

    /// Prints a command of one of several users.
    pub(super) fn command_of(&self, who: &str, text: &str) -> io::Result<()> {
        self.line(&self.paint(DIM, &format!("   {who}$ {text}")))
    }

    /// Prints the lines of another program.
    pub(super) fn output(&self, text: &str) -> io::Result<()> {
        text.lines()
            .try_for_each(|line| self.line(&format!("   {}", self.tinted(line))))
    }

    /// Prints a line of another program, with the time it arrived.
    pub(super) fn timed(&self, at: Duration, text: &str) -> io::Result<()> {
        let at = self.paint(DIM, &format!("{:5.1} s |", at.as_secs_f64()));
        self.line(format!("{at} {}", self.tinted(text)).trim_end())
    }

    /// Prints the result of a check.
    pub(super) fn finding(&self, verdict: FigureVerdict, what: &str, figure: &str) -> io::Result<()> {
        let mark = match verdict {
            FigureVerdict::Kept => self.paint(GREEN, "ok    "),
            FigureVerdict::Slow => self.paint(YELLOW, "SLOW  "),
            FigureVerdict::Broken => self.paint(RED, "FAILED"),
        };
        self.line(&format!("   {mark}  {what:<64}{figure:>12}"))
    }

    /// Overwrites the current line (terminal only).
    pub(super) fn replace(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock();
        write!(out, "\r\x1b[K   {}", self.paint(BOLD, text))?;
        out.flush()
    }

    fn line(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    fn tinted(&self, text: &str) -> String {
        if text.contains("FATAL:") {
            self.paint(RED, text)
        } else if text.contains("NOTICE:") || text.contains("WARNING:") {
            self.paint(YELLOW, text)
        } else {
            text.to_owned()
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
