//! Connections to the admin listener, none of which can hold it up: bounded in number, in time and in what they send.

use axum::Extension;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// At the same time; one more ends another.
const MOST: usize = 128;
/// What each connection has before it may be ended for another.
const FAIR: Duration = Duration::from_millis(100);
/// For the head of a request, waiting for it on an open connection included.
const HEAD: Duration = Duration::from_secs(5);
/// For a connection as a whole: whoever reads too slowly loses it.
const WHOLE: Duration = Duration::from_secs(60);
/// Read of a request's head before it is refused (431).
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request before it is refused (431).
const HEADERS: usize = 64;
/// Between tries while the system is out of file descriptors.
const BREATH: Duration = Duration::from_millis(50);

/// What is known of the connection that a request came on.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Who is at its other end, a proxy perhaps.
    pub(super) from: IpAddr,
    /// When it is cut off, whatever goes on then.
    pub(super) until: Instant,
    begun: Instant,
    is_held: Arc<AtomicBool>,
}

impl Visit {
    fn begin(from: IpAddr) -> Self {
        let begun = Instant::now();
        Self {
            from: from.to_canonical(),
            until: begun + WHOLE,
            begun,
            is_held: Arc::default(),
        }
    }

    /// While this is kept, the connection is not ended for another: something is done that its client should hear of. Not
    /// for what waits for the client, which could hold all connections so.
    pub(super) fn hold(&self) -> Held {
        self.is_held.store(true, Ordering::Relaxed);
        Held(self.is_held.clone())
    }
}

/// See [`Visit::hold`].
pub(super) struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Accepts until dropped, which ends every connection.
pub(super) async fn accept(listener: TcpListener, router: Router) {
    let mut open = Open::default();
    let mut is_told = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    open.make_room().await;
                    let visit = Visit::begin(peer.ip());
                    let task = open.tasks.spawn(converse(stream, visit.clone(), router.clone()));
                    open.visits.push((visit, task));
                }
                Err(error) => {
                    // Once: it is tried many times a second.
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "connections to the admin listener cannot be accepted; trying again");
                    }
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = open.tasks.join_next() => {}
        }
    }
}

#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    /// Oldest first.
    visits: Vec<(Visit, AbortHandle)>,
}

impl Open {
    /// Ends a connection where there is no place for one more.
    async fn make_room(&mut self) {
        self.visits.retain(|(_, task)| !task.is_finished());
        while self.tasks.len() >= MOST {
            let mut next_look = Instant::now() + BREATH;
            if let Some(at) = dispensable(self.visits.iter().map(|(visit, _)| visit)) {
                let may_end = self.visits[at].0.begun + FAIR;
                if may_end <= Instant::now() {
                    self.visits.remove(at).1.abort();
                } else {
                    next_look = may_end.min(next_look);
                }
            }
            let _ = tokio::time::timeout_at(next_look, self.tasks.join_next()).await;
        }
    }
}

/// Which of them, oldest first, is ended for another: the oldest from the network where most come from. So whoever opens
/// many ends his own.
fn dispensable<'v>(visits: impl Iterator<Item = &'v Visit> + Clone) -> Option<usize> {
    let mut from: HashMap<IpAddr, usize> = HashMap::new();
    for visit in visits.clone() {
        *from.entry(network(visit.from)).or_default() += 1;
    }
    visits
        .enumerate()
        .filter(|(_, visit)| !visit.is_held.load(Ordering::Relaxed))
        .min_by_key(|(at, visit)| (Reverse(from.get(&network(visit.from)).copied()), *at))
        .map(|(at, _)| at)
}

/// Where one and the same may come from. Of IPv6, what a single customer is given: 64 bits.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

async fn converse(stream: TcpStream, visit: Visit, router: Router) {
    let until = visit.until;
    let router = router.layer(Extension(visit));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout_at(until, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin listener broke"),
        Err(_) => tracing::debug!("a connection to the admin listener took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Visit {
        Visit::begin(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn whoever_has_most_connections_loses_the_oldest_of_them() {
        let visits = [from(1), from(2), from(1), from(2), from(2)];
        assert_eq!(dispensable(visits.iter()), Some(1));
        assert_eq!(dispensable(visits[..4].iter()), Some(0));
        assert_eq!(dispensable([].iter()), None);
    }

    #[test]
    fn all_addresses_of_a_network_of_ipv6_count_as_one() {
        let there = |last| Visit::begin(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
        let visits = [from(1), from(1), there(1), there(2), there(3)];
        assert_eq!(dispensable(visits.iter()), Some(2));
    }

    #[test]
    fn what_is_being_done_is_not_ended_for_another() {
        let visits = [from(1), from(1), from(2)];
        let first = visits[0].hold();
        assert_eq!(dispensable(visits.iter()), Some(1));
        let second = visits[1].hold();
        assert_eq!(dispensable(visits.iter()), Some(2));
        let _third = visits[2].hold();
        assert_eq!(dispensable(visits.iter()), None);
        drop((first, second));
        assert_eq!(dispensable(visits.iter()), Some(0));
    }
}
