//! Range types, with the multirange types that come along.

use bstr::BString;

use super::types;
use crate::catalog::object::{
    Address, CatalogObject, Defining, Definition, Drop, Identity, Part, class,
};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct RangeType {
    identity: Identity,
    aliases: Vec<Address>,
    /// `subtype = integer`, and so on.
    options: Vec<BString>,
    /// Its canonical function takes the range itself.
    has_shell: bool,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<RangeType>> {
    // a range type brings: its array type, its multirange type with an array type of its own, and
    // constructor functions for both
    let query = types::query(
        "r.rngmultitypid, m.typarray AS multirange_array,
         (SELECT array_agg(d.objid) FROM pg_depend d
          WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'i'
            AND d.refclassid = 'pg_type'::regclass
            AND d.refobjid IN (t.oid, r.rngmultitypid)) AS constructors,
         format_type(r.rngsubtype, NULL) AS subtype,
         format_type(r.rngmultitypid, NULL) AS multirange,
         o.opcdefault, o.opcname, opn.nspname AS opcschema,
         cn.nspname AS collation_schema, c.collname AS collation,
         nullif(r.rngcanonical::text, '-') AS canonical,
         nullif(r.rngsubdiff::text, '-') AS subtype_diff",
        "JOIN pg_range r ON r.rngtypid = t.oid
         JOIN pg_type s ON s.oid = r.rngsubtype
         JOIN pg_opclass o ON o.oid = r.rngsubopc
         JOIN pg_namespace opn ON opn.oid = o.opcnamespace
         LEFT JOIN pg_type m ON m.oid = r.rngmultitypid
         LEFT JOIN pg_collation c ON c.oid = r.rngcollation AND r.rngcollation <> s.typcollation
         LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace",
        "t.typtype = 'r'",
    );
    let rows = reader.query("range types", &query).await?;
    let mut ranges = Vec::new();
    for row in &rows {
        let Some(identity) = types::identity(reader, row)? else {
            continue;
        };
        let mut aliases = types::array_alias(row)?;
        for column in ["rngmultitypid", "multirange_array"] {
            if let Some(oid) = row.optional_number(column)? {
                aliases.push(Address::new(class::TYPE, oid));
            }
        }
        for oid in row.numbers("constructors")? {
            aliases.push(Address::new(class::PROC, oid));
        }
        let mut options = vec![
            sql!("subtype = {}", row.bytes("subtype")?),
            sql!("multirange_type_name = {}", row.bytes("multirange")?),
        ];
        if !row.bool("opcdefault")? {
            let class = sql::qualified(row.bytes("opcschema")?, row.bytes("opcname")?);
            options.push(sql!("subtype_opclass = {}", class));
        }
        if let Some(schema) = row.optional("collation_schema")? {
            let collation = sql::qualified(schema, row.bytes("collation")?);
            options.push(sql!("collation = {}", collation));
        }
        for option in ["canonical", "subtype_diff"] {
            if let Some(function) = row.optional(option)? {
                options.push(sql!("{} = {}", option, function));
            }
        }
        ranges.push(RangeType {
            identity,
            aliases,
            options,
            has_shell: row.optional("canonical")?.is_some(),
        });
    }
    Ok(ranges)
}

impl CatalogObject for RangeType {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn shell(&self) -> Option<Address> {
        self.has_shell
            .then(|| self.identity.address.part(Part::Shell))
    }

    fn requires(&self) -> Vec<Address> {
        self.shell().into_iter().collect()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let options = self.options.iter().map(|option| sql!("\n    {}", option));
        let create = sql!(
            "CREATE TYPE {} AS RANGE ({}\n);\n",
            self.identity.sql(),
            sql::join(options, ",")
        );
        let mut definition = types::definition("TYPE", &self.identity, create);
        if self.has_shell {
            // and with it the function that it cannot do without
            definition.drop = Drop::Object(sql!("TYPE {} CASCADE", self.identity.sql()));
        }
        Ok(Some(definition))
    }
}
