//! Enums.

use bstr::BString;

use super::types;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct EnumType {
    identity: Identity,
    aliases: Vec<Address>,
    /// In their sort order.
    labels: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<EnumType>> {
    let query = types::query(
        "(SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e
          WHERE e.enumtypid = t.oid) AS labels",
        "",
        "t.typtype = 'e'",
    );
    let rows = reader.query("enums", &query).await?;
    let mut enums = Vec::new();
    for row in &rows {
        if let Some(identity) = types::identity(reader, row)? {
            enums.push(EnumType {
                identity,
                aliases: types::array_alias(row)?,
                labels: row.texts("labels")?,
            });
        }
    }
    Ok(enums)
}

impl CatalogObject for EnumType {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let labels = self
            .labels
            .iter()
            .map(|label| sql!("\n    {}", sql::literal(label)));
        let create = sql!(
            "CREATE TYPE {} AS ENUM ({}\n);\n",
            self.identity.sql(),
            sql::join(labels, ",")
        );
        Ok(Some(types::definition("TYPE", &self.identity, create)))
    }
}
