//! Which archives there are, and finding one of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::Repository;
use super::manifest::{MAX_MANIFEST, Manifest, Record};
use super::mark::{Mark, Marks};
use super::name::{ArchiveName, Label, MANIFESTS, MARKS};
use crate::error::{Error, Result};
use crate::storage::list_all;

/// Manifests on their way at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub manifest: Manifest,
    pub marks: Marks,
}

impl Archive {
    pub fn name(&self) -> &ArchiveName {
        &self.manifest.name
    }

    /// What it was made with, and what was said later.
    pub fn tags(&self) -> BTreeMap<String, String> {
        self.marks.tags_over(&self.manifest.tags)
    }

    /// Known to be damaged, or not to restore.
    pub fn is_bad(&self) -> bool {
        let is_bad = |checked: Option<super::Checked>| checked.is_some_and(|c| !c.good);
        is_bad(self.marks.verified) || is_bad(self.marks.tested)
    }

    /// From old to new, within a label: whatever clocks said.
    fn age(&self) -> (u64, Timestamp, &ArchiveName) {
        (self.name().order(), self.manifest.snapshot, self.name())
    }
}

/// A manifest that could not be read: something is there, but not known what.
#[derive(Debug)]
pub struct Problem {
    pub name: ArchiveName,
    pub error: Error,
}

#[derive(Debug, Default)]
pub struct Catalogue {
    /// By label, each from old to new.
    pub archives: Vec<Archive>,
    pub problems: Vec<Problem>,
    /// Names that sweeps took.
    pub swept: HashMap<ArchiveName, Timestamp>,
}

impl Repository {
    /// Archives of a label, or of all.
    pub async fn catalogue(&self, label: Option<&Label>) -> Result<Catalogue> {
        let after = label.map_or(String::new(), |label| format!("{}-", label.as_str()));
        let is_wanted = |name: &ArchiveName| label.is_none_or(|label| name.label() == *label);
        let storage = self.storage();
        let objects = list_all(&**storage, &format!("{MANIFESTS}{after}")).await?;
        let names = objects
            .iter()
            .filter_map(|object| ArchiveName::of_manifest(&object.key));
        let mut names: VecDeque<ArchiveName> = names.filter(is_wanted).collect();
        let mut reading = JoinSet::new();
        let mut catalogue = Catalogue::default();
        let mut manifests: Vec<Manifest> = Vec::with_capacity(names.len());
        loop {
            while reading.len() < AT_ONCE
                && let Some(name) = names.pop_front()
            {
                let storage = Arc::clone(storage);
                reading.spawn(async move {
                    let read = async { storage.get(&name.manifest()?, MAX_MANIFEST).await };
                    let bytes = read.await;
                    (name, bytes)
                });
            }
            let Some(read) = reading.join_next().await else {
                break;
            };
            let read = read
                .map_err(|error| Error::new(format!("reading the manifests broke off: {error}")))?;
            let (name, bytes) = read;
            let record = match bytes {
                Ok(Some(bytes)) => Record::parse(&bytes, &name),
                // removed since it was listed
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match record {
                Ok(Record::Committed(manifest)) => manifests.push(*manifest),
                Ok(Record::Swept(time)) => {
                    catalogue.swept.insert(name, time);
                }
                Err(error) => catalogue.problems.push(Problem { name, error }),
            }
        }
        let mut marks = self.marks(&format!("{MARKS}{after}")).await?;
        let with_marks = manifests.into_iter().map(|manifest| Archive {
            marks: marks.remove(&manifest.name).unwrap_or_default(),
            manifest,
        });
        catalogue.archives = with_marks.collect();
        catalogue.archives.sort_by(|one, other| {
            let label = |archive: &Archive| archive.name().label();
            label(one)
                .cmp(&label(other))
                .then_with(|| one.age().cmp(&other.age()))
        });
        catalogue
            .problems
            .sort_by(|one, other| one.name.cmp(&other.name));
        Ok(catalogue)
    }

    /// What holds of one archive now.
    pub(super) async fn marks_of(&self, name: &ArchiveName) -> Result<Marks> {
        let mut found = self.marks(&name.marks()).await?;
        Ok(found.remove(name).unwrap_or_default())
    }

    async fn marks(&self, prefix: &str) -> Result<HashMap<ArchiveName, Marks>> {
        let mut found: HashMap<ArchiveName, Marks> = HashMap::new();
        for object in list_all(&**self.storage(), prefix).await? {
            if let Some((name, number, mark, time)) = Mark::of_key(&object.key) {
                found.entry(name).or_default().apply(number, mark, time);
            }
        }
        Ok(found)
    }

    /// Puts a mark on an archive.
    pub async fn mark(
        &self,
        archive: &Archive,
        mark: &Mark,
        details: &impl serde::Serialize,
    ) -> Result<()> {
        let storage = &**self.storage();
        mark.put(storage, archive.name(), archive.marks.newest, details)
            .await?;
        Ok(())
    }
}

/// Which archive is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest that is not known to be bad.
    Latest,
    /// The newest whose snapshot was taken not after this, by the server's clock.
    At(Timestamp),
    /// A name, the digits at its end, or a beginning of either, or of the archive's id.
    Named(String),
}

