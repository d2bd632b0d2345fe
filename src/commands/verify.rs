//! `rdump verify`

use std::path::PathBuf;

use clap::Args;

use super::output::{OutputArguments, bytes, print_json};
use crate::error::{Error, Outcome, Result};
use crate::proof::verify_file;
use crate::storage::LocalFile;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    output: OutputArguments,
    /// The archive
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Decode every block too, count its rows and compare their fingerprints
    #[arg(long)]
    deep: bool,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let deep = self.deep;
        let file = self.file.clone();
        let report = tokio::task::spawn_blocking(move || verify_file(LocalFile::open(file)?, deep))
            .await
            .map_err(|error| Error::new(format!("the check broke off: {error}")))??;
        let file = self.file.display();
        if self.output.json {
            for finding in &report.findings {
                print_json(&serde_json::json!({
                    "type": "finding",
                    "block": finding.block,
                    "problem": finding.problem,
                    "objects": finding.objects,
                }));
            }
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": if report.is_sound() { "sound" } else { "damaged" },
                "findings": report.findings.len(),
                "blocks": report.blocks_checked,
                "bytes": report.bytes_checked,
                "rows": report.rows_checked,
            }));
        } else {
            for finding in &report.findings {
                println!("{finding}");
            }
            self.output.say(&format!(
                "{file}: {} blocks, {} checked",
                report.blocks_checked,
                bytes(report.bytes_checked)
            ));
        }
        if report.is_sound() {
            self.output.say(&format!("{file}: every checksum holds"));
            return Ok(());
        }
        Err(
            Error::new(format!("{file} is damaged: {} findings", report.findings.len()))
                .hint("restore from another copy; tables that are not named can still be restored from this one")
                .outcome(Outcome::Partial),
        )
    }
}
