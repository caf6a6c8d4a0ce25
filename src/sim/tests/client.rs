//! A tiny HTTP/1.1 client, one connection per call.

use std::io;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::sim::Sim;

pub(super) const ID: Uuid = Uuid::from_u128(0x3c90_c3cc_0d44_4b50_8888_8dd2_5736_052a);

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Writes a request, and leaves the answer to the caller.
pub(super) async fn send(sim: &Sim, method: &str, path: &str, key: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(sim.address()).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: sim\r\nx-api-key: {key}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads to the end; an answer shorter than announced, or none at all, is an error.
pub(super) async fn receive(mut stream: TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(short)?;
    let mut answer = Answer {
        status: 0,
        head: String::from_utf8(bytes[..end].to_vec()).unwrap(),
        body: bytes[end + 4..].to_vec(),
    };
    answer.status = answer.head[9..12].parse().unwrap();
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = dechunked(&answer.body).ok_or_else(short)?;
    }
    match answer
        .header("content-length")
        .map(|length| length.parse::<usize>().unwrap())
    {
        Some(length) if length != answer.body.len() => Err(short()),
        _ => Ok(answer),
    }
}

fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        let chunk = rest.get(line + 2..line + 2 + size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        rest = &rest[line + 4 + size..];
    }
}

pub(super) async fn call(sim: &Sim, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    receive(send(sim, method, path, "fth_live_test", body).await).await
}

pub(super) fn path_of(id: Uuid) -> String {
    format!("/v1/integrations/connections/{id}")
}

pub(super) async fn try_poll(sim: &Sim, id: Uuid) -> io::Result<Answer> {
    call(sim, "GET", &path_of(id), "").await
}

pub(super) async fn try_finalize(sim: &Sim, id: Uuid) -> io::Result<Answer> {
    call(sim, "POST", &format!("{}/finalize", path_of(id)), "").await
}

/// A poll that must be answered 200 with JSON.
pub(super) async fn poll(sim: &Sim, id: Uuid) -> Value {
    let answer = try_poll(sim, id).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.json()
}

/// A finalize that must be answered 200 with JSON.
pub(super) async fn finalize(sim: &Sim, id: Uuid) -> Value {
    let answer = try_finalize(sim, id).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.json()
}
