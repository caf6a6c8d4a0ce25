//! The organisation's request limit.

use std::collections::VecDeque;

use super::clock::Micros;
use super::clock::SECOND;
use super::scenario::Limit;
use super::scenario::Window;

const MINUTE: Micros = 60 * SECOND;

#[derive(Debug)]
pub(super) struct Limiter {
    limit: Limit,
    /// When the accepted calls of the window came.
    accepted: VecDeque<Micros>,
}

impl Limiter {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            limit,
            accepted: VecDeque::new(),
        }
    }

    /// `Err` with the limit where this call, at that time since the start, is one too many.
    pub(super) fn admit(&mut self, now: Micros) -> Result<(), Limit> {
        let oldest = match self.limit.window {
            Window::Sliding => now - MINUTE + 1,
            Window::Fixed => now - now % MINUTE,
        };
        while self.accepted.front().is_some_and(|at| *at < oldest) {
            self.accepted.pop_front();
        }
        if self.accepted.len() >= self.limit.requests_per_minute as usize {
            return Err(self.limit.clone());
        }
        self.accepted.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(window: Window, seconds: &[i64]) -> Vec<bool> {
        let mut limiter = Limiter::new(Limit {
            requests_per_minute: 2,
            window,
            retry_after: None,
            retry_after_header: None,
        });
        seconds
            .iter()
            .map(|second| limiter.admit(second * SECOND).is_ok())
            .collect()
    }

    #[test]
    fn a_sliding_window_frees_a_place_60_s_after_each_call() {
        let calls = admitted(Window::Sliding, &[0, 58, 59, 60, 61, 118]);
        assert_eq!(calls, [true, true, false, true, false, true]);
    }

    #[test]
    fn a_fixed_window_frees_all_places_at_the_minute() {
        let calls = admitted(Window::Fixed, &[0, 58, 59, 60, 61, 62]);
        assert_eq!(calls, [true, true, false, true, true, false]);
    }
}
