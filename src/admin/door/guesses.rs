//! How fast tokens are tried: after a wrong one, two a second from the same address.

use crate::admin::connections::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// From one judgement to the next, after a wrong token.
const APART: Duration = Duration::from_millis(500);
/// For one's turn; who would have to wait longer is not heard.
const PATIENCE: Duration = Duration::from_secs(5);
/// Told apart at the same time. All others count as one, so that neither memory nor the number of guesses has no bound.
const ADDRESSES: usize = 1_024;
/// All others.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// When each address that gave a wrong token has its next turn; an address without an entry has it now.
#[derive(Clone, Default)]
pub(super) struct Guesses(Arc<Mutex<HashMap<IpAddr, Instant>>>);

impl Guesses {
    /// When it may be told that a token that came from there is right or wrong. `None`: never, there are too many before it.
    ///
    /// Until its turn a right one is told nothing that a wrong one is not, and both take it up, whether or not somebody
    /// still listens then. So nobody learns anything from not waiting.
    pub(super) fn told_at(&self, from: IpAddr, now: Instant, is_right: bool) -> Option<Instant> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        next.retain(|_, next| *next > now);
        let from = network(from);
        let is_known = next.contains_key(&from) || next.len() < ADDRESSES;
        let from = if is_known { from } else { OTHERS };
        let turn = next.get(&from).copied().unwrap_or(now);
        if turn > now + PATIENCE {
            return None;
        }
        let over = turn + APART;
        if turn > now || !is_right {
            next.insert(from, over);
        }
        Some(if is_right { turn } else { over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn milliseconds(from: Instant, to: Option<Instant>) -> Option<u128> {
        to.map(|to| (to - from).as_millis())
    }

    #[test]
    fn who_never_fails_waits_for_nothing_whoever_guesses_elsewhere() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for _ in 0..100 {
            let told = guesses.told_at(ELSEWHERE, now, true);
            assert_eq!(told, Some(now));
            guesses.told_at(HERE, now, false);
        }
    }

    #[test]
    fn after_a_wrong_token_the_right_one_has_its_turn_later_too_and_takes_it_up() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let told = |is_right| milliseconds(now, guesses.told_at(HERE, now, is_right));
        assert_eq!(told(false), Some(500));
        assert_eq!(told(true), Some(500));
        assert_eq!(told(true), Some(1_000));
        assert_eq!(told(false), Some(2_000));
        let later = now + Duration::from_secs(2);
        assert_eq!(guesses.told_at(HERE, later, true), Some(later));
        assert_eq!(guesses.told_at(HERE, later, true), Some(later));
    }

    #[test]
    fn of_many_guesses_at_once_most_are_not_heard_be_they_right_or_wrong() {
        for is_right in [true, false] {
            let (guesses, now) = (Guesses::default(), Instant::now());
            guesses.told_at(HERE, now, false);
            let all = (0..1_000).map(|_| guesses.told_at(HERE, now, is_right));
            assert_eq!(all.flatten().count(), 10, "{is_right}");
            let later = now + APART;
            assert!(guesses.told_at(HERE, later, is_right).is_some());
            assert!(guesses.told_at(HERE, later, is_right).is_none());
        }
    }

    #[test]
    fn however_many_guess_so_many_addresses_are_kept_and_the_others_count_as_one() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let many = 10 * u32::try_from(ADDRESSES).unwrap();
        let heard = (0..many).filter(|n| guesses.told_at(address(*n), now, false).is_some());
        assert_eq!(heard.count(), ADDRESSES + 11);
        assert_eq!(guesses.0.lock().unwrap().len(), ADDRESSES + 1);
        let later = now + 2 * PATIENCE;
        assert_eq!(guesses.told_at(HERE, later, true), Some(later));
        assert_eq!(guesses.0.lock().unwrap().len(), 0);
    }

    #[test]
    fn all_addresses_of_a_network_of_ipv6_count_as_one() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        guesses.told_at("2001:db8::1".parse().unwrap(), now, false);
        let told = |text: &str| {
            let told = guesses.told_at(text.parse().unwrap(), now, true);
            milliseconds(now, told)
        };
        assert_eq!(told("2001:db8::ffff:0:0:2"), Some(500));
        assert_eq!(told("2001:db8:0:1::1"), Some(0));
    }
}
