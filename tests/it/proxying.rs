//! The proxy that other tests let the network go wrong with.

use crate::proxy::COMMIT;
use crate::proxy::Moment;
use crate::proxy::Proxy;
use crate::proxy::Target;
use crate::proxy::Traffic;
use feather_sync::local_postgres::LocalPostgres;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::PgConnection;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than bytes take on the loopback, by far; nothing but the silence hangs on it.
const WHILE: Duration = Duration::from_millis(300);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

async fn proxy() -> Proxy {
    Proxy::start(Target::Tcp(echo().await)).await.unwrap()
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn say(stream: &mut TcpStream, words: &str) -> std::io::Result<String> {
    stream.write_all(words.as_bytes()).await?;
    let mut heard = vec![0; words.len()];
    soon(stream.read_exact(&mut heard)).await?;
    Ok(String::from_utf8(heard).unwrap())
}

async fn closed(proxy: &Proxy) {
    soon(async {
        while proxy.stats().open > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_go_through_a_proxy_and_are_counted() {
    let proxy = proxy().await;
    let mut stream = connect(&proxy).await;
    let long = "hello ".repeat(20_000);
    let (mut from, mut to) = stream.split();
    let mut heard = vec![0; long.len()];
    let (sent, read) =
        soon(async { tokio::join!(to.write_all(long.as_bytes()), from.read_exact(&mut heard)) })
            .await;
    sent.unwrap();
    read.unwrap();
    assert!(heard == long.as_bytes());
    let stats = proxy.stats();
    assert_eq!((stats.accepted, stats.open, stats.cut), (1, 1, 0));
    assert_eq!(stats.to_server, long.len() as u64);
    drop(stream);
    closed(&proxy).await;
}

#[tokio::test]
async fn a_cut_resets_every_open_connection_and_spares_new_ones() {
    let proxy = proxy().await;
    let mut streams = [connect(&proxy).await, connect(&proxy).await];
    for stream in &mut streams {
        say(stream, "hello").await.unwrap();
    }
    proxy.cut();
    for stream in &mut streams {
        let error = soon(stream.read(&mut [0])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.stats().cut, 2);
    let mut stream = connect(&proxy).await;
    assert_eq!(say(&mut stream, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn in_silence_connections_stay_open_and_what_was_sent_arrives_afterwards() {
    let proxy = proxy().await;
    let mut old = connect(&proxy).await;
    say(&mut old, "hello").await.unwrap();
    proxy.set(Traffic::Silent);
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(b"anybody?").await.unwrap();
        let heard = tokio::time::timeout(WHILE, stream.read(&mut [0])).await;
        assert!(heard.is_err(), "{heard:?}");
    }
    proxy.set(Traffic::Pass);
    for stream in [&mut old, &mut new] {
        let mut heard = [0; 8];
        soon(stream.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"anybody?");
    }
}

#[tokio::test]
async fn a_cut_ends_silent_connections_too() {
    let proxy = proxy().await;
    let mut stream = connect(&proxy).await;
    say(&mut stream, "hello").await.unwrap();
    proxy.set(Traffic::Silent);
    stream.write_all(b"anybody?").await.unwrap();
    proxy.cut();
    soon(stream.read(&mut [0])).await.unwrap_err();
    closed(&proxy).await;
}

#[tokio::test]
async fn a_delay_makes_each_direction_late() {
    let proxy = proxy().await;
    let mut stream = connect(&proxy).await;
    say(&mut stream, "hello").await.unwrap();
    proxy.set(Traffic::Delay(Duration::from_millis(100)));
    let started = Instant::now();
    say(&mut stream, "slowly").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn refused_connections_find_the_same_port_afterwards() {
    let proxy = proxy().await;
    let mut old = connect(&proxy).await;
    say(&mut old, "hello").await.unwrap();
    proxy.set(Traffic::Refuse);
    soon(async {
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(say(&mut old, "still").await.unwrap(), "still");
    proxy.set(Traffic::Pass);
    let mut new = soon(async {
        loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(say(&mut new, "back").await.unwrap(), "back");
}

#[tokio::test]
async fn a_trap_springs_as_often_as_it_was_set_and_sees_a_pattern_in_pieces() {
    let proxy = proxy().await;
    proxy.set_trap(b"stop here", Moment::BeforeServer, 2);
    for _ in 0..2 {
        let mut stream = connect(&proxy).await;
        assert_eq!(
            say(&mut stream, "please stop").await.unwrap(),
            "please stop"
        );
        say(&mut stream, " here").await.unwrap_err();
    }
    let mut stream = connect(&proxy).await;
    assert_eq!(say(&mut stream, "stop here").await.unwrap(), "stop here");
    proxy.set_trap(b"stop here", Moment::BeforeServer, 1);
    proxy.clear_traps();
    assert_eq!(say(&mut stream, "stop here").await.unwrap(), "stop here");
    let stats = proxy.stats();
    assert_eq!((stats.cut, stats.trapped), (2, 2));
}

#[tokio::test]
async fn a_server_that_is_gone_resets_its_clients() {
    // Bound, so that nobody else gets the port, and not listening.
    let gone = TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone_address = gone.local_addr().unwrap();
    let proxy = Proxy::start(Target::Tcp(gone_address)).await.unwrap();
    let mut stream = connect(&proxy).await;
    soon(stream.read(&mut [0])).await.unwrap_err();
    drop(gone);
}

/// What a COMMIT through a proxy came to: what the client was told, and what is stored.
async fn commit_cut(table: &str, moment: Moment) -> (bool, i64) {
    let postgres = LocalPostgres::shared().unwrap();
    let mut direct = PgConnection::connect(&postgres.url("postgres"))
        .await
        .unwrap();
    let run = async |conn: &mut PgConnection, sql: String| {
        conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)))
            .await
            .map(drop)
    };
    run(&mut direct, format!("CREATE TABLE {table} (n int)"))
        .await
        .unwrap();
    let socket = postgres.socket_dir().join(".s.PGSQL.5432");
    let proxy = Proxy::start(Target::Unix(socket)).await.unwrap();
    let url = format!(
        "postgresql://postgres@{}/postgres?sslmode=disable",
        proxy.address()
    );
    let mut conn = PgConnection::connect(&url).await.unwrap();
    proxy.set_trap(COMMIT, moment, 1);
    let mut transaction = conn.begin().await.unwrap();
    run(&mut transaction, format!("INSERT INTO {table} VALUES (1)"))
        .await
        .unwrap();
    let told = soon(transaction.commit()).await.is_ok();
    assert_eq!(proxy.stats().trapped, 1);
    let count = format!("SELECT count(*) FROM {table}");
    let stored = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .fetch_one(&mut direct)
        .await
        .unwrap();
    (told, stored)
}

#[tokio::test]
async fn a_commit_cut_before_the_server_never_was() {
    assert_eq!(
        commit_cut("cut_before", Moment::BeforeServer).await,
        (false, 0)
    );
}

#[tokio::test]
async fn a_commit_cut_before_its_answer_was_and_nobody_was_told() {
    assert_eq!(
        commit_cut("cut_after", Moment::BeforeAnswer).await,
        (false, 1)
    );
}
