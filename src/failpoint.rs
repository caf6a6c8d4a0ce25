//! Points at which a test has this process killed, stopped, terminated, panicking or hanging. Compiled in only with the cargo
//! feature `failpoints`, which tests switch on by themselves; in any other build [`reach`] is nothing.
//!
//! The order stands in the environment variable `FEATHER_SYNC_FAILPOINT` of the process: `POINT:NTH:ACTION`, several of
//! them separated by commas. `claimed:3:kill` kills the process when it passes `claimed` for the third time.

/// A step at which a process can die, in the order of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Requests are jobs.
    TakenIn,
    /// About to ask for jobs.
    BeforeClaim,
    /// Jobs are leased and known to be. The attempt is counted by the same statement: this is "attempt committed" too.
    Claimed,
    /// About to call the API.
    BeforeSend,
    /// Status and headers have come, the body has not.
    Head,
    /// The whole answer has come.
    Answered,
    /// The committer has gathered its batch.
    Gathered,
    /// The batch's jobs are locked.
    Locked,
    /// Connections are written, their tools are not.
    ConnectionsWritten,
    /// What was stored before is written; what is new, the jobs and the history are not.
    ChangesWritten,
    /// About to COMMIT a batch.
    BeforeCommit,
    /// The batch is committed, and nothing has been made of that.
    Committed,
    /// About to COMMIT that leases are given back.
    Releasing,
    /// Leases have been given back.
    Released,
    /// About to COMMIT that leases have run out.
    Expiring,
    /// Leases that ran out are recorded, and nothing has been made of that.
    Expired,
    /// A stop has begun, calls may be under way.
    Stopping,
    /// All is written down, the connections to the database are still open.
    Drained,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::TakenIn,
        Self::BeforeClaim,
        Self::Claimed,
        Self::BeforeSend,
        Self::Head,
        Self::Answered,
        Self::Gathered,
        Self::Locked,
        Self::ConnectionsWritten,
        Self::ChangesWritten,
        Self::BeforeCommit,
        Self::Committed,
        Self::Releasing,
        Self::Released,
        Self::Expiring,
        Self::Expired,
        Self::Stopping,
        Self::Drained,
    ];

    /// Its name in an order.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TakenIn => "taken-in",
            Self::BeforeClaim => "before-claim",
            Self::Claimed => "claimed",
            Self::BeforeSend => "before-send",
            Self::Head => "head",
            Self::Answered => "answered",
            Self::Gathered => "gathered",
            Self::Locked => "locked",
            Self::ConnectionsWritten => "connections-written",
            Self::ChangesWritten => "changes-written",
            Self::BeforeCommit => "before-commit",
            Self::Committed => "committed",
            Self::Releasing => "releasing",
            Self::Released => "released",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Stopping => "stopping",
            Self::Drained => "drained",
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::arm;
#[cfg(feature = "failpoints")]
pub use armed::reach;

/// Nothing, in a build without failpoints.
///
/// # Errors
/// None.
#[cfg(not(feature = "failpoints"))]
pub fn arm<'a>(_: impl FnOnce(&str) -> Option<&'a str>) -> Result<(), String> {
    Ok(())
}

/// Nothing, in a build without failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn reach(_: Point) {}

#[cfg(feature = "failpoints")]
mod armed {
    use super::Point;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering;

    const VARIABLE: &str = "FEATHER_SYNC_FAILPOINT";

    static ORDERS: OnceLock<Vec<Order>> = OnceLock::new();

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Signal(libc::c_int),
        Panic,
        /// This thread goes no further.
        Hang,
    }

    const ACTIONS: [(&str, Action); 5] = [
        ("kill", Action::Signal(libc::SIGKILL)),
        ("stop", Action::Signal(libc::SIGSTOP)),
        ("term", Action::Signal(libc::SIGTERM)),
        ("panic", Action::Panic),
        ("hang", Action::Hang),
    ];

    #[derive(Debug)]
    struct Order {
        point: Point,
        nth: u32,
        name: &'static str,
        action: Action,
        passed: AtomicU32,
    }

    /// Takes the orders from the environment, of which `get` reads one variable. To be called once.
    ///
    /// # Errors
    /// What in them cannot be understood.
    pub fn arm<'a>(get: impl FnOnce(&str) -> Option<&'a str>) -> Result<(), String> {
        let text = get(VARIABLE).unwrap_or_default();
        let orders = text
            .split(',')
            .filter(|order| !order.is_empty())
            .map(|order| {
                read(order).ok_or_else(|| {
                    let points = Point::ALL.map(Point::as_str).join(", ");
                    let actions = ACTIONS.map(|(name, _)| name).join(", ");
                    format!(
                        "{VARIABLE}: `{order}` is not POINT:NTH:ACTION, with one of the points {points}, a number from 1, \
                         and one of the actions {actions}"
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        ORDERS
            .set(orders)
            .map_err(|_| format!("{VARIABLE} was read before"))
    }

    fn read(order: &str) -> Option<Order> {
        let mut parts = order.split(':');
        let (point, nth, action) = (parts.next()?, parts.next()?, parts.next()?);
        let (name, action) = ACTIONS.into_iter().find(|(name, _)| *name == action)?;
        (parts.next().is_none()).then_some(())?;
        Some(Order {
            point: Point::ALL.into_iter().find(|p| p.as_str() == point)?,
            nth: nth.parse().ok().filter(|nth| *nth > 0)?,
            name,
            action,
            passed: AtomicU32::new(0),
        })
    }

    /// Passes a point: does there what was ordered.
    pub fn reach(point: Point) {
        let orders = ORDERS.get().map(Vec::as_slice).unwrap_or_default();
        for order in orders.iter().filter(|order| order.point == point) {
            if order.passed.fetch_add(1, Ordering::SeqCst) + 1 == order.nth {
                tracing::info!("failpoint {}: {}", point.as_str(), order.name);
                act(order.action);
            }
        }
    }

    #[expect(
        unsafe_code,
        clippy::panic,
        reason = "no safe interface sends a signal to this very thread; panicking is one of the orders"
    )]
    fn act(action: Action) {
        match action {
            // To this thread: it is the one that must not go on.
            // SAFETY: raise has no preconditions.
            Action::Signal(signal) => unsafe {
                libc::raise(signal);
            },
            Action::Panic => panic!("as ordered by {VARIABLE}"),
            Action::Hang => loop {
                std::thread::park();
            },
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_order_names_point_pass_and_action() {
            let order = read("before-send:12:stop").unwrap();
            assert_eq!(
                (order.point, order.nth, order.action),
                (Point::BeforeSend, 12, Action::Signal(libc::SIGSTOP))
            );
        }

        #[test]
        fn every_point_is_found_by_its_own_name() {
            for point in Point::ALL {
                let order = read(&format!("{}:1:kill", point.as_str())).unwrap();
                assert_eq!(order.point, point);
            }
        }

        #[test]
        fn what_is_no_order_is_refused_with_what_would_be_one() {
            for wrong in [
                "claimed",
                "claimed:1",
                "claimed:0:kill",
                "claimed:-1:kill",
                "claimed:1:explode",
                "claim:1:kill",
                "claimed:1:kill:",
            ] {
                let error = arm(|_| Some(wrong)).unwrap_err();
                assert!(
                    error.contains(wrong) && error.contains("before-claim"),
                    "{error}"
                );
            }
        }
    }
}
