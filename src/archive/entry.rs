//! One object of the dump: its definition and where it stands among the others.

use std::collections::HashMap;

use bstr::BString;

/// Number of an entry within its archive, from 1, in restore order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Section {
    /// Before the data: types, tables, functions.
    PreData = 1,
    /// Rows, large objects, sequence values.
    Data = 2,
    /// After the data: indexes, constraints, triggers.
    PostData = 3,
}

/// When a restore replays an entry, whatever its section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Pass {
    Main = 1,
    /// GRANT and REVOKE, once every object stands.
    Privileges = 2,
    /// Event triggers and materialised view refreshes, which may need all else.
    Last = 3,
}

/// What the archive holds of an entry besides its definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    None,
    /// Rows of a table, as `COPY relation (columns)` wrote them.
    Rows {
        /// The relation as SQL, qualified and quoted.
        relation: BString,
        /// Columns in order, as names (not quoted). A table may have none.
        columns: Vec<BString>,
        /// `WHERE ...` of an extension's configuration table, or empty.
        filter: BString,
    },
    /// One row: last_value, is_called, in COPY text form.
    SequenceValue {
        sequence: BString,
    },
    /// Rows of (oid, offset, bytes), in COPY text form.
    LargeObjects,
}

/// One TOC entry. Names and SQL are bytes in the encoding that the archive's header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: EntryId,
    /// pg_dump's descriptor: "TABLE", "FK CONSTRAINT", "TABLE DATA".
    pub kind: String,
    pub section: Section,
    pub pass: Pass,
    /// None for objects that live in no schema.
    pub schema: Option<BString>,
    /// pg_dump's tag, not quoted: "orders", "orders orders_pkey", "total(integer, integer)".
    pub name: BString,
    /// The relation that a constraint, index, trigger, default or rows belong to, not quoted.
    pub relation: Option<BString>,
    pub owner: Option<BString>,
    /// What stands between ALTER and OWNER TO: `FUNCTION public.f(integer)`. None where the
    /// object has no owner of its own.
    pub owner_target: Option<BString>,
    /// None: the database's default.
    pub tablespace: Option<BString>,
    pub access_method: Option<BString>,
    /// Statements that create it, each ended by `;` and a line break. May be empty.
    pub create: BString,
    /// Statement that drops it, or empty.
    pub drop: BString,
    /// The same with IF EXISTS.
    pub drop_if_exists: BString,
    /// Entries that must be restored before this one. Sorted, without repeats.
    pub dependencies: Vec<EntryId>,
    pub contents: Contents,
    /// Where its rows go, as SQL, if not into their own relation: the root of partitions whose rows
    /// may belong elsewhere after a restore (hashes of enum values depend on OIDs).
    pub load_into: Option<BString>,
}

impl Entry {
    /// One that is blank but for this.
    pub fn new(id: EntryId, kind: impl Into<String>, section: Section) -> Entry {
        Entry {
            id,
            kind: kind.into(),
            section,
            pass: Pass::Main,
            schema: None,
            name: BString::default(),
            relation: None,
            owner: None,
            owner_target: None,
            tablespace: None,
            access_method: None,
            create: BString::default(),
            drop: BString::default(),
            drop_if_exists: BString::default(),
            dependencies: Vec::new(),
            contents: Contents::None,
            load_into: None,
        }
    }

    /// Whether it is about the database itself, not about something in it: `restore -C` replays
    /// these, and nothing else looks at them.
    pub fn is_of_database(&self) -> bool {
        match self.kind.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => {
                self.schema.is_none() && self.name.starts_with(b"DATABASE ")
            }
            _ => false,
        }
    }

    /// Whether it is what `-t` chooses: a relation but for an index, or what it holds.
    pub fn is_of_relation(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "TABLE"
                | "TABLE DATA"
                | "VIEW"
                | "FOREIGN TABLE"
                | "MATERIALIZED VIEW"
                | "MATERIALIZED VIEW DATA"
                | "SEQUENCE"
                | "SEQUENCE SET"
        )
    }
}

/// Keeps an order as far as dependencies allow: what an entry needs moves to just before it.
pub fn needed_first(entries: Vec<Entry>) -> Vec<Entry> {
    let positions: HashMap<EntryId, usize> = entries
        .iter()
        .enumerate()
        .map(|(position, entry)| (entry.id, position))
        .collect();
    let mut order = Vec::with_capacity(entries.len());
    let mut seen = vec![false; entries.len()];
    for start in 0..entries.len() {
        // an entry comes up twice: before what it needs is looked at, and after
        let mut open = vec![(start, false)];
        while let Some((position, is_ready)) = open.pop() {
            if is_ready {
                order.push(position);
            } else if !std::mem::replace(&mut seen[position], true) {
                open.push((position, true));
                let needed = entries[position].dependencies.iter().rev();
                open.extend(needed.filter_map(|id| Some((*positions.get(id)?, false))));
            }
        }
    }
    let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|position| entries[position].take())
        .collect()
}
