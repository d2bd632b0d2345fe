//! Tables that a publication names, with the columns and rows that it publishes of them.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct PublicationTable {
    /// Named as its table; the publication tells it apart.
    identity: Identity,
    publication: BString,
    columns: Vec<BString>,
    filter: Option<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<PublicationTable>> {
    let (columns, filter) = if reader.version.at_least(15) {
        (
            "ARRAY(SELECT a.attname FROM unnest(r.prattrs) WITH ORDINALITY AS k (attnum, number)
                   JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = k.attnum
                   ORDER BY k.number)",
            "pg_get_expr(r.prqual, r.prrelid)",
        )
    } else {
        ("'{}'", "NULL")
    };
    let rows = reader
        .query(
            "tables of publications",
            &format!(
                "SELECT r.oid, c.relname AS name, n.nspname AS schema,
                        pg_get_userbyid(p.pubowner) AS owner, p.pubname, r.prrelid,
                        {columns} AS columns, {filter} AS filter
                 FROM pg_publication_rel r
                 JOIN pg_publication p ON p.oid = r.prpubid
                 JOIN pg_class c ON c.oid = r.prrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace"
            ),
        )
        .await?;
    let mut tables = Vec::new();
    for row in &rows {
        // also of a table that is left out: the target may have it
        let is_wanted = reader.chosen.everything();
        if is_wanted && reader.knows_relation(row.number("prrelid")?) {
            tables.push(PublicationTable {
                identity: Identity::in_schema(class::PUBLICATION_RELATION, row)?,
                publication: row.text("pubname")?,
                columns: row.texts("columns")?,
                filter: row.optional_text("filter")?,
            });
        }
    }
    Ok(tables)
}

impl CatalogObject for PublicationTable {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.publication.clone()
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let mut create = sql!(
            "ALTER PUBLICATION {} ADD TABLE ONLY {}",
            sql::identifier(&self.publication),
            self.identity.sql()
        );
        if !self.columns.is_empty() {
            let columns = sql::join(self.columns.iter().map(sql::identifier), ", ");
            create.extend_from_slice(&sql!(" ({})", columns));
        }
        if let Some(filter) = &self.filter {
            // in parentheses as the server prints it, but for a bare column or constant
            create.extend_from_slice(&sql!(" WHERE ({})", filter));
        }
        create.extend_from_slice(b";\n");
        // goes with its publication or its table
        Ok(Some(Definition::new(
            "PUBLICATION TABLE",
            Section::PostData,
            sql!("{} {}", self.publication, self.identity.name),
            create,
        )))
    }
}
