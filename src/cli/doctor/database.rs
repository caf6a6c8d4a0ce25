//! The database: asked one thing after another, each within a time of its own.

use std::time::Duration;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::cli::doctor::clock;
use crate::cli::doctor::clock::Asked;
use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::partitions;
use crate::cli::doctor::queue;
use crate::cli::doctor::reconcile;
use crate::cli::doctor::schema;
use crate::cli::doctor::server;
use crate::cli::invocation;
use crate::config::Config;
use crate::config::redacted_url;
use crate::store::Db;
use crate::store::SchemaState;
use crate::store::StoreError;

/// How long one question may take. Longer than it takes to find that there is no room for a second connection.
const PATIENCE: Duration = Duration::from_secs(8);

/// Everything about the database. Where none is configured there is nothing: the configuration's lines say so.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let (Ok(url), Ok(settings)) = (config.database_url(), invocation::db_settings(config)) else {
        return Vec::new();
    };
    let mut findings = match Db::new(&settings) {
        Ok(db) => ask(config, &db).await,
        Err(error) => vec![refused(Check::Database, &error)],
    };
    let place = redacted_url(url);
    for finding in &mut findings {
        if finding.check == Check::Database && finding.place.is_none() {
            finding.place = Some(place.clone());
        }
    }
    findings
}

async fn ask(config: &Config, db: &Db) -> Vec<Finding> {
    // The first one includes connecting, to several hosts perhaps, each of which has a deadline.
    if let Err(error) = db.ping().await {
        return vec![refused(Check::Database, &error)];
    }
    let began = Instant::now();
    if let Err(error) = bounded(db.ping()).await {
        return vec![refused(Check::Database, &error)];
    }
    let ping = began.elapsed();
    let server = match bounded(db.server()).await {
        Ok(server) => server,
        Err(error) => return vec![refused(Check::Database, &error)],
    };
    let mut findings = server::judge(&server, ping, config.database.max_connections);

    let rights = bounded(db.rights()).await;
    let sees_sessions = rights.as_ref().is_ok_and(|rights| rights.sees_sessions);
    findings.extend(pooler(config, db).await);
    findings.extend(answered(
        Check::Database,
        bounded(db.holders()).await,
        |holders| server::judge_holders(&holders, sees_sessions),
    ));

    let schema = bounded(db.schema_state()).await;
    let is_current = matches!(schema, Ok(SchemaState::Current));
    findings.extend(answered(Check::Migrations, schema, |state| {
        vec![schema::judge_migrations(&state, server.schema_is_there)]
    }));
    if !is_current && server.schema_is_there {
        findings.extend(answered(
            Check::Migrations,
            bounded(db.bounds()).await,
            |bounds| bounds.iter().map(schema::judge_bound).collect(),
        ));
    }
    findings.extend(answered(Check::Roles, rights, |rights| {
        schema::judge_rights(&rights, server.schema_is_there)
    }));

    let from = SystemTime::now().into();
    findings.extend(answered(
        Check::Clock,
        bounded(db.clock()).await,
        |theirs| {
            let to = SystemTime::now().into();
            vec![clock::judge_database(theirs, Asked { from, to })]
        },
    ));
    if is_current {
        findings.extend(work(config, db).await);
    }
    findings
}

async fn pooler(config: &Config, db: &Db) -> Vec<Finding> {
    let has_listen_url = config.database.listen_url.is_some();
    let prepares = config.database.prepared_statements;
    let mut findings = answered(
        Check::Database,
        bounded(db.is_pooled()).await,
        |is_pooled| server::judge_pooler(is_pooled, has_listen_url, prepares),
    );
    if let Some(url) = &config.database.listen_url {
        let direct = answered(
            Check::Database,
            bounded(db.is_pooled_directly()).await,
            server::judge_listen_url,
        );
        findings.extend(direct.into_iter().map(|f| f.at(redacted_url(url))));
    }
    findings
}

