//! The repository that a command works on.

use crate::error::{Error, Result};
use crate::repository::{Label, Repository};
use crate::storage;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct RepositoryArguments {
    /// Repository: a folder, or s3://BUCKET/PREFIX with its parameters
    #[arg(long, value_name = "URL", env = "RDUMP_REPO")]
    pub repo: String,
}

impl RepositoryArguments {
    pub async fn open(&self) -> Result<Repository> {
        Repository::open(storage::open(one_url(&self.repo)?).await?).await
    }
}

/// A variable may name several, one a line, which is for snapshots alone.
pub fn one_url(value: &str) -> Result<&str> {
    let mut urls = value.lines().map(str::trim).filter(|url| !url.is_empty());
    match (urls.next(), urls.next()) {
        (Some(url), None) => Ok(url),
        (None, _) => Err(Error::usage("no repository is given")),
        (Some(_), Some(_)) => Err(Error::usage(
            "several repositories are given, and this works on one",
        )
        .hint("choose one with --repo")),
    }
}

/// Which archives of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LabelArguments {
    /// Only archives with this label: the database's name unless another was given
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
}

impl LabelArguments {
    pub fn label(&self) -> Result<Option<Label>> {
        let label = self.label.as_deref();
        label.map(|label| Label::new(label.as_bytes())).transpose()
    }
}
