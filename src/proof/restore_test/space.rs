//! Whether the disk has room for what is to be restored.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::ServerChoice;
use crate::error::{Error, Result};
use crate::postgres::disposable;

/// Tables take about as much as their rows as text, indexes as much again, and the log of the server
/// its share.
const FACTOR: f64 = 2.5;
/// An empty server with some log.
const SERVER: u64 = 200 << 20;

/// Bytes that a server takes for rows of so many bytes.
pub fn needed(raw_bytes: u64) -> u64 {
    ((raw_bytes as f64 * FACTOR) as u64).saturating_add(SERVER)
}

/// Refuses what will not fit. A given server does not say how much room it has, nor does a Docker on
/// another machine: the answer is then why nothing was checked.
pub async fn check(choice: &ServerChoice, major: u32, raw_bytes: u64) -> Result<Option<String>> {
    let folder = match choice {
        ServerChoice::Given(_) => {
            return Ok(Some("free space is not known of a given server".to_owned()));
        }
        ServerChoice::Any if disposable::has_local_programs(major).await => {
            Some(disposable::local_folder())
        }
        ServerChoice::Local => Some(disposable::local_folder()),
        ServerChoice::Any | ServerChoice::Docker { .. } => disposable::docker_folder().await,
    };
    let unknown = "free space was not checked: the folder of the server is not known";
    let Some(folder) = folder else {
        return Ok(Some(unknown.to_owned()));
    };
    let Some(free) = free(&folder) else {
        return Ok(Some(unknown.to_owned()));
    };
    refuse_if_short(&folder, free, needed(raw_bytes)).map(|()| None)
}

fn free(folder: &Path) -> Option<u64> {
    let found = statvfs(folder).ok()?;
    // the types of both differ from system to system
    #[allow(clippy::useless_conversion)]
    let (blocks, size) = (
        u64::from(found.blocks_available()),
        u64::from(found.fragment_size()),
    );
    Some(blocks.saturating_mul(size))
}

fn refuse_if_short(folder: &Path, free: u64, needed: u64) -> Result<()> {
    if free >= needed {
        return Ok(());
    }
    const MEGABYTE: u64 = 1_000_000;
    Err(Error::new(format!(
        "the restore needs about {} MB, and {} has {} MB",
        needed.div_ceil(MEGABYTE),
        folder.display(),
        free / MEGABYTE
    ))
    .hint("make room; TMPDIR says where a server of this machine keeps its files; --no-space-check goes on all the same"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_need_room_for_indexes_as_well() {
        assert_eq!(needed(0), SERVER);
        assert_eq!(needed(1 << 30), (5 << 29) + SERVER);
    }

    #[test]
    fn too_little_room_is_refused_and_named() {
        let folder = Path::new("/data");
        assert!(refuse_if_short(folder, 10, 10).is_ok());
        let error = refuse_if_short(folder, 5_000_000, 5_000_001).unwrap_err();
        assert_eq!(
            error.message(),
            "the restore needs about 6 MB, and /data has 5 MB"
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn the_disk_of_a_folder_is_asked() {
        assert!(free(Path::new("/")).is_some());
        assert!(free(Path::new("/no/such/folder")).is_none());
    }
}
