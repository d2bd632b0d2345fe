//! Procedural languages that no extension brought, and privileges on all of them.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct ProceduralLanguage {
    identity: Identity,
    trusted: bool,
    /// ` HANDLER f INLINE g VALIDATOR h`
    functions: BString,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<ProceduralLanguage>> {
    let rows = reader
        .query(
            "procedural languages",
            "SELECT l.oid, l.lanname AS name, pg_get_userbyid(l.lanowner) AS owner,
                    l.lanacl AS acl, acldefault('l', l.lanowner) AS acldefault, l.lanpltrusted,
                    nullif(l.lanplcallfoid, 0)::regproc AS handler,
                    nullif(l.laninline, 0)::regproc AS inline,
                    nullif(l.lanvalidator, 0)::regproc AS validator
             FROM pg_language l
             WHERE l.lanispl OR l.lanacl IS NOT NULL",
        )
        .await?;
    let mut languages = Vec::new();
    for row in &rows {
        let mut identity = Identity::from_row(class::LANGUAGE, row)?.owned(row)?.with_privileges(reader, row)?;
        let trusted = row.bool("lanpltrusted")?;
        // nobody can be granted an untrusted language
        if !reader.admit(&mut identity) || (identity.privileges_only && !trusted) {
            continue;
        }
        let mut functions = BString::default();
        for (word, column) in [
            ("HANDLER", "handler"),
            ("INLINE", "inline"),
            ("VALIDATOR", "validator"),
        ] {
            if let Some(function) = row.optional(column)? {
                functions.extend_from_slice(&sql!(" {} {}", word, function));
            }
        }
        languages.push(ProceduralLanguage {
            identity,
            trusted,
            functions,
        });
    }
    Ok(languages)
}

impl CatalogObject for ProceduralLanguage {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let create = sql!(
            "CREATE {}PROCEDURAL LANGUAGE {}{};\n",
            if self.trusted { "TRUSTED " } else { "" },
            name,
            self.functions
        );
        let mut definition = Definition::new(
            "PROCEDURAL LANGUAGE",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(sql!("LANGUAGE {}", name));
        if self.trusted {
            definition = definition.privileges("LANGUAGE", name);
        }
        Ok(Some(definition))
    }
}
