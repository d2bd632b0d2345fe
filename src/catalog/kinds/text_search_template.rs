//! Text search templates.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct TextSearchTemplate {
    identity: Identity,
    /// `START = f`, and so on.
    functions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<TextSearchTemplate>> {
    let rows = reader
        .query(
            "text search templates",
            &format!(
                "SELECT o.oid, o.tmplname AS name, n.nspname AS schema, NULL AS owner,
                        o.tmplinit, o.tmpllexize
                 FROM pg_ts_template o JOIN pg_namespace n ON n.oid = o.tmplnamespace
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::TEXT_SEARCH_TEMPLATE, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let mut functions = Vec::new();
        for (word, column) in [
            ("INIT", "tmplinit"),
            ("LEXIZE", "tmpllexize"),
        ] {
            // "-": none
            let function = row.text(column)?;
            if function != "-" {
                functions.push(sql!("\n    {} = {}", word, function));
            }
        }
        found.push(TextSearchTemplate {
            identity,
            functions,
        });
    }
    Ok(found)
}

impl CatalogObject for TextSearchTemplate {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("TEXT SEARCH TEMPLATE {}", self.identity.sql());
        let create = sql!("CREATE {} ({}\n);\n", target, sql::join(&self.functions, ","));
        let mut definition = Definition::new(
            "TEXT SEARCH TEMPLATE",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        // it is nobody's
        definition.owner_target = None;
        Ok(Some(definition))
    }
}
