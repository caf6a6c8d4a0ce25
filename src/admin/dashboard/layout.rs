//! What all pages have, and pieces that several have.

use crate::admin::dashboard::Tab;
use crate::admin::dashboard::act::BACK;
use crate::admin::dashboard::assets;
use crate::admin::dashboard::entrance::Visitor;
use crate::admin::dashboard::look::Page;
use maud::DOCTYPE;
use maud::Markup;
use maud::html;

/// A whole document. `said` is what was done a moment ago.
pub(super) fn document(
    tab: Option<Tab>,
    page: &Page,
    visitor: &Visitor,
    said: Option<&str>,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " · feather-sync" }
                link rel="icon" href=(assets::ICON.path) type="image/svg+xml";
                link rel="stylesheet" href=(assets::STYLE.path);
                script src=(assets::SCRIPT.path) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { img src=(assets::ICON.path) alt="" width="20" height="20"; "feather-sync" }
                    @if let Some(current) = tab {
                        nav aria-label="Pages" {
                            @for tab in Tab::ALL {
                                a href=(tab.path()) aria-current=[(tab == current).then_some("page")] { (tab.name()) }
                            }
                        }
                        p.live #live role="status" hidden {}
                    }
                    @if visitor.has_session() {
                        (button("/do/logout", "Log out", "/", &[]))
                    }
                }
                @if let Some(said) = said { p.said role="status" { (said) } }
                main #main tabindex="-1" data-live[tab.is_some()] { (page.main) }
                footer { "feather-sync " (env!("CARGO_PKG_VERSION")) " · all times are UTC" }
            }
        }
    }
}

/// A form of one button. `back` is the page that it is on; the fields go along.
pub(super) fn button(action: &str, label: &str, back: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        form.button method="post" action=(action) {
            input type="hidden" name=(BACK) value=(back);
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button { (label) }
        }
    }
}

/// A button that asks once more, with what will come of it. `id` tells it from all others on the page.
pub(super) fn careful(id: &str, label: &str, consequence: &str, button: &Markup) -> Markup {
    html! {
        details.careful id=(id) {
            summary { (label) }
            div { p { (consequence) } (button) }
        }
    }
}

/// A table that scrolls inside itself where it is too wide. `caption` says what it is, to those who do not see it.
pub(super) fn table(caption: &str, header: &Markup, rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table { thead { tr { (header) } } tbody { (rows) } }
        }
    }
}

/// What a page says instead of its content.
pub(super) fn trouble(words: &str) -> Markup {
    html! {
        h1 { "This did not work" }
        p.fault role="alert" { (words) }
        p { a href="/" { "To the overview" } }
    }
}
