//! What all kinds of objects have in common.

use std::collections::HashSet;

use bstr::BString;

use super::reader::Reader;
use crate::archive::{Contents, EntryId, Pass, Section};
use crate::error::Result;
use crate::postgres::{Oid, Row, ServerVersion};
use crate::sql;

/// OIDs of the catalogs, which are fixed (src/include/catalog/*.h, CATALOG lines).
pub mod class {
    use crate::postgres::Oid;

    pub const TYPE: Oid = 1247;
    pub const ATTRIBUTE: Oid = 1249;
    pub const PROC: Oid = 1255;
    pub const RELATION: Oid = 1259;
    pub const AUTHID: Oid = 1260;
    pub const DATABASE: Oid = 1262;
    pub const DEFAULT_ACL: Oid = 826;
    pub const FOREIGN_SERVER: Oid = 1417;
    pub const USER_MAPPING: Oid = 1418;
    pub const FOREIGN_DATA_WRAPPER: Oid = 2328;
    pub const ACCESS_METHOD: Oid = 2601;
    pub const OPERATOR_OF_FAMILY: Oid = 2602;
    pub const FUNCTION_OF_FAMILY: Oid = 2603;
    pub const ATTRDEF: Oid = 2604;
    pub const CAST: Oid = 2605;
    pub const CONSTRAINT: Oid = 2606;
    pub const CONVERSION: Oid = 2607;
    pub const INDEX: Oid = 2610;
    pub const LANGUAGE: Oid = 2612;
    pub const LARGE_OBJECT: Oid = 2613;
    pub const NAMESPACE: Oid = 2615;
    pub const OPERATOR_CLASS: Oid = 2616;
    pub const OPERATOR: Oid = 2617;
    pub const REWRITE: Oid = 2618;
    pub const TRIGGER: Oid = 2620;
    pub const OPERATOR_FAMILY: Oid = 2753;
    pub const EXTENSION: Oid = 3079;
    pub const STATISTIC_EXT: Oid = 3381;
    pub const POLICY: Oid = 3256;
    pub const COLLATION: Oid = 3456;
    pub const EVENT_TRIGGER: Oid = 3466;
    pub const TRANSFORM: Oid = 3576;
    pub const TEXT_SEARCH_DICTIONARY: Oid = 3600;
    pub const TEXT_SEARCH_PARSER: Oid = 3601;
    pub const TEXT_SEARCH_CONFIGURATION: Oid = 3602;
    pub const TEXT_SEARCH_TEMPLATE: Oid = 3764;
    pub const SUBSCRIPTION: Oid = 6100;
    pub const PUBLICATION: Oid = 6104;
    pub const PUBLICATION_RELATION: Oid = 6106;
    pub const PUBLICATION_SCHEMA: Oid = 6237;
}

/// One catalog row may become several entries; this tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Part {
    #[default]
    Definition,
    /// A partition or an index attached to its parent.
    Attach,
    /// ALTER SEQUENCE ... OWNED BY.
    OwnedBy,
    /// Rows of a table, the value of a sequence, the contents of large objects.
    Data,
    /// REFRESH MATERIALIZED VIEW.
    Refresh,
    /// ALTER TABLE ... ENABLE ROW LEVEL SECURITY.
    RowSecurity,
    /// A type that is declared and not yet defined.
    Shell,
    /// What the planner knows of a relation.
    Statistics,
}

/// Which catalog row an object is, as pg_depend names it; columns count as their relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// OID of the catalog: one of `class`.
    pub class: Oid,
    pub oid: Oid,
    pub part: Part,
}

impl Address {
    pub const fn new(class: Oid, oid: Oid) -> Address {
        Address {
            class,
            oid,
            part: Part::Definition,
        }
    }

    pub const fn relation(oid: Oid) -> Address {
        Address::new(class::RELATION, oid)
    }

    pub const fn part(self, part: Part) -> Address {
        Address { part, ..self }
    }
}

/// What every object has: who it is, whose it is, who may use it.
#[derive(Debug, Clone)]
pub struct Identity {
    pub address: Address,
    /// None for objects that live in no schema.
    pub schema: Option<BString>,
    pub name: BString,
    pub owner: Option<BString>,
    /// The ACL as aclitem[] prints it. None: never changed from the default.
    pub acl: Option<BString>,
    /// What the object has when it is new: what `acldefault` gives for this kind and owner, or
    /// what pg_init_privs records.
    pub acl_default: Option<BString>,
    /// Made by an extension or by initdb: of this object only privileges are restored, nothing is
    /// created, dropped, owned, commented or labelled.
    pub privileges_only: bool,
}

