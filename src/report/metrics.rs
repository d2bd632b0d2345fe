//! A file of metrics for the textfile collector of Prometheus' node_exporter (`docs/metrics.md`).

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Account, Ended};
use crate::error::{Error, Result, ResultExt};
use crate::storage::{LocalTarget, Replace};

const LAST_SUCCESS: &str = "rdump_snapshot_last_success_timestamp_seconds";
const NEWEST: &str = "rdump_repository_newest_archive_timestamp_seconds";

/// A larger file is not ours.
const LARGEST_FILE: u64 = 1 << 20;

type Labels = Vec<(&'static str, String)>;
type Numbers = Family<Labels, Gauge<f64, AtomicU64>>;

/// What a repository holds of the run's label, where it could be listed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Kept {
    pub archives: u64,
    /// When the snapshot of the newest archive that is not known to be bad was taken.
    pub newest: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub struct MetricsFile {
    path: PathBuf,
}

impl MetricsFile {
    pub fn new(path: impl Into<PathBuf>) -> MetricsFile {
        MetricsFile { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of the last success of this label.
    pub fn last_success(&self, label: Option<&str>) -> Option<Timestamp> {
        let old = self.read().ok()?;
        let labels = vec![("label", label.unwrap_or_default().to_owned())];
        seconds_of(&old, LAST_SUCCESS, &labels)
    }

    /// Replaces the file. `kept` is of the account's repositories, in their order; `last_success` of
    /// this label, if it is known to whoever calls.
    pub fn write(
        &self,
        account: &Account,
        kept: &[Option<Kept>],
        last_success: Option<Timestamp>,
    ) -> Result<()> {
        // one that cannot be read is replaced like one that is not there
        let old = self.read().unwrap_or_default();
        let text = text(account, kept, last_success, &old)?;
        let mut target = LocalTarget::create(&self.path)?;
        target.write_all(text.as_bytes())?;
        // a strict umask would hide it from the exporter; a file that is there keeps its own permissions
        std::fs::set_permissions(
            target.temporary_path(),
            std::fs::Permissions::from_mode(0o644),
        )
        .with_context(|| format!("opening \"{}\" to readers", self.path.display()))?;
        target.commit(Replace::Yes, true, |_| Ok(()))
    }

    fn read(&self) -> Result<String> {
        let mut text = String::new();
        std::fs::File::open(&self.path)?
            .take(LARGEST_FILE)
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

/// A time that a file of ours gives. Labels are written in one way only, so that the line is found by
/// writing its beginning.
fn seconds_of(text: &str, name: &str, labels: &Labels) -> Option<Timestamp> {
    let mut page = Page::default();
    page.add(name, "", [(labels.clone(), 0.0)]);
    let written = page.text().ok()?;
    let line = written.lines().find(|line| !line.starts_with('#'))?;
    let beginning = line.strip_suffix("0.0")?;
    let number = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    let microseconds = number.trim().parse::<f64>().ok()? * 1e6;
    Timestamp::from_microsecond(microseconds.round() as i64).ok()
}

/// Metrics, in the order in which they are written.
#[derive(Default)]
struct Page {
    registry: Registry,
}

impl Page {
    /// A metric and its values; none without a value.
    fn add(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Numbers::default();
        let mut is_empty = true;
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
            is_empty = false;
        }
        if !is_empty {
            self.registry.register(name, help, family);
        }
    }

    fn text(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|_| Error::new("the metrics could not be written as text"))?;
        Ok(text)
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}

/// The whole file.
fn text(
    account: &Account,
    kept: &[Option<Kept>],
    last_success: Option<Timestamp>,
    old: &str,
) -> Result<String> {
    let label = account.label.clone().unwrap_or_default();
    let labels = || vec![("label", label.clone())];
    let one = |value: Option<f64>| value.map(|value| (labels(), value));
    let number = |value: Option<u64>| one(value.map(|value| value as f64));
    let succeeded = match account.outcome {
        Ended::Done => Some(account.finished),
        _ => last_success.or_else(|| seconds_of(old, LAST_SUCCESS, &labels())),
    };
    let is_done = f64::from(u8::from(account.outcome == Ended::Done));
    let mut page = Page::default();
    page.add(
        "rdump_snapshot_last_run_timestamp_seconds",
        "When the last run ended, as a Unix time",
        one(Some(seconds(account.finished))),
    );
    page.add(
        LAST_SUCCESS,
        "When the last run ended whose archive is in every repository, as a Unix time",
        one(succeeded.map(seconds)),
    );
    page.add(
        "rdump_snapshot_last_run_success",
        "Whether all of the last run was done: 1, else 0",
        one(Some(is_done)),
    );
    page.add(
        "rdump_snapshot_last_run_exit_code",
        "The exit code of the last run",
        one(Some(f64::from(account.exit_code))),
    );
    page.add(
        "rdump_snapshot_last_run_duration_seconds",
        "How long the last run took",
        one(Some(account.seconds())),
    );
    page.add(
        "rdump_snapshot_rows",
        "Rows in the archive of the last run",
        number(account.rows),
    );
    page.add(
        "rdump_snapshot_tables",
        "Tables in the archive of the last run",
        number(account.tables),
    );
    page.add(
        "rdump_snapshot_raw_bytes",
        "Rows of the archive of the last run before compression",
        number(account.raw_bytes),
    );
    page.add(
        "rdump_snapshot_archive_bytes",
        "Size of the archive of the last run",
        number(account.archive_bytes),
    );
    add_repositories(&mut page, account, kept, old, &label);
    page.add(
        "rdump_build_info",
        "Always 1; the label says which version of rdump wrote this file",
        [(vec![("version", account.rdump_version.to_owned())], 1.0)],
    );
    page.text()
}

fn add_repositories(
    page: &mut Page,
    account: &Account,
    kept: &[Option<Kept>],
    old: &str,
    label: &str,
) {
    let listed = kept.iter().copied().chain(std::iter::repeat(None));
    let places: Vec<_> = account
        .repositories
        .iter()
        .zip(listed)
        .map(|(place, kept)| {
            let labels = vec![
                ("label", label.to_owned()),
                ("repository", place.repository.clone()),
            ];
            (place, labels, kept)
        })
        .collect();
    page.add(
        "rdump_repository_up",
        "Whether the last run could use the repository, and nothing it did there failed: 1, else 0",
        places.iter().map(|(place, labels, _)| {
            let up = f64::from(u8::from(place.error.is_none()));
            (labels.clone(), up)
        }),
    );
    page.add(
        "rdump_repository_archives",
        "Archives of this label in the repository after the last run",
        places
            .iter()
            .filter_map(|(_, labels, kept)| Some((labels.clone(), (*kept)?.archives as f64))),
    );
    page.add(
        NEWEST,
        "When the snapshot of the newest good archive in the repository was taken, as a Unix time",
        places.iter().filter_map(|(_, labels, kept)| {
            let newest = match kept {
                Some(kept) => kept.newest,
                // it cannot be read now; what was there is there no less
                None => seconds_of(old, NEWEST, labels),
            };
            Some((labels.clone(), seconds(newest?)))
        }),
    );
}

#[cfg(test)]
mod tests;
