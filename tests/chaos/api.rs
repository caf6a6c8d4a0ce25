//! How the API can answer wrongly: every kind of fault that the simulator knows.

use feather_sync::sim::Fault;
use feather_sync::sim::FaultRule;
use feather_sync::sim::RetryAfter;
use feather_sync::sim::StatusFault;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::time::Duration;

/// In which share of calls a fault happens while its rule holds. No arm for all others: a fault that is added to the
/// simulator is to be thought about here, and listed below.
fn rate(fault: &Fault) -> f64 {
    match fault {
        // A short one can only be a list, and nobody asks for lists here.
        Fault::None | Fault::ShortList { .. } => 0.0,
        // One call ends the job.
        Fault::NotFound | Fault::Json422 | Fault::Unstorable | Fault::ToolsFailed => 0.05,
        Fault::Status(status) => match status.code {
            400 | 418 | 422 => 0.05,
            // They pause the account as a whole.
            401 | 429 => 0.02,
            _ if status.retryable == Some(false) => 0.05,
            _ => 0.4,
        },
        // Dear ones.
        Fault::TooLarge { .. } | Fault::GzipBomb { .. } => 0.03,
        Fault::Hang { .. } => 0.2,
        // Four in a row end the job.
        Fault::ShortBody
        | Fault::TruncatedJson
        | Fault::NotJson
        | Fault::Empty
        | Fault::MissingField { .. }
        | Fault::WrongType { .. }
        | Fault::NullField { .. }
        | Fault::WrongId
        | Fault::ForeignTool
        | Fault::Redirect { .. }
        | Fault::Plain404
        | Fault::Fastapi404 => 0.3,
        Fault::Slow { .. }
        | Fault::Reset
        | Fault::Close
        | Fault::DuplicateTool { .. }
        | Fault::Gzip
        | Fault::NotActive
        | Fault::NeverSettles
        | Fault::OddStatus { .. }
        | Fault::NoTools { .. }
        | Fault::EmptyTools
        | Fault::Nul
        | Fault::UnknownFields
        | Fault::HugeNumber
        | Fault::Stale { .. } => 0.4,
    }
}

fn status(code: u16, retryable: Option<bool>, retry_after: Option<i64>) -> Fault {
    Fault::Status(StatusFault {
        code,
        retryable,
        retry_after,
        echo_key: true,
        ..StatusFault::default()
    })
}

fn all() -> Vec<Fault> {
    let name = |name: &str| name.to_owned();
    let mut all = vec![
        Fault::Hang { duration: None },
        Fault::Hang {
            duration: Some(Duration::from_millis(1400)),
        },
        Fault::Slow {
            duration: Duration::from_secs(1),
        },
        Fault::Slow {
            duration: Duration::from_secs(4),
        },
        Fault::Reset,
        Fault::Close,
        Fault::ShortBody,
        Fault::TruncatedJson,
        Fault::NotJson,
        Fault::Empty,
        Fault::MissingField {
            name: name("nickname"),
        },
        Fault::MissingField {
            name: name("tools[].slug"),
        },
        Fault::WrongType {
            name: name("tools[].slug"),
        },
        Fault::WrongType {
            name: name("status"),
        },
        Fault::NullField {
            name: name("vendor"),
        },
        Fault::WrongId,
        Fault::ForeignTool,
        Fault::DuplicateTool { differs: false },
        Fault::DuplicateTool { differs: true },
        Fault::TooLarge {
            bytes: 12 << 20,
            announced: true,
        },
        Fault::TooLarge {
            bytes: 12 << 20,
            announced: false,
        },
        Fault::GzipBomb { bytes: 20 << 20 },
        Fault::Gzip,
        Fault::Redirect {
            location: name("http://127.0.0.1:1/elsewhere"),
            code: 307,
        },
        Fault::NotActive,
        Fault::ToolsFailed,
        Fault::NeverSettles,
        Fault::OddStatus {
            word: name("percolating"),
        },
        Fault::NoTools { missing: true },
        Fault::NoTools { missing: false },
        Fault::EmptyTools,
        Fault::Nul,
        Fault::UnknownFields,
        Fault::HugeNumber,
        Fault::Unstorable,
        Fault::Stale {
            age: Duration::from_secs(3600),
        },
        Fault::Plain404,
        Fault::Fastapi404,
        Fault::NotFound,
        Fault::Json422,
        status(401, None, None),
        status(429, None, None),
        status(429, None, Some(1)),
        Fault::Status(StatusFault {
            code: 503,
            retry_after_header: Some(RetryAfter::Text("+1s".into())),
            ..StatusFault::default()
        }),
        Fault::Status(StatusFault {
            code: 502,
            body: Some("<html>bad gateway</html>".into()),
            ..StatusFault::default()
        }),
        status(503, Some(false), None),
        status(400, Some(true), Some(1)),
    ];
    all.extend(
        [400, 403, 408, 409, 418, 422, 425, 500, 503, 504].map(|code| status(code, None, None)),
    );
    all
}

/// Some faults for a while.
pub(crate) fn rules(dice: &mut StdRng) -> Vec<FaultRule> {
    let all = all();
    let number = dice.random_range(1..5);
    all.sample(dice, number)
        .map(|fault| FaultRule {
            rate: rate(fault),
            ..FaultRule::new(fault.clone())
        })
        .collect()
}

pub(crate) fn name(rule: &FaultRule) -> String {
    match &rule.fault {
        Fault::Status(status) => status.code.to_string(),
        fault => fault.kind().to_owned(),
    }
}
