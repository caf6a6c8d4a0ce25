//! `sim`

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;

use crate::program::ID;
use crate::program::finish;
use crate::program::program;
use crate::program::run;
use crate::program::signal;
use crate::program::start;

/// A simulator and its address.
pub(crate) fn sim(arguments: &[&str]) -> (Child, String) {
    let mut child = start(&mut program(
        &[&["sim", "--listen", "127.0.0.1:0"], arguments].concat(),
    ));
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("http://")
        .expect("a URL")
        .to_owned();
    (child, address)
}

fn finalize(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /v1/integrations/connections/{ID}/finalize HTTP/1.1\r\nhost: {address}\r\nx-api-key: k\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_prints_its_address_answers_and_stops_when_told() {
    for name in ["TERM", "INT"] {
        let (child, address) = sim(&["--tools", "2", "--latency", "1ms..2ms"]);
        let answer = finalize(&address);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(ID),
            "{answer}"
        );
        assert_eq!(answer.matches("\"display_name\"").count(), 2, "{answer}");
        signal(&child, name);
        let outcome = finish(child);
        assert_eq!(
            (outcome.code, outcome.err.as_str()),
            (Some(0), ""),
            "{name}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_content_and_flags_beat_the_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    fs::write(&file, "seed = 1\ntools = 1\n").unwrap();
    let nickname = |arguments: &[&str]| {
        let (child, address) = sim(&[&["--scenario", file.to_str().unwrap()], arguments].concat());
        let answer = finalize(&address);
        signal(&child, "TERM");
        finish(child).done();
        let body = answer.split("\"nickname\":").nth(1).expect("a nickname");
        body.split(',').next().unwrap().to_owned()
    };
    assert_eq!(nickname(&[]), nickname(&["--seed", "1"]));
    assert_ne!(nickname(&[]), nickname(&["--seed", "77"]));
}

#[test]
fn a_scenario_or_address_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    fs::write(&file, "seed = 1\nlatncy = \"1s\"\n").unwrap();
    let error = run(&mut program(&["sim", "--scenario", file.to_str().unwrap()])).failed(1);
    assert!(
        error.contains("scenario.toml") && error.contains("latncy"),
        "{error}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = run(&mut program(&["sim", "--listen", &address])).failed(1);
    assert!(
        error.contains(&address) && error.contains("in use"),
        "{error}"
    );
    let error = run(&mut program(&["sim", "--listen", "nonsense"])).failed(1);
    assert!(error.contains("nonsense"), "{error}");
}
