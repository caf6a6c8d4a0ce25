//! Signs somebody up and asks for a sync of their connection: both, or neither.
//!
//! DATABASE_URL=postgresql://my_app@localhost/app cargo run --example enqueue CONNECTION_ID [--fail]

#![expect(
    clippy::disallowed_methods,
    reason = "the table is none of ours, so .sqlx knows none of its queries"
)]

use sqlx::Connection;
use sqlx::PgConnection;
use uuid::Uuid;

async fn sign_up(db: &mut PgConnection, email: &str, id: Uuid, fail: bool) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query("INSERT INTO my_app.signups (email, connection_id) VALUES ($1, $2)")
        .bind(email)
        .bind(id)
        .execute(&mut *tx)
        .await?;
    sqlx::query("SELECT feather.enqueue($1)")
        .bind(id)
        .execute(&mut *tx)
        .await?;
    anyhow::ensure!(!fail, "failing, as asked");
    tx.commit().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let id = arguments.first().map_or("", String::as_str).parse()?;
    let fail = arguments.last().is_some_and(|last| last == "--fail");
    let mut db = PgConnection::connect(&std::env::var("DATABASE_URL")?).await?;
    sign_up(&mut db, "ada@example.com", id, fail).await?;
    db.close().await?;
    Ok(())
}
