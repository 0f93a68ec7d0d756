//! Tables, which become cards on a narrow screen, and the links between their pages.
//!
//! A table has no limit of its own: whoever reads the rows has.

use maud::{Markup, html};

/// Column of a table: its name, and its cell of a row.
pub(in crate::console) type TableColumn<'a, R> = (&'a str, &'a dyn Fn(&R) -> Markup);

/// Shows rows as a table, or a sentence about what to do where there are none.
pub(in crate::console) fn table<R>(caption: &str, rows: &[R], columns: &[TableColumn<'_, R>], empty: &Markup) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { (empty) } };
    }
    html! {
        table {
            @if !caption.is_empty() { caption { (caption) } }
            thead { tr { @for (name, _) in columns { th scope="col" { (head(name)) } } } }
            tbody {
                @for row in rows {
                    tr { @for (name, cell) in columns { td data-label=(name) { (cell(row)) } } }
                }
            }
        }
    }
}

/// Shows the head of a column; one of buttons has a name for screen readers only.
fn head(name: &str) -> Markup {
    html! { @if name.is_empty() { span.unseen { "Actions" } } @else { (name) } }
}

/// Shows links to the first page and to the next one, of a list with the newest first.
pub(in crate::console) fn pages(first: Option<&str>, next: Option<&str>) -> Markup {
    pages_as(["The newest", "Older"], first, next)
}

/// Shows links to the first page and to the next one, with these words.
pub(in crate::console) fn pages_as(words: [&str; 2], first: Option<&str>, next: Option<&str>) -> Markup {
    let [to_first, to_next] = words;
    html! {
        @if first.is_some() || next.is_some() {
            nav.pages aria-label="Pages" {
                span { @if let Some(first) = first { a href=(first) { (to_first) } } }
                span { @if let Some(next) = next { a.button.plain rel="next" href=(next) { (to_next) } } }
            }
        }
    }
}
