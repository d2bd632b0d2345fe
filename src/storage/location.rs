//! What an address of a repository leads to.

use std::sync::Arc;

use super::folder::Folder;
use super::object::{Created, Key, Storage};
use crate::error::{Error, Result};

pub async fn open(url: &str) -> Result<Arc<dyn Storage>> {
    Ok(Arc::new(folder(url)?))
}

pub async fn create(url: &str) -> Result<Arc<dyn Storage>> {
    let folder = folder(url)?;
    folder.create_root()?;
    Ok(Arc::new(folder))
}

fn folder(url: &str) -> Result<Folder> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.is_empty() || path.contains("://") {
        return Err(Error::usage(format!(
            "not an address of a repository: \"{url}\""
        )));
    }
    Ok(Folder::new(path))
}

pub async fn probe_conditional(storage: &dyn Storage) -> Result<bool> {
    let id: u64 = rand::random();
    let key = Key::new(format!("probe-{id:016x}"))?;
    let _ = storage.create(&key, "1".into()).await?;
    let second = storage.create(&key, "2".into()).await;
    storage.delete(&key).await?;
    Ok(second? == Created::Exists)
}
