//! `rdump restore --replace`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BString;
use clap::Args;

use crate::commands::confirm::{confirmed, refuse_without_terminal};
use crate::commands::interrupt::signalled;
use crate::commands::output::{bytes, print, print_json};
use crate::error::{Error, Outcome, Result};
use crate::postgres::Connector;
use crate::proof::Comparison;
use crate::report::{Progress, counted};
use crate::restore::Options;
use crate::restore::replace::{self, Made, Plan, Replaced, Request};
use crate::sql;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Replacing a live database")]
pub struct ReplaceArguments {
    /// Put the archive in the place of the database of its name: restore beside it, prove the copy equal to
    /// the archive, end the sessions of the live one, and swap the names in one step. The old database
    /// stays under a dated name. Needs room for both; -d may name any database of the server
    #[arg(long, conflicts_with_all = [
        "create", "clean", "single_transaction", "list", "force", "no_table_access_method",
        "no_data_for_failed_tables", "disable_triggers", "schemas", "exclude_schemas", "tables", "indexes",
        "functions", "triggers", "filters", "use_list", "data_only", "schema_only", "no_data", "no_schema",
        "statistics_only", "sections", "no_comments", "no_policies", "no_publications", "no_subscriptions",
        "no_security_labels", "with_dependencies", "globals_only",
    ])]
    pub replace: bool,
    /// With --replace: do not ask before it begins
    #[arg(short = 'y', long, requires = "replace")]
    pub yes: bool,
    /// With --replace: only say what would be done, and what is in the way. A scratch database is made,
    /// renamed and dropped, to see whether this server lets its databases be renamed
    #[arg(long, requires = "replace")]
    pub dry_run: bool,
    /// With --replace: leave a copy that failed or differs, to look into it
    #[arg(long, requires = "replace")]
    pub keep_failed: bool,
}

impl super::Arguments {
    pub(super) async fn replace(&self, options: Options) -> Result<()> {
        if !self.replace.yes && !self.replace.dry_run {
            refuse_without_terminal("a live database is replaced", "see what would be done")?;
        }
        self.archive.refuse_stream("--replace")?;
        let connector = self.connection.connector()?;
        self.archive.require()?;
        let chosen = self.archive.choose().await?;
        chosen.refuse_another().await?;
        if let Some(told) = &chosen.told {
            self.output.say(&format!("restoring {told}"));
        }
        let request = Request {
            input: chosen.input,
            choice: self.member.choice(),
            name: self.database_name.as_deref().map(BString::from),
            options,
            keep_failed: self.replace.keep_failed,
        };
        let made = Made::default();
        let running = self.plan_and_run(&connector, &request, &made);
        or_given_up(&connector, &request.options, &made, running).await
    }

    async fn plan_and_run(
        &self,
        connector: &Connector,
        request: &Request,
        made: &Made,
    ) -> Result<()> {
        let plan = replace::plan(connector, request, made).await?;
        for warning in &plan.warnings {
            self.output.warn(warning);
        }
        if self.replace.dry_run {
            self.tell_plan(&plan);
            return Ok(());
        }
        if !self.replace.yes && !asked(question(&plan)).await? {
            return Err(Error::new("nothing was replaced"));
        }
        let started = Instant::now();
        let restoring = self.output.progress();
        let comparing = self.output.progress();
        let watching = self.output.watch(Arc::clone(&restoring), "replacing");
        let replaced = replace::run(&plan, request, made, Arc::clone(&restoring), comparing).await;
        drop(watching);
        self.tell_replaced(&plan, replaced?, &restoring, started.elapsed())
    }

    fn tell_plan(&self, plan: &Plan) {
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": "dry run",
                "database": plan.name.to_string(),
                "copy": plan.copy.to_string(),
                "sessions": plan.sessions,
            }));
            return;
        }
        let name = sql::identifier(&plan.name);
        print(format_args!(
            "would restore into {}, compare that with the archive, end the sessions of {name} ({} now), and swap the names",
            sql::identifier(&plan.copy),
            plan.sessions
        ));
        print(format_args!(
            "{name} would stay as {}",
            sql::identifier(sql::with_ending(&plan.name, "_old_YYYYMMDD_HHMMSS"))
        ));
        self.output
            .say("nothing was found in the way; databases can be renamed here");
    }

    fn tell_replaced(
        &self,
        plan: &Plan,
        replaced: Replaced,
        progress: &Progress,
        elapsed: Duration,
    ) -> Result<()> {
        let report = &replaced.report;
        let known = |warning: &&String| !plan.warnings.contains(warning);
        for warning in report.warnings.iter().filter(known) {
            self.output.warn(warning);
        }
        self.tell_failures(report, None);
        if let Some(comparison) = &replaced.comparison {
            self.tell_comparison(comparison);
        }
        let counts = progress.counts();
        if self.output.json {
            let comparison = replaced.comparison.as_ref();
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": match &replaced.old {
                    Ok(_) => "done",
                    Err(_) => "not replaced",
                },
                "database": plan.name.to_string(),
                "old_database": replaced.old.as_ref().ok().map(ToString::to_string),
                "entries": report.entries,
                "failures": report.failures.len(),
                "findings": comparison.map(|comparison| comparison.findings.len()),
                "compared": comparison.map(|comparison| &comparison.compared),
                "rows": report.rows,
                "raw_bytes": counts.bytes,
                "connections": report.connections,
                "seconds": elapsed.as_secs_f64(),
            }));
        }
        let old = sql::identifier(replaced.old?);
        let name = sql::identifier(&plan.name);
        self.output.say(&format!(
            "{name} replaced: {}, {}, {}, proved equal to the archive, {:.1} s",
            counted(report.entries as u64, "entry", "entries"),
            counted(report.rows, "row", "rows"),
            bytes(counts.bytes),
            elapsed.as_secs_f64()
        ));
        self.output.say(&format!(
            "the old database stays as {old}; when nobody needs it any more: DROP DATABASE {old}"
        ));
        Ok(())
    }

    fn tell_comparison(&self, comparison: &Comparison) {
        for warning in &comparison.warnings {
            self.output.warn(warning);
        }
        for finding in &comparison.findings {
            match self.output.json {
                true => print_json(&serde_json::json!({"type": "finding", "finding": finding})),
                false => print(finding.in_words(self.output.verbose)),
            }
        }
    }
}

fn question(plan: &Plan) -> String {
    format!(
        "restore beside database {}, end its sessions ({} now), and put the copy in its place",
        sql::identifier(&plan.name),
        plan.sessions
    )
}

/// Waits for the answer in a thread of its own, which does not keep a program that a signal ends.
async fn asked(question: String) -> Result<bool> {
    let (tell, answer) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || tell.send(confirmed(&question)));
    answer
        .await
        .map_err(|_| Error::new("nobody could be asked"))?
}

/// Runs to the end or to a signal; what was made is then dropped. Once the swap is being committed, it
/// is too late.
async fn or_given_up<T>(
    connector: &Connector,
    options: &Options,
    made: &Made,
    run: impl Future<Output = Result<T>>,
) -> Result<T> {
    let signal = signalled()?;
    let mut run = Box::pin(run);
    let number = tokio::select! {
        outcome = &mut run => return outcome,
        number = signal => number,
    };
    if !options.cancellation.cancel() {
        return run.await;
    }
    let processes = connector.processes();
    drop(run);
    connector.cancel_all().await;
    let error = Error::new("cancelled by a signal").outcome(Outcome::Signal(number));
    Err(made.after_signal(error, &processes).await)
}
