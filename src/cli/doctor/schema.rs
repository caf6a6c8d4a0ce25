//! Judgement on the schema and on what this user may do in it.

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::cli::migrate;
use crate::store::Bound;
use crate::store::Rights;
use crate::store::SchemaState;

pub(super) fn judge_migrations(state: &SchemaState, is_there: bool) -> Finding {
    const NEXT: &str =
        "run `feather-sync migrate` as the schema's owner, before the new version's daemons start";
    match (state, is_there) {
        (SchemaState::Current, _) => Finding::ok(Check::Migrations, "the schema is current"),
        (SchemaState::Behind(_), false) => Finding::failed(
            Check::Migrations,
            "the schema `feather` is not there",
            "run `feather-sync migrate` as a user who may create schemas and roles",
        ),
        (SchemaState::Behind(missing), true) => Finding::failed(
            Check::Migrations,
            format!("the schema is {missing} migrations behind this program"),
            NEXT,
        ),
    }
}

/// On a table that is prepared for a migration which has not come.
pub(super) fn judge_bound(bound: &Bound) -> Finding {
    let (what, next) = (migrate::says_bound(bound), migrate::mends_bound(bound));
    if bound.is_past {
        Finding::failed(Check::Migrations, what, next)
    } else {
        Finding::warning(Check::Migrations, what, next)
    }
}

/// On the roles, and on whether this user may do what a worker does.
pub(super) fn judge_rights(rights: &Rights, schema_is_there: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !rights.roles_missing.is_empty() {
        let create: Vec<_> = rights
            .roles_missing
            .iter()
            .map(|role| format!("CREATE ROLE {role} NOLOGIN;"))
            .collect();
        findings.push(Finding::warning(
            Check::Roles,
            format!("there is no {}", rights.roles_missing.join(", no ")),
            format!(
                "have a superuser run: {} Then run `feather-sync migrate`, which grants them what they are for",
                create.join(" ")
            ),
        ));
    }
    // Rights in a schema that is not there are the migrations' matter.
    if !schema_is_there {
        return findings;
    }
    let user = &rights.user;
    let grant = format!(
        "GRANT feather_worker TO \"{}\"; after an upgrade run `feather-sync migrate` first, which grants the role what \
         is new",
        user.replace('"', "\"\"")
    );
    if !rights.may_enter {
        let what = format!("{user} may not use the schema `feather`");
        findings.push(Finding::failed(Check::Roles, what, grant));
    } else if !rights.lacking.is_empty() {
        let what = format!(
            "{user} may not do what a worker does; it lacks {}",
            rights.lacking.join("; ")
        );
        findings.push(Finding::failed(Check::Roles, what, grant));
    } else {
        let what = format!("{user} may do what a worker does");
        findings.push(Finding::ok(Check::Roles, what));
    }
    findings
}

/// How many of them are named.
const NAMED: usize = 5;

/// On users who read reports, and whose statements may last for ever.
pub(super) fn judge_readers(unlimited: &[String]) -> Vec<Finding> {
    let Some(first) = unlimited.first() else {
        return Vec::new();
    };
    let mut names = unlimited[..unlimited.len().min(NAMED)].join(", ");
    if unlimited.len() > NAMED {
        names += &format!(" and {} more", unlimited.len() - NAMED);
    }
    vec![Finding::warning(
        Check::Roles,
        format!(
            "reports may last for ever, and hold back rows that make the queue slow: those of {names}"
        ),
        format!(
            "ALTER ROLE \"{}\" SET statement_timeout = '5min'; the role feather_reporter cannot hand such a setting on",
            first.replace('"', "\"\"")
        ),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn a_schema_is_current_or_behind_or_not_there() {
        let table = [
            (SchemaState::Current, true, Level::Ok, "current"),
            (SchemaState::Behind(2), true, Level::Failed, "2 migrations"),
            (SchemaState::Behind(9), false, Level::Failed, "not there"),
        ];
        for (state, is_there, level, what) in table {
            let finding = judge_migrations(&state, is_there);
            assert_eq!(finding.level, level);
            assert!(finding.what.contains(what), "{finding:?}");
        }
    }

    #[test]
    fn a_user_may_do_all_that_a_worker_does_or_has_failed() {
        let rights = |missing: &[&str], may_enter, lacking: &[&str]| Rights {
            user: "o\"hara".into(),
            roles_missing: missing.iter().map(ToString::to_string).collect(),
            may_enter,
            lacking: lacking.iter().map(ToString::to_string).collect(),
            sees_sessions: false,
        };
        let one = &["DELETE on sync_jobs"][..];
        let role = &["feather_reporter"][..];
        let table: [(Rights, bool, &[Level]); 6] = [
            (rights(&[], true, &[]), true, &[Level::Ok]),
            (rights(&[], true, one), true, &[Level::Failed]),
            (rights(&[], false, one), true, &[Level::Failed]),
            (rights(&[], false, &[]), false, &[]),
            (rights(role, true, &[]), true, &[Level::Warning, Level::Ok]),
            (rights(role, false, &[]), false, &[Level::Warning]),
        ];
        for (rights, is_there, expected) in table {
            let findings = judge_rights(&rights, is_there);
            let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
            assert_eq!(levels, expected, "{findings:?}");
        }
        let said = judge_rights(&rights(role, true, one), true);
        let said: Vec<_> = said.iter().map(Finding::lines).collect();
        let said = said.join("\n");
        for part in [
            "CREATE ROLE feather_reporter NOLOGIN;",
            "DELETE on sync_jobs",
            "TO \"o\"\"hara\"",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn readers_without_an_end_are_named_and_not_all_of_them() {
        assert!(judge_readers(&[]).is_empty());
        let names: Vec<_> = (1..=7).map(|n| format!("r{n}")).collect();
        let findings = judge_readers(&names);
        assert_eq!(findings.len(), 1);
        let what = &findings[0].what;
        assert!(what.ends_with("r1, r2, r3, r4, r5 and 2 more"), "{what}");
    }
}
