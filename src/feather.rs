//! The Feather API: the only place that speaks HTTP to it.
//!
//! One call is one request: no redirects, no hidden retries, a total deadline, a bounded body. What comes back is a
//! [`domain::Answer`](crate::domain::Answer) or a classified [`domain::Failure`](crate::domain::Failure); wire types
//! stay private to this module. A [`Listing`] is one call, too, and bounded item by item.

mod answer;
mod body;
mod client;
mod error_response;
mod items;
mod redact;
mod room;
mod trial;
mod wire;

pub use answer::Received;
pub use answer::read_answer;
pub use client::ApiClient;
pub use client::ClientError;
pub use client::ClientSettings;
pub use client::KeyReader;
pub use client::Listed;
pub use client::Listing;
pub use redact::Redactor;
pub use reqwest::header::HeaderMap;
pub use trial::Trial;

/// Makes the process's TLS implementation known. To be called once, before the first client or database connection.
pub fn install_tls() {
    // A second call finds it installed; both name the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
