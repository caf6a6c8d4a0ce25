//! The control endpoints under `/_sim`: looking behind the scenes, and changing them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use axum::http::request;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use uuid::Uuid;

use super::edit;
use super::record::Call;
use super::reply;
use super::reply::Reply;
use super::rule::FaultRule;
use super::upstream::Upstream;
use super::upstream::lock;
use super::world::View;

const MAX_BODY: usize = 16 * 1024 * 1024;

const ENDPOINTS: &str = "GET /_sim/calls, GET /_sim/stats, POST /_sim/keys, POST /_sim/faults, \
    GET, POST or DELETE /_sim/connections/{id}";

pub(super) async fn answer(upstream: &Arc<Upstream>, head: &request::Parts, body: Body) -> Reply {
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return problem(400, "the body cannot be read, or is longer than 16 MiB");
    };
    let path = head.uri.path();
    let result = match (&head.method, path) {
        (&Method::GET, "/_sim/calls") => Ok(calls(upstream)),
        (&Method::GET, "/_sim/stats") => text(&upstream.stats()),
        (&Method::POST, "/_sim/keys") => set_keys(upstream, &body),
        (&Method::POST, "/_sim/faults") => set_faults(upstream, &body),
        (method, path) => match path.strip_prefix("/_sim/connections/") {
            Some(id) => connection(upstream, method, id, &body),
            None => Err((404, format!("there is only {ENDPOINTS}"))),
        },
    };
    match result {
        Ok(text) => reply::json(200, text),
        Err((code, message)) => problem(code, &message),
    }
}

type Answer = Result<String, (u16, String)>;

fn problem(code: u16, message: &str) -> Reply {
    reply::json(code, json!({ "error": message }).to_string())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, (u16, String)> {
    serde_json::from_slice(body).map_err(|error| (400, format!("the body does not fit: {error}")))
}

fn text(value: &impl serde::Serialize) -> Answer {
    serde_json::to_string(value).map_err(|error| (500, error.to_string()))
}

fn calls(upstream: &Upstream) -> String {
    let calls: Vec<Call> = lock(&upstream.record).calls().cloned().collect();
    serde_json::to_string(&calls).unwrap_or_default()
}

fn set_keys(upstream: &Upstream, body: &[u8]) -> Answer {
    let keys: Option<Vec<String>> = read(body)?;
    let answer = json!({ "keys": keys.as_ref().map(Vec::len) });
    *lock(&upstream.keys) = keys;
    Ok(answer.to_string())
}

fn set_faults(upstream: &Upstream, body: &[u8]) -> Answer {
    let rules: Vec<FaultRule> = read(body)?;
    let answer = json!({ "faults": rules.len() });
    upstream.set_rules(rules);
    Ok(answer.to_string())
}

fn connection(upstream: &Upstream, method: &Method, id: &str, body: &[u8]) -> Answer {
    let id = Uuid::try_parse(id).map_err(|_| (400, format!("`{id}` is not a UUID")))?;
    match *method {
        Method::GET => {}
        Method::POST => {
            let patch: Value = read(body)?;
            if !patch.is_object() {
                return Err((400, "the body is not an object of fields".to_owned()));
            }
            change(upstream, id, |document| edit::merge(document, patch));
        }
        Method::DELETE => {
            upstream.world().known(id).deleted = true;
            return Ok(json!({ "deleted": id }).to_string());
        }
        _ => return Err((405, format!("there is only {ENDPOINTS}"))),
    }
    truth(upstream, id).ok_or_else(|| (404, format!("connection {id} has been deleted")))
}

/// The settled document; `None` once deleted.
pub(super) fn truth(upstream: &Upstream, id: Uuid) -> Option<String> {
    let content = upstream.world().peek(id)?;
    Some(content.document(&upstream.scenario, id, View::Settled))
}

/// Edits the truth; a deleted connection comes back.
pub(super) fn change(upstream: &Upstream, id: Uuid, change: impl FnOnce(&mut Value)) {
    let now = upstream.clock.now();
    let mut world = upstream.world();
    let connection = world.known(id);
    connection.deleted = false;
    edit::edit(&mut connection.content, &upstream.scenario, id, now, change);
}
