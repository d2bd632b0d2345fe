//! `rdump init`

use clap::Args;

use super::keys::EncryptionArguments;
use super::output::{OutputArguments, print_json};
use super::repository::one_url;
use crate::error::{Error, Result};
use crate::repository::{EncryptionPolicy, Repository};
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
    encryption: EncryptionArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let encryption = self.encryption.encryption()?;
        match (&encryption, self.no_encryption) {
            (None, false) => {
                return Err(Error::usage("how archives are encrypted is to be chosen").hint(
                    "give --recipient (rdump keygen makes a key) or --passphrase-file, or --no-encryption",
                ));
            }
            (Some(_), true) => {
                return Err(Error::usage(
                    "--no-encryption was given, and keys to encrypt for",
                ));
            }
            _ => {}
        }
        let url = one_url(&self.repo)?;
        if let Some(folder) = storage::folder_of(url) {
            folder?.create_root()?;
        }
        let storage = storage::open(url).await?;
        let repository =
            Repository::init(storage, EncryptionPolicy::of(encryption.as_deref())).await?;
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
                "encryption": marker.encryption,
            }));
        } else {
            self.output.say(&match encryption {
                None => format!("{repository} is a repository now; its archives are not encrypted"),
                Some(_) => format!(
                    "{repository} is a repository now; its archives are encrypted: without one of the keys nobody restores them"
                ),
            });
        }
        Ok(())
    }
}
