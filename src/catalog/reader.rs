//! Reading under one snapshot, and what every kind needs to know while reading.

use std::collections::{BTreeSet, HashMap, HashSet};

use bstr::{BString, ByteSlice};

use super::ahead::Ahead;
use super::filter::{Chosen, FIRST_NORMAL_OID, Patterns};
use super::object::{Address, Identity, class};
use super::scope::Scope;
use crate::error::{Result, ResultExt};
use crate::postgres::{Oid, Rows, ServerVersion, Session};
use crate::sql;

pub struct Reader<'a> {
    pub session: &'a mut Session,
    pub version: ServerVersion,
    pub scope: &'a Scope,
    /// What the patterns of the scope mean.
    pub chosen: Chosen,
    /// Members of extensions: created by CREATE EXTENSION, not by us. To the extension's address.
    members: HashMap<Address, Address>,
    /// pg_init_privs: the ACLs that extensions gave their members.
    initial_acls: HashMap<Address, BString>,
    /// Relations as found: other kinds keep only what belongs to these.
    relations: HashSet<Oid>,
    /// OIDs of those that the filters choose, and with their parents, as SQL has arrays. None: all.
    wanted: Option<WantedRelations>,
    /// With those that the filters do not choose.
    known_relations: HashSet<Oid>,
    /// Roles that privileges name by number, since they were dropped behind the server's back.
    gone_roles: HashSet<BString>,
    warnings: Vec<String>,
    /// What another connection is asked.
    pub(super) ahead: Ahead,
}

struct WantedRelations {
    relations: String,
    described: String,
}

/// A condition on a joined pg_namespace `n` that leaves out the system's own schemas and
/// everybody's temporary ones.
pub const USER_SCHEMAS: &str = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// What ACLs name and is no role; a role may also be called by such a number.
const GONE_ROLES: &str = "
    SELECT DISTINCT role.oid
    FROM (SELECT relacl AS acl FROM pg_class
          UNION ALL SELECT attacl FROM pg_attribute
          UNION ALL SELECT proacl FROM pg_proc
          UNION ALL SELECT typacl FROM pg_type
          UNION ALL SELECT nspacl FROM pg_namespace
          UNION ALL SELECT lanacl FROM pg_language
          UNION ALL SELECT fdwacl FROM pg_foreign_data_wrapper
          UNION ALL SELECT srvacl FROM pg_foreign_server
          UNION ALL SELECT lomacl FROM pg_largeobject_metadata
          UNION ALL SELECT defaclacl FROM pg_default_acl
          UNION ALL SELECT initprivs FROM pg_init_privs
          UNION ALL SELECT datacl FROM pg_database WHERE datname = current_database()) AS a
    CROSS JOIN aclexplode(a.acl) AS item
    CROSS JOIN unnest(ARRAY[item.grantee, item.grantor]) AS role(oid)
    WHERE a.acl IS NOT NULL AND role.oid <> 0
      AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = role.oid OR r.rolname = role.oid::text)
    ORDER BY 1";

