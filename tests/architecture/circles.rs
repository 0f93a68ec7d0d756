//! Circles between files: files that import each other, directly or through others, cannot be understood one after the other.
//!
//! It reads `use` trees and paths that begin with `crate::` or `super::` as text. That a module names its children, or a child its
//! parent, is how a module is put together, and no import.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the groups of modules that reach each other. `code` has the text of each file by its module path without the crate
/// (`session::relay`), without comments and tests.
pub(crate) fn circles(code: &BTreeMap<String, String>) -> Vec<Vec<&str>> {
    let imports: BTreeMap<&str, BTreeSet<&str>> = code
        .iter()
        .map(|(module, text)| (&**module, imports(module, text, code)))
        .collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|module| (*module, reached(module, &imports))).collect();
    let mut found = BTreeSet::new();
    for (module, others) in &reached {
        let mutual = others.iter().filter(|other| reached[*other].contains(module));
        let circle: Vec<&str> = mutual.copied().collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn reached<'a>(from: &'a str, imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(imports[module].iter().filter(|other| found.insert(**other)));
    }
    found
}

/// Returns the modules that a file imports, other than its own parents.
fn imports<'a>(module: &str, text: &str, code: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let paths = paths(text);
    let files = paths.iter().filter_map(|path| file(&absolute(module, path)?, code));
    files
        .filter(|file| *file != module && !module.starts_with(&format!("{file}::")))
        .collect()
}

/// Returns the paths of a text that begin with `crate` or `super`, with those of `use` trees spread out.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for head in ["crate::", "super::"] {
        for (at, _) in text.match_indices(head) {
            let before = text[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | ':')) {
                spread("", &text[at..], &mut found);
            }
        }
    }
    found
}

/// Adds each path of the tree that a text begins with to `found`; returns the rest of the text.
fn spread<'a>(prefix: &str, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':'))
        .unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    let mut rest = &text[end..];
    if !(path.ends_with("::") && rest.starts_with('{')) {
        found.push(path);
        return rest;
    }
    loop {
        rest = spread(&path, rest[1..].trim_start(), found).trim_start();
        if let Some(renamed) = rest.strip_prefix("as ") {
            let end = renamed.find([',', '}']).unwrap_or(renamed.len());
            rest = &renamed[end..];
        }
        if !rest.starts_with(',') {
            return rest.strip_prefix('}').unwrap_or(rest);
        }
    }
}

/// Returns a path from the crate's root.
fn absolute(module: &str, path: &str) -> Option<Vec<String>> {
    let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    let mut base: Vec<&str> = module.split("::").collect();
    if parts.first() == Some(&"crate") {
        base.clear();
        parts.remove(0);
    }
    while parts.first() == Some(&"super") {
        base.pop()?;
        parts.remove(0);
    }
    Some(base.into_iter().chain(parts).map(str::to_owned).collect())
}

/// Returns the innermost file that a path leads into.
fn file<'a>(path: &[String], code: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let lengths = (1..=path.len()).rev();
    let mut files = lengths.filter_map(|length| code.get_key_value(&path[..length].join("::")));
    files.next().map(|(module, _)| &**module)
}

#[test]
fn a_circle_is_found_through_trees_renamings_and_parents() {
    let code = |files: &[(&str, &str)]| {
        files
            .iter()
            .map(|(module, text)| ((*module).to_owned(), (*text).to_owned()))
            .collect()
    };
    let circle = code(&[
        ("a", "mod b; mod c;"),
        ("a::b", "use super::{c::{Thing as Other, more}, d};"),
        ("a::c", "fn f() { crate::e::go() }"),
        ("a::d", ""),
        ("e", "use crate::a::b::X;"),
    ]);
    assert_eq!(circles(&circle), [["a::b", "a::c", "e"]]);
    let none = code(&[
        ("a", "use crate::a::b::X;"),
        ("a::b", "use super::Y; use crate::c::Z;"),
        ("c", ""),
    ]);
    assert!(circles(&none).is_empty());
}
