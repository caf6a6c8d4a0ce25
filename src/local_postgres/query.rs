//! Plain SQL against the private server, results as text: for showing, not for deciding.

use crate::local_postgres::LocalPostgres;
use sqlx::AssertSqlSafe;
use sqlx::Column;
use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::Row;
use sqlx::ValueRef;
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr;

/// A result as text, as psql would show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTable {
    /// Names of the columns; empty where there are no rows.
    pub header: Vec<String>,
    /// Rows; null is empty.
    pub rows: Vec<Vec<String>>,
}

impl LocalPostgres {
    /// Runs SQL as typed, on a connection of its own.
    ///
    /// # Errors
    /// What the server says about it.
    pub async fn query(&self, database: &str, sql: &str) -> Result<TextTable, sqlx::Error> {
        let options = PgConnectOptions::from_str(&self.url(database))?;
        let mut conn = options.connect().await?;
        // The simple protocol, in which every value comes as text.
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut conn)
            .await?;
        conn.close().await?;
        let header = rows.first().map(|row| {
            row.columns()
                .iter()
                .map(|column| column.name().to_owned())
                .collect()
        });
        let text = |row: &sqlx::postgres::PgRow, index: usize| -> Result<String, sqlx::Error> {
            let value = row.try_get_raw(index)?;
            if value.is_null() {
                return Ok(String::new());
            }
            Ok(value.as_str().map_err(sqlx::Error::Decode)?.to_owned())
        };
        let rows = rows
            .iter()
            .map(|row| (0..row.len()).map(|index| text(row, index)).collect())
            .collect::<Result<_, _>>()?;
        Ok(TextTable {
            header: header.unwrap_or_default(),
            rows,
        })
    }
}
