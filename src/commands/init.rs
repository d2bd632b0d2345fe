//! `rdump init`

use clap::Args;

use super::output::{OutputArguments, print_json};
use crate::error::{Error, Result};
use crate::repository::{Encryption, Repository};
use crate::storage;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Place of the new repository: a folder, which is made, or s3://BUCKET/PREFIX with its parameters
    #[arg(long, value_name = "URL", env = "RDUMP_REPO")]
    repo: String,
    /// Store archives as they are: whoever can read the place can read the databases
    #[arg(long)]
    no_encryption: bool,

    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        if !self.no_encryption {
            return Err(
                Error::usage("how the repository is encrypted is to be said")
                    .hint("give --no-encryption"),
            );
        }
        if let Some(folder) = storage::folder_of(&self.repo) {
            folder?.create_root()?;
        }
        let storage = storage::open(&self.repo).await?;
        let repository = Repository::init(storage, Encryption::None).await?;
        let marker = repository.marker();
        if !marker.conditional {
            self.output.warn(&format!(
                "{repository} creates objects though their keys are taken (it ignores If-None-Match): two runs at once are told apart by their names alone"
            ));
        }
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary",
                "outcome": "done",
                "repository": repository.to_string(),
                "id": marker.id,
                "conditional": marker.conditional,
            }));
        } else {
            self.output.say(&format!(
                "{repository} is a repository now, without encryption"
            ));
        }
        Ok(())
    }
}