/// The daemons and what they have to do.
async fn work(config: &Config, db: &Db) -> Vec<Finding> {
    let configured: Vec<&str> = config
        .declared_accounts
        .keys()
        .map(String::as_str)
        .collect();
    let replicas = bounded(db.replicas()).await;
    let mut findings = answered(Check::Daemons, replicas, |replicas| {
        queue::judge_replicas(&replicas, &configured, env!("CARGO_PKG_VERSION"))
    });
    let asked = bounded(async { Ok((db.health().await?, db.accounts().await?)) }).await;
    findings.extend(answered(Check::Queue, asked, |(health, accounts)| {
        queue::judge(&health, &accounts, &configured)
    }));
    if config.reconcile.interval.is_some() {
        let asked = bounded(db.reconciles()).await;
        findings.extend(answered(Check::Queue, asked, |rows| {
            reconcile::judge(&rows, &configured)
        }));
    }
    findings.extend(answered(
        Check::Roles,
        bounded(db.unlimited_readers()).await,
        |readers| schema::judge_readers(&readers),
    ));
    findings.extend(answered(
        Check::Partitions,
        bounded(async { Ok((db.partitions().await?, db.left_behind().await?)) }).await,
        |(tables, left_behind)| partitions::judge(&tables, &config.retention, &left_behind),
    ));
    findings
}

/// What is made of an answer, or that there was none.
fn answered<T>(
    check: Check,
    answer: Result<T, StoreError>,
    judge: impl FnOnce(T) -> Vec<Finding>,
) -> Vec<Finding> {
    match answer {
        Ok(answer) => judge(answer),
        Err(error) => vec![refused(check, &error)],
    }
}

async fn bounded<T>(
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Timeout(PATIENCE)),
    }
}

fn refused(check: Check, error: &StoreError) -> Finding {
    let message = error.to_string();
    let next = match error {
        StoreError::Unavailable(_) | StoreError::Timeout(_) => {
            "see whether the server runs, and whether this machine reaches its address and port; a daemon waits until it \
             does. Nothing that needs the answer was checked"
        }
        StoreError::ReadOnly(_) => {
            "lead database.url to the server that takes writes, or name all of them in it: h1:5432,h2:5432"
        }
        StoreError::Conflict(_) | StoreError::RowLocked(_) | StoreError::CutOff(_) => {
            "look for long transactions in pg_stat_activity, and run `feather-sync doctor` again"
        }
        StoreError::Data(_) | StoreError::Other(_) => "the server's log may say more",
        StoreError::Url(_) => "correct it; docs/configuration.md shows the forms",
        StoreError::Login(_)
        | StoreError::NoDatabase(_)
        | StoreError::Schema(_)
        | StoreError::Privilege(_) => {
            // These say themselves what to do.
            let (what, next) = message.rsplit_once("; ").unwrap_or((message.as_str(), ""));
            return Finding::failed(check, what, next);
        }
    };
    // `run` ends with the exit code of the configuration there.
    let check = match error {
        StoreError::Url(_) => Check::Configuration,
        _ => check,
    };
    Finding::failed(check, message, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn whatever_is_refused_comes_with_what_to_do() {
        let why = || "because".to_owned();
        let table = [
            (StoreError::Unavailable(why()), "reaches"),
            (StoreError::Timeout(PATIENCE), "reaches"),
            (StoreError::ReadOnly(why()), "takes writes"),
            (StoreError::Login(why()), "check the user and password"),
            (StoreError::NoDatabase(why()), "create it"),
            (StoreError::Schema(why()), "feather-sync migrate"),
            (StoreError::Privilege(why()), "feather_worker"),
            (StoreError::Conflict(why()), "pg_stat_activity"),
            (StoreError::RowLocked(why()), "pg_stat_activity"),
            (StoreError::CutOff(why()), "pg_stat_activity"),
            (StoreError::Data(why()), "log"),
            (StoreError::Other(why()), "log"),
            (StoreError::Url(why()), "correct"),
        ];
        for (error, what_to_do) in table {
            let finding = refused(Check::Database, &error);
            assert_eq!(finding.level, Level::Failed);
            let next = finding.next.unwrap();
            assert!(next.contains(what_to_do), "{error}: {next}");
            assert!(!finding.what.contains(&next), "{error}");
            let of_configuration = matches!(error, StoreError::Url(_));
            assert_eq!(
                finding.check == Check::Configuration,
                of_configuration,
                "{error}"
            );
        }
    }
}
