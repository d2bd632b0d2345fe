//! The repositories that a snapshot goes to, and what is said of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::aftermath::Course;
use super::output::{OutputArguments, print_error};
use super::prune::prune_after;
use super::retention::RetentionArguments;
use crate::archive::Encryption;
use crate::catalog::Scope;
use crate::error::{Error, Outcome, Result, ResultExt};
use crate::report::counted;
use crate::repository::retention::Rules;
use crate::repository::{
    Arrived, Content, Described, Label, Manifest, Repository, Run, RunId, Target, Targets,
    parse_tag,
};
use crate::snapshot::{Report, SetReport};
use crate::sql::hex;
use crate::storage;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Repository")]
pub struct TargetArguments {
    /// Repository to store the archive in: a folder, or s3://BUCKET/PREFIX with its parameters. Given several
    /// times, the archive goes to each; in the environment, one a line
    #[arg(long, value_name = "URL", env = "RDUMP_REPO")]
    pub repo: Vec<String>,
    /// What the archive is called in the repository [default: the database's name; for a whole server, "server"]
    #[arg(long, value_name = "LABEL", env = "RDUMP_LABEL")]
    label: Option<String>,
    /// Tag to put on the archive (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Vec<String>,
    #[command(flatten)]
    retention: RetentionArguments,
}

/// A run that stores an archive, in all repositories that could be opened.
pub struct Storing {
    pub targets: Arc<Targets>,
    /// Which of the run's repositories each target is.
    positions: Vec<usize>,
    run: Run,
    run_id: RunId,
    tags: BTreeMap<String, String>,
    /// Repositories that failed, and why.
    failed: Vec<Error>,
    asked: usize,
    rules: Option<Rules>,
}

impl TargetArguments {
    /// What archives are called, unless it was said otherwise.
    pub fn label(&self, usual: &[u8]) -> Result<Label> {
        Label::new(self.label.as_deref().map_or(usual, str::as_bytes))
    }

    /// Takes a name in every repository. Fails if that is possible in none.
    pub async fn begin(
        &self,
        course: &mut Course,
        encryption: Option<&Encryption>,
        output: &OutputArguments,
    ) -> Result<Storing> {
        let label = course.label()?.clone();
        let rules = self.retention.rules()?;
        let tags = self.tag.iter().map(|tag| parse_tag(tag));
        let tags = tags.collect::<Result<BTreeMap<_, _>>>()?;
        let run_id = course.run.clone();
        let urls = self.repo.iter().flat_map(|value| value.lines());
        let urls: Vec<&str> = urls.map(str::trim).filter(|url| !url.is_empty()).collect();
        let (mut targets, mut positions, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for url in &urls {
            let position = course.add_repository(&without_secrets(url));
            let taken = targets.iter().map(Target::repository);
            let taken: Vec<String> = taken.map(|other| other.marker().id.clone()).collect();
            match begin_one(url, &label, &run_id, encryption, &taken, output).await {
                Ok(target) => {
                    course.opened(position, target.repository());
                    targets.push(target);
                    positions.push(position);
                }
                Err(error) => {
                    course.failed_at(position, &error);
                    failed.push(error);
                }
            }
        }
        if targets.is_empty() {
            for error in failed.drain(1.min(failed.len())..) {
                print_error(&error);
            }
            return Err(failed
                .pop()
                .unwrap_or_else(|| Error::usage("no repository is given")));
        }
        for error in &failed {
            output.warn(&format!("{error}; the others get the archive"));
        }
        let mut run = Run::begun("snapshot", run_id.clone());
        run.label = Some(label.to_string());
        Ok(Storing {
            targets: Arc::new(Targets::new(targets)),
            positions,
            run,
            run_id,
            tags,
            failed,
            asked: urls.len(),
            rules,
        })
    }
}

/// An address without the user and the parameters that it may have.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

async fn begin_one(
    url: &str,
    label: &Label,
    run: &RunId,
    encryption: Option<&Encryption>,
    taken: &[String],
    output: &OutputArguments,
) -> Result<Target> {
    let storage = storage::open(url).await?;
    let name = storage.to_string();
    let beginning = async {
        let repository = Repository::open(storage).await?;
        repository.marker().check_encryption(encryption)?;
        if taken.contains(&repository.marker().id) {
            return Err(Error::usage("it is given twice"));
        }
        if !repository.marker().conditional {
            output.warn(&format!(
                "{name} creates objects though their keys are taken (it ignores If-None-Match): two runs at once are told apart by their names alone"
            ));
        }
        Target::begin(repository, label, run.clone()).await
    };
    beginning
        .await
        .with_context(|| format!("repository {name}"))
}

impl Storing {
    /// Notes the failure in every repository, and gives it back.
    pub async fn failed(mut self, error: Error, course: &mut Course) -> Error {
        self.targets.give_up().await;
        let run = self
            .run
            .clone()
            .ended(&Err::<(), _>(Error::new(error.to_string())));
        for (target, position) in self.targets.targets().iter().zip(&self.positions) {
            if let Err(unrecorded) = target.repository().record(&run).await {
                course.failed_at(*position, &unrecorded);
                self.failed.push(unrecorded);
            }
        }
        for other in &self.failed {
            print_error(other);
        }
        error
    }

