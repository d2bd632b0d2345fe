//! Retention applied to what a repository holds.

use super::retention::{self, Candidate, Input, Plan, Rules, Verdict};
use super::{Archive, Catalogue, Content, Removed, Repository};
use crate::error::{Error, Result};

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct Pruned {
    pub removed: Vec<Removed>,
    /// The first failure: nothing more is removed after it.
    pub failed: Option<Error>,
}

impl Catalogue {
    /// What rules say of each archive. Where a manifest could not be read, nothing is removed.
    pub fn retain(&self, rules: &Rules, force: bool) -> Plan {
        let candidates: Vec<Candidate> = self.archives.iter().map(candidate).collect();
        retention::decide(&Input {
            candidates: &candidates,
            rules,
            complete: self.problems.is_empty(),
            force,
            now: Some(jiff::Timestamp::now()),
        })
    }
}

fn candidate(archive: &Archive) -> Candidate {
    let manifest = &archive.manifest;
    let verdict = |checked: Option<super::Checked>| match checked {
        None => Verdict::Unknown,
        Some(checked) if checked.good => Verdict::Good,
        Some(_) => Verdict::Bad,
    };
    let content = match manifest.content {
        Content::Database => "database",
        Content::Globals => "globals",
        Content::Set => "set",
    };
    Candidate {
        name: manifest.name.to_string(),
        source: manifest.name.label().to_string(),
        scope: format!("{content} {}", manifest.scope),
        order: manifest.name.order(),
        snapshot: manifest.snapshot,
        rows: manifest.rows,
        bytes: manifest.raw_size,
        tables: manifest.tables,
        verified: verdict(archive.marks.verified),
        tested: verdict(archive.marks.tested),
        pinned: archive.marks.pinned,
        tags: archive.tags(),
    }
}

impl Repository {
    /// Removes what a plan of this catalogue does not keep, the oldest first.
    pub async fn prune(&self, catalogue: &Catalogue, plan: &Plan) -> Pruned {
        let mut pruned = Pruned::default();
        for decision in plan.decisions.iter().filter(|decision| !decision.keep) {
            let archive = catalogue
                .archives
                .iter()
                .find(|archive| archive.name().as_str() == decision.name);
            let Some(archive) = archive else { continue };
            match self.remove_unpinned(archive).await {
                Ok(removed) => pruned.removed.extend(removed),
                Err(error) => {
                    pruned.failed = Some(error);
                    break;
                }
            }
        }
        pruned
    }

    /// A pin that came after the plan was made still holds.
    async fn remove_unpinned(&self, archive: &Archive) -> Result<Option<Removed>> {
        match self.marks_of(archive.name()).await?.pinned {
            true => Ok(None),
            false => self.remove(archive).await.map(Some),
        }
    }
}
