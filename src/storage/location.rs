//! Which store a text names.

use std::path::Path;
use std::sync::Arc;

use super::folder::Folder;
use super::object::Storage;
use super::s3::S3;
use crate::error::{Error, Result};

/// Opens `s3://BUCKET/PREFIX`, `file:///FOLDER` or a plain path of a folder. Whether there is a repository is
/// not looked at.
pub async fn open(text: &str) -> Result<Arc<dyn Storage>> {
    if text.starts_with("s3://") {
        return Ok(Arc::new(S3::open(text).await?));
    }
    Ok(Arc::new(folder(text)?))
}

/// None: it is no folder.
pub fn folder_of(text: &str) -> Option<Result<Folder>> {
    (!text.starts_with("s3://")).then(|| folder(text))
}

fn folder(text: &str) -> Result<Folder> {
    let path = match text.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => path,
        Some(("file", _)) => {
            return Err(Error::usage(format!("not the URL of a folder: \"{text}\""))
                .hint("write file:///FOLDER, with three slashes"));
        }
        // "a://b" may be a path, but is meant as one hardly ever
        Some((scheme, _)) if !scheme.contains('/') => {
            return Err(Error::usage(format!("no store is called {scheme}://"))
                .hint("give s3://BUCKET/PREFIX, file:///FOLDER or the path of a folder"));
        }
        _ => text,
    };
    if path.is_empty() {
        return Err(Error::usage("the name of a folder is empty"));
    }
    Ok(Folder::new(Path::new(path)))
}

#[cfg(test)]
mod tests {
    use super::{folder, open};

    #[tokio::test]
    async fn a_text_names_a_store() {
        for (text, name) in [
            ("/var/backups", "folder \"/var/backups\""),
            ("backups/shop", "folder \"backups/shop\""),
            ("./a://b", "folder \"./a://b\""),
            ("file:///var/backups", "folder \"/var/backups\""),
            (
                "s3://bucket/some/prefix/?region=eu-central-1",
                "s3://bucket/some/prefix",
            ),
            ("s3://bucket?region=eu-central-1", "s3://bucket"),
        ] {
            assert_eq!(open(text).await.unwrap().to_string(), name, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "file://x/y", "file:// ", "gs://bucket", "https://x/y"] {
            assert_eq!(folder(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
