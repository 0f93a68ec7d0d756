//! Links, anchors and paths in the documents: each leads somewhere, and each document is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{repository, text};

/// Returns every Markdown file of the project, as paths from its root.
pub(super) fn documents() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(repository("").join(&folder)).expect("a folder").flatten() {
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() && !["target", "node_modules", ".git", "corpus"].contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") {
                found.insert(path);
            }
        }
    }
    found
}

/// Returns the lines of a document outside of blocks of code.
fn prose(document: &Path) -> Vec<String> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for line in text(&document.to_string_lossy()).lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(line.to_owned());
        }
    }
    assert!(!in_code, "{} ends inside a block of code", document.display());
    lines
}

/// Returns a heading's anchors as GitHub makes them, each once.
fn anchors(document: &Path) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(document) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | ' ');
        let slug: String = heading.trim().to_lowercase().chars().filter(kept).collect();
        let slug = slug.replace(' ', "-");
        let times = seen.entry(slug.clone()).or_insert(0);
        anchors.insert(if *times == 0 { slug } else { format!("{slug}-{times}") });
        *times += 1;
    }
    anchors
}

/// Returns the targets of a document's links, but for those to elsewhere.
fn links(document: &Path) -> Vec<String> {
    // A link may be broken over two lines; code between backticks is none.
    let prose = prose(document).join(" ");
    let parts: Vec<_> = prose.split('`').collect();
    assert!(
        parts.len() % 2 == 1,
        "{}: a backtick without its other one",
        document.display()
    );
    let outside: Vec<_> = parts.into_iter().step_by(2).collect();
    let mut found = Vec::new();
    for part in outside.join("code").split("](").skip(1) {
        let target = part.split(')').next().expect("split has a first part");
        if !target.contains("://") && !target.starts_with("mailto:") {
            found.push(target.to_owned());
        }
    }
    found
}

/// Returns a path from the root without `..`; `None` where it leads out of the project.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop().then_some(())?;
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    Some(normal)
}

#[test]
fn every_link_and_every_anchor_leads_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents() {
        for link in links(&document) {
            followed += 1;
            let (file, anchor) = link
                .split_once('#')
                .map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
            let folder = document.parent().expect("a file is in a folder");
            let target = if file.is_empty() {
                Some(document.clone())
            } else {
                normal(&folder.join(file))
            };
            let there = target.as_ref().is_some_and(|target| repository("").join(target).exists());
            let anchored = anchor.is_none_or(|anchor| target.is_some_and(|target| there && anchors(&target).contains(anchor)));
            if !there || !anchored {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(followed > 100, "{followed} links are too few to be all");
}

#[test]
fn every_document_is_reached_from_the_readme() {
    let mut reached = BTreeSet::new();
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(document) = next.pop() {
        if !reached.insert(document.clone()) {
            continue;
        }
        let folder = document.parent().expect("a file is in a folder").to_owned();
        for link in links(&document) {
            let file = link.split('#').next().expect("split has a first part");
            let target =
                normal(&folder.join(file)).filter(|target| target.extension().is_some_and(|extension| extension == "md"));
            next.extend(target.filter(|target| repository("").join(target).is_file()));
        }
    }
    // GitHub shows the forms by itself; the method is a part of benches/RESULTS.md.
    let by_itself = |document: &PathBuf| document.starts_with(".github") || document.ends_with("gate/method.md");
    let lost: Vec<_> = documents()
        .into_iter()
        .filter(|document| !reached.contains(document) && !by_itself(document))
        .collect();
    assert!(lost.is_empty(), "no link from README.md leads to {lost:?}");
}

#[test]
fn every_source_file_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        if document.ends_with("CHANGELOG.md") {
            continue;
        }
        for line in prose(&document) {
            let words = line.split(|letter: char| !(letter.is_ascii_alphanumeric() || "_./-".contains(letter)));
            for word in words.map(|word| word.trim_end_matches('.')) {
                // But for a file of PostgreSQL, by its path there.
                let ours = word.starts_with("src/") && !word.starts_with("src/backend/");
                if ours && !repository(word).exists() {
                    missing.push(format!("{}: {word}", document.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_types_in_the_documents_are_in_the_files_beside_them() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for line in prose(Path::new("docs/connection.md")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let &["", _, type_name, file, ""] = cells.as_slice() else {
            continue;
        };
        let Some(type_name) = type_name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
            continue;
        };
        rows += 1;
        let source = text(file);
        let defined = |line: &str| {
            let mut words = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            words.any(|word| word == "struct" || word == "enum") && words.next() == Some(type_name)
        };
        if !source.lines().any(defined) {
            wrong.push(format!("`{type_name}` is not in {file}"));
        }
    }
    assert!(wrong.is_empty(), "docs/connection.md: {wrong:#?}");
    assert!(rows > 15, "{rows}");
}

#[test]
fn the_architecture_names_every_room_and_no_other() {
    let library = text("src/lib.rs");
    let modules: BTreeSet<_> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let map = text("ARCHITECTURE.md");
    let table = map.split("## The rooms").nth(1).and_then(|rest| rest.split("## ").next());
    let rooms: BTreeSet<_> = table
        .expect("a table of rooms")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next())
        .flat_map(|cell| cell.split(['`', ' ']))
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(rooms, modules);
}
