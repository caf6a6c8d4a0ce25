//! Every test starts real servers.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::Row;

use super::LocalPostgres;
use super::Options;
use super::Shutdown;

/// Set only for the process that is going to be killed.
const OWNER: &str = "FEATHER_SYNC_TEST_OWNER";

fn start() -> LocalPostgres {
    LocalPostgres::start(Options::default()).unwrap()
}

async fn ask(postgres: &LocalPostgres, question: &'static str) -> String {
    let mut connection = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    let row = sqlx::raw_sql(question)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    row.get::<String, _>(0)
}

async fn run(postgres: &LocalPostgres, sql: &'static str) {
    let mut connection = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

fn alive(pid: u32) -> bool {
    Command::new("kill")
        .args(["-0", &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[tokio::test]
async fn it_answers_a_query_over_its_socket_as_superuser_in_utc() {
    let postgres = start();
    let who = ask(
        &postgres,
        "SELECT current_user || ' ' || current_setting('timezone')",
    )
    .await;
    assert_eq!(who, "postgres UTC");
    assert_eq!(ask(&postgres, "SHOW listen_addresses").await, "");
    assert_eq!(ask(&postgres, "SHOW fsync").await, "off");
}

#[tokio::test]
async fn it_is_durable_and_takes_settings_when_asked() {
    let postgres = LocalPostgres::start(Options {
        durable: true,
        settings: vec![("max_connections".into(), "17".into())],
        ..Options::default()
    })
    .unwrap();
    assert_eq!(ask(&postgres, "SHOW fsync").await, "on");
    assert_eq!(ask(&postgres, "SHOW max_connections").await, "17");
}

#[tokio::test]
async fn two_run_at_once_and_know_nothing_of_each_other() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(start);
        let two = scope.spawn(start);
        (one.join().unwrap(), two.join().unwrap())
    });
    run(&one, "CREATE TABLE here ()").await;
    let there = "SELECT (to_regclass('here') IS NOT NULL)::text";
    assert_eq!(ask(&one, there).await, "true");
    assert_eq!(ask(&two, there).await, "false");
}

#[tokio::test]
async fn dropping_it_leaves_no_process_and_no_file() {
    let postgres = start();
    // A session that is still open must not hold it up.
    let _session = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    let pid = postgres.pid().unwrap();
    let folder = postgres.socket_dir().to_owned();
    assert!(alive(pid) && folder.exists());
    drop(postgres);
    assert!(!alive(pid), "the server still runs");
    assert!(!folder.exists(), "{} is still there", folder.display());
}

#[tokio::test]
async fn a_restart_keeps_committed_rows_and_the_address() {
    let postgres = start();
    run(&postgres, "CREATE TABLE notes AS SELECT 'kept' AS note").await;
    let url = postgres.url("postgres");
    for how in [Shutdown::Immediate, Shutdown::Fast] {
        let before = postgres.pid();
        postgres.restart(how).unwrap();
        assert_ne!(postgres.pid(), before);
        assert_eq!(postgres.url("postgres"), url);
        assert_eq!(ask(&postgres, "SELECT note FROM notes").await, "kept");
    }
    postgres.shut_down(Shutdown::Fast);
    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn a_shared_one_is_started_once() {
    let one = LocalPostgres::shared().unwrap();
    let two = LocalPostgres::shared().unwrap();
    assert_eq!(one.pid(), two.pid());
    assert_eq!(ask(one, "SELECT 'yes'").await, "yes");
}

#[test]
fn data_that_is_to_be_kept_survives_the_drop() {
    let postgres = LocalPostgres::start(Options {
        keep: true,
        ..Options::default()
    })
    .unwrap();
    let (folder, data, log) = (
        postgres.socket_dir().to_owned(),
        postgres.data_dir(),
        postgres.log_file(),
    );
    drop(postgres);
    drop(start());
    assert!(data.join("PG_VERSION").exists() && log.exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_wrong_setting_is_an_error_with_the_servers_own_words() {
    let error = LocalPostgres::start(Options {
        settings: vec![("no_such_setting".into(), "1".into())],
        ..Options::default()
    })
    .unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn the_psql_line_can_be_pasted() {
    let postgres = start();
    let Ok(output) = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{} -Atc 'SELECT 6 * 7'",
            postgres.psql_command("postgres")
        ))
        .output()
    else {
        return;
    };
    // Servers without a client are installed too.
    if output.status.code() != Some(127) {
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "42",
            "{output:?}"
        );
    }
}

#[test]
fn names_with_odd_letters_are_quoted_for_urls_and_shells() {
    assert_eq!(super::percent_encoded("/tmp/a b&c"), "/tmp/a%20b%26c");
    assert_eq!(super::shell_quoted("it's"), r"'it'\''s'");
    assert_eq!(super::shell_quoted("/tmp/plain-1"), "/tmp/plain-1");
}

/// The owner that the next test kills; does nothing in an ordinary run.
#[test]
fn owner_to_be_killed() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    // Started by a thread that ends at once: the server must hang on the process, not on whoever called.
    let postgres = std::thread::spawn(start).join().unwrap();
    println!(
        "\nOWNS {} {}",
        postgres.pid().unwrap(),
        postgres.socket_dir().display()
    );
    // Until the parent is gone too.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_owner_leaves_no_server_and_the_next_start_removes_its_files() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "local_postgres::tests::owner_to_be_killed",
            "--nocapture",
        ])
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("OWNS "))
        .expect("the owner started its server");
    let mut words = line.split(' ').skip(1);
    let pid: u32 = words.next().unwrap().parse().unwrap();
    let folder = Path::new(words.next().unwrap()).to_owned();
    assert!(alive(pid) && folder.exists());

    owner.kill().unwrap();
    owner.wait().unwrap();
    let killed = Instant::now();
    while alive(pid) {
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "the server outlived its owner"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(start());
    assert!(!folder.exists(), "{} is still there", folder.display());
}

#[test]
fn a_traceless_server_leaves_the_template_alone_while_another_runs() {
    let options = || Options {
        traceless: true,
        ..Options::default()
    };
    let (first, second) = (
        LocalPostgres::start(options()).unwrap(),
        LocalPostgres::start(options()).unwrap(),
    );
    let root = first.socket_dir().parent().unwrap().to_owned();
    drop(first);
    assert!(second.socket_dir().exists());
    assert!(
        root.read_dir().unwrap().count() >= 3,
        "lock, template and the second server"
    );
    drop(second);
    // Whether the rest is gone depends on the other tests; that it can be made again does not.
    drop(LocalPostgres::start(options()).unwrap());
}
