//! Command lines in the documents: each is one that the program takes.

use clap::CommandFactory as _;
use tidegate::cli::command_line::Cli;

use super::links::documents;
use super::text;

/// Returns the lines of a document's blocks of code, joined where a line goes on.
fn code(document: &str) -> Vec<String> {
    let mut in_code = false;
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text(document).lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if in_code || line.starts_with("    ") {
            let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
            match lines.last_mut().filter(|_| goes_on) {
                Some(last) => last.push_str(line.trim_start()),
                None => lines.push(line.trim().to_owned()),
            }
            goes_on = more;
        }
    }
    lines
}

/// Returns the words of a line as a shell has them, up to the end of its first command. What stands behind two spaces is a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.split("  ").next().unwrap_or_default();
    let mut words = vec![];
    let mut word = None::<String>;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | '<' | '>' | '&' | ';') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Returns the command line of the program that a line of a document gives, if it gives one.
fn of_the_program(line: &str) -> Option<Vec<String>> {
    let prompt = |line: &str| line.split_once("$ ").map(|(_, command)| command.to_owned());
    let line = if line.starts_with("tidegate ") {
        line.to_owned()
    } else {
        prompt(line).unwrap_or(line.to_owned())
    };
    let words = words(&line);
    let variables = words
        .iter()
        .take_while(|word| word.split_once('=').is_some_and(|(name, _)| name == name.to_uppercase()));
    let command = words.get(variables.count()..).unwrap_or_default();
    (command.first()? == "tidegate").then(|| command.to_vec())
}

#[test]
fn every_command_in_the_documents_is_one_of_the_program() {
    let mut tried = 0;
    let mut wrong = Vec::new();
    for document in documents() {
        for line in code(&document.to_string_lossy()) {
            let Some(words) = of_the_program(&line) else { continue };
            // A usage, or words for the reader to fill in.
            if words.iter().any(|word| word == "..." || word.starts_with('[')) || line.contains(" <") && !line.contains(" < ") {
                continue;
            }
            tried += 1;
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                wrong.push(format!("{}: {line}: {error}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 50, "{tried} are too few to be all");
}
