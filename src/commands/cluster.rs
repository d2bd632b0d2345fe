//! `rdump snapshot` of what belongs to the whole server.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::aftermath::Course;
use super::interrupt::or_cancelled_if;
use super::output::{OutputArguments, bytes, print_json};
use super::targets::{Stored, Storing, describe, describe_set, end, outcome, store};
use crate::catalog::Scope;
use crate::catalog::globals::GlobalsScope;
use crate::error::{Error, Result};
use crate::postgres::Connector;
use crate::report::{Cancellation, counted};
use crate::repository::{Content, Described};
use crate::snapshot::{
    ClusterOptions, Options, Reading, Report, SetReport, run_cluster, run_globals,
};
use crate::sql::hex;

/// The flags of pg_dumpall.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Whole server")]
pub struct ClusterArguments {
    /// Take roles, tablespaces and every database, as one set in one file
    #[arg(long)]
    all_databases: bool,
    /// Take roles and tablespaces only, no databases
    #[arg(short = 'g', long, conflicts_with_all = ["roles_only", "tablespaces_only"])]
    globals_only: bool,
    /// Take roles only
    #[arg(long, conflicts_with = "tablespaces_only")]
    roles_only: bool,
    /// Take tablespaces only
    #[arg(long)]
    tablespaces_only: bool,
    /// With --all-databases: leave out databases whose names match (may be repeated)
    #[arg(long, value_name = "PATTERN", requires = "all_databases",
          conflicts_with_all = ["globals_only", "roles_only", "tablespaces_only"])]
    exclude_database: Vec<String>,
    /// Leave out passwords of roles
    #[arg(long)]
    no_role_passwords: bool,
}

impl ClusterArguments {
    /// Whether something else than one database is wanted.
    pub fn is_given(&self) -> bool {
        self.all_databases || self.is_of_globals()
    }

    /// Of a whole server. Empty: nothing.
    pub fn what_is_left_out(&self) -> String {
        let flags = [
            ("roles", self.roles_only),
            ("tablespaces", self.tablespaces_only),
            ("no passwords", self.no_role_passwords),
        ];
        let given = flags.into_iter().filter(|(_, given)| *given);
        let mut parts: Vec<&str> = given.map(|(name, _)| name).collect();
        parts.extend(self.exclude_database.iter().map(String::as_str));
        parts.join("\n")
    }

    fn is_of_globals(&self) -> bool {
        self.globals_only || self.roles_only || self.tablespaces_only
    }

    pub fn check(&self, options: &Options) -> Result<()> {
        if self.is_of_globals()
            && (options.scope != Scope::default() || options.reading != Reading::default())
        {
            return Err(Error::usage(
                "roles and tablespaces are taken whole: flags that choose what of a database is stored, or how it is read, do not go with -g, --roles-only and --tablespaces-only",
            ));
        }
        if self.no_role_passwords && !self.is_given() {
            return Err(Error::usage(
                "--no-role-passwords is for --all-databases, -g and --roles-only",
            )
            .hint("an archive of one database has no passwords of roles"));
        }
        Ok(())
    }

    pub async fn run(
        &self,
        connector: &Connector,
        options: &Options,
        storing: Option<Storing>,
        scope_mark: String,
        course: &mut Course,
        output: &OutputArguments,
    ) -> Result<()> {
        let scope = GlobalsScope {
            roles: !self.tablespaces_only,
            tablespaces: !self.roles_only,
            no_passwords: self.no_role_passwords,
            as_of: None,
        };
        let started = Instant::now();
        let progress = output.progress();
        let watching = output.watch(Arc::clone(&progress), "copying");
        let cancellation = Arc::new(Cancellation::default());
        let may_cancel = || cancellation.cancel();
        if self.is_of_globals() {
            let run = run_globals(connector.clone(), options, &scope, progress, &cancellation);
            let report = or_cancelled_if(connector, may_cancel, run).await;
            drop(watching);
            let (report, stored) = store(storing, report, course, output, |report| Described {
                content: Content::Globals,
                ..describe(report, scope_mark)
            })
            .await?;
            tell_globals(course, output, &report, stored.as_ref(), started);
            return end(stored, course);
        }
        let cluster = ClusterOptions {
            globals: scope,
            excluded: self
                .exclude_database
                .iter()
                .map(|pattern| pattern.as_str().into())
                .collect(),
        };
        let run = run_cluster(
            connector.clone(),
            options,
            &cluster,
            progress,
            &cancellation,
        );
        let report = or_cancelled_if(connector, may_cancel, run).await;
        drop(watching);
        let (report, stored) = store(storing, report, course, output, |report| {
            describe_set(report, scope_mark)
        })
        .await?;
        tell_set(course, output, &report, stored.as_ref(), started);
        end(stored, course)
    }
}

