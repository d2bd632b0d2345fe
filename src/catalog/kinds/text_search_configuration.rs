//! Text search configurations: which dictionaries each kind of token goes through.

use std::collections::HashMap;

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct TextSearchConfiguration {
    identity: Identity,
    parser: BString,
    mappings: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    token: BString,
    /// As SQL, in the order in which they are asked.
    dictionaries: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<TextSearchConfiguration>> {
    let mut mappings = read_mappings(reader).await?;
    let rows = reader
        .query(
            "text search configurations",
            &format!(
                "SELECT c.oid, c.cfgname AS name, n.nspname AS schema,
                        pg_get_userbyid(c.cfgowner) AS owner,
                        pn.nspname AS parser_schema, p.prsname
                 FROM pg_ts_config c
                 JOIN pg_namespace n ON n.oid = c.cfgnamespace
                 JOIN pg_ts_parser p ON p.oid = c.cfgparser
                 JOIN pg_namespace pn ON pn.oid = p.prsnamespace
                 WHERE {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut configurations = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::TEXT_SEARCH_CONFIGURATION, row)?;
        if reader.admit(&mut identity) {
            configurations.push(TextSearchConfiguration {
                mappings: mappings.remove(&identity.address.oid).unwrap_or_default(),
                identity,
                parser: sql::qualified(row.bytes("parser_schema")?, row.bytes("prsname")?),
            });
        }
    }
    Ok(configurations)
}

async fn read_mappings(reader: &mut Reader<'_>) -> Result<HashMap<Oid, Vec<Mapping>>> {
    let rows = reader
        .query(
            "mappings of text search configurations",
            &format!(
                "SELECT m.mapcfg, t.alias,
                        array_agg(m.mapdict::regdictionary::text ORDER BY m.mapseqno) AS dictionaries
                 FROM pg_ts_config c
                 JOIN pg_namespace n ON n.oid = c.cfgnamespace
                 JOIN pg_ts_config_map m ON m.mapcfg = c.oid
                 JOIN LATERAL ts_token_type(c.cfgparser) t ON t.tokid = m.maptokentype
                 WHERE {USER_SCHEMAS}
                 GROUP BY m.mapcfg, m.maptokentype, t.alias
                 ORDER BY m.mapcfg, m.maptokentype"
            ),
        )
        .await?;
    let mut mappings: HashMap<Oid, Vec<Mapping>> = HashMap::new();
    for row in &rows {
        mappings
            .entry(row.number("mapcfg")?)
            .or_default()
            .push(Mapping {
                token: row.text("alias")?,
                dictionaries: row.texts("dictionaries")?,
            });
    }
    Ok(mappings)
}

impl CatalogObject for TextSearchConfiguration {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let target = sql!("TEXT SEARCH CONFIGURATION {}", self.identity.sql());
        let mut create = sql!("CREATE {} (PARSER = {});\n", target, self.parser);
        for mapping in &self.mappings {
            create.extend_from_slice(&sql!(
                "ALTER {} ADD MAPPING FOR {} WITH {};\n",
                target,
                sql::identifier(&mapping.token),
                sql::join(&mapping.dictionaries, ", ")
            ));
        }
        let definition = Definition::new(
            "TEXT SEARCH CONFIGURATION",
            Section::PreData,
            self.identity.name.clone(),
            create,
        )
        .target(target);
        Ok(Some(definition))
    }
}