impl Catalogue {
    pub fn labels(&self) -> Vec<Label> {
        let mut labels: Vec<Label> = self.archives.iter().map(|a| a.name().label()).collect();
        labels.dedup();
        labels
    }

    pub fn find(&self, selector: &Selector) -> Result<&Archive> {
        if self.archives.is_empty() {
            return Err(self.nothing("the repository has no archive"));
        }
        match selector {
            Selector::Named(text) => self.named(text),
            Selector::Latest => {
                self.of_one_label()?;
                let good = self.archives.iter().rev().find(|archive| !archive.is_bad());
                good.ok_or_else(|| {
                    Error::new("every archive is marked as bad")
                        .hint("rdump list shows them; name one to use it all the same")
                })
            }
            Selector::At(time) => {
                self.of_one_label()?;
                let before = self
                    .archives
                    .iter()
                    .filter(|archive| archive.manifest.snapshot <= *time && !archive.is_bad());
                before
                    .max_by_key(|archive| (archive.manifest.snapshot, archive.age()))
                    .ok_or_else(|| {
                        let oldest = self.archives.iter().map(|a| a.manifest.snapshot).min();
                        let hint = match oldest {
                            Some(oldest) => format!("the oldest archive is of {oldest}"),
                            None => "rdump list shows what there is".to_owned(),
                        };
                        self.nothing(&format!("no archive has a snapshot of {time} or before"))
                            .hint(hint)
                    })
            }
        }
    }

    /// Of several databases one has to be chosen.
    fn of_one_label(&self) -> Result<()> {
        let labels = self.labels();
        if labels.len() < 2 {
            return Ok(());
        }
        let names: Vec<String> = labels.iter().map(ToString::to_string).collect();
        Err(Error::usage(format!(
            "the repository has archives of several sources: {}",
            names.join(", ")
        ))
        .hint("choose one with --label"))
    }

    fn named(&self, text: &str) -> Result<&Archive> {
        let is_meant = |archive: &&Archive| {
            let name = archive.name();
            text.len() >= 4
                && (name.as_str().starts_with(text)
                    || name.id().starts_with(text)
                    || archive.manifest.archive_id.starts_with(text))
        };
        let mut meant = self.archives.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(archive), None) => Ok(archive),
            (Some(one), Some(other)) => {
                // a whole name may be the beginning of no other
                let exact = self.archives.iter().find(|a| a.name().as_str() == text);
                exact.ok_or_else(|| {
                    Error::usage(format!(
                        "\"{text}\" may be several archives: {}, {} and maybe others",
                        one.name(),
                        other.name()
                    ))
                    .hint("give more of the name")
                })
            }
            _ => match self
                .problems
                .iter()
                .find(|p| p.name.as_str().starts_with(text) || p.name.id().starts_with(text))
            {
                Some(problem) => Err(Error::new(problem.error.to_string())),
                None => Err(self
                    .nothing(&format!("the repository has no archive \"{text}\""))
                    .hint("rdump list shows them: give a name, or the eight digits at its end")),
            },
        }
    }

    fn nothing(&self, problem: &str) -> Error {
        match self.problems.len() {
            0 => Error::new(problem),
            unread => Error::new(format!(
                "{problem} that can be read, and {unread} that cannot"
            )),
        }
    }
}
