//! Judgement on the server and the way to it.

use std::time::Duration;

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::store::Holder;
use crate::store::Server;

/// A step of the daemon takes a few round trips; with longer ones it is they that it waits for.
const SLOW: Duration = Duration::from_millis(100);
/// A snapshot held for longer makes every claim walk over dead rows.
const LONG_HELD: f64 = 3_600.0;

/// One line on the server as a whole, and one for each thing about it that is not as it should be.
pub(super) fn judge(server: &Server, ping: Duration, max_connections: u32) -> Vec<Finding> {
    let warning = |what: String, next: &str| Finding::warning(Check::Database, what, next);
    let mut findings = vec![judge_fitness(server, ping)];
    if ping > SLOW {
        findings.push(warning(
            format!("a round trip to it takes {ping:.0?}"),
            "run the daemon nearer to the database, or expect fewer syncs a minute",
        ));
    }
    if server.distant && !server.encrypted {
        findings.push(warning(
            "the way to it is not encrypted, and leads to another machine".to_owned(),
            "write sslmode=verify-full into the URL and leave require_tls out, unless you trust every machine in between",
        ));
    }
    // One more for LISTEN.
    let wanted = i64::from(max_connections) + 1;
    if server.connections_left < wanted {
        findings.push(warning(
            format!(
                "room for {} more connections is left to this user, and a replica takes up to {wanted}",
                server.connections_left.max(0)
            ),
            "raise max_connections of the server (or of the role, or of the database), lower database.max_connections, or \
             put a pooler in front",
        ));
    }
    if !server.fsync {
        findings.push(warning(
            "fsync is off".to_owned(),
            "turn it on: a crash of the server's machine may leave the database unreadable",
        ));
    }
    if server.synchronous_commit == "off" {
        findings.push(warning(
            "synchronous_commit is off".to_owned(),
            "turn it on for this user and for producers: a crash of the server loses the last requests that were \
             committed, and attempts whose calls were made",
        ));
    }
    if server.wal_level == "minimal" {
        findings.push(warning(
            "wal_level is minimal".to_owned(),
            "set it to replica: no standby and no archive can follow, so a lost disk loses all since the last dump",
        ));
    }
    findings
}

/// Whether it will do at all.
fn judge_fitness(server: &Server, ping: Duration) -> Finding {
    let version = &server.version;
    if !server.is_supported() {
        return Finding::failed(
            Check::Database,
            format!("the server is PostgreSQL {version}"),
            "upgrade it to 14 or newer",
        );
    }
    if server.standby {
        return Finding::failed(
            Check::Database,
            format!("PostgreSQL {version} is a standby, which takes no writes"),
            "lead database.url to the primary, or name all servers in it: h1:5432,h2:5432",
        );
    }
    if server.read_only {
        return Finding::failed(
            Check::Database,
            format!("PostgreSQL {version} takes no writes: default_transaction_read_only is on"),
            "have it reset for this user, this database or the server (ALTER ROLE, ALTER DATABASE, ALTER SYSTEM … RESET \
             default_transaction_read_only)",
        );
    }
    Finding::ok(
        Check::Database,
        format!("PostgreSQL {version} takes writes and answers within {ping:.1?}"),
    )
}

