//! `rdump sweep`

use clap::Args;

use super::output::{OutputArguments, bytes, print_json};
use super::repository::RepositoryArguments;
use super::snapshot::parse_time;
use crate::error::Result;
use crate::report::counted;
use crate::repository::SweepOptions;

/// Remove what crashed runs left in a repository
///
/// Uploads that were begun and not ended, and volumes without a manifest, are removed if their run has given no
/// sign of life for an hour; a run that lives is left alone, however long it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    repository: RepositoryArguments,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Leave alone what is younger, and runs whose heartbeat is: by the store's own clock
    #[arg(long, value_name = "TIME", default_value = "1h")]
    least_age: String,
    /// How long a heartbeat that is older is watched before its run is taken for dead; less than the minute
    /// between two is only for when it is known that nothing runs
    #[arg(long, value_name = "TIME", default_value = "3min")]
    watch: String,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let repository = self.repository.open().await?;
        let options = SweepOptions {
            least_age: parse_time(&self.least_age)?,
            watch: parse_time(&self.watch)?,
            dry_run: self.dry_run,
        };
        let swept = repository.sweep(options).await?;
        let size: u64 = swept
            .leftovers
            .iter()
            .map(|(_, leftover)| leftover.size())
            .sum();
        let done = if self.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        for (name, leftover) in &swept.leftovers {
            if self.output.json {
                print_json(&serde_json::json!({
                    "type": "leftover",
                    "name": name,
                    "volumes": leftover.volumes.len(),
                    "uploads": leftover.uploads.len(),
                    "bytes": leftover.size(),
                    "removed": !self.dry_run,
                }));
            } else {
                self.output.say(&format!(
                    "{name}: {}, {}, {} {done}",
                    counted(leftover.volumes.len() as u64, "volume", "volumes"),
                    counted(leftover.uploads.len() as u64, "upload", "uploads"),
                    bytes(leftover.size()),
                ));
            }
        }
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": "done",
                "dry_run": self.dry_run,
                "leftovers": swept.leftovers.len(),
                "bytes": size,
                "alive": swept.alive,
            }));
        } else {
            self.output.say(&format!(
                "{} {done}, {}; {} left alone, whose runs may live",
                counted(swept.leftovers.len() as u64, "leftover", "leftovers"),
                bytes(size),
                counted(swept.alive.len() as u64, "name", "names"),
            ));
        }
        Ok(())
    }
}
