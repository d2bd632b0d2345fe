//! What belongs to the whole server and to no database: roles, their settings and memberships,
//! privileges on parameters, tablespaces. A file a kind, each read by one query.
//!
//! They are few and their order is plain, so they need no graph: roles stand before what names them,
//! and a grant of membership behind the one that lets its grantor make it.

mod membership;
mod parameter;
mod role;
mod role_setting;
mod tablespace;

use std::collections::HashMap;

use bstr::BString;

pub use membership::Membership;
pub use role::{is_password, password_statement, without_passwords};

use super::kinds::routines::setting_value;
use super::refuse_unsupported;
use crate::archive::{Entry, EntryId, Pass, Section};
use crate::error::{Result, ResultExt};
use crate::postgres::{Rows, ServerVersion, Session};
use crate::sql;

/// Which of the globals are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalsScope {
    /// Roles with all that belongs to them, and privileges on parameters.
    pub roles: bool,
    pub tablespaces: bool,
    /// Do not read passwords.
    pub no_passwords: bool,
    /// As a server of this version would show them, to compare an archive of it: before 16,
    /// memberships have neither options nor grantors that count.
    pub as_of: Option<ServerVersion>,
}

impl Default for GlobalsScope {
    fn default() -> GlobalsScope {
        GlobalsScope {
            roles: true,
            tablespaces: true,
            no_passwords: false,
            as_of: None,
        }
    }
}

#[derive(Debug)]
pub struct Globals {
    /// In restore order.
    pub entries: Vec<Entry>,
    /// Passwords were not wanted, or may not be read.
    pub without_passwords: bool,
    pub warnings: Vec<String>,
}

/// One object, rendered.
#[derive(Debug, Default)]
struct Global {
    descriptor: &'static str,
    tag: BString,
    owner: Option<BString>,
    /// What stands between ALTER and OWNER TO.
    owner_target: Option<BString>,
    /// Statements, each ended by `;` and a line break.
    create: BString,
    /// What stands after COMMENT ON, and the comment.
    comment: Option<(BString, BString)>,
    /// What GRANT names ("TABLESPACE", name), with the statements.
    privileges: Option<(BString, BString)>,
    /// Roles that must be there first.
    roles: Vec<BString>,
}

struct Reader<'a> {
    session: &'a mut Session,
    /// Whose way of showing things is wanted.
    version: ServerVersion,
    /// Of the server itself.
    server: ServerVersion,
    warnings: Vec<String>,
}

impl Reader<'_> {
    async fn query(&mut self, what: &str, sql: &str) -> Result<Rows> {
        let rows = self.session.query(sql).await;
        rows.with_context(|| format!("reading {what}"))
    }
}

/// Reads what is wanted in the session's current transaction.
pub async fn read(session: &mut Session, scope: &GlobalsScope) -> Result<Globals> {
    let server = session.version()?;
    refuse_unsupported(server)?;
    let mut reader = Reader {
        session,
        version: scope
            .as_of
            .map_or(server, |as_of| ServerVersion(as_of.0.min(server.0))),
        server,
        warnings: Vec::new(),
    };
    let mut globals = Vec::new();
    let mut without_passwords = scope.no_passwords;
    if scope.roles {
        if !without_passwords && !role::can_read_passwords(&mut reader).await? {
            without_passwords = true;
            reader.warnings.push(
                "passwords of roles are not in the archive: the role that takes the snapshot may not read pg_authid"
                    .to_owned(),
            );
        }
        globals.extend(role::read(&mut reader, !without_passwords).await?);
        globals.extend(role_setting::read(&mut reader).await?);
        globals.extend(membership::read(&mut reader).await?);
        globals.extend(parameter::read(&mut reader).await?);
    }
    if scope.tablespaces {
        globals.extend(tablespace::read(&mut reader).await?);
    }
    let labels = labels(&mut reader).await?;
    Ok(Globals {
        entries: entries(globals, &labels),
        without_passwords,
        warnings: reader.warnings,
    })
}

