//! What a reload is told of.

use super::load_file;

#[test]
fn an_unchanged_file_changes_no_key() {
    let text = super::every_example();
    let (one, other) = (load_file(&text).unwrap(), load_file(&text).unwrap());
    assert_eq!(one.changed_keys(&other), [""; 0]);
}

#[test]
fn every_changed_key_is_named_once() {
    let before =
        load_file("[worker]\nconcurrency = 3\n[database]\nurl = \"postgres://u:a@h/d\"").unwrap();
    let now = load_file("[log]\nfilter = \"debug\"\n[database]\nurl = \"postgres://u:b@h/d\"\n[accounts.default]\nrequests_per_minute = 7").unwrap();
    assert_eq!(
        now.changed_keys(&before),
        [
            "accounts.default.requests_per_minute",
            "database.url",
            "log.filter",
            "worker.concurrency"
        ]
    );
}
