//! `rdump pin`, `rdump unpin` and `rdump tag`

use clap::Args;

use super::output::OutputArguments;
use super::repository::{LabelArguments, RepositoryArguments};
use crate::error::{Error, Result};
use crate::repository::{Mark, Selector, parse_tag};

#[derive(Debug, Args)]
pub struct Common {
    /// The archive: `latest`, its name, or the eight digits at its end
    #[arg(value_name = "ARCHIVE")]
    archive: String,
    #[command(flatten)]
    repository: RepositoryArguments,
    #[command(flatten)]
    label: LabelArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Common {
    async fn put(&self, marks: &[Mark], done: &str) -> Result<()> {
        let repository = self.repository.open().await?;
        let catalogue = repository.catalogue(self.label.label()?.as_ref()).await?;
        let selector = match self.archive.as_str() {
            "latest" => Selector::Latest,
            name => Selector::Named(name.to_owned()),
        };
        let mut archive = catalogue.find(&selector)?.clone();
        for mark in marks {
            let details = serde_json::json!({"rdump_version": env!("CARGO_PKG_VERSION")});
            repository.mark(&archive, mark, &details).await?;
            archive.marks.newest += 1;
        }
        self.output.say(&format!("{} {done}", archive.name()));
        Ok(())
    }
}

/// Keep an archive whatever retention says
#[derive(Debug, Args)]
pub struct Pin {
    #[command(flatten)]
    common: Common,
}

impl Pin {
    pub async fn run(self) -> Result<()> {
        self.common.put(&[Mark::Pin], "is pinned").await
    }
}

/// Let retention decide on an archive again
#[derive(Debug, Args)]
pub struct Unpin {
    #[command(flatten)]
    common: Common,
}

impl Unpin {
    pub async fn run(self) -> Result<()> {
        self.common.put(&[Mark::Unpin], "is no longer pinned").await
    }
}

/// Put tags on an archive, or take them away
#[derive(Debug, Args)]
pub struct Tag {
    #[command(flatten)]
    common: Common,
    /// Tags to put on it
    #[arg(value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// Tag to take away (may be repeated)
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
}

impl Tag {
    pub async fn run(self) -> Result<()> {
        let mut marks = Vec::new();
        for key in &self.remove {
            marks.push(Mark::Untag(parse_tag(key)?.0));
        }
        for tag in &self.tags {
            let (key, value) = parse_tag(tag)?;
            marks.push(Mark::Tag(key, value));
        }
        if marks.is_empty() {
            return Err(Error::usage("no tag is given").hint("for example release=1.2"));
        }
        self.common.put(&marks, "is tagged").await
    }
}
