//! Base types, whose functions are usually written in C. Each stands behind a shell of its name,
//! which its input and output functions need.

use bstr::{BString, ByteSlice};

use super::types;
use crate::catalog::object::{
    Address, CatalogObject, Defining, Definition, Drop, Identity, Part,
};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct BaseType {
    identity: Identity,
    aliases: Vec<Address>,
    /// `INPUT = f`, and so on; none for a type of which only privileges are kept.
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<BaseType>> {
    // array types are what another type calls its array, and cannot be granted
    let query = types::query(
        "t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze,
         t.typsubscript, t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory,
         t.typispreferred, t.typdelim, t.typcollation <> 0 AS collatable,
         CASE WHEN t.typelem <> 0 THEN format_type(t.typelem, NULL) END AS element,
         pg_get_expr(t.typdefaultbin, 0) AS default_expression, t.typdefault",
        "",
        "t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)",
    );
    let rows = reader.query("base types", &query).await?;
    let mut base_types = Vec::new();
    for row in &rows {
        if let Some(identity) = types::identity(reader, row)? {
            base_types.push(BaseType {
                options: options(row).map_err(|error| {
                    error.context(format!("reading type {}", identity.sql()))
                })?,
                aliases: types::array_alias(row)?,
                identity,
            });
        }
    }
    Ok(base_types)
}

fn options(row: &Row) -> Result<Vec<BString>> {
    let mut options = vec![match row.bytes("typlen")?.as_bytes() {
        b"-1" => sql!("INTERNALLENGTH = variable"),
        length => sql!("INTERNALLENGTH = {}", length),
    }];
    for (word, column) in [
        ("INPUT", "typinput"),
        ("OUTPUT", "typoutput"),
        ("RECEIVE", "typreceive"),
        ("SEND", "typsend"),
        ("TYPMOD_IN", "typmodin"),
        ("TYPMOD_OUT", "typmodout"),
        ("ANALYZE", "typanalyze"),
        ("SUBSCRIPT", "typsubscript"),
    ] {
        // "-": none
        let function = row.text(column)?;
        if function != "-" {
            options.push(sql!("{} = {}", word, function));
        }
    }
    if row.bool("collatable")? {
        options.push(sql!("COLLATABLE = true"));
    }
    match (row.optional("default_expression")?, row.optional("typdefault")?) {
        (Some(expression), _) => options.push(sql!("DEFAULT = {}", expression)),
        (None, Some(text)) => options.push(sql!("DEFAULT = {}", sql::literal(text))),
        (None, None) => {}
    }
    if let Some(element) = row.optional("element")? {
        options.push(sql!("ELEMENT = {}", element));
    }
    let category = row.char("typcategory")?;
    if category != b'U' {
        options.push(sql!("CATEGORY = {}", sql::literal([category])));
    }
    if row.bool("typispreferred")? {
        options.push(sql!("PREFERRED = true"));
    }
    let delimiter = row.char("typdelim")?;
    if delimiter != b',' {
        options.push(sql!("DELIMITER = {}", sql::literal([delimiter])));
    }
    let alignment = match row.char("typalign")? {
        b'c' => "char",
        b's' => "int2",
        b'i' => "int4",
        b'd' => "double",
        other => return Err(unknown("typalign", other)),
    };
    options.push(sql!("ALIGNMENT = {}", alignment));
    let storage = match row.char("typstorage")? {
        b'p' => "plain",
        b'e' => "external",
        b'x' => "extended",
        b'm' => "main",
        other => return Err(unknown("typstorage", other)),
    };
    options.push(sql!("STORAGE = {}", storage));
    if row.bool("typbyval")? {
        options.push(sql!("PASSEDBYVALUE"));
    }
    Ok(options)
}

fn unknown(column: &str, value: u8) -> Error {
    Error::new(format!(
        "unknown {column} '{}'",
        char::from(value).escape_default()
    ))
}

impl CatalogObject for BaseType {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn shell(&self) -> Option<Address> {
        (!self.identity.privileges_only).then(|| self.identity.address.part(Part::Shell))
    }

    fn requires(&self) -> Vec<Address> {
        self.shell().into_iter().collect()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        if self.identity.privileges_only {
            return Ok(Some(types::definition("TYPE", &self.identity, "".into())));
        }
        let name = self.identity.sql();
        let options = self.options.iter().map(|option| sql!("\n    {}", option));
        let create = sql!("CREATE TYPE {} ({}\n);\n", name, sql::join(options, ","));
        let mut definition = types::definition("TYPE", &self.identity, create);
        // and with it the functions that it cannot do without
        definition.drop = Drop::Object(sql!("TYPE {} CASCADE", name));
        Ok(Some(definition))
    }
}