    /// Commits; what came of each repository.
    pub async fn commit(
        mut self,
        mut described: Described,
        course: &mut Course,
        output: &OutputArguments,
    ) -> Stored {
        described.tags = std::mem::take(&mut self.tags);
        let arrived = self.targets.commit(&described).await;
        let mut stored = Vec::new();
        let mut committed = Vec::new();
        let targets = self.targets.targets().iter().zip(&self.positions);
        for ((target, position), Arrived { name, outcome, .. }) in targets.zip(arrived) {
            let mut run = self.run.clone().of_archive(&name).ended(&outcome);
            if let Ok(manifest) = &outcome {
                run.size = Some(manifest.size);
                run.raw_size = Some(manifest.raw_size);
                run.rows = Some(manifest.rows);
                run.tables = Some(manifest.tables);
            }
            let recorded = target.repository().record(&run).await;
            let failure = match outcome {
                Ok(manifest) => {
                    course.stored_at(*position, &manifest.name);
                    committed.push(*position);
                    stored.push((target.repository().clone(), manifest));
                    recorded
                        .err()
                        .map(|error| error.context("recording the run"))
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failure {
                course.failed_at(*position, &error);
                self.failed.push(error);
            }
        }
        let mut pruned = 0;
        for ((repository, manifest), position) in stored.iter().zip(committed) {
            let Some(rules) = &self.rules else { break };
            match prune_after(repository, &manifest.name.label(), rules, output).await {
                Ok(count) => pruned += count,
                Err(error) => {
                    course.failed_at(position, &error);
                    self.failed.push(error);
                }
            }
        }
        Stored {
            stored,
            failed: self.failed,
            asked: self.asked,
            run: self.run_id,
            pruned,
        }
    }
}

/// What came of a run that stored an archive.
pub struct Stored {
    pub stored: Vec<(Repository, Manifest)>,
    pub failed: Vec<Error>,
    asked: usize,
    run: RunId,
    /// Archives that were removed by rule.
    pruned: usize,
}

impl Stored {
    pub fn json(&self) -> serde_json::Value {
        let stored = self.stored.iter().map(|(repository, manifest)| {
            serde_json::json!({"repository": repository.to_string(), "name": manifest.name})
        });
        let failed = self.failed.iter().map(ToString::to_string);
        serde_json::json!({
            "run": self.run,
            "stored": stored.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
            "pruned": self.pruned,
        })
    }

    fn tell(&self, course: &mut Course) {
        for (repository, manifest) in &self.stored {
            course.say(format!("stored as {} in {repository}", manifest.name));
        }
        if self.pruned > 0 {
            let archives = counted(self.pruned as u64, "older archive", "older archives");
            course.say(format!("{archives} removed by rule"));
        }
    }

    /// Success only if every repository has the archive.
    pub fn into_result(mut self) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let count = self.failed.len();
        let last = self.failed.pop();
        for error in &self.failed {
            print_error(error);
        }
        let Some(last) = last else { return Ok(()) };
        if self.stored.is_empty() {
            return Err(last);
        }
        print_error(&last);
        let failures = counted(count as u64, "failure", "failures");
        Err(Error::new(format!(
            "the archive is in {} of {} repositories, with {failures}",
            self.stored.len(),
            self.asked
        ))
        .outcome(Outcome::Partial))
    }
}

/// What was left out, in a few characters which do not name it. Empty: nothing. Archives with different ones
/// are not compared with each other, and none takes the other's place.
pub fn scope_mark(scope: &Scope, cluster: &str) -> String {
    let mut text = cluster.to_owned();
    if *scope != Scope::default() {
        text.push_str(&format!("{scope:?}"));
    }
    match text.is_empty() {
        true => text,
        false => hex(&blake3::hash(text.as_bytes()).as_bytes()[..8]),
    }
}

fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub fn describe(report: &Report, scope: String) -> Described {
    let totals = &report.summary.totals;
    Described {
        archive_id: report.summary.id.to_string(),
        content: Content::Database,
        scope,
        snapshot: time(report.snapshot_time),
        server_version: report.server_version.clone(),
        size: report.summary.file_length,
        raw_size: totals.raw_length,
        rows: totals.rows,
        tables: report.tables as u64,
        entries: totals.entries,
        root_hash: hex(&report.summary.root_hash),
        encrypted: report.summary.is_encrypted(),
        tags: BTreeMap::new(),
    }
}

pub fn describe_set(report: &SetReport, scope: String) -> Described {
    let sum = |of: fn(&Report) -> u64| report.members.iter().map(of).sum();
    Described {
        archive_id: report.summary.id.to_string(),
        content: Content::Set,
        scope,
        // the set is as old as the oldest of its snapshots
        snapshot: time(
            report
                .members
                .iter()
                .map(|m| m.snapshot_time)
                .min()
                .unwrap_or(0),
        ),
        server_version: report.server_version.clone(),
        size: report.summary.file_length,
        raw_size: sum(|member| member.summary.totals.raw_length),
        rows: sum(|member| member.summary.totals.rows),
        tables: sum(|member| member.tables as u64),
        entries: sum(|member| member.summary.totals.entries),
        root_hash: hex(&report.summary.hash),
        encrypted: report.summary.members.iter().any(|member| member.encrypted),
        tags: BTreeMap::new(),
    }
}

/// Commits what a run has uploaded, or tells the repositories that it failed.
pub async fn store<R>(
    storing: Option<Storing>,
    report: Result<R>,
    course: &mut Course,
    output: &OutputArguments,
    describe: impl FnOnce(&R) -> Described,
) -> Result<(R, Option<Stored>)> {
    let (report, storing) = match (report, storing) {
        (Err(error), Some(storing)) => return Err(storing.failed(error, course).await),
        (Err(error), None) => return Err(error),
        (Ok(report), storing) => (report, storing),
    };
    let described = describe(&report);
    course.describe(&described);
    let stored = match storing {
        Some(storing) => Some(storing.commit(described, course, output).await),
        None => None,
    };
    Ok((report, stored))
}

/// As summaries have it.
pub fn outcome(stored: Option<&Stored>) -> &'static str {
    match stored {
        Some(stored) if stored.stored.is_empty() => "failed",
        Some(stored) if !stored.failed.is_empty() => "partial",
        _ => "done",
    }
}

/// What is said last of a run that stored an archive.
pub fn end(stored: Option<Stored>, course: &mut Course) -> Result<()> {
    match stored {
        None => Ok(()),
        Some(stored) => {
            stored.tell(course);
            stored.into_result()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn addresses_are_told_without_secrets() {
        for (url, told) in [
            ("/srv/backups?x", "/srv/backups?x"),
            ("file:///srv/a@b", "file:///srv/a@b"),
            ("s3://bucket/shop?key=secret#x", "s3://bucket/shop"),
            ("s3://key:secr@t@bucket", "s3://bucket"),
            (
                "s3://key:secret@host:9000/bucket/a@b?x=/@y",
                "s3://host:9000/bucket/a@b",
            ),
        ] {
            assert_eq!(without_secrets(url), told);
        }
    }
}
