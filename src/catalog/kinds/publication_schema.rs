//! Schemas all of whose tables a publication publishes.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct PublicationSchema {
    /// Named as its schema; the publication tells it apart.
    identity: Identity,
    publication: BString,
    schema: Address,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<PublicationSchema>> {
    if !reader.version.at_least(15) {
        return Ok(Vec::new());
    }
    let rows = reader
        .query(
            "schemas of publications",
            &format!(
                "SELECT s.oid, n.nspname AS name, pg_get_userbyid(p.pubowner) AS owner, p.pubname,
                        s.pnnspid
                 FROM pg_publication_namespace s
                 JOIN pg_publication p ON p.oid = s.pnpubid
                 JOIN pg_namespace n ON n.oid = s.pnnspid
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut schemas = Vec::new();
    for row in &rows {
        let schema = Address::new(class::NAMESPACE, row.number("pnnspid")?);
        let is_wanted = reader.chosen.everything();
        if is_wanted && reader.extension_of(schema).is_none() {
            let mut identity = Identity::from_row(class::PUBLICATION_SCHEMA, row)?.owned(row)?;
            // chosen with it
            identity.schema = Some(identity.name.clone());
            schemas.push(PublicationSchema {
                identity,
                publication: row.text("pubname")?,
                schema,
            });
        }
    }
    Ok(schemas)
}

impl CatalogObject for PublicationSchema {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.publication.clone()
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        // public is pinned in no catalog, and no entry either unless it was changed
        vec![self.schema]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        // goes with its publication or its schema
        Ok(Some(Definition::new(
            "PUBLICATION TABLES IN SCHEMA",
            Section::PostData,
            sql!("{} {}", self.publication, self.identity.name),
            sql!(
                "ALTER PUBLICATION {} ADD TABLES IN SCHEMA {};\n",
                sql::identifier(&self.publication),
                sql::identifier(&self.identity.name)
            ),
        )))
    }
}
