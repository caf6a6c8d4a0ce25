//! The filter of the jobs' list, as it stands in addresses and in forms.

use crate::admin::dashboard::look::Trouble;
use crate::admin::dashboard::state;
use crate::domain::ErrorClass;
use crate::domain::duration;
use crate::store::JobFilter;
use crate::store::JobState;
use crate::store::Place;
use maud::Markup;
use maud::html;

/// What stands in the address, as it was typed.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(in crate::admin) struct JobQuery {
    state: Option<String>,
    class: Option<String>,
    account: Option<String>,
    id: Option<String>,
    #[serde(rename = "for")]
    for_time: Option<String>,
    after: Option<String>,
    /// On the page that asks once more: what to do.
    #[serde(rename = "do")]
    pub(in crate::admin::dashboard) action: Option<String>,
}

/// A field that is neither missing nor empty, without the space around it.
pub(in crate::admin::dashboard) fn given(field: Option<&String>) -> Option<&str> {
    field
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

/// [`given`] for a name that is looked for as it stands there.
pub(in crate::admin::dashboard) fn given_name(
    field: Option<&String>,
) -> Result<Option<String>, Trouble> {
    match given(field) {
        // Postgres has no such texts.
        Some(name) if name.contains('\0') => Err(Trouble::Wrong(
            "No name has the character NUL in it.".to_owned(),
        )),
        name => Ok(name.map(str::to_owned)),
    }
}

impl JobQuery {
    /// From the fields of a form.
    pub(in crate::admin::dashboard) fn from_fields(
        field: impl Fn(&'static str) -> Option<String>,
    ) -> Self {
        Self {
            state: field("state"),
            class: field("class"),
            account: field("account"),
            id: field("id"),
            for_time: field("for"),
            after: None,
            action: field("do"),
        }
    }

    /// What it asks for.
    pub(in crate::admin::dashboard) fn filter(&self) -> Result<JobFilter, Trouble> {
        let wrong = |words: String| Trouble::Wrong(words);
        let state = given(self.state.as_ref())
            .map(|word| {
                JobState::parse(word).ok_or_else(|| wrong(format!("There is no state {word}.")))
            })
            .transpose()?;
        let class = given(self.class.as_ref())
            .map(|word| {
                let is_known = ErrorClass::ALL.iter().any(|class| class.as_str() == word);
                let known = is_known.then(|| word.to_owned());
                known.ok_or_else(|| wrong(format!("There is no error class {word}.")))
            })
            .transpose()?;
        let connection = given(self.id.as_ref())
            .map(|text| {
                let prefix = text.parse();
                prefix.map_err(|what| wrong(format!("An id is {what}; {text} is not.")))
            })
            .transpose()?;
        let for_seconds = given(self.for_time.as_ref())
            .map(|text| {
                let time = duration::parse(text).ok();
                let seconds = time.and_then(|time| u32::try_from(time.as_secs()).ok());
                seconds.ok_or_else(|| {
                    wrong(format!(
                        "{text} is no time: write 30m, 2h or 7d, less than a century."
                    ))
                })
            })
            .transpose()?;
        Ok(JobFilter {
            state,
            account: given_name(self.account.as_ref())?,
            class,
            for_seconds,
            connection,
        })
    }

    /// Where the page begins.
    pub(super) fn place(&self) -> Result<Option<Place>, Trouble> {
        let wrong = |()| Trouble::Wrong("This address of a page is not whole.".to_owned());
        let after = given(self.after.as_ref());
        after.map(|text| text.parse().map_err(wrong)).transpose()
    }

    pub(super) fn after(&self) -> &str {
        given(self.after.as_ref()).unwrap_or_default()
    }

    /// Names and values of what is asked for.
    pub(in crate::admin::dashboard) fn pairs(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("state", &self.state),
            ("class", &self.class),
            ("account", &self.account),
            ("id", &self.id),
            ("for", &self.for_time),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, given(value.as_ref())?)))
            .collect()
    }

    /// A path with what is asked for, and more where that is not empty.
    pub(in crate::admin::dashboard) fn path(&self, path: &str, more: &[(&str, &str)]) -> String {
        let mut pairs: Vec<(&str, &str)> = self.pairs();
        pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        match pairs.is_empty() {
            true => path.to_owned(),
            false => state::path(path, &pairs),
        }
    }
}

/// The form in which it is asked.
pub(super) fn form(query: &JobQuery) -> Markup {
    let is = |field: &Option<String>, word: &str| given(field.as_ref()) == Some(word);
    let text = |field: &Option<String>| given(field.as_ref()).unwrap_or_default().to_owned();
    html! {
        form.filter method="get" action="/jobs" role="search" {
            label { "State " select name="state" {
                option value="" { "any" }
                @for state in JobState::ALL {
                    option value=(state.as_str()) selected[is(&query.state, state.as_str())] { (state.as_str()) }
                }
            } }
            label { "Class " select name="class" {
                option value="" { "any" }
                @for class in ErrorClass::ALL {
                    option value=(class.as_str()) selected[is(&query.class, class.as_str())] { (class.as_str()) }
                }
            } }
            label { "Account " input name="account" value=(text(&query.account)) size="12"; }
            label { "For at least " input name="for" value=(text(&query.for_time)) size="5" placeholder="2h"; }
            label { "Id begins with " input name="id" value=(text(&query.id)) size="14"; }
            button { "Show" }
        }
    }
}

/// A filter as it was kept, in words; what a newer version has written, as it stands there.
pub(in crate::admin::dashboard) fn in_words(kept: &serde_json::Value) -> String {
    serde_json::from_value::<JobFilter>(kept.clone())
        .map_or_else(|_| kept.to_string(), |filter| filter.to_string())
}
