//! Fields and buttons of forms.
//!
//! INVARIANT: every field has a label that a screen reader reads, and every form is sent by POST to a path of this console.

use maud::{Markup, html};

use super::text::shown;
use crate::console::form::RefusedForm;

/// One-line field.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::console) struct TextField<'a> {
    /// Name of the field.
    pub(in crate::console) name: &'a str,
    /// Label.
    pub(in crate::console) label: &'a str,
    /// Sentence below the label.
    pub(in crate::console) hint: &'a str,
    /// Value.
    pub(in crate::console) value: &'a str,
    /// Proposed values.
    pub(in crate::console) proposals: &'a [&'a str],
    /// True if the form cannot be sent without it.
    pub(in crate::console) required: bool,
    /// Reason why the value was refused.
    pub(in crate::console) wrong: Option<&'a str>,
}

impl<'a> TextField<'a> {
    /// Returns the field as it was filled in, with the reason if it was refused, where its form is shown again.
    pub(in crate::console) fn again(self, refused: Option<&'a RefusedForm>) -> Self {
        match refused {
            Some(refused) => Self {
                value: refused.fields.text(self.name).unwrap_or_default(),
                wrong: refused.wrong(self.name),
                ..self
            },
            None => self,
        }
    }
}

/// Shows what stands above a field, inside its label: a screen reader reads it with the field.
fn about(field: &TextField<'_>) -> Markup {
    html! {
        (field.label)
        @if !field.hint.is_empty() { span.hint { (field.hint) } }
        @if let Some(wrong) = field.wrong { span.wrong { (shown(wrong)) } }
    }
}

/// Shows a one-line field.
pub(in crate::console) fn text(field: &TextField<'_>) -> Markup {
    let list = format!("{}-proposals", field.name);
    let proposes = !field.proposals.is_empty();
    html! {
        label {
            (about(field))
            input type="text" name=(field.name) value=(field.value) required[field.required] autocomplete="off"
                maxlength="1000" list=[proposes.then_some(&list)] aria-invalid=[field.wrong.map(|_| "true")];
        }
        @if proposes { datalist id=(list) { @for value in field.proposals { option value=(value) {} } } }
    }
}

/// Shows a field of several lines.
pub(in crate::console) fn lines(field: &TextField<'_>) -> Markup {
    html! {
        label {
            (about(field))
            textarea name=(field.name) required[field.required] rows="3" maxlength="1000" aria-invalid=[field.wrong.map(|_| "true")] { (field.value) }
        }
    }
}

/// Shows a choice; of `options` one is chosen.
pub(in crate::console) fn choice(name: &str, label: &str, hint: &str, options: &[(String, String)], chosen: &str) -> Markup {
    html! {
        label {
            (label)
            @if !hint.is_empty() { span.hint { (hint) } }
            select name=(name) {
                @for (value, words) in options { option value=(value) selected[value == chosen] { (words) } }
            }
        }
    }
}

/// Shows a checkbox.
pub(in crate::console) fn check(name: &str, label: &str, checked: bool) -> Markup {
    html! { label.check { input type="checkbox" name=(name) value="yes" checked[checked]; span { (label) } } }
}

/// Shows a form that is one button; `class` is that of the button.
pub(in crate::console) fn button(path: &str, label: &str, class: &str) -> Markup {
    html! { form method="post" action=(path) { button class=[(!class.is_empty()).then_some(class)] { (label) } } }
}