/// The memberships that a server has, but those among predefined roles.
pub async fn memberships(session: &mut Session) -> Result<Vec<Membership>> {
    let server = session.version()?;
    let mut reader = Reader {
        session,
        version: server,
        server,
        warnings: Vec::new(),
    };
    membership::list(&mut reader).await
}

/// SECURITY LABEL for each label of a role or tablespace, by what stands after ON.
async fn labels(reader: &mut Reader<'_>) -> Result<HashMap<BString, BString>> {
    let rows = reader
        .query(
            "security labels of roles and tablespaces",
            "SELECT 'ROLE' AS sort, r.rolname AS name, s.provider, s.label
             FROM pg_shseclabel s JOIN pg_roles r ON r.oid = s.objoid
             WHERE s.classoid = 'pg_authid'::regclass
             UNION ALL
             SELECT 'TABLESPACE', t.spcname, s.provider, s.label
             FROM pg_shseclabel s JOIN pg_tablespace t ON t.oid = s.objoid
             WHERE s.classoid = 'pg_tablespace'::regclass
             ORDER BY 1, 2, 3",
        )
        .await?;
    let mut labels: HashMap<BString, BString> = HashMap::new();
    for row in &rows {
        let target = sql!(
            "{} {}",
            row.bytes("sort")?,
            sql::identifier(row.bytes("name")?)
        );
        let statement = sql!(
            "SECURITY LABEL FOR {} ON {} IS {};\n",
            sql::identifier(row.bytes("provider")?),
            target,
            sql::literal(row.bytes("label")?)
        );
        labels
            .entry(target)
            .or_default()
            .extend_from_slice(&statement);
    }
    Ok(labels)
}

/// Numbers them, and gives comments, labels and privileges entries of their own.
fn entries(globals: Vec<Global>, labels: &HashMap<BString, BString>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut roles: HashMap<BString, EntryId> = HashMap::new();
    for global in globals {
        let id = EntryId(entries.len() as u32 + 1);
        let mut dependencies: Vec<EntryId> = global
            .roles
            .iter()
            .filter_map(|role| roles.get(role).copied())
            .collect();
        dependencies.sort_unstable();
        dependencies.dedup();
        let mut needed = Vec::new();
        let target = sql!("{} {}", global.descriptor, sql::identifier(&global.tag));
        if !global.create.is_empty() {
            if global.descriptor == role::DESCRIPTOR {
                roles.insert(global.tag.clone(), id);
            }
            entries.push(Entry {
                owner: global.owner.clone(),
                owner_target: global.owner_target,
                dependencies,
                ..entry(id, global.descriptor, global.tag, global.create)
            });
            needed.push(id);
        }
        if let Some((target, text)) = global.comment {
            let create = sql!("COMMENT ON {} IS {};\n", target, sql::literal(text));
            let id = EntryId(entries.len() as u32 + 1);
            entries.push(Entry {
                owner: global.owner.clone(),
                dependencies: needed.clone(),
                ..entry(id, "COMMENT", target, create)
            });
        }
        if let Some(create) = labels.get(&target) {
            let id = EntryId(entries.len() as u32 + 1);
            entries.push(Entry {
                owner: global.owner.clone(),
                dependencies: needed.clone(),
                ..entry(id, "SECURITY LABEL", target, create.clone())
            });
        }
        if let Some((target, create)) = global.privileges.filter(|(_, text)| !text.is_empty()) {
            let id = EntryId(entries.len() as u32 + 1);
            entries.push(Entry {
                owner: global.owner,
                pass: Pass::Privileges,
                dependencies: needed,
                ..entry(id, "ACL", target, create)
            });
        }
    }
    entries
}

fn entry(id: EntryId, kind: &str, name: BString, create: BString) -> Entry {
    Entry {
        name,
        create,
        // what else on the server needs a role or a tablespace, no archive knows
        ..Entry::new(id, kind, Section::PreData)
    }
}