fn tell_globals(
    course: &mut Course,
    output: &OutputArguments,
    report: &Report,
    stored: Option<&Stored>,
    started: Instant,
) {
    for warning in &report.warnings {
        output.warn(warning);
    }
    let seconds = started.elapsed().as_secs_f64();
    if output.json {
        course.summarise(serde_json::json!({
            "type": "summary",
            "outcome": outcome(stored),
            "repositories": stored.map(Stored::json),
            "content": "globals",
            "server_version": report.server_version,
            "archive_id": report.summary.id.to_string(),
            "root_hash": hex(&report.summary.root_hash),
            "snapshot_time_unix_us": report.snapshot_time,
            "entries": report.summary.totals.entries,
            "archive_bytes": report.summary.file_length,
            "encrypted": report.summary.is_encrypted(),
            "seconds": seconds,
        }));
        return;
    }
    course.say(format!(
        "snapshot of the globals complete: {}, {} on disk, {seconds:.1} s",
        counted(report.summary.totals.entries, "entry", "entries"),
        bytes(report.summary.file_length),
    ));
}

fn tell_set(
    course: &mut Course,
    output: &OutputArguments,
    report: &SetReport,
    stored: Option<&Stored>,
    started: Instant,
) {
    for line in report.skipped.iter().chain(&report.warnings) {
        output.warn(line);
    }
    let seconds = started.elapsed().as_secs_f64();
    let rows: u64 = report.members.iter().map(|m| m.summary.totals.rows).sum();
    let raw: u64 = report
        .members
        .iter()
        .map(|member| member.summary.totals.raw_length)
        .sum();
    let databases = report.members.len().saturating_sub(1) as u64;
    if output.json {
        for (member, taken) in report.summary.members.iter().zip(&report.members) {
            print_json(&serde_json::json!({
                "type": "member",
                "member": member.label(),
                "database": taken.database.to_string(),
                "archive_id": member.id.to_string(),
                "root_hash": hex(&member.root_hash),
                "snapshot_time_unix_us": taken.snapshot_time,
                "entries": taken.summary.totals.entries,
                "tables": taken.tables,
                "rows": taken.summary.totals.rows,
                "raw_bytes": taken.summary.totals.raw_length,
                "archive_bytes": member.length,
            }));
        }
        course.summarise(serde_json::json!({
            "type": "summary",
            "outcome": outcome(stored),
            "repositories": stored.map(Stored::json),
            "content": "set",
            "server_version": report.server_version,
            "set_id": report.summary.id.to_string(),
            "set_hash": hex(&report.summary.hash),
            "databases": databases,
            "skipped": report.skipped,
            "rows": rows,
            "raw_bytes": raw,
            "archive_bytes": report.summary.file_length,
            "encrypted": report.members.iter().all(|member| member.summary.is_encrypted()),
            "seconds": seconds,
        }));
        return;
    }
    course.say(format!(
        "snapshot of the globals and {} complete: {}, {} in {} on disk, {seconds:.1} s",
        counted(databases, "database", "databases"),
        counted(rows, "row", "rows"),
        bytes(raw),
        bytes(report.summary.file_length),
    ));
}