impl<'a> Reader<'a> {
    pub async fn new(session: &'a mut Session, scope: &'a Scope) -> Result<Reader<'a>> {
        let version = session.version()?;
        let chosen = scope.patterns.choose(session).await?;
        let mut reader = Reader {
            session,
            version,
            scope,
            chosen,
            members: HashMap::new(),
            initial_acls: HashMap::new(),
            relations: HashSet::new(),
            wanted: None,
            known_relations: HashSet::new(),
            gone_roles: HashSet::new(),
            warnings: Vec::new(),
            ahead: Ahead::default(),
        };
        let rows = reader.query("roles that are gone", GONE_ROLES).await?;
        for row in &rows {
            let role = row.text("oid")?;
            reader.warn(format!(
                "role {role} was dropped behind the server's back: privileges that name it are left out"
            ));
            reader.gone_roles.insert(role);
        }
        let rows = reader
            .query(
                "members of extensions",
                // with what the server made along with a member, which has no membership of its own:
                // array types, row types, rules of views
                "WITH RECURSIVE member AS (
                     SELECT classid, objid, refclassid, refobjid
                     FROM pg_depend
                     WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
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
                reader.without_gone_roles(row.text("initprivs")?)?,
            );
        }
        if scope.patterns != Patterns::default() {
            reader.wanted = Some(reader.find_wanted_relations().await?);
        }
        Ok(reader)
    }

    async fn find_wanted_relations(&mut self) -> Result<WantedRelations> {
        let rows = self
            .query(
                "relations",
                &format!(
                    "SELECT c.oid, n.nspname AS schema,
                            ARRAY(SELECT h.inhparent FROM pg_inherits h
                                  WHERE h.inhrelid = c.oid) AS parents
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {USER_SCHEMAS}"
                ),
            )
            .await?;
        let mut relations = BTreeSet::new();
        let mut described = BTreeSet::new();
        for row in &rows {
            let oid: Oid = row.number("oid")?;
            if self.chosen.relation(oid, row.bytes("schema")?) {
                relations.insert(oid);
                described.insert(oid);
                described.extend(row.numbers::<Oid>("parents")?);
            }
        }
        let array = |oids: BTreeSet<Oid>| {
            let oids: Vec<String> = oids.iter().map(Oid::to_string).collect();
            format!("'{{{}}}'::oid[]", oids.join(","))
        };
        Ok(WantedRelations {
            relations: array(relations),
            described: array(described),
        })
    }

    /// A condition on a relation `c` of ours: that the filters choose it. The server's deparsing
    /// functions lock the relation that they are asked about, so they are asked about no other.
    pub fn of_wanted(&self) -> String {
        let of = |wanted: &WantedRelations| format!("c.oid = ANY ({})", wanted.relations);
        self.wanted.as_ref().map_or_else(|| "true".to_owned(), of)
    }

    /// The same with their parents, which children are compared with.
    pub fn of_described(&self) -> String {
        let of = |wanted: &WantedRelations| format!("c.oid = ANY ({})", wanted.described);
        self.wanted.as_ref().map_or_else(|| "true".to_owned(), of)
    }

    /// A condition on a schema `n`: that the filters choose what is in it.
    pub fn in_wanted_schemas(&self) -> String {
        match self.chosen.wanted_schemas() {
            None => "true".to_owned(),
            Some(oids) => {
                let oids: Vec<String> = oids.iter().map(Oid::to_string).collect();
                format!("n.oid = ANY ('{{{}}}'::oid[])", oids.join(","))
            }
        }
    }

    /// The ACL without what names roles that are gone: no GRANT can say it.
    pub fn without_gone_roles(&self, acl: BString) -> Result<BString> {
        if self.gone_roles.is_empty() {
            return Ok(acl);
        }
        sql::privileges::acl_without(acl.as_bstr(), &self.gone_roles)
    }

    /// Runs one catalog query; `what` is named should it fail.
    pub async fn query(&mut self, what: &str, sql: &str) -> Result<Rows> {
        let answer = match self.ahead.take(sql).await {
            Some(answer) => answer,
            None => self.session.query(sql).await,
        };
        answer.with_context(|| format!("reading {what}"))
    }

    /// The extension that an object belongs to. Such objects are not defined again; only
    /// privileges that were changed after CREATE EXTENSION are kept.
    pub fn extension_of(&self, address: Address) -> Option<Address> {
        self.members.get(&address).copied()
    }

    pub fn is_member(&self, identity: &Identity) -> bool {
        self.members.contains_key(&identity.address)
    }

    /// Whether the filters choose an object.
    pub fn wants(&self, identity: &Identity) -> bool {
        let Address { class, oid, .. } = identity.address;
        if let Some(extension) = self.extension_of(identity.address) {
            return self.chosen.extension(extension.oid);
        }
        match (&identity.schema, class) {
            (_, class::NAMESPACE) if identity.name == "pg_catalog" => {
                self.chosen.system_contents_of(&identity.name)
            }
            (_, class::NAMESPACE) => self.chosen.schema(oid),
            (_, class::EXTENSION) => self.chosen.extension(oid),
            (Some(schema), _) if oid < FIRST_NORMAL_OID => self.chosen.system_contents_of(schema),
            (Some(schema), class::RELATION) => self.chosen.relation(oid, schema),
            (Some(schema), _) => self.chosen.contents_of(schema),
            (None, _) => self.chosen.everything(),
        }
    }

    /// Settles what is wanted of an object, once it is read. Objects of extensions and of the
    /// system keep nothing but privileges that were changed since; false if there are none, or the
    /// filters do not choose the object.
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
        let is_kept = !identity.privileges_only
            || (identity.acl.is_some() && identity.acl != identity.acl_default);
        is_kept && self.wants(identity)
    }

    pub fn members(&self) -> &HashMap<Address, Address> {
        &self.members
    }

    /// Whether the rows or the value of a relation are wanted, given that the relation is.
    /// `persistence` is pg_class.relpersistence.
    pub fn wants_data(&self, oid: Oid, persistence: u8) -> bool {
        let is_unlogged = persistence == b'u';
        self.chosen.data(oid) && !(is_unlogged && self.scope.no_unlogged_table_data)
    }

    /// Tells the user something about the source that the archive cannot show.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    pub fn add_relation(&mut self, oid: Oid, is_wanted: bool) {
        self.known_relations.insert(oid);
        if is_wanted {
            self.relations.insert(oid);
        }
    }

    /// Whether it is one of ours, wanted or not.
    pub fn knows_relation(&self, oid: Oid) -> bool {
        self.known_relations.contains(&oid)
    }

    /// Whether this relation was read as an object of ours, so that its parts are wanted too.
    pub fn has_relation(&self, oid: Oid) -> bool {
        self.relations.contains(&oid)
    }
}
