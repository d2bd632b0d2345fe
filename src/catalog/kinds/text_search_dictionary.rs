//! Text search dictionaries.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct TextSearchDictionary {
    identity: Identity,
    template: BString,
    /// `stopwords = 'english'`, as the server keeps them.
    options: Option<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<TextSearchDictionary>> {
    let rows = reader
        .query(
            "text search dictionaries",
            &format!(
                "SELECT d.oid, d.dictname AS name, n.nspname AS schema,
                        pg_get_userbyid(d.dictowner) AS owner, d.dictinitoption,
                        tn.nspname AS template_schema, t.tmplname
                 FROM pg_ts_dict d
                 JOIN pg_namespace n ON n.oid = d.dictnamespace
                 JOIN pg_ts_template t ON t.oid = d.dicttemplate
                 JOIN pg_namespace tn ON tn.oid = t.tmplnamespace
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut dictionaries = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::TEXT_SEARCH_DICTIONARY, row)?;
        if reader.admit(&mut identity) {
            dictionaries.push(TextSearchDictionary {
                identity,
                template: sql::qualified(row.bytes("template_schema")?, row.bytes("tmplname")?),
                options: row.optional_text("dictinitoption")?,
            });
        }
    }
    Ok(dictionaries)
}

impl CatalogObject for TextSearchDictionary {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("TEXT SEARCH DICTIONARY {}", self.identity.sql());
        let mut options = vec![sql!("\n    TEMPLATE = {}", self.template)];
        options.extend(self.options.iter().map(|text| sql!("\n    {}", text)));
        let create = sql!("CREATE {} ({}\n);\n", target, sql::join(options, ","));
        let definition = Definition::new(
            "TEXT SEARCH DICTIONARY",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        Ok(Some(definition))
    }
}
