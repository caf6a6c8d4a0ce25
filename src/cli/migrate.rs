//! `migrate`

use crate::cli::failure::Failure;
use crate::cli::invocation;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::stop;
use crate::store;
use crate::store::Bound;
use crate::store::Db;
use crate::store::LeftBehind;
use crate::store::Roles;
use crate::store::SchemaState;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync migrate                  safe to repeat, and to run from many places at once
  feather-sync migrate --check          for deployments: 0 when current, 1 when behind")]
pub(super) struct MigrateArgs {
    /// Change nothing; exit 1 when migrations or indexes are missing
    #[arg(long)]
    check: bool,

    /// Go on where the roles are missing and this user may not create them
    #[arg(long, conflicts_with = "check")]
    without_roles: bool,
}

async fn check(db: &Db) -> Result<(), Failure> {
    match db.schema_state().await? {
        SchemaState::Current => {}
        behind => {
            tell_of_bounds(db).await;
            return Err(invocation::schema_behind(&behind));
        }
    }
    let missing = db.missing_indexes().await?;
    if !missing.is_empty() {
        return Err(Failure::Failed(format!(
            "indexes are missing or not valid ({}); run `feather-sync migrate`",
            missing.join(", ")
        )));
    }
    output::print("the schema is current").map(drop)
}

/// What a running fleet cannot know, and stops it one day.
pub(super) fn says_bound(bound: &Bound) -> String {
    let Bound {
        relation, until, ..
    } = bound;
    let from = if bound.is_past { "since" } else { "from" };
    format!(
        "feather.{relation} was prepared for partitions by a `feather-sync migrate` that did not end, and takes no rows \
         {from} {} UTC{}",
        until.format("%Y-%m-%d"),
        if bound.is_past { "" } else { " on" }
    )
}

/// What to do about it.
pub(super) fn mends_bound(Bound { relation, .. }: &Bound) -> String {
    format!(
        "run `feather-sync migrate` again before that day, or take it back: ALTER TABLE feather.{relation} DROP CONSTRAINT \
         before_partitions"
    )
}

/// As far as the database says it: whoever calls this has an error to report already.
async fn tell_of_bounds(db: &Db) {
    for bound in db.bounds().await.unwrap_or_default() {
        let (what, next) = (says_bound(&bound), mends_bound(&bound));
        output::remark(&format!("feather-sync: {what}; {next}"));
    }
}

pub(super) async fn run(args: MigrateArgs, invocation: &Invocation) -> Result<(), Failure> {
    if args.check {
        return check(&invocation.any_database().await?).await;
    }
    let config = invocation.config()?;
    invocation::log_warnings(&config)?;
    let roles = if args.without_roles {
        Roles::Optional
    } else {
        Roles::Required
    };
    let settings = invocation::db_settings(&config)?;
    let stopped = stop::asked()?;
    let result = tokio::select! {
        result = store::migrate(&settings, roles) => result,
        () = stopped => {
            // What it could not is told below.
            let _ = store::take_back(&settings).await;
            Err(store::StoreError::Other("stopped; run `feather-sync migrate` again".into()))
        }
    };
    let migrated = match result {
        Ok(migrated) => migrated,
        Err(error) => {
            tell_of_bounds(&Db::new(&settings)?).await;
            return Err(match error {
                store::StoreError::Other(_) => error.into(),
                error => invocation::unreachable(&config, error),
            });
        }
    };
    if !migrated.roles_created.is_empty() {
        output::print(&format!(
            "created the roles {}",
            migrated.roles_created.join(", ")
        ))?;
    }
    if !migrated.roles_missing.is_empty() {
        output::remark(&format!(
            "feather-sync: the roles {} are missing, so nothing was granted to any of the three; run `feather-sync \
             migrate` again once they exist",
            migrated.roles_missing.join(", ")
        ));
    }
    for LeftBehind { what, relation } in &migrated.left_behind {
        output::remark(&format!(
            "feather-sync: {what} belongs to feather.{relation}_before alone, the part of feather.{relation} that was there before \
             partitions; create it anew on feather.{relation}"
        ));
    }
    let applied = u64::try_from(migrated.applied).unwrap_or(u64::MAX);
    output::print(&match applied {
        0 => "the schema is current".to_owned(),
        _ => format!(
            "applied {}; the schema is current",
            output::count(applied, "migration")
        ),
    })?;
    Ok(())
}
