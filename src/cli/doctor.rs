//! `doctor`

mod api;
mod clock;
mod configuration;
mod database;
mod finding;
mod queue;
mod reconcile;
mod schema;
mod server;

use serde::Serialize;

use crate::cli::doctor::finding::Check;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::finding::Level;
use crate::cli::failure::Failure;
use crate::cli::invocation;
use crate::cli::invocation::Invocation;
use crate::cli::output;
use crate::cli::output::count;
use crate::config::Config;
use crate::config::Problem;
use crate::feather::Redactor;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  feather-sync doctor
  feather-sync --config new.toml doctor
  feather-sync doctor --json | jq '.findings[] | select(.level != \"ok\")'

It changes nothing. Each account's API gets one call, for a connection that does
not exist, which counts against the rate limit. Run it as the daemon's user.
Exit code 0 when nothing has failed (warnings allowed), 78 when the configuration
has, 1 when anything else has.")]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    /// The worst of all.
    level: Level,
    findings: Vec<Finding>,
}

pub(super) async fn run(args: DoctorArgs, invocation: &Invocation) -> Result<(), Failure> {
    let findings = match invocation.config() {
        Ok(config) => examine(&config).await?,
        // Whatever is left of it, nobody meant it so.
        Err(error) => configuration::problems(&error),
    };
    let verdict = verdict(&findings);
    if args.json {
        let level = findings.iter().map(|finding| finding.level).max();
        output::print_json(&Report {
            level: level.unwrap_or(Level::Ok),
            findings,
        })?;
    } else {
        let lines: Vec<_> = findings.iter().map(Finding::lines).collect();
        output::print(&lines.join("\n"))?;
    }
    verdict
}

async fn examine(config: &Config) -> Result<Vec<Finding>, Failure> {
    invocation::log_warnings(config)?;
    let redactor = Redactor::default();
    let token = config.admin.read_token().ok().flatten();
    for secret in config.database.passwords().iter().chain(&token) {
        redactor.learn(secret);
    }
    let mut findings = configuration::findings(config);
    // One that hangs holds up no other.
    let (database, api) =
        tokio::join!(database::findings(config), api::findings(config, &redactor));
    findings.extend(database);
    findings.extend(api);
    for finding in &mut findings {
        finding.what = redactor.redact_line(&finding.what);
    }
    Ok(findings)
}

/// How it ends: `run` would end with the exit code of the configuration wherever its lines have failed.
fn verdict(findings: &[Finding]) -> Result<(), Failure> {
    let failed = findings
        .iter()
        .filter(|finding| finding.level == Level::Failed);
    let all = count(findings.len() as u64, "check");
    let message = format!("{} of {all} failed", failed.clone().count());
    if failed
        .clone()
        .any(|finding| finding.check == Check::Configuration)
    {
        let problem = Problem {
            origin: None,
            message,
        };
        return Err(Failure::Config(problem.into()));
    }
    if failed.count() > 0 {
        return Err(Failure::Failed(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_worst_and_the_configurations_beats_all() {
        let ok = Finding::ok(Check::Database, "w");
        let warning = Finding::warning(Check::Configuration, "w", "n");
        let failed = Finding::failed(Check::Api, "w", "n");
        let refused = Finding::failed(Check::Configuration, "w", "n");
        let table = [
            (vec![], None),
            (vec![ok.clone(), warning], None),
            (vec![failed.clone(), ok.clone()], Some(1)),
            (vec![refused.clone()], Some(78)),
            (vec![failed, refused, ok], Some(78)),
        ];
        for (findings, code) in table {
            let verdict = verdict(&findings).err();
            assert_eq!(verdict.map(|failure| failure.exit_code()), code);
        }
    }
}
