//! The simulated API: from a request to its answer, or to none.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::http::header;
use futures_util::stream;
use hyper::body::Incoming;
use serde_json::json;
use uuid::Uuid;

use super::body;
use super::catalog::INTEGRATIONS;
use super::clock::Micros;
use super::control;
use super::fault::Fault;
use super::record::Kind;
use super::reply;
use super::reply::Reply;
use super::reply::with_header;
use super::route::Route;
use super::spoil::spoil;
use super::upstream::Ticket;
use super::upstream::Upstream;
use super::upstream::Verdict;
use super::world::View;

/// The connection ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    Reset,
    Close,
}

impl fmt::Display for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the scenario ends this connection without an answer")
    }
}

impl std::error::Error for Hangup {}

/// What a processed call has to say.
enum Outcome {
    Document { code: u16, text: String },
    Reply(Reply),
}

pub(super) async fn serve(
    upstream: Arc<Upstream>,
    request: Request<Incoming>,
) -> Result<Reply, Hangup> {
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with("/_sim") {
        return Ok(control::answer(&upstream, &head, Body::new(body)).await);
    }
    let route = Route::of(&head.method, head.uri.path());
    let (ticket, verdict) = upstream.arrive(&head, route.clone());
    let request_id = ticket.request_id.clone();
    upstream.delay(&ticket).await;
    // A revoked key is refused at once, for calls in flight too.
    let verdict = match verdict {
        Verdict::Welcome(_) if !upstream.accepts(ticket.key.as_ref()) => Verdict::Unauthorized,
        verdict => verdict,
    };
    let answer = match verdict {
        Verdict::Unauthorized => end(ticket, reply::unauthorized()),
        Verdict::Limited(limit) => end(ticket, reply::rate_limited(&limit, &upstream.clock)),
        Verdict::Welcome(Some(Fault::Hang { duration: None })) => {
            std::future::pending::<()>().await;
            return Err(Hangup::Close);
        }
        Verdict::Welcome(Some(Fault::Hang {
            duration: Some(duration),
        })) => {
            tokio::time::sleep(duration).await;
            answer(&upstream, &route, None, ticket)?
        }
        Verdict::Welcome(fault) => {
            if fault == Some(Fault::Close) {
                // Unread bytes would turn the close into a reset.
                let _ = axum::body::to_bytes(Body::new(body), 1024 * 1024).await;
            }
            answer(&upstream, &route, fault, ticket)?
        }
    };
    let name = header::HeaderName::from_static("x-request-id");
    Ok(with_header(answer, name, &request_id))
}

fn end(ticket: Ticket, reply: Reply) -> Reply {
    ticket.end(reply.status().as_u16());
    reply
}

fn answer(
    upstream: &Upstream,
    route: &Route,
    fault: Option<Fault>,
    ticket: Ticket,
) -> Result<Reply, Hangup> {
    let refusal = match &fault {
        Some(Fault::Reset) => return Err(Hangup::Reset),
        Some(Fault::Status(fault)) => {
            Some(reply::status(fault, ticket.key.as_ref(), &upstream.clock))
        }
        Some(Fault::Redirect { location, code }) => Some(reply::redirect(*code, location)),
        Some(Fault::Plain404) => Some(reply::html_not_found()),
        Some(Fault::Fastapi404) => Some(reply::unknown_route()),
        Some(Fault::NotFound) => Some(reply::not_found()),
        Some(Fault::Json422) => Some(reply::invalid()),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Ok(end(ticket, refusal));
    }
    let outcome = match route {
        Route::One { kind, id } => one(upstream, *kind, *id, fault.as_ref()),
        Route::List => match &fault {
            None => Outcome::Reply(stream_list(upstream, 1.0)),
            Some(Fault::ShortList { keep }) => Outcome::Reply(stream_list(upstream, *keep)),
            Some(fault) => Outcome::Document {
                code: 200,
                text: whole_list(upstream, fault),
            },
        },
        Route::Catalog => Outcome::Document {
            code: 200,
            text: catalog(),
        },
        Route::Malformed { id, .. } => Outcome::Reply(reply::not_a_uuid(id)),
        Route::NotAllowed => Outcome::Reply(reply::not_allowed()),
        Route::Unknown => Outcome::Reply(reply::unknown_route()),
    };
    match outcome {
        Outcome::Reply(refusal) => Ok(end(ticket, refusal)),
        Outcome::Document { code, text } => framed(code, text, fault.as_ref(), ticket),
    }
}

