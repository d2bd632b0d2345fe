//! Repositories: where archives are kept, found again, and removed by rule
//! (`format-spec/repository.md`).
//!
//! `name`, `marker`, `manifest` and `mark` are what stands there; `writing` puts an archive in, `catalogue` says which there
//! are, `retention` which of them to keep, `pruning` and `removal` take them away, `sweep` what crashed runs left, `history` tells of runs.

mod catalogue;
mod history;
mod manifest;
mod mark;
mod marker;
mod name;
mod pruning;
mod removal;
pub mod retention;
mod sweep;
#[cfg(test)]
mod tests;
mod writing;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use catalogue::{Archive, Catalogue, Problem, Selector};
pub use history::Run;
pub use manifest::{Content, Manifest};
pub use mark::{Checked, Mark, Marks, parse_tag};
pub use marker::{EncryptionPolicy, Marker};
pub use name::{ArchiveName, Label, RunId};
pub use pruning::Pruned;
pub use removal::Removed;
pub use sweep::{Leftover, SweepOptions, Swept};
pub use writing::{Arrived, Described, Fan, Target, Targets};

use crate::error::{Error, Outcome, Result};
use crate::storage::{Conditional, Created, Storage, Volumes, probe_conditional};

/// A place with a marker.
#[derive(Debug, Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    marker: Marker,
}

impl Repository {
    /// Makes a place a repository.
    pub async fn init(
        storage: Arc<dyn Storage>,
        encryption: EncryptionPolicy,
    ) -> Result<Repository> {
        let key = Marker::key()?;
        let conditional = probe_conditional(&*storage).await? == Conditional::Refuses;
        let marker = Marker::new(conditional, encryption);
        let bytes = Bytes::from(marker.serialise()?);
        // a store without conditions is asked first, at least
        if storage.head(&key).await?.is_some()
            || storage.create(&key, bytes).await? == Created::Exists
        {
            return Err(
                Error::new(format!("there is a repository in {storage} already"))
                    .hint("use it as it is, or choose another place"),
            );
        }
        Ok(Repository { storage, marker })
    }

    pub async fn open(storage: Arc<dyn Storage>) -> Result<Repository> {
        let marker = Marker::read(&*storage).await?;
        Ok(Repository { storage, marker })
    }

    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whether every volume is there, and as long as it was. Else that is damage (exit code 3).
    pub async fn check_volumes(&self, manifest: &Manifest) -> Result<()> {
        for volume in &manifest.volumes {
            let found = self.storage.head(&volume.key).await?;
            let problem = match found {
                Some(object) if object.size == volume.size => continue,
                Some(object) => format!("has {} bytes of {}", object.size, volume.size),
                None => "is gone".to_owned(),
            };
            return Err(Error::new(format!(
                "{} is damaged: {} {problem}",
                manifest.name, volume.key
            ))
            .hint("restore from another archive; rdump list shows them")
            .outcome(Outcome::Partial));
        }
        Ok(())
    }

    /// The bytes of an archive.
    pub fn read(&self, manifest: &Manifest) -> Result<Volumes> {
        Volumes::new(Arc::clone(&self.storage), manifest.volumes.clone())
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.storage.fmt(f)
    }
}
