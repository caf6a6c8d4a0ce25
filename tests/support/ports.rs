//! Ports for those who can only be told a number.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Free, and stays so until its taker comes: it is below the ports that the system itself hands to listeners at port 0
/// and to every outgoing connection, of which the other tests open hundreds meanwhile; and no two calls get the same.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    // From where the system hands them out, where it says so and that leaves room.
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let told = range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok());
    let end = told.filter(|low| *low > FIRST + 1_000).unwrap_or(30_000);
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Two test programs at once begin far from each other.
    let [low, high, ..] = std::process::id().wrapping_mul(7_919).to_le_bytes();
    loop {
        let nth = u16::from_le_bytes([low, high]).wrapping_add(TAKEN.fetch_add(1, Relaxed));
        let port = FIRST + nth % (end - FIRST);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
