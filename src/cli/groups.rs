//! Subcommands grouped by user role: the first screen of `tidegate --help`.
//!
//! clap has no headings for subcommands, so the help template is built from this table and the subcommands' descriptions.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::command_line::Cli;
use super::terminal::wrapped;

/// Number of characters per line.
const LINE_CHARS: usize = 80;
/// Number of characters before a subcommand's description.
const INDENT_CHARS: usize = 15;

/// Groups of subcommands; every visible one is in exactly one group.
const COMMAND_GROUPS: [(&str, &[&str]); 4] = [
    (
        "For testers",
        &[
            "login",
            "logout",
            "whoami",
            "signins",
            "targets",
            "psql",
            "exec",
            "env",
            "request",
            "withdraw",
            "grants",
            "extend",
            "release",
            "undo",
            "completions",
        ],
    ),
    ("For approvers", &["requests", "approve", "reject", "review"]),
    ("For auditors", &["log", "run", "audit"]),
    (
        "For operators",
        &[
            "demo",
            "serve",
            "check",
            "reload",
            "fingerprint",
            "clock",
            "user",
            "grant",
            "session",
            "target",
            "policy",
            "man",
            "version",
        ],
    ),
];

/// Returns the command line with its subcommands under headings.
#[must_use]
pub(super) fn command() -> Command {
    let command = Cli::command();
    let template = template(&command);
    command.help_template(template)
}

fn template(command: &Command) -> String {
    let (header, literal) = (command.get_styles().get_header(), command.get_styles().get_literal());
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    // Writing to a String cannot fail.
    for (heading, names) in COMMAND_GROUPS {
        let _ = write!(text, "\n{header}{heading}:{header:#}\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let line = wrapped(&format!("{:INDENT_CHARS$}{about}", ""), LINE_CHARS, INDENT_CHARS);
            let pad = INDENT_CHARS.saturating_sub(name.len() + 2);
            let _ = writeln!(text, "  {literal}{name}{literal:#}{:pad$}{}", "", line.trim_start());
        }
    }
    let _ = write!(
        text,
        "\n`tidegate help COMMAND` explains a command, with examples.\n\n{header}Options:{header:#}\n{{options}}{{after-help}}"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_is_in_one_group() {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|below| !below.is_hide_set());
        let mut all: Vec<_> = shown.map(|below| below.get_name().to_owned()).collect();
        let mut grouped: Vec<_> = COMMAND_GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .map(|name| (*name).to_owned())
            .collect();
        all.sort();
        grouped.sort();
        assert_eq!(grouped, all);
        assert!(
            COMMAND_GROUPS
                .iter()
                .flat_map(|(_, names)| *names)
                .all(|name| name.len() + 2 < INDENT_CHARS)
        );
    }

    #[test]
    fn the_first_screen_has_each_once_and_fits() {
        let mut command = command().term_width(LINE_CHARS);
        for text in [command.render_help().to_string(), command.render_long_help().to_string()] {
            for (heading, names) in COMMAND_GROUPS {
                assert_eq!(text.matches(&format!("\n{heading}:\n")).count(), 1, "{text}");
                for name in names {
                    assert_eq!(text.matches(&format!("\n  {name} ")).count(), 1, "{name}: {text}");
                }
            }
            let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > LINE_CHARS).collect();
            assert!(wide.is_empty(), "{wide:#?}");
            assert!(text.contains("--config <FILE>") && text.contains("Examples:"), "{text}");
        }
    }
}
