//! A reader of the pages' own HTML: enough to see which elements and attributes a page has.
#![expect(clippy::string_slice, reason = "every place was found in the text itself")]

/// Element of a page, with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
}

/// Returns the tags of a page in order, as a browser reads them; end tags begin with `/`.
pub(super) fn elements(page: &str) -> Vec<Element> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let starts = rest.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '/' | '!' | '?'));
        if !starts {
            continue;
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let (attributes, after) = attributes(rest);
        rest = after;
        found.push(Element { name, attributes });
    }
    found
}

/// Returns the attributes up to the end of a tag, and the rest after it.
fn attributes(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return (found, rest);
        };
        if first == '>' {
            return (found, &rest[1..]);
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '=' | '>'))
            .unwrap_or(rest.len())
            .max(1);
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|first| matches!(first, '"' | '\''));
            let (text, after) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                None => after.split_at(after.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(after.len())),
            };
            value = text.to_owned();
            rest = after;
        }
        found.push((name, value));
    }
}

/// Returns names of elements and attributes: what a text of somebody else must not change.
pub(super) fn shape(page: &str) -> Vec<String> {
    let named = |element: Element| {
        let mut names: Vec<_> = element.attributes.into_iter().map(|(name, _)| name).collect();
        names.insert(0, element.name);
        names.join(" ")
    };
    elements(page).into_iter().map(named).collect()
}

#[test]
fn it_reads_what_a_browser_reads() {
    let page = "<!DOCTYPE html><p class=\"a > b\" hidden>x < y<img src=x onerror='1'></p>";
    assert_eq!(shape(page), ["!doctype html", "p class hidden", "img src onerror", "/p"]);
}
