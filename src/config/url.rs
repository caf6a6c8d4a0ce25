//! The URLs an operator writes: what is refused, and how they are shown.

use std::borrow::Cow;
use std::ops::Range;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use url::Host;
use url::Url;

/// An account's address: https, or http to loopback; without credentials, query or fragment. Trailing slashes go.
///
/// No message repeats the URL: what is wrong with it may be that it holds a secret.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    const EXAMPLE: &str = "https://api-sandbox.featherhq.com";
    let url = Url::parse(text)
        .map_err(|error| format!("is not a URL ({error}): write {EXAMPLE}, for example"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(format!("must begin with https://, as {EXAMPLE} does"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: the API key is given by api_key_file or api_key_env".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "must not hold a `?` or `#` part: write the address alone, as in {EXAMPLE}"
        ));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("must be https: without it the API key travels in the clear (http is for localhost only)".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A Postgres URL. No message repeats it.
pub(super) fn database_url(text: &str) -> Result<SecretString, String> {
    const EXAMPLE: &str = "postgres://feather_sync@db.example.com/app";
    let url = Url::parse(&with_one_host(text))
        .map_err(|error| format!("is not a URL ({error}): write {EXAMPLE}, for example"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() {
        return Err(format!("must begin with postgres://, as {EXAMPLE} does"));
    }
    Ok(SecretString::from(text))
}

/// Where the hosts of a URL stand in it: after the user and before the path.
fn hosts(text: &str) -> Range<usize> {
    let start = text.find("://").map_or(text.len(), |at| at + 3);
    let end = text[start..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |at| start + at);
    let start = text[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    start..end
}

/// The URL with the first of its hosts alone: Postgres takes several, the parser one.
fn with_one_host(text: &str) -> Cow<'_, str> {
    let hosts = hosts(text);
    match text[hosts.clone()].find(',') {
        None => text.into(),
        Some(comma) => {
            let first = hosts.start + comma;
            format!("{}{}", &text[..first], &text[hosts.end..]).into()
        }
    }
}

/// The passwords in a URL, as written and decoded: what must appear in no output.
pub(super) fn passwords(url: &SecretString) -> Vec<SecretString> {
    let Ok(url) = Url::parse(&with_one_host(url.expose_secret())) else {
        return Vec::new();
    };
    let written = url.password().map(str::to_owned);
    let decoded = written.as_deref().and_then(|text| {
        url::form_urlencoded::parse(format!("p={}", text.replace('+', "%2B")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    });
    let queried = url
        .query_pairs()
        .filter(|(name, _)| name == "password")
        .map(|(_, value)| value.into_owned());
    written
        .into_iter()
        .chain(decoded)
        .chain(queried)
        .map(SecretString::from)
        .collect()
}

/// The URL with every password in it replaced by `***`.
#[must_use]
pub fn redacted_url(url: &SecretString) -> String {
    const HIDDEN: &str = "***";
    let written = url.expose_secret();
    let Ok(mut url) = Url::parse(&with_one_host(written)) else {
        return HIDDEN.to_owned();
    };
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    // The query is rewritten only where needed: parsing and writing it again changes its spelling.
    let is_password = |name: &str| name.to_lowercase().contains("password");
    if url.query_pairs().any(|(name, _)| is_password(&name)) {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let shown = pairs
            .iter()
            .map(|(name, value)| (name, if is_password(name) { HIDDEN } else { value }));
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    let mut shown = url.to_string();
    let all = &written[hosts(written)];
    if all.contains(',') {
        shown.replace_range(hosts(&shown), all);
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn https_is_taken_anywhere_and_http_on_loopback_only() {
        for good in [
            "https://api.example.com",
            "http://localhost:8080",
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]:9000",
        ] {
            assert_eq!(base_url(good), Ok(good.to_owned()));
        }
        for bad in [
            "http://api.example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://0.0.0.0",
            "http://[::2]",
            "http://10.0.0.1",
            "ftp://localhost",
            "localhost:8080",
            "api.example.com",
            "",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trailing_slash_goes_and_a_path_prefix_stays() {
        assert_eq!(
            base_url("https://gw.example.com/feather/").as_deref(),
            Ok("https://gw.example.com/feather")
        );
        assert_eq!(
            base_url("https://gw.example.com/").as_deref(),
            Ok("https://gw.example.com")
        );
    }

    #[test]
    fn a_base_url_with_credentials_or_a_query_is_refused_without_showing_it() {
        for bad in [
            "https://u:hunter2@h",
            "https://hunter2@h",
            "https://h/?key=hunter2",
            "https://h/#hunter2",
        ] {
            let why = base_url(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn passwords_in_urls_are_starred_wherever_they_stand() {
        let shown = |url: &str| redacted_url(&SecretString::from(url));
        assert_eq!(
            shown("postgres://u:hunter2@db:5433/app?sslmode=require"),
            "postgres://u:***@db:5433/app?sslmode=require"
        );
        assert_eq!(
            shown("postgres://u@db/app?host=%2Frun%2Fpg"),
            "postgres://u@db/app?host=%2Frun%2Fpg"
        );
        assert!(
            !shown("postgres://db/app?user=u&password=hunter2&sslpassword=hunter2")
                .contains("hunter2")
        );
        assert_eq!(shown("hunter2"), "***");
        assert_eq!(
            shown("postgres://u:hunter2@db1:5432,db2:5433,db3/app?port=1"),
            "postgres://u:***@db1:5432,db2:5433,db3/app?port=1"
        );
        let url = SecretString::from("postgres://u:hunter2@db1:5432,db2:5433/app");
        assert_eq!(passwords(&url)[0].expose_secret(), "hunter2");
    }

    #[test]
    fn a_database_url_is_a_postgres_one() {
        for good in [
            "postgres://u:p@h/d",
            "postgresql:///d?host=/run/postgresql",
            "postgres://u@%2Frun%2Fpg/d",
            "postgres://u:p@h1:5432,h2:5433/d?target_session_attrs=read-write",
            "postgres://h1,[::1]:5433",
        ] {
            assert!(database_url(good).is_ok(), "{good}");
        }
        for bad in [
            "mysql://u:hunter2@h/d",
            "host=h password=hunter2",
            "postgres:hunter2",
            "",
            "postgres://h:hunter2/d",
        ] {
            let why = database_url(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_url_panic(text in "\\PC{0,60}|(postgres|https)://\\PC{0,40}") {
            let _ = (base_url(&text), database_url(&text), redacted_url(&SecretString::from(text)));
        }

        #[test]
        fn a_password_is_never_shown(password in "[a-z]{12}") {
            let url = format!("postgres://u:{password}@h/d?password={password}");
            prop_assert!(!redacted_url(&SecretString::from(url)).contains(&password));
        }
    }
}
