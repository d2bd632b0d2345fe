//! Filling materialised views, at the very end: a query may need anything, also by functions that
//! pg_depend does not look into.

use std::collections::{HashMap, HashSet};

use super::relation::{OWNER_COLUMNS, OWNER_JOINS};
use crate::archive::{Pass, Section};
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, Part, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct Refresh {
    identity: Identity,
    /// Materialised views that this one reads, by way of views too: filled first.
    reads: Vec<Address>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Refresh>> {
    let rows = reader
        .query(
            "materialized views",
            &format!(
                "SELECT c.oid, c.relname AS name, c.relispopulated, {OWNER_COLUMNS}
                 FROM pg_class c
                 {OWNER_JOINS}
                 WHERE c.relkind = 'm' AND {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut populated = HashMap::new();
    for row in &rows {
        let identity = Identity::in_schema(class::RELATION, row)?;
        populated.insert(identity.address.oid, row.bool("relispopulated")?);
    }
    let reads = read_sources(reader).await?;
    let mut refreshes = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::RELATION, row)?;
        let oid = identity.address.oid;
        if !reader.has_relation(oid)
            || reader.scope.parts.no_data
            || !reader.chosen.data(oid)
            || populated.get(&oid) != Some(&true)
        {
            continue;
        }
        let sources = sources(&reads, oid);
        if sources
            .iter()
            .any(|source| populated.get(source) == Some(&false))
        {
            reader.warn(format!(
                "materialized view {} will be empty after a restore: it reads one that is not \
                 populated",
                identity.sql()
            ));
            continue;
        }
        let mut reads: Vec<Address> = sources
            .into_iter()
            .filter(|source| populated.contains_key(source))
            .map(|source| Address::relation(source).part(Part::Refresh))
            .collect();
        reads.sort();
        refreshes.push(Refresh {
            identity: identity.part(Part::Refresh),
            reads,
        });
    }
    Ok(refreshes)
}

/// Views and materialised views that each of them reads directly.
async fn read_sources(reader: &mut Reader<'_>) -> Result<HashMap<Oid, Vec<Oid>>> {
    let rows = reader
        .query(
            "what materialized views read",
            "SELECT DISTINCT r.ev_class, d.refobjid
             FROM pg_rewrite r
             JOIN pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
             JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                             AND d.refclassid = 'pg_class'::regclass
             JOIN pg_class s ON s.oid = d.refobjid AND s.relkind IN ('v', 'm')
             WHERE r.ev_type = '1' AND d.refobjid <> r.ev_class",
        )
        .await?;
    let mut reads: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for row in &rows {
        reads
            .entry(row.number("ev_class")?)
            .or_default()
            .push(row.number("refobjid")?);
    }
    Ok(reads)
}

/// All that a relation reads, at any depth.
fn sources(reads: &HashMap<Oid, Vec<Oid>>, relation: Oid) -> HashSet<Oid> {
    let mut found = HashSet::new();
    let mut open = vec![relation];
    while let Some(relation) = open.pop() {
        for &source in reads.get(&relation).into_iter().flatten() {
            if found.insert(source) {
                open.push(source);
            }
        }
    }
    found.remove(&relation);
    found
}

impl CatalogObject for Refresh {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        let mut requires = vec![self.identity.address.part(Part::Definition)];
        requires.extend(&self.reads);
        requires
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut definition = Definition::new(
            "MATERIALIZED VIEW DATA",
            Section::PostData,
            self.identity.name.clone(),
            sql!("REFRESH MATERIALIZED VIEW {};\n", self.identity.sql()),
        );
        definition.pass = Pass::Last;
        definition.relation = Some(self.identity.name.clone());
        Ok(Some(definition))
    }
}
