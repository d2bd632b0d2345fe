//! Reading under one snapshot, and what every kind needs to know while reading.

use std::collections::{HashMap, HashSet};

use bstr::BString;

use super::object::{Address, Identity};
use crate::error::{Result, ResultExt};
use crate::postgres::{Oid, Rows, ServerVersion, Session};

/// Which objects of the database are wanted.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Do not read large objects.
    pub no_large_objects: bool,
}

pub struct Reader<'a> {
    pub session: &'a mut Session,
    pub version: ServerVersion,
    pub scope: &'a Scope,
    /// Members of extensions: created by CREATE EXTENSION, not by us. To the extension's address.
    members: HashMap<Address, Address>,
    /// pg_init_privs: the ACLs that extensions gave their members.
    initial_acls: HashMap<Address, BString>,
    /// Relations as found: other kinds keep only what belongs to these.
    relations: HashSet<Oid>,
    warnings: Vec<String>,
    left_out: Vec<String>,
}

/// A condition on a joined pg_namespace `n` that leaves out the system's own schemas and
/// everybody's temporary ones.
pub const USER_SCHEMAS: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// OIDs below are initdb's (FirstNormalObjectId, src/include/access/transam.h).
const FIRST_NORMAL_OID: Oid = 16384;

impl<'a> Reader<'a> {
    pub async fn new(session: &'a mut Session, scope: &'a Scope) -> Result<Reader<'a>> {
        let version = session.version()?;
        let mut reader = Reader {
            session,
            version,
            scope,
            members: HashMap::new(),
            initial_acls: HashMap::new(),
            relations: HashSet::new(),
            warnings: Vec::new(),
            left_out: Vec::new(),
        };
        let rows = reader
            .query(
                "members of extensions",
                // with what the server made along with a member, which has no membership of its own:
                // array types, row types, rules of views
                "WITH RECURSIVE member AS (
                     SELECT classid, objid, refclassid, refobjid
                     FROM pg_depend WHERE deptype = 'e'
                     UNION
                     SELECT d.classid, d.objid, m.refclassid, m.refobjid
                     FROM pg_depend d
                     JOIN member m ON d.refclassid = m.classid AND d.refobjid = m.objid
                     WHERE d.deptype = 'i')
                 SELECT classid, objid, refclassid, refobjid FROM member",
            )
            .await?;
        for row in &rows {
            reader.members.insert(
                Address::new(row.number("classid")?, row.number("objid")?),
                Address::new(row.number("refclassid")?, row.number("refobjid")?),
            );
        }
        let rows = reader
            .query(
                "initial privileges",
                "SELECT classoid, objoid, initprivs FROM pg_init_privs WHERE objsubid = 0",
            )
            .await?;
        for row in &rows {
            reader.initial_acls.insert(
                Address::new(row.number("classoid")?, row.number("objoid")?),
                row.text("initprivs")?,
            );
        }
        Ok(reader)
    }

    /// Runs one catalog query; `what` is named should it fail.
    pub async fn query(&mut self, what: &str, sql: &str) -> Result<Rows> {
        self.session
            .query(sql)
            .await
            .with_context(|| format!("reading {what}"))
    }

    /// The extension that an object belongs to. Such objects are not defined again; only
    /// privileges that were changed after CREATE EXTENSION are kept.
    pub fn extension_of(&self, address: Address) -> Option<Address> {
        self.members.get(&address).copied()
    }

    pub fn is_member(&self, identity: &Identity) -> bool {
        self.members.contains_key(&identity.address)
    }

    /// Settles what is wanted of an object, once it is read. Objects of extensions and of the
    /// system keep nothing but privileges that were changed since; false if there are none.
    pub fn admit(&self, identity: &mut Identity) -> bool {
        if let Some(initial) = self.initial_acls.get(&identity.address) {
            // an ACL that is back to the default is a change as well
            identity.acl = identity.acl.take().or_else(|| identity.acl_default.clone());
            identity.acl_default = Some(initial.clone());
        }
        let system = identity.address.oid < FIRST_NORMAL_OID
            || identity
                .schema
                .as_ref()
                .is_some_and(|schema| schema == "pg_catalog");
        identity.privileges_only = system || self.is_member(identity);
        !identity.privileges_only
            || (identity.acl.is_some() && identity.acl != identity.acl_default)
    }

    pub fn members(&self) -> &HashMap<Address, Address> {
        &self.members
    }

    /// Tells the user something about the source that the archive cannot show.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Notes objects of the database that no entry is made of: "3 event triggers".
    pub fn leave_out(&mut self, what: String) {
        self.left_out.push(what);
    }

    pub fn take_left_out(&mut self) -> Vec<String> {
        std::mem::take(&mut self.left_out)
    }

    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    pub fn add_relation(&mut self, oid: Oid) {
        self.relations.insert(oid);
    }

    /// Whether this relation was read as an object of ours, so that its parts are wanted too.
    pub fn has_relation(&self, oid: Oid) -> bool {
        self.relations.contains(&oid)
    }
}