impl Identity {
    /// Reads `oid` and `name`, which every kind's query has. What a kind has besides is asked for by
    /// name, so that a misspelt column is an error and not an object of nobody.
    pub fn from_row(class: Oid, row: &Row) -> Result<Identity> {
        Ok(Identity {
            address: Address::new(class, row.number("oid")?),
            schema: None,
            name: row.text("name")?,
            owner: None,
            acl: None,
            acl_default: None,
            privileges_only: false,
        })
    }

    /// The same with `schema` and `owner`: its own, or those of the relation that it belongs to.
    pub fn in_schema(class: Oid, row: &Row) -> Result<Identity> {
        let identity = Identity {
            schema: row.optional_text("schema")?,
            ..Identity::from_row(class, row)?
        };
        identity.owned(row)
    }

    /// Adds `owner`.
    pub fn owned(self, row: &Row) -> Result<Identity> {
        Ok(Identity {
            owner: row.optional_text("owner")?,
            ..self
        })
    }

    /// Adds `acl` and `acldefault`.
    pub fn with_privileges(self, reader: &Reader<'_>, row: &Row) -> Result<Identity> {
        let acl = |column| {
            row.optional_text(column)?
                .map(|acl| reader.without_gone_roles(acl))
                .transpose()
        };
        Ok(Identity {
            acl: acl("acl")?,
            acl_default: acl("acldefault")?,
            ..self
        })
    }

    /// The same object's other part: no owner or privileges of its own.
    pub fn part(&self, part: Part) -> Identity {
        Identity {
            address: self.address.part(part),
            owner: self.owner.clone(),
            schema: self.schema.clone(),
            name: self.name.clone(),
            acl: None,
            acl_default: None,
            privileges_only: self.privileges_only,
        }
    }

    /// The name as SQL, with its schema where it has one.
    pub fn sql(&self) -> BString {
        match &self.schema {
            Some(schema) => sql::qualified(schema, &self.name),
            None => sql::identifier(&self.name),
        }
    }
}

/// How an object is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drop {
    /// It goes with its owner, or cannot be dropped.
    None,
    /// `DROP <this>`: "TABLE public.orders".
    Object(BString),
    /// Statements of its own, without and with IF EXISTS; each ended by `;`.
    Statement { plain: BString, if_exists: BString },
}

/// Privileges on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnAcl {
    pub column: BString,
    /// aclitem[] texts: what is granted, and what an extension or initdb granted at first.
    pub acl: BString,
    pub fresh: BString,
}

/// What GRANT names: `GRANT ... ON <object_type> <name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivilegeTarget {
    /// "TABLE", "SEQUENCE", "FUNCTION", "SCHEMA", "TYPE", "LARGE OBJECT" ...
    pub object_type: &'static str,
    /// As SQL.
    pub name: BString,
    pub columns: Vec<ColumnAcl>,
}

/// Who may use an object, as the catalogs have it, changed from the default or not: what an entry's
/// GRANT and REVOKE are held against.
#[derive(Debug, Clone)]
pub struct Privileges {
    /// The entry of the object itself; None where nothing but privileges is kept of it.
    pub entry: Option<EntryId>,
    /// These four are as in the entry of the privileges, if there is one.
    pub kind: &'static str,
    pub schema: Option<BString>,
    pub tag: BString,
    pub relation: Option<BString>,
    pub owner: BString,
    /// Of the system or of an extension: its owner is none of the archive's.
    pub privileges_only: bool,
    /// As GRANT or ALTER DEFAULT PRIVILEGES spells it.
    pub object_type: &'static str,
    /// As SQL.
    pub name: BString,
    /// aclitem[] texts: what is granted, and what a fresh object has.
    pub acl: BString,
    pub fresh: BString,
    pub columns: Vec<ColumnAcl>,
}

/// An object rendered as SQL: what becomes its entry.
#[derive(Debug, Clone)]
pub struct Definition {
    /// pg_dump's descriptor.
    pub descriptor: &'static str,
    pub section: Section,
    pub pass: Pass,
    /// pg_dump's tag, not quoted.
    pub tag: BString,
    /// Name of the relation it belongs to, not quoted.
    pub relation: Option<BString>,
    /// Statements, each ended by `;` and a line break.
    pub create: BString,
    pub drop: Drop,
    /// What stands between ALTER and OWNER TO.
    pub owner_target: Option<BString>,
    pub privileges: Option<PrivilegeTarget>,
    /// What stands after COMMENT ON, and after SECURITY LABEL ON: "TABLE public.orders".
    pub comment_target: Option<BString>,
    pub tablespace: Option<BString>,
    pub access_method: Option<BString>,
    pub contents: Contents,
    /// Where rows go if not into their own relation.
    pub load_into: Option<BString>,
}

