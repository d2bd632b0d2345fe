//! What the target has already.

use std::collections::{BTreeMap, HashMap, HashSet};

use bstr::{BString, ByteSlice};

use crate::archive::Entry;
use crate::catalog::globals::{self, GlobalsScope, Membership};
use crate::error::{Error, Result, ResultExt};
use crate::postgres::Session;
use crate::restore::Options;
use crate::restore::preflight::{self, Finding, Severity};
use crate::sql;

/// What the server has before anything is restored.
pub struct Present {
    /// As an archive of it would have it, by kind and name. What is the same already is left alone, so
    /// that who may not alter a role need not.
    pub entries: HashMap<(String, BString), Entry>,
    pub passwords_are_known: bool,
    pub roles: HashSet<BString>,
    /// With their locations.
    pub tablespaces: BTreeMap<BString, BString>,
    pub memberships: Vec<Membership>,
    /// As which we are connected, and act; whether each is a superuser.
    pub own: HashMap<BString, bool>,
    pub acts_as_superuser: bool,
}

impl Present {
    pub async fn read(session: &mut Session) -> Result<Present> {
        let read = globals::read(session, &GlobalsScope::default()).await;
        let read = read.context("reading the globals of the target")?;
        let mut present = Present {
            entries: HashMap::new(),
            passwords_are_known: !read.without_passwords,
            roles: HashSet::new(),
            tablespaces: BTreeMap::new(),
            memberships: globals::memberships(session).await?,
            own: HashMap::new(),
            acts_as_superuser: false,
        };
        for entry in read.entries {
            let key = (entry.kind.clone(), entry.name.clone());
            present.entries.insert(key, entry);
        }
        let rows = session
            .query(
                "SELECT rolname, rolsuper, rolname = session_user AS session,
                        rolname = current_user AS current
                 FROM pg_roles",
            )
            .await
            .context("listing the roles of the target")?;
        for row in &rows {
            let name = row.text("rolname")?;
            let superuser = row.bool("rolsuper")?;
            if row.bool("session")? || row.bool("current")? {
                present.own.insert(name.clone(), superuser);
            }
            present.acts_as_superuser |= row.bool("current")? && superuser;
            present.roles.insert(name);
        }
        let rows = session
            .query(
                "SELECT spcname, pg_tablespace_location(oid) AS location FROM pg_tablespace
                 WHERE spcname !~ '^pg_'",
            )
            .await
            .context("listing the tablespaces of the target")?;
        for row in &rows {
            present
                .tablespaces
                .insert(row.text("spcname")?, row.text("location")?);
        }
        Ok(present)
    }

    pub fn entry(&self, kind: &str, name: &[u8]) -> Option<&Entry> {
        self.entries.get(&(kind.to_owned(), name.into()))
    }

    pub fn has_same(&self, entry: &Entry) -> bool {
        self.entry(&entry.kind, &entry.name)
            .is_some_and(|own| own.create == entry.create && own.owner == entry.owner)
    }

    /// Refuses what will fail; returns what is worth knowing.
    pub fn check(
        &self,
        session: &Session,
        entries: &[Entry],
        options: &Options,
    ) -> Result<Vec<String>> {
        if session.parameter("in_hot_standby") == Some("on") {
            return Err(
                Error::new("the target is a standby, which cannot be written to")
                    .hint("connect to the primary; target_session_attrs=read-write finds it"),
            );
        }
        let mut blocking = Vec::new();
        let mut told = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == "TABLESPACE") {
            let Some(there) = self.tablespaces.get(&entry.name) else {
                continue;
            };
            // within the server's own folder it bears a number
            let in_place = |location: &BString| location.first() != Some(&b'/');
            let wanted = location(entry);
            if wanted == *there || (in_place(&wanted) && in_place(there)) {
                continue;
            }
            let finding = Finding {
                severity: Severity::WillFail,
                message: format!(
                    "tablespace \"{}\" exists at \"{there}\", and the archive has it at \"{wanted}\"",
                    entry.name
                ),
                hint: "rename or drop the one on the server; or use --force to take it as it is, or --no-tablespaces"
                    .to_owned(),
            };
            match options.force {
                true => told.push(finding.to_string()),
                false => blocking.push(finding),
            }
        }
        if !blocking.is_empty() {
            return Err(preflight::refusal(&blocking));
        }
        Ok(told)
    }
}

/// Of CREATE TABLESPACE, as this program writes it.
pub fn location(entry: &Entry) -> BString {
    let head = sql!(
        "CREATE TABLESPACE {} LOCATION ",
        sql::identifier(&entry.name)
    );
    let first = sql::statements(&entry.create).into_iter().next();
    let literal = first
        .and_then(|statement| statement.strip_prefix(head.as_slice()))
        .and_then(|literal| literal.strip_suffix(b";"));
    let inner = |start: &[u8]| -> Option<Vec<u8>> {
        let inner = literal?.strip_prefix(start)?.strip_suffix(b"'")?;
        Some(inner.replace("''", "'"))
    };
    match (inner(b"'"), inner(b"E'")) {
        (Some(plain), _) => plain.into(),
        (None, Some(escaped)) => escaped.replace("\\\\", "\\").into(),
        (None, None) => BString::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::schedule::tests::entry;

    #[test]
    fn locations_are_those_of_the_statement() {
        for path in ["/a b", "/it's", "/back\\slash'", ""] {
            let mut tablespace = entry(1, "TABLESPACE", "odd \"LOCATION 'x'", &[]);
            tablespace.create = sql!(
                "CREATE TABLESPACE {} LOCATION {};\nALTER TABLESPACE x SET (a = 'b');\n",
                sql::identifier(&tablespace.name),
                sql::literal(path)
            );
            assert_eq!(location(&tablespace), path);
        }
    }
}
