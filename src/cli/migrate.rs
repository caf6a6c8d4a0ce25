//! `migrate`

use crate::cli::failure::Failure;
use crate::cli::invocation;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::store;
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
        behind => return Err(invocation::schema_behind(&behind)),
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
    let migrated = store::migrate(&invocation::db_settings(&config)?, roles)
        .await
        .map_err(|error| match error {
            store::StoreError::Other(_) => error.into(),
            error => invocation::unreachable(&config, error),
        })?;
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
            "feather-sync: {what} sees only feather.{relation}_before, the part of feather.{relation} that was there before \
             partitions; drop it and create it anew"
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
