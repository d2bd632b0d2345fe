//! Extensions. What they contain is theirs to create; see `Reader::admit`.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Extension {
    identity: Identity,
    /// Where its objects go. The extension itself is in no schema.
    target_schema: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Extension>> {
    let rows = reader
        .query(
            "extensions",
            "SELECT x.oid, x.extname AS name, n.nspname AS target_schema
             FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace",
        )
        .await?;
    let mut extensions = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::EXTENSION, row)?;
        // plpgsql, as initdb made it, is in every database
        if reader.admit(&mut identity) {
            extensions.push(Extension {
                identity,
                target_schema: row.text("target_schema")?,
            });
        }
    }
    Ok(extensions)
}

impl CatalogObject for Extension {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        // No version: what the target has installed is what can run there. IF NOT EXISTS, since
        // an administrator may have had to create it beforehand.
        let create = sql!(
            "CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {};\n",
            name,
            sql::identifier(&self.target_schema)
        );
        let mut definition = Definition::new(
            "EXTENSION",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("EXTENSION {}", name));
        // there is no ALTER EXTENSION ... OWNER TO
        definition.owner_target = None;
        Ok(Some(definition))
    }
}
