//! Memberships that the target has and the archive has not, or has with less.

use std::collections::HashSet;

use bstr::BString;

use super::{Run, with_hint};
use crate::archive::Entry;
use crate::catalog::globals::Membership;
use crate::error::{Result, SqlState};
use crate::restore::label;
use crate::sql;

impl Run<'_> {
    /// Whether the ADMIN option of a membership goes: `narrow` sees to it.
    pub(super) fn loses_admin(&self, entry: &Entry) -> bool {
        entry.kind == "ROLE MEMBERSHIP"
            && !self.has_admin(&entry.name)
            && !self.admins(&entry.name).is_empty()
    }

    /// Whether the archive has the ADMIN option of a membership.
    fn has_admin(&self, name: &BString) -> bool {
        let name = self.known_as(name);
        let mut all = self.all.iter().filter(|entry| {
            let says = |text: &[u8]| sql::find_unquoted(&entry.create, text).is_some();
            entry.kind == "ROLE MEMBERSHIP"
                && (says(b" WITH ADMIN TRUE") || says(b" WITH ADMIN OPTION"))
        });
        all.any(|entry| self.known_as(&entry.name) == name)
    }

    /// What the target has of a membership, with the ADMIN option.
    fn admins(&self, name: &BString) -> Vec<&Membership> {
        let name = self.known_as(name);
        let present = self.present.memberships.iter();
        present
            .filter(|membership| membership.admin && self.known_as(&membership.tag()) == name)
            .collect()
    }

    /// Before 16 a membership is one, whoever granted it.
    fn known_as(&self, tag: &BString) -> BString {
        let end = match self.grantors_count {
            true => None,
            false => sql::find_unquoted(tag, b" GRANTED BY "),
        };
        tag[..end.unwrap_or(tag.len())].into()
    }

    /// By REVOKE, which minds what others were granted by means of the option, and behind the
    /// revoking of what may go of that. GRANT would leave a membership without a right behind it.
    pub(super) async fn narrow(&mut self) -> Result<()> {
        let mut left = std::mem::take(&mut self.narrowed);
        loop {
            let (before, mut failed) = (left.len(), Vec::new());
            for entry in left {
                self.progress.log(|| format!("restoring {}", label(&entry)));
                let admins = self.admins(&entry.name);
                let revokes = admins.iter().map(|own| own.revoke("ADMIN OPTION FOR "));
                let revokes: Vec<BString> = revokes.collect();
                let statement = sql!("{};\n{}", sql::join(revokes, ";\n"), entry.create);
                let outcome = self.session.execute(statement).await;
                self.heed(&entry);
                match outcome {
                    Ok(()) => {}
                    Err(error) if self.session.is_lost() => return Err(error),
                    Err(error) => failed.push((entry, error)),
                }
            }
            // one that goes may let another go
            if failed.len() == before {
                for (entry, error) in failed {
                    let error = match error.sqlstate() {
                        Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => error.hint(
                            "the member has granted the role to others, who keep it: revoke that first",
                        ),
                        _ => with_hint(&entry, error),
                    };
                    self.failed(&entry, error)?;
                }
                return Ok(());
            }
            left = failed.into_iter().map(|(entry, _)| entry).collect();
        }
    }

    /// Memberships among chosen roles that the archive does not have.
    pub(super) async fn revoke_others(&mut self) -> Result<()> {
        let archived = || self.archived.values().copied();
        let roles: HashSet<&BString> = archived()
            .filter(|entry| entry.kind == "ROLE" && self.is_chosen(entry))
            .map(|entry| &entry.name)
            .collect();
        let kept: HashSet<BString> = archived()
            .filter(|entry| entry.kind == "ROLE MEMBERSHIP")
            .map(|entry| self.known_as(&entry.name))
            .collect();
        let present = self.present;
        let mut others = Vec::new();
        for membership in &present.memberships {
            let is_ours = roles.contains(&membership.member)
                && (roles.contains(&membership.role) || membership.role.starts_with(b"pg_"));
            let tag = self.known_as(&membership.tag());
            if !is_ours || kept.contains(&tag) {
                continue;
            }
            if present.own.contains_key(&membership.member) {
                self.warnings.push(format!(
                    "membership {tag}, which the archive does not have, is kept: this restore is connected as its member"
                ));
                continue;
            }
            others.push((tag, membership.revoke("")));
        }
        self.revoke(others).await
    }

    /// What was granted by means of a membership goes before it: tried again while some of it goes.
    async fn revoke(&mut self, mut memberships: Vec<(BString, BString)>) -> Result<()> {
        loop {
            let (before, mut failed) = (memberships.len(), Vec::new());
            for (tag, revoke) in memberships {
                match self.session.execute(&revoke).await {
                    Ok(()) => self.warnings.push(format!(
                        "membership {tag}, which the archive does not have, was revoked"
                    )),
                    Err(error) if self.session.is_lost() => return Err(error),
                    Err(error) => failed.push((tag, revoke, error)),
                }
            }
            if failed.len() == before {
                self.warnings.extend(failed.iter().map(|(tag, _, error)| format!(
                    "membership {tag}, which the archive does not have, could not be revoked: {error}"
                )));
                return Ok(());
            }
            let rest = failed.into_iter();
            memberships = rest.map(|(tag, revoke, _)| (tag, revoke)).collect();
        }
    }
}
