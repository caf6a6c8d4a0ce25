//! The API of each account: one call that changes nothing tells whether it is reached and takes the key.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use futures_util::future::join_all;

use crate::cli::doctor::clock;
use crate::cli::doctor::clock::Asked;
use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::cli::output::short;
use crate::config::Config;
use crate::config::KeySource;
use crate::domain::ErrorClass;
use crate::domain::Failure;
use crate::feather::ApiClient;
use crate::feather::ClientSettings;
use crate::feather::KeyReader;
use crate::feather::Redactor;

/// How long the call may take, where the configuration gives it longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries all accounts that have an address and a key that can be read, at the same time. What the others lack is said
/// by the configuration's lines.
pub(super) async fn findings(config: &Config, redactor: &Redactor) -> Vec<Finding> {
    let trials = config
        .declared_accounts
        .iter()
        .filter_map(|(name, account)| {
            let key = account.key.as_ref()?;
            key.read().ok()?;
            Some(try_account(
                config,
                redactor,
                name,
                account.base_url.as_ref()?,
                key,
            ))
        });
    join_all(trials).await.concat()
}

async fn try_account(
    config: &Config,
    redactor: &Redactor,
    name: &str,
    base_url: &str,
    key: &KeySource,
) -> Vec<Finding> {
    let settings = ClientSettings {
        base_url: base_url.to_owned(),
        request_timeout: config.api.request_timeout.min(PATIENCE),
        connect_timeout: config.api.connect_timeout.min(PATIENCE),
        max_body_bytes: config.api.max_body_bytes,
    };
    let read_key: KeyReader = {
        let key = key.clone();
        Arc::new(move || key.read().map_err(|error| error.to_string()))
    };
    let place = format!("account {name}, {base_url}");
    let client = match ApiClient::new(settings, read_key, redactor.clone()) {
        Ok(client) => client,
        Err(error) => {
            let next = "see what it says; `feather-sync run` cannot start either";
            return vec![Finding::failed(Check::Api, error.to_string(), next).at(place)];
        }
    };
    let from = SystemTime::now().into();
    let trial = client.try_out().await;
    let to = SystemTime::now().into();
    let mut findings = vec![judge(trial.answer.as_ref().err(), key).at(&place)];
    if let Some(theirs) = trial.date {
        findings.push(clock::judge_api(theirs, Asked { from, to }).at(place));
    }
    findings
}

/// On the call's failure, if it was one: that there is no such connection, the API says only to a key that it takes.
fn judge(failure: Option<&Failure>, key: &KeySource) -> Finding {
    let accepted = || Finding::ok(Check::Api, "it is reached, and takes the key");
    let Some(failure) = failure else {
        return accepted();
    };
    let message = short(&failure.message);
    let failed =
        |what: &str, next: &str| Finding::failed(Check::Api, format!("{what}: {message}"), next);
    match failure.class {
        ErrorClass::NotFound => accepted(),
        ErrorClass::Auth => failed(
            "it refuses the key",
            &format!(
                "put a valid key there ({key}); as long as it is refused, the account is paused"
            ),
        ),
        ErrorClass::Forbidden => failed(
            "it does not let this key look at connections",
            "have the key's permissions extended, or use another",
        ),
        ErrorClass::Upstream => failed(
            "it is reached, and fails",
            "wait for Feather, and run `feather-sync doctor` again",
        ),
        ErrorClass::Timeout => failed(
            "it does not answer in time",
            "check firewall and routes from this machine to it; where it is only slow, raise api.request_timeout and \
             worker.lease above it",
        ),
        ErrorClass::Network => failed(
            "it is not reached",
            "check name resolution, firewall and certificates (package ca-certificates) on this machine; proxy variables \
             are not heeded",
        ),
        ErrorClass::RateLimited => Finding::warning(
            Check::Api,
            format!("it is reached, and the rate limit is used up: {message}"),
            "run `feather-sync doctor` again later for a word on the key; if it keeps happening, lower requests_per_minute",
        ),
        ErrorClass::Conflict | ErrorClass::InvalidRequest => Finding::warning(
            Check::Api,
            format!("it is reached, and turned the call away: {message}"),
            "run `feather-sync doctor` again; if it stays, see whether base_url leads to the Feather API",
        ),
        // The others come of what a job does with an answer, not of a call.
        ErrorClass::Protocol
        | ErrorClass::Mismatch
        | ErrorClass::OtherAccount
        | ErrorClass::NotActive
        | ErrorClass::SettleTimeout
        | ErrorClass::ToolsFailed
        | ErrorClass::Storage
        | ErrorClass::LeaseLost => failed(
            "what answers there does not speak as the Feather API does",
            "correct base_url; the sandbox's is https://api-sandbox.featherhq.com",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn every_way_to_fail_is_judged() {
        let key = KeySource::File("/etc/key".into());
        assert_eq!(judge(None, &key).level, Level::Ok);
        for class in ErrorClass::ALL {
            let (level, next) = match class {
                ErrorClass::NotFound => (Level::Ok, ""),
                ErrorClass::Auth => (Level::Failed, "file /etc/key"),
                ErrorClass::Forbidden => (Level::Failed, "permissions"),
                ErrorClass::RateLimited => (Level::Warning, "requests_per_minute"),
                ErrorClass::Conflict | ErrorClass::InvalidRequest => (Level::Warning, "again"),
                ErrorClass::Upstream => (Level::Failed, "wait"),
                ErrorClass::Timeout => (Level::Failed, "api.request_timeout"),
                ErrorClass::Network => (Level::Failed, "name resolution"),
                _ => (Level::Failed, "base_url"),
            };
            let finding = judge(Some(&Failure::new(class, "HTTP 4xx")), &key);
            assert_eq!(finding.level, level, "{class}");
            let given = finding.next.unwrap_or_default();
            assert!(given.contains(next), "{class}: {given}");
            assert_eq!(finding.what.contains("HTTP 4xx"), level > Level::Ok);
        }
    }
}
