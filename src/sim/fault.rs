//! What can go wrong: the kinds of fault and their keys.

use std::time::Duration;

use serde::Deserialize;

use super::range::duration;
use super::range::some_duration;

/// One thing that goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Nothing goes wrong: a place holder in scripts, and a shield against later rules.
    None,
    /// An HTTP error; the call has no effect.
    Status(StatusFault),
    /// No answer until the client gives up, or for `duration`; then a normal one.
    Hang {
        /// How long; `None` means for ever.
        #[serde(default, deserialize_with = "some_duration")]
        duration: Option<Duration>,
    },
    /// The head comes at once, the body drips over `duration`.
    Slow {
        /// From first to last byte of the body.
        #[serde(deserialize_with = "duration")]
        duration: Duration,
    },
    /// TCP RST before any answer; the call has no effect.
    Reset,
    /// The call takes effect, then the connection closes without an answer.
    Close,
    /// `Content-Length` promises more than is sent before the connection closes.
    ShortBody,
    /// A well-framed answer whose JSON stops in the middle.
    TruncatedJson,
    /// 200 with an HTML page.
    NotJson,
    /// 200 with an empty body.
    Empty,
    /// A list of connections that ends early, as though there were no more of them.
    ShortList {
        /// Which share (0..1) of them is there; half unless given.
        #[serde(default = "half")]
        keep: f64,
    },
    /// A field is left out; `tools[].slug` means in every tool.
    MissingField {
        /// `nickname`, or `tools[].slug`.
        name: String,
    },
    /// A field has a value of another JSON type.
    WrongType {
        /// `nickname`, or `tools[].slug`.
        name: String,
    },
    /// A field is null.
    NullField {
        /// `nickname`, or `tools[].slug`.
        name: String,
    },
    /// The answer is another connection's, tools and all.
    WrongId,
    /// One of the tools names another connection.
    ForeignTool,
    /// The first tool comes twice.
    DuplicateTool {
        /// The second copy has another `display_name`.
        #[serde(default)]
        differs: bool,
    },
    /// Valid JSON, at least `bytes` long.
    TooLarge {
        /// Length of the body.
        bytes: u64,
        /// Whether `Content-Length` says so beforehand; else the body is chunked.
        #[serde(default = "yes")]
        announced: bool,
    },
    /// A small gzip body that expands to `bytes` of valid JSON.
    GzipBomb {
        /// Length once expanded.
        bytes: u64,
    },
    /// A correct answer, gzipped whether asked for or not.
    Gzip,
    /// A redirect; the call has no effect.
    Redirect {
        /// Where to.
        location: String,
        /// 307 unless given.
        #[serde(default = "temporary_redirect")]
        code: u16,
    },
    /// 200, but OAuth is not finished; the call has no effect.
    NotActive,
    /// The tools settled as failed; the last one is missing.
    ToolsFailed,
    /// The answer shows a tool sync that is still going on.
    NeverSettles,
    /// A `tools_status` nobody has heard of.
    OddStatus {
        /// The word.
        #[serde(default = "odd_word")]
        word: String,
    },
    /// `tools` is null.
    NoTools {
        /// Left out instead of null.
        #[serde(default)]
        missing: bool,
    },
    /// `tools` is `[]`, and settled.
    EmptyTools,
    /// `\u0000` and lone surrogates in the nickname, a tool's description and the metadata.
    Nul,
    /// Fields nobody has heard of, nested and with long numbers, on connection and tools.
    UnknownFields,
    /// `1e400` in the metadata: beyond a double, within a Postgres numeric.
    HugeNumber,
    /// `1e200000` in the metadata: beyond a Postgres numeric too.
    Unstorable,
    /// Other content with an `updated_at` that lies `age` back.
    Stale {
        /// An hour unless given.
        #[serde(default = "an_hour", deserialize_with = "duration")]
        age: Duration,
    },
    /// 404 with an HTML page, as a proxy answers.
    #[serde(rename = "plain_404")]
    Plain404,
    /// 404 `{"detail":"Not Found"}`, as for an unknown route.
    #[serde(rename = "fastapi_404")]
    Fastapi404,
    /// 404 with an ErrorResponse.
    NotFound,
    /// 422 with FastAPI's `detail`.
    #[serde(rename = "json_422")]
    Json422,
}

