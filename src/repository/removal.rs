//! Taking archives away. The manifest goes first: what is broken off leaves a leftover, not half an
//! archive.

use super::name::ArchiveName;
use super::{Archive, Repository};
use crate::error::{Error, Result, ResultExt};
use crate::storage::list_all;

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub name: ArchiveName,
    /// Bytes.
    pub size: u64,
}

impl Repository {
    pub async fn remove(&self, archive: &Archive) -> Result<Removed> {
        let name = archive.name();
        let storage = self.storage();
        let removal = async {
            storage.delete(&name.manifest()?).await?;
            for mark in list_all(&**storage, &name.marks()).await? {
                storage.delete(&mark.key).await?;
            }
            // the last first: what is left of a removal that broke off still begins at the beginning
            for volume in archive.manifest.volumes.iter().rev() {
                storage.delete(&volume.key).await?;
            }
            Ok::<_, Error>(())
        };
        removal.await.with_context(|| format!("removing {name}"))?;
        Ok(Removed {
            name: name.clone(),
            size: archive.manifest.size,
        })
    }
}
