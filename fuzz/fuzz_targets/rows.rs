//! Any bytes as an answer, as far as the rows: written with two healthy neighbours into a private Postgres, by the
//! store itself. Either all three are there, or just the one in the middle is refused and can be buried.
#![no_main]

use feather_sync::domain::Finished;
use feather_sync::domain::Job;
use feather_sync::domain::Phase;
use feather_sync::domain::Verdict;
use feather_sync::domain::verdict::unstorable;
use feather_sync::feather::install_tls;
use feather_sync::feather::read_answer;
use feather_sync::local_postgres::LocalPostgres;
use feather_sync::store;
use feather_sync::store::Committed;
use feather_sync::store::Db;
use feather_sync::store::DbSettings;
use feather_sync::store::Roles;
use feather_sync::store::StoreError;
use feather_sync_fuzz::reading;
use feather_sync_fuzz::reading::CONNECTION;
use libfuzzer_sys::Corpus;
use libfuzzer_sys::fuzz_target;
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::PgConnection;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;
use tokio::runtime::Runtime;
use uuid::Uuid;

const DATABASE: &str = "fuzz";
/// The poisoned one is between them, in the order of ids and in the batch.
const IDS: [Uuid; 3] = [Uuid::nil(), CONNECTION, Uuid::max()];
/// As good as any.
const HEALTHY: &[u8] = include_bytes!("../corpus/answer/plain.synced");

struct Database {
    runtime: Runtime,
    db: Db,
    own: PgConnection,
    /// What is stored of a healthy neighbour.
    healthy: Option<String>,
}

static STATE: LazyLock<Mutex<Database>> = LazyLock::new(|| Mutex::new(Database::start()));

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Some(received) = reading::received(bytes) else {
        return Corpus::Reject;
    };
    let verdict = reading::check(received);
    if verdict.stored.is_none() {
        return Corpus::Reject;
    }
    STATE.lock().unwrap().write(verdict);
    Corpus::Keep
});

impl Database {
    fn start() -> Self {
        install_tls();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let cluster = LocalPostgres::shared().unwrap();
        let settings = DbSettings {
            url: cluster.url(DATABASE).into(),
            listen_url: None,
            max_connections: 2,
            prepared_statements: true,
        };
        let (db, own) = runtime.block_on(async {
            cluster
                .query("postgres", "CREATE DATABASE fuzz")
                .await
                .unwrap();
            store::migrate(&settings, Roles::Required).await.unwrap();
            let own = PgConnection::connect(&cluster.url(DATABASE)).await.unwrap();
            (Db::new(&settings).unwrap(), own)
        });
        Self {
            runtime,
            db,
            own,
            healthy: None,
        }
    }

    fn write(&mut self, verdict: Verdict) {
        let neighbours = [IDS[0], IDS[2]].map(|id| {
            let job = reading::job(id, Phase::Finalize);
            let text = String::from_utf8_lossy(HEALTHY).replace(&CONNECTION.to_string(), &id.to_string());
            let received = reading::received(text.as_bytes()).unwrap();
            let answer = read_answer(received, id, &Default::default(), None);
            finished(&job, reading::judged(&job, answer))
        });
        let ill = finished(&reading::job(CONNECTION, Phase::Finalize), verdict);
        let batch = [neighbours[0].clone(), ill.clone(), neighbours[1].clone()];
        self.reset();
        match self.commit(&batch) {
            Ok(()) => {
                self.check_neighbours();
                let rows = self.rows(CONNECTION);
                assert!(rows.is_some(), "written, and not there");
                // Once more: nothing changes, to the last row.
                self.lease();
                self.commit(&batch).unwrap();
                assert_eq!(self.rows(CONNECTION), rows, "the same answer changed something");
                self.check_neighbours();
            }
            Err(StoreError::Data(why)) => {
                assert!(self.rows(IDS[0]).is_none(), "half a batch is there");
                for neighbour in neighbours {
                    self.commit(&[neighbour]).unwrap();
                }
                let alone = self.commit(std::slice::from_ref(&ill));
                assert!(matches!(alone, Err(StoreError::Data(_))), "{alone:?}");
                let dead = unstorable(&ill.verdict, why);
                self.commit(&[finished(&ill.job, dead)]).unwrap();
                assert!(self.rows(CONNECTION).is_none());
                self.check_neighbours();
            }
            // Nobody has foreseen it: the worker would try in vain.
            Err(error) => panic!("{error}"),
        }
    }

    fn commit(&mut self, batch: &[Finished]) -> Result<(), StoreError> {
        let deadline = Duration::from_secs(3600);
        let committed = self
            .runtime
            .block_on(self.db.commit(batch, "fuzz", deadline))?;
        let applied = committed
            .iter()
            .all(|committed| matches!(committed, Committed::Applied { .. }));
        assert!(applied, "{committed:?}");
        Ok(())
    }

    fn check_neighbours(&mut self) {
        for id in [IDS[0], IDS[2]] {
            let rows = self.rows(id).unwrap().replace(&id.to_string(), "");
            let healthy = self.healthy.get_or_insert_with(|| rows.clone());
            assert_eq!(rows, *healthy, "a neighbour is not what it was");
        }
    }

    /// What is stored of a connection, and where its tools' rows lie.
    fn rows(&mut self, id: Uuid) -> Option<String> {
        let own = "'{_synced_at,_finalized_at,_first_seen_at,_changed_at,_hash}'::text[]";
        let place = if id == CONNECTION { "t.ctid::text" } else { "NULL" };
        let sql = format!(
            "SELECT (SELECT md5((to_jsonb(c) - {own} - 'id')::text) FROM feather.integration_connections c WHERE id = '{id}')
                 || (SELECT COALESCE(string_agg(md5((to_jsonb(t) - {own} - 'connection_id')::text) || COALESCE({place}, ''), ' ' ORDER BY t.id), '')
                     FROM feather.integration_connection_tools t WHERE connection_id = '{id}')"
        );
        self.runtime
            .block_on(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.own))
            .unwrap()
    }

    /// Nothing is stored, and all three are leased.
    fn reset(&mut self) {
        self.execute(
            "DELETE FROM feather.integration_connections; DELETE FROM feather.integration_connection_tools; \
             DELETE FROM feather.sync_attempts; DELETE FROM feather.sync_results"
                .into(),
        );
        self.lease();
    }

    fn lease(&mut self) {
        let rows: Vec<String> = IDS
            .iter()
            .map(|id| {
                let token = reading::job(*id, Phase::Finalize).lease_token;
                format!("('{id}', 'default', 'running', 'finalize', 0, now(), now(), 1, '{token}', now() + interval '1 hour', now(), now(), 'fuzz')")
            })
            .collect();
        self.execute(format!(
            "DELETE FROM feather.sync_jobs; INSERT INTO feather.sync_jobs (connection_id, account, state, phase, priority, run_at, wanted_at, attempt, \
             lease_token, lease_until, started_at, finalize_started_at, worker) VALUES {}",
            rows.join(", ")
        ));
    }

    fn execute(&mut self, sql: String) {
        self.runtime
            .block_on(sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.own))
            .unwrap();
    }
}

fn finished(job: &Job, verdict: Verdict) -> Finished {
    Finished {
        job: job.clone(),
        verdict,
        took: Duration::from_millis(1),
    }
}
