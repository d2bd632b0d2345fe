//! `rdump prune`

use clap::Args;

use super::confirm::{self, refuse_without_terminal};
use super::list::refuse_unreadable;
use super::output::{OutputArguments, bytes, print, print_json};
use super::repository::{LabelArguments, RepositoryArguments};
use super::retention::RetentionArguments;
use crate::error::{Error, Kind, Outcome, Result};
use crate::report::counted;
use crate::repository::retention::{Plan, Rules};
use crate::repository::{Label, Pruned, Repository, Run, RunId};

/// Remove the archives of a repository that no rule keeps
///
/// Pinned archives, the newest of each database, its last that is not known to be bad, and its last that
/// was verified or tested always stay.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    repository: RepositoryArguments,
    #[command(flatten)]
    label: LabelArguments,
    /// Only say what would be removed, and why all else stays
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask before removing
    #[arg(short = 'y', long)]
    yes: bool,
    /// Remove although the newest archive is suspiciously smaller than the one before
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    retention: RetentionArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let Some(rules) = self.retention.rules()? else {
            return Err(Error::usage("no rule says which archives to keep").hint(
                "for example --keep-daily 7 --keep-weekly 4; without rules nothing is removed",
            ));
        };
        let asks = !self.dry_run && !self.yes;
        if asks {
            refuse_without_terminal("archives are removed", "see what would be removed")?;
        }
        let repository = self.repository.open().await?;
        let label = self.label.label()?;
        let catalogue = repository.catalogue(label.as_ref()).await?;
        let unreadable = refuse_unreadable(&catalogue, &self.output);
        let plan = catalogue.retain(&rules, self.force);
        self.tell_plan(&plan);
        let unwanted = plan
            .decisions
            .iter()
            .filter(|decision| !decision.keep)
            .count();
        if unwanted == 0 || self.dry_run {
            self.end(&plan, Pruned::default(), unwanted)?;
            return unreadable;
        }
        let (catalogue, plan) = match asks {
            false => (catalogue, plan),
            true if !confirmed(unwanted)? => return Err(Error::new("nothing was removed")),
            true => {
                // an answer may take hours: what was shown, and is still so
                let catalogue = repository.catalogue(label.as_ref()).await?;
                let mut now = catalogue.retain(&rules, self.force);
                let shown = plan.decisions.iter().filter(|decision| !decision.keep);
                let shown: Vec<&str> = shown.map(|decision| decision.name.as_str()).collect();
                for decision in &mut now.decisions {
                    decision.keep |= !shown.contains(&decision.name.as_str());
                }
                (catalogue, now)
            }
        };
        let run = Run::begun("prune", RunId::random());
        let pruned = repository.prune(&catalogue, &plan).await;
        record(&repository, run, label.as_ref(), &pruned).await?;
        self.end(&plan, pruned, unwanted)?;
        unreadable
    }

    fn tell_plan(&self, plan: &Plan) {
        for (source, reasons) in &plan.held {
            for reason in reasons {
                self.output
                    .warn(&format!("nothing of {source} is removed: {reason}"));
            }
        }
        for decision in &plan.decisions {
            if self.output.json {
                print_json(&serde_json::json!({"type": "decision", "decision": decision}));
            } else if !self.output.quiet {
                let reasons: Vec<String> =
                    decision.reasons.iter().map(ToString::to_string).collect();
                let what = if decision.keep { "keep  " } else { "remove" };
                print(format_args!(
                    "{what}  {}  {}",
                    decision.name,
                    reasons.join("; ")
                ));
            }
        }
    }

    fn end(&self, plan: &Plan, pruned: Pruned, unwanted: usize) -> Result<()> {
        let size: u64 = pruned.removed.iter().map(|removed| removed.size).sum();
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": if pruned.failed.is_none() { "done" } else { "partial" },
                "dry_run": self.dry_run,
                "archives": plan.decisions.len(),
                "unwanted": unwanted,
                "removed": pruned.removed.len(),
                "bytes": size,
            }));
        } else if self.dry_run {
            self.output.say(&format!(
                "{} of {} would be removed",
                unwanted,
                counted(plan.decisions.len() as u64, "archive", "archives")
            ));
        } else {
            self.output.say(&format!(
                "{} removed, {}",
                counted(pruned.removed.len() as u64, "archive", "archives"),
                bytes(size)
            ));
        }
        pruned.failed.map_or(Ok(()), |error| Err(explained(error)))
    }
}

fn confirmed(count: usize) -> Result<bool> {
    let archives = counted(count as u64, "archive", "archives");
    confirm::confirmed(&format!("remove {archives}"))
}

fn explained(error: Error) -> Error {
    let error = match error.kind() {
        Kind::Denied => error.hint(
            "the credential may not delete: let another prune, and leave the rules out of the run that backs up",
        ),
        _ => error,
    };
    error.outcome(Outcome::Partial)
}

async fn record(
    repository: &Repository,
    mut run: Run,
    label: Option<&Label>,
    pruned: &Pruned,
) -> Result<()> {
    run.label = label.map(ToString::to_string);
    let outcome = match &pruned.failed {
        None => Ok(()),
        Some(error) => Err(Error::new(error.to_string())),
    };
    let names = pruned
        .removed
        .iter()
        .map(|removed| removed.name.to_string());
    run.removed = names.collect();
    repository.record(&run.ended(&outcome)).await
}

/// After a snapshot: removes what the rules do not keep of its label. Says what it did.
pub async fn prune_after(
    repository: &Repository,
    label: &Label,
    rules: &Rules,
    output: &OutputArguments,
) -> Result<usize> {
    let pruning = async {
        let run = Run::begun("prune", RunId::random());
        let catalogue = repository.catalogue(Some(label)).await?;
        refuse_unreadable(&catalogue, output)?;
        let plan = catalogue.retain(rules, false);
        for reason in plan.held.values().flatten() {
            output.warn(&format!("nothing of {label} is removed: {reason}"));
        }
        if plan.decisions.iter().all(|decision| decision.keep) {
            return Ok(0);
        }
        let pruned = repository.prune(&catalogue, &plan).await;
        record(repository, run, Some(label), &pruned).await?;
        let count = pruned.removed.len();
        match pruned.failed {
            None => Ok(count),
            Some(error) => Err(explained(error)),
        }
    };
    let error = match pruning.await {
        Ok(count) => return Ok(count),
        Err(error) => error,
    };
    Err(error.context(format!("pruning {repository}")))
}
