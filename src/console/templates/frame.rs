//! Frame of every page: title, navigation, the region that the script renews, style sheet and script.
//!
//! INVARIANT: nothing in the page comes from another origin, and there is no script or style in the page itself.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::text::shown;
use super::time;
use crate::console::assets;

/// Icon: a wave, as an image in the page.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' \
                    stroke='%230a7ab0' stroke-width='2.6' stroke-linecap='round'%3E%3Cpath d='M2 9c3.5-4 6.5 4 10 0s6.5 4 10 \
                    0M2 16c3.5-4 6.5 4 10 0s6.5 4 10 0'/%3E%3C/svg%3E";

/// Part of the console that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::console) enum Section {
    Mine,
    Decide,
    Live,
    Log,
    Gate,
}

/// Person that a page is for.
#[derive(Debug, Clone)]
pub(in crate::console) struct Viewer {
    /// Name of the person.
    pub(in crate::console) name: String,
    /// True if they may read the log.
    pub(in crate::console) reads_log: bool,
    /// True if they may administer.
    pub(in crate::console) administers: bool,
}

/// Frame of a page.
#[derive(Debug, Clone, Copy)]
pub(in crate::console) struct Frame<'a> {
    /// Title.
    pub(in crate::console) title: &'a str,
    /// Person; `None`: nobody who has proved who they are.
    pub(in crate::console) viewer: Option<&'a Viewer>,
    /// Part of the console.
    pub(in crate::console) section: Option<Section>,
    /// Events on which the page is renewed: `request`, `grant`, `session`.
    pub(in crate::console) follow: &'a str,
    /// Id that an event has to contain, for pages about one object.
    pub(in crate::console) subject: Option<&'a str>,
    /// True if the page waits for something; without a script it is asked for again.
    pub(in crate::console) waits: bool,
    /// Address of that renewal, relative to the page.
    pub(in crate::console) renewal: &'a str,
    /// Address that the browser goes on to by itself.
    pub(in crate::console) onward: Option<&'a str>,
    /// Number of seconds after which the page is renewed; `None`: only on events.
    pub(in crate::console) renews: Option<u32>,
    /// Sentence at the head of the page.
    pub(in crate::console) notice: Option<&'static str>,
    /// Gate time.
    pub(in crate::console) now: Option<Timestamp>,
}

impl<'a> Frame<'a> {
    /// Returns the frame of a page for nobody in particular.
    pub(in crate::console) fn bare(title: &'a str) -> Self {
        Self {
            title,
            viewer: None,
            section: None,
            follow: "",
            subject: None,
            waits: false,
            renewal: "",
            onward: None,
            renews: None,
            notice: None,
            now: None,
        }
    }
}

/// Returns a whole page.
pub(in crate::console) fn page(frame: &Frame<'_>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-now=[frame.now.map(time::iso)] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Tidegate" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href=(assets::style());
                script src=(assets::script()) defer {}
                // Without a script a page that waits asks again.
                @if let Some(onward) = frame.onward { meta http-equiv="refresh" content={ "0; url=" (onward) }; }
                @if frame.waits || frame.renews.is_some() { noscript { meta http-equiv="refresh" content={ "10; url=" (frame.renewal) }; } }
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                (top(frame))
                main id="content" tabindex="-1" data-follow=(frame.follow) data-subject=[frame.subject] data-renew=[frame.renews] {
                    @if let Some(notice) = frame.notice { div.notice role="status" { p { (notice) } } }
                    (body)
                }
                div id="said" role="status" aria-live="polite" class="skip" {}
                div id="changed" class="changed" hidden { span { "Something here has changed." } button type="button" { "Show it" } }
            }
        }
    }
}

fn top(frame: &Frame<'_>) -> Markup {
    html! {
        header.top {
            div {
                a.mark href="/" {
                    svg viewBox="0 0 24 24" aria-hidden="true" {
                        path d="M2 9c3.5-4 6.5 4 10 0s6.5 4 10 0M2 16c3.5-4 6.5 4 10 0s6.5 4 10 0" {}
                    }
                    "Tidegate"
                }
                @if let Some(viewer) = frame.viewer {
                    nav aria-label="Console" {
                        @for (section, path, name) in sections(viewer) {
                            a href=(path) aria-current=[(frame.section == Some(section)).then_some("page")] { (name) }
                        }
                    }
                    div.who {
                        span { (shown(&viewer.name)) }
                        form method="post" action="/signout" { button.quiet { "Sign out" } }
                    }
                }
            }
        }
    }
}

/// Returns the parts that a person has use of.
fn sections(viewer: &Viewer) -> Vec<(Section, &'static str, &'static str)> {
    let all = [
        (true, Section::Mine, "/mine", "Mine"),
        (true, Section::Decide, "/decide", "Decide"),
        (true, Section::Live, "/live", "Live"),
        (viewer.reads_log, Section::Log, "/log", "Log"),
        (viewer.administers, Section::Gate, "/gate", "Gate"),
    ];
    let shown = all.into_iter().filter(|(shown, ..)| *shown);
    shown.map(|(_, section, path, name)| (section, path, name)).collect()
}