pub(super) fn judge_pooler(is_pooled: bool, has_listen_url: bool, prepares: bool) -> Vec<Finding> {
    if !is_pooled {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if has_listen_url {
        findings.push(Finding::ok(
            Check::Database,
            "a pooler in transaction mode stands in between, and database.listen_url is given",
        ));
    } else {
        findings.push(Finding::warning(
            Check::Database,
            "a pooler in transaction mode stands in between: no wake-up arrives, and `migrate` cannot hold its lock",
            "set database.listen_url to an address of Postgres itself",
        ));
    }
    if prepares {
        findings.push(Finding::warning(
            Check::Database,
            "statements are prepared, and a pooler in transaction mode stands in between",
            "see that the pooler keeps them (max_prepared_statements of PgBouncer 1.21 and later), or some of them will fail; \
             then this is no trouble. With database.prepared_statements = false each is closed after use",
        ));
    }
    findings
}

pub(super) fn judge_listen_url(is_pooled: bool) -> Vec<Finding> {
    vec![if is_pooled {
        Finding::warning(
            Check::Database,
            "a pooler in transaction mode stands on the way of database.listen_url, too: no wake-up arrives",
            "lead it to Postgres itself",
        )
    } else {
        Finding::ok(
            Check::Database,
            "database.listen_url answers, and sessions stay what they are",
        )
    }]
}

/// On what keeps dead rows in the tables.
pub(super) fn judge_holders(holders: &[Holder], sees_sessions: bool) -> Vec<Finding> {
    let next = "end it, if nobody needs it: pg_terminate_backend(pid), ROLLBACK PREPARED, pg_drop_replication_slot(name). \
                Until then every claim reads more dead rows";
    let warnings: Vec<_> = holders
        .iter()
        .filter_map(|holder| {
            let since = match holder.seconds {
                Some(seconds) if seconds <= LONG_HELD => return None,
                Some(seconds) => format!(" for {} minutes", (seconds / 60.0).floor()),
                None => String::new(),
            };
            let what = format!("{} keeps old rows from being removed{since}", holder.what);
            Some(Finding::warning(Check::Database, what, next))
        })
        .collect();
    if !warnings.is_empty() {
        return warnings;
    }
    let what = "nothing has kept old rows from being removed for more than an hour";
    if sees_sessions {
        return vec![Finding::ok(Check::Database, what)];
    }
    vec![Finding {
        next: Some("to see those of other users too: GRANT pg_read_all_stats to this user".into()),
        ..Finding::ok(
            Check::Database,
            format!("{what}, as far as this user sees the sessions of others"),
        )
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    const QUICK: Duration = Duration::from_millis(1);

    fn sound() -> Server {
        Server {
            version: "15.8".into(),
            version_num: 150_008,
            standby: false,
            read_only: false,
            fsync: true,
            synchronous_commit: "on".into(),
            wal_level: "replica".into(),
            encrypted: false,
            distant: false,
            connections_left: 6,
            schema_is_there: true,
        }
    }

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_sound_server_is_one_line() {
        let findings = judge(&sound(), QUICK, 5);
        assert_eq!(levels(&findings), [Level::Ok]);
        assert!(findings[0].what.contains("15.8") && findings[0].what.contains("1.0ms"));
        let distant = Server {
            distant: true,
            encrypted: true,
            ..sound()
        };
        assert_eq!(levels(&judge(&distant, SLOW, 5)), [Level::Ok]);
    }

    #[test]
    fn what_it_cannot_do_without_has_failed() {
        let table = [
            (
                Server {
                    version_num: 139_999,
                    ..sound()
                },
                "14 or newer",
            ),
            (
                Server {
                    standby: true,
                    read_only: true,
                    ..sound()
                },
                "primary",
            ),
            (
                Server {
                    read_only: true,
                    ..sound()
                },
                "RESET",
            ),
        ];
        for (server, next) in table {
            let findings = judge(&server, QUICK, 5);
            assert_eq!(levels(&findings), [Level::Failed]);
            assert!(findings[0].next.as_deref().unwrap().contains(next));
        }
    }

    #[test]
    fn what_will_cost_somebody_sleep_is_a_warning() {
        let table = [
            (
                Server {
                    distant: true,
                    ..sound()
                },
                "not encrypted",
            ),
            (
                Server {
                    connections_left: 5,
                    ..sound()
                },
                "room for 5",
            ),
            (
                Server {
                    connections_left: -2,
                    ..sound()
                },
                "room for 0",
            ),
            (
                Server {
                    fsync: false,
                    ..sound()
                },
                "fsync",
            ),
            (
                Server {
                    synchronous_commit: "off".into(),
                    ..sound()
                },
                "synchronous_commit",
            ),
            (
                Server {
                    wal_level: "minimal".into(),
                    ..sound()
                },
                "wal_level",
            ),
        ];
        for (server, what) in table {
            let findings = judge(&server, QUICK, 5);
            assert_eq!(levels(&findings), [Level::Ok, Level::Warning], "{what}");
            assert!(findings[1].what.contains(what), "{findings:?}");
        }
        let slow = judge(&sound(), SLOW * 2, 5);
        assert_eq!(levels(&slow), [Level::Ok, Level::Warning]);
        assert!(slow[1].what.contains("200ms"), "{slow:?}");
    }

    #[test]
    fn a_transaction_pooler_wants_a_way_around_it_and_no_prepared_statements() {
        let table: [(bool, bool, bool, &[Level]); 5] = [
            (false, false, true, &[]),
            (true, true, false, &[Level::Ok]),
            (true, false, false, &[Level::Warning]),
            (true, true, true, &[Level::Ok, Level::Warning]),
            (true, false, true, &[Level::Warning, Level::Warning]),
        ];
        for (is_pooled, has_listen_url, prepares, expected) in table {
            let findings = judge_pooler(is_pooled, has_listen_url, prepares);
            assert_eq!(levels(&findings), expected);
        }
        assert_eq!(levels(&judge_listen_url(false)), [Level::Ok]);
        assert_eq!(levels(&judge_listen_url(true)), [Level::Warning]);
    }

    #[test]
    fn rows_held_for_more_than_an_hour_are_a_warning_each() {
        let holder = |seconds| Holder {
            what: "session 7".into(),
            seconds,
        };
        let brief = holder(Some(LONG_HELD));
        let long = holder(Some(LONG_HELD + 60.0));
        let slot = holder(None);
        let table = [
            (vec![], &[Level::Ok][..]),
            (vec![brief.clone()], &[Level::Ok]),
            (vec![long.clone(), brief], &[Level::Warning]),
            (vec![slot, long.clone()], &[Level::Warning, Level::Warning]),
        ];
        for (holders, expected) in table {
            assert_eq!(levels(&judge_holders(&holders, true)), expected);
        }
        let what = &judge_holders(&[long], true)[0].what;
        assert!(what.contains("for 61 minutes"), "{what}");
    }

    #[test]
    fn who_does_not_see_the_sessions_of_others_is_told() {
        let findings = judge_holders(&[], false);
        assert_eq!(levels(&findings), [Level::Ok]);
        assert!(
            findings[0]
                .next
                .as_deref()
                .unwrap()
                .contains("pg_read_all_stats")
        );
    }
}
