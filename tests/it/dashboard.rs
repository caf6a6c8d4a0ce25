//! The dashboard over HTTP, without a browser.

mod audit;
mod connections;
mod entrance;
mod hostile;
mod jobs;
mod live;
mod pages;

use crate::admin::ask;
use crate::admin::status;

/// Pages that need nothing in their address.
pub(crate) const PAGES: [&str; 3] = ["/", "/accounts", "/audit"];

/// An answer as a browser has it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// `name=value` of the cookie that it sets.
    pub(crate) fn cookie(&self) -> &str {
        let set = self.header("set-cookie").unwrap();
        set.split(';').next().unwrap()
    }
}

/// A browser that follows nothing: it asks for pages, and sends forms as pages of this listener do.
pub(crate) struct Browser {
    pub(crate) port: u16,
    /// Lines that it sends with every request.
    pub(crate) headers: String,
}

impl Browser {
    pub(crate) fn at(port: u16) -> Self {
        Self {
            port,
            headers: String::new(),
        }
    }

    pub(crate) fn with(port: u16, cookie: &str) -> Self {
        Self {
            port,
            headers: format!("Cookie: {cookie}\r\n"),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let accept = "Accept: text/html,application/xhtml+xml\r\n";
        self.send(&format!("GET {path}"), accept, "").await
    }

    /// Sends a form of pairs that are encoded already.
    pub(crate) async fn post(&self, path: &str, form: &str) -> Answer {
        let port = self.port;
        let headers = format!(
            "Origin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin\r\nAccept: text/html\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            form.len()
        );
        self.send(&format!("POST {path}"), &headers, form).await
    }

    pub(crate) async fn send(&self, line: &str, headers: &str, body: &str) -> Answer {
        let (port, mine) = (self.port, &self.headers);
        let answer = ask(
            port,
            &format!(
                "{line} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{mine}{headers}\r\n{body}"
            ),
        )
        .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: status(&answer),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}