impl Definition {
    /// A definition with the given statements and nothing else yet.
    pub fn new(
        descriptor: &'static str,
        section: Section,
        tag: impl Into<BString>,
        create: impl Into<BString>,
    ) -> Definition {
        Definition {
            descriptor,
            section,
            pass: Pass::Main,
            tag: tag.into(),
            relation: None,
            create: create.into(),
            drop: Drop::None,
            owner_target: None,
            privileges: None,
            comment_target: None,
            tablespace: None,
            access_method: None,
            contents: Contents::None,
            load_into: None,
        }
    }

    /// The usual case: `target` ("TABLE public.orders") is what DROP, ALTER ... OWNER TO and
    /// COMMENT ON all name.
    pub fn target(mut self, target: impl Into<BString>) -> Definition {
        let target = target.into();
        self.drop = Drop::Object(target.clone());
        self.owner_target = Some(target.clone());
        self.comment_target = Some(target);
        self
    }

    pub fn privileges(mut self, object_type: &'static str, name: impl Into<BString>) -> Definition {
        self.privileges = Some(PrivilegeTarget {
            object_type,
            name: name.into(),
            columns: Vec::new(),
        });
        self
    }
}

/// What the dependency sort decided about objects that cannot stand where they usually do.
#[derive(Debug, Default)]
pub struct Placement {
    /// Column defaults and CHECK constraints that are added after their table or domain.
    pub separate: HashSet<Address>,
    /// Views created with the right columns and no query first, and replaced later.
    pub dummy_views: HashSet<Address>,
    /// Functions, materialised views and defaults moved behind the data.
    pub postponed: HashSet<Address>,
    /// Shell types that a function needs.
    pub shells: HashSet<Address>,
}

/// What rendering may look at.
pub struct Defining<'a> {
    pub version: ServerVersion,
    pub placement: &'a Placement,
}

impl Defining<'_> {
    pub fn is_separate(&self, address: Address) -> bool {
        self.placement.separate.contains(&address)
    }

    /// `usual`, or post-data where the sort moved the object there.
    pub fn section(&self, address: Address, usual: Section) -> Section {
        if self.placement.postponed.contains(&address) {
            Section::PostData
        } else {
            usual
        }
    }
}

/// One kind of object; `kinds/` has a file each.
pub trait CatalogObject {
    fn identity(&self) -> &Identity;

    /// Tells objects of one kind, schema and name apart: argument types, the table of a trigger.
    /// Never an OID: equal schemas must give equal archives.
    fn natural_key(&self) -> BString {
        BString::default()
    }

    fn section(&self) -> Section {
        Section::PreData
    }

    /// Objects that must stand first, beside what pg_depend says.
    fn requires(&self) -> Vec<Address> {
        Vec::new()
    }

    /// Other addresses by which pg_depend means this object: a table's row type, a
    /// constraint's index, a view's rule, a type's array type.
    fn aliases(&self) -> Vec<Address> {
        Vec::new()
    }

    /// The object whose statement contains this one unless a loop forbids it: the table of a
    /// column default or CHECK constraint, the domain of its constraint.
    fn inline_in(&self) -> Option<Address> {
        None
    }

    /// Section once it stands apart from `inline_in`.
    fn separate_section(&self) -> Section {
        Section::PostData
    }

    /// Whether loops through `inline_in` are broken by a dummy first: the query of a view.
    fn leaves_dummy(&self) -> bool {
        false
    }

    /// Whether it may move behind the data should it need what comes there.
    fn may_be_postponed(&self) -> bool {
        false
    }

    /// The shell of this type, which functions may take in its place.
    fn shell(&self) -> Option<Address> {
        None
    }

    /// Comments and security labels that belong to parts without an entry of their own: the address
    /// and column that pg_description has them under, and what stands after COMMENT ON. An inline constraint is
    /// among them also when the sort has made it an entry after all.
    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        Vec::new()
    }

    /// "TABLES": what its privileges are for, if it is default privileges and no object itself.
    fn default_privileges_for(&self) -> Option<&'static str> {
        None
    }

    /// None if it is part of another object's statement.
    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>>;
}
