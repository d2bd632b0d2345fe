//! Text search parsers.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct TextSearchParser {
    identity: Identity,
    /// `START = f`, and so on.
    functions: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<TextSearchParser>> {
    let rows = reader
        .query(
            "text search parsers",
            &format!(
                "SELECT o.oid, o.prsname AS name, n.nspname AS schema, NULL AS owner,
                        o.prsstart, o.prstoken, o.prsend, o.prsheadline, o.prslextype
                 FROM pg_ts_parser o JOIN pg_namespace n ON n.oid = o.prsnamespace
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::TEXT_SEARCH_PARSER, row)?;
        if !reader.admit(&mut identity) {
            continue;
        }
        let mut functions = Vec::new();
        for (word, column) in [
            ("START", "prsstart"),
            ("GETTOKEN", "prstoken"),
            ("END", "prsend"),
            ("HEADLINE", "prsheadline"),
            ("LEXTYPES", "prslextype"),
        ] {
            // "-": none
            let function = row.text(column)?;
            if function != "-" {
                functions.push(sql!("\n    {} = {}", word, function));
            }
        }
        found.push(TextSearchParser {
            identity,
            functions,
        });
    }
    Ok(found)
}

impl CatalogObject for TextSearchParser {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("TEXT SEARCH PARSER {}", self.identity.sql());
        let create = sql!("CREATE {} ({}\n);\n", target, sql::join(&self.functions, ","));
        let mut definition = Definition::new(
            "TEXT SEARCH PARSER",
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