/// Carries out a call about one connection.
fn one(upstream: &Upstream, kind: Kind, id: Uuid, fault: Option<&Fault>) -> Outcome {
    let scenario = &upstream.scenario;
    let now = upstream.clock.now();
    let mut world = upstream.world();
    let connection = world.known(id);
    if connection.deleted {
        return Outcome::Reply(reply::not_found());
    }
    let content = &mut connection.content;
    let view = view(fault, now);
    let refuses = view == View::NotActive;
    let code = match kind {
        Kind::Finalize if !refuses => {
            content.finalize(scenario, id, now);
            200
        }
        Kind::Refresh if refuses || !content.is_active() => {
            return Outcome::Reply(reply::not_refreshable());
        }
        Kind::Refresh => {
            content.sync_tools(scenario, id, now);
            202
        }
        _ => {
            content.see();
            200
        }
    };
    let content = content.clone();
    drop(world);
    let text = content.document(scenario, id, view);
    Outcome::Document {
        code,
        text: match fault {
            Some(fault) => spoil(fault, text, scenario.seed, id),
            None => text,
        },
    }
}

/// The answer on the wire, with the faults that are not in what it says but in how.
fn framed(code: u16, text: String, fault: Option<&Fault>, ticket: Ticket) -> Result<Reply, Hangup> {
    let length =
        |reply: Reply, length: u64| with_header(reply, header::CONTENT_LENGTH, &length.to_string());
    let gzipped = |packed: std::io::Result<Vec<u8>>| match packed {
        Ok(bytes) => with_header(reply::json(code, bytes), header::CONTENT_ENCODING, "gzip"),
        Err(error) => reply::html(500, format!("the simulator could not compress: {error}")),
    };
    let size = text.len() as u64;
    let reply = match fault {
        Some(Fault::Close) => return Err(Hangup::Close),
        Some(Fault::NotJson) => reply::html(
            code,
            "<!doctype html><title>Welcome</title><p>Please sign in.",
        ),
        Some(Fault::Empty) => reply::json(code, ""),
        Some(Fault::ShortBody) => length(reply::json(code, body::unmeasured(text)), size + 100),
        Some(Fault::Slow { duration }) => {
            let ticket = ticket.answering(code);
            return Ok(length(
                reply::json(code, body::drip(text, *duration, ticket)),
                size,
            ));
        }
        Some(Fault::TooLarge { bytes, announced }) => {
            let (body, size) = body::padded(text, *bytes);
            let reply = reply::json(code, body);
            if *announced {
                length(reply, size)
            } else {
                reply
            }
        }
        Some(Fault::GzipBomb { bytes }) => gzipped(body::gzip_bomb(text, *bytes)),
        Some(Fault::Gzip) => gzipped(body::gzip(&text)),
        _ => reply::json(code, text),
    };
    Ok(end(ticket, reply))
}

/// Connection by connection, so that a list of many never stands in memory as a whole; the first `keep` of them.
fn stream_list(upstream: &Upstream, keep: f64) -> Reply {
    let list = upstream.world().list();
    let kept = list.len() as f64 * keep;
    let scenario = Arc::clone(&upstream.scenario);
    let view = View::At(upstream.clock.now());
    let list = list.into_iter().enumerate();
    let list = list.take_while(move |(n, _)| (*n as f64) < kept);
    let documents = list.map(move |(n, (id, content))| {
        let separator = if n == 0 { "" } else { "," };
        separator.to_owned() + &content.document(&scenario, id, view)
    });
    let pieces = std::iter::once("[".to_owned())
        .chain(documents)
        .chain(["]".to_owned()])
        .map(Ok::<_, Infallible>);
    reply::json(200, Body::from_stream(stream::iter(pieces)))
}

fn whole_list(upstream: &Upstream, fault: &Fault) -> String {
    let seed = upstream.scenario.seed;
    let view = view(Some(fault), upstream.clock.now());
    let list = upstream.world().list();
    let documents: Vec<String> = list
        .into_iter()
        .map(|(id, content)| {
            let text = content.document(&upstream.scenario, id, view);
            match fault {
                Fault::TruncatedJson => text,
                fault => spoil(fault, text, seed, id),
            }
        })
        .collect();
    let list = format!("[{}]", documents.join(","));
    match fault {
        Fault::TruncatedJson => spoil(fault, list, seed, Uuid::nil()),
        _ => list,
    }
}

fn view(fault: Option<&Fault>, now: Micros) -> View {
    match fault {
        Some(Fault::NotActive) => View::NotActive,
        Some(Fault::NeverSettles) => View::Settling,
        _ => View::At(now),
    }
}

fn catalog() -> String {
    let list: Vec<_> = INTEGRATIONS
        .iter()
        .map(|one| {
            json!({
                "key": one.key,
                "display_name": one.display_name,
                "description": format!("Connects {} for tools of its own.", one.display_name),
                "category": one.category,
                "logo_url": format!("https://logos.invalid/{}.svg", one.key),
            })
        })
        .collect();
    json!(list).to_string()
}