/// The keys of a [`Fault::Status`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct StatusFault {
    /// The HTTP status, 200 to 599.
    pub code: u16,
    /// `retryable` in the body; left out when `None`.
    pub retryable: Option<bool>,
    /// `retry_after` in the body, seconds; left out when `None`.
    pub retry_after: Option<i64>,
    /// The `Retry-After` header.
    pub retry_after_header: Option<RetryAfter>,
    /// Sent instead of an ErrorResponse.
    pub body: Option<String>,
    /// The received API key is part of the message.
    pub echo_key: bool,
}

impl Default for StatusFault {
    fn default() -> Self {
        Self {
            code: 500,
            retryable: None,
            retry_after: None,
            retry_after_header: None,
            body: None,
            echo_key: false,
        }
    }
}

/// A `Retry-After` header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum RetryAfter {
    /// In seconds.
    Seconds(u64),
    /// `"+5s"`: as the HTTP date that lies so far ahead. Anything else is sent as it is.
    Text(String),
}

/// Every kind with the keys it may have.
pub(super) const KINDS: &[(&str, &[&str])] = &[
    ("none", &[]),
    (
        "status",
        &[
            "code",
            "retryable",
            "retry_after",
            "retry_after_header",
            "body",
            "echo_key",
        ],
    ),
    ("hang", &["duration"]),
    ("slow", &["duration"]),
    ("reset", &[]),
    ("close", &[]),
    ("short_body", &[]),
    ("truncated_json", &[]),
    ("not_json", &[]),
    ("empty", &[]),
    ("short_list", &["keep"]),
    ("missing_field", &["name"]),
    ("wrong_type", &["name"]),
    ("null_field", &["name"]),
    ("wrong_id", &[]),
    ("foreign_tool", &[]),
    ("duplicate_tool", &["differs"]),
    ("too_large", &["bytes", "announced"]),
    ("gzip_bomb", &["bytes"]),
    ("gzip", &[]),
    ("redirect", &["location", "code"]),
    ("not_active", &[]),
    ("tools_failed", &[]),
    ("never_settles", &[]),
    ("odd_status", &["word"]),
    ("no_tools", &["missing"]),
    ("empty_tools", &[]),
    ("nul", &[]),
    ("unknown_fields", &[]),
    ("huge_number", &[]),
    ("unstorable", &[]),
    ("stale", &["age"]),
    ("plain_404", &[]),
    ("fastapi_404", &[]),
    ("not_found", &[]),
    ("json_422", &[]),
];

impl Fault {
    /// An ErrorResponse with this HTTP status and nothing special about it.
    pub fn status(code: u16) -> Self {
        Self::Status(StatusFault {
            code,
            ..StatusFault::default()
        })
    }

    /// The kind, as scenarios write it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Status(_) => "status",
            Self::Hang { .. } => "hang",
            Self::Slow { .. } => "slow",
            Self::Reset => "reset",
            Self::Close => "close",
            Self::ShortBody => "short_body",
            Self::TruncatedJson => "truncated_json",
            Self::NotJson => "not_json",
            Self::Empty => "empty",
            Self::ShortList { .. } => "short_list",
            Self::MissingField { .. } => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::NullField { .. } => "null_field",
            Self::WrongId => "wrong_id",
            Self::ForeignTool => "foreign_tool",
            Self::DuplicateTool { .. } => "duplicate_tool",
            Self::TooLarge { .. } => "too_large",
            Self::GzipBomb { .. } => "gzip_bomb",
            Self::Gzip => "gzip",
            Self::Redirect { .. } => "redirect",
            Self::NotActive => "not_active",
            Self::ToolsFailed => "tools_failed",
            Self::NeverSettles => "never_settles",
            Self::OddStatus { .. } => "odd_status",
            Self::NoTools { .. } => "no_tools",
            Self::EmptyTools => "empty_tools",
            Self::Nul => "nul",
            Self::UnknownFields => "unknown_fields",
            Self::HugeNumber => "huge_number",
            Self::Unstorable => "unstorable",
            Self::Stale { .. } => "stale",
            Self::Plain404 => "plain_404",
            Self::Fastapi404 => "fastapi_404",
            Self::NotFound => "not_found",
            Self::Json422 => "json_422",
        }
    }
}

fn half() -> f64 {
    0.5
}

fn yes() -> bool {
    true
}

fn temporary_redirect() -> u16 {
    307
}

fn odd_word() -> String {
    "warming_up".to_owned()
}

fn an_hour() -> Duration {
    Duration::from_secs(3600)
}
