//! Publications. What they publish one by one is added by `publication_table` and
//! `publication_schema`.

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Publication {
    identity: Identity,
    all_tables: bool,
    /// `publish = 'insert'`, and so on.
    options: Vec<String>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Publication>> {
    let generated = if reader.version.at_least(18) {
        "p.pubgencols"
    } else {
        "'n'"
    };
    let rows = reader
        .query(
            "publications",
            &format!(
                "SELECT p.oid, p.pubname AS name, pg_get_userbyid(p.pubowner) AS owner,
                        p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
                        p.pubviaroot, {generated} AS generated_columns
                 FROM pg_publication p"
            ),
        )
        .await?;
    let mut publications = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::PUBLICATION, row)?.owned(row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let mut published = Vec::new();
        for (column, change) in [
            ("pubinsert", "insert"),
            ("pubupdate", "update"),
            ("pubdelete", "delete"),
            ("pubtruncate", "truncate"),
        ] {
            if row.bool(column)? {
                published.push(change);
            }
        }
        let mut options = vec![format!("publish = '{}'", published.join(", "))];
        if row.bool("pubviaroot")? {
            options.push("publish_via_partition_root = true".to_owned());
        }
        if row.char("generated_columns")? == b's' {
            options.push("publish_generated_columns = stored".to_owned());
        }
        publications.push(Publication {
            identity,
            all_tables: row.bool("puballtables")?,
            options,
        });
    }
    Ok(publications)
}

impl CatalogObject for Publication {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("PUBLICATION {}", self.identity.sql());
        let create = sql!(
            "CREATE {}{} WITH ({});\n",
            target,
            if self.all_tables { " FOR ALL TABLES" } else { "" },
            self.options.join(", ")
        );
        let definition = Definition::new(
            "PUBLICATION",
            Section::PostData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        Ok(Some(definition))
    }
}
