//! Queries of views: their ON SELECT rules, by which pg_depend knows what a view reads.
//!
//! Part of the view's own statement, unless the query leads back to the view (by a function that
//! takes its row type, or because GROUP BY rests on a primary key, which comes after the data).
//! Then the view is created empty first, and this replaces it.

use bstr::BString;

use super::column::{self, Column};
use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use super::view::ViewBody;
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ViewQuery {
    identity: Identity,
    view: Relation,
    columns: Vec<Column>,
    body: ViewBody,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ViewQuery>> {
    let mut columns = column::read(reader, "'v'").await?;
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "queries of views",
            &format!(
                "SELECT r.oid, r.rulename AS name, c.reloptions,
                        pg_get_viewdef(c.oid) AS definition, {OWNER_COLUMNS}
                 FROM pg_rewrite r
                 JOIN pg_class c ON c.oid = r.ev_class
                 {OWNER_JOINS}
                 WHERE c.relkind = 'v' AND r.ev_type = '1' AND {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let mut queries = Vec::new();
    for row in &rows {
        let view = Relation::from_row(row)?;
        if reader.has_relation(view.oid) {
            queries.push(ViewQuery {
                identity: Identity::in_schema(class::REWRITE, row)?,
                columns: columns.remove(&view.oid).unwrap_or_default(),
                body: ViewBody::from_row(row)?,
                view,
            });
        }
    }
    Ok(queries)
}

impl CatalogObject for ViewQuery {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.view.name.clone()
    }

    fn inline_in(&self) -> Option<Address> {
        Some(self.view.address())
    }

    fn leaves_dummy(&self) -> bool {
        true
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        if !context.is_separate(self.identity.address) {
            return Ok(None);
        }
        let name = self.view.sql();
        let mut definition = Definition::new(
            "RULE",
            Section::PostData,
            self.view.tag(&self.identity.name),
            self.body.create("CREATE OR REPLACE VIEW", &name),
        );
        definition.relation = Some(self.view.name.clone());
        // the rule cannot be dropped; with the dummy in its place, what it reads can
        let dummy = sql!(
            "CREATE OR REPLACE VIEW {} AS\n{};\n",
            name,
            column::dummy_query(&self.columns)
        );
        let guarded = sql!(
            "BEGIN IF pg_catalog.to_regclass({}) IS NOT NULL THEN\n{}END IF; END",
            sql::literal(&name),
            dummy
        );
        definition.drop = Drop::Statement {
            plain: dummy,
            if_exists: sql!("DO {};\n", sql::dollar_quoted(guarded)),
        };
        Ok(Some(definition))
    }
}
