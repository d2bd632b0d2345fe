//! Conversions between encodings.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Conversion {
    identity: Identity,
    is_default: bool,
    from: BString,
    to: BString,
    function: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Conversion>> {
    let rows = reader
        .query(
            "conversions",
            &format!(
                "SELECT c.oid, c.conname AS name, n.nspname AS schema,
                        pg_get_userbyid(c.conowner) AS owner, c.condefault, c.conproc,
                        pg_encoding_to_char(c.conforencoding) AS from_encoding,
                        pg_encoding_to_char(c.contoencoding) AS to_encoding
                 FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut conversions = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::CONVERSION, row)?;
        if reader.admit(&mut identity) {
            conversions.push(Conversion {
                identity,
                is_default: row.bool("condefault")?,
                from: row.text("from_encoding")?,
                to: row.text("to_encoding")?,
                function: row.text("conproc")?,
            });
        }
    }
    Ok(conversions)
}

impl CatalogObject for Conversion {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let create = sql!(
            "CREATE {}CONVERSION {} FOR {} TO {} FROM {};\n",
            if self.is_default { "DEFAULT " } else { "" },
            name,
            sql::literal(&self.from),
            sql::literal(&self.to),
            self.function
        );
        let definition = Definition::new(
            "CONVERSION",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("CONVERSION {}", name));
        Ok(Some(definition))
    }
}
