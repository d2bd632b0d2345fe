//! Extended statistics: their definition; the numbers come with ANALYZE.

use bstr::BString;

use super::relation::{OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ExtendedStatistics {
    identity: Identity,
    relation: Relation,
    definition: BString,
    /// None: the default.
    target: Option<i32>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ExtendedStatistics>> {
    // the statistics' schema and owner are their own, not the table's
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "extended statistics",
            &format!(
                "SELECT s.oid, s.stxname AS name, sn.nspname AS statistics_schema,
                        pg_get_userbyid(s.stxowner) AS owner,
                        pg_get_statisticsobjdef(s.oid) AS definition,
                        nullif(s.stxstattarget, -1) AS target,
                        c.oid AS relation_oid, c.relname AS relation_name, c.relkind,
                        n.nspname AS schema
                 FROM pg_statistic_ext s
                 JOIN pg_namespace sn ON sn.oid = s.stxnamespace
                 JOIN pg_class c ON c.oid = s.stxrelid
                 {OWNER_JOINS}
                 WHERE {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let mut statistics = Vec::new();
    for row in &rows {
        let relation = Relation::from_row(row)?;
        let mut identity = Identity::in_schema(class::STATISTIC_EXT, row)?;
        identity.schema = row.optional_text("statistics_schema")?;
        if reader.has_relation(relation.oid) && reader.admit(&mut identity) {
            statistics.push(ExtendedStatistics {
                identity,
                relation,
                definition: row.text("definition")?,
                target: row.optional_number("target")?,
            });
        }
    }
    Ok(statistics)
}

impl CatalogObject for ExtendedStatistics {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.relation.address()]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("STATISTICS {}", self.identity.sql());
        let mut create = sql!("{};\n", self.definition);
        if let Some(number) = self.target {
            create.extend_from_slice(&sql!(
                "ALTER {} SET STATISTICS {};\n",
                target,
                number.to_string()
            ));
        }
        let mut definition = Definition::new(
            "STATISTICS",
            Section::PostData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        definition.relation = Some(self.relation.name.clone());
        Ok(Some(definition))
    }
}
