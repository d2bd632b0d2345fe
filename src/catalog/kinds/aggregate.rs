//! Aggregates: ordinary, ordered-set and hypothetical-set.

use bstr::BString;

use super::routines;
use crate::archive::Section;
use crate::catalog::object::{CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::Reader;
use crate::error::{Error, Result};
use crate::postgres::Row;
use crate::sql;

#[derive(Debug)]
pub struct Aggregate {
    identity: Identity,
    /// Types of all arguments; empty for `(*)`.
    argument_types: BString,
    /// With names, modes and ORDER BY; `*` where there are none.
    arguments: BString,
    identity_arguments: BString,
    options: Vec<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Aggregate>> {
    let query = routines::query(
        "a.aggkind, p.proparallel,
         a.aggtransfn, nullif(a.aggfinalfn::text, '-') AS aggfinalfn, a.aggfinalextra,
         a.aggfinalmodify, format_type(a.aggtranstype, NULL) AS aggtranstype, a.aggtransspace,
         a.agginitval,
         nullif(a.aggcombinefn::text, '-') AS aggcombinefn,
         nullif(a.aggserialfn::text, '-') AS aggserialfn,
         nullif(a.aggdeserialfn::text, '-') AS aggdeserialfn,
         nullif(a.aggmtransfn::text, '-') AS aggmtransfn, a.aggminvtransfn,
         nullif(a.aggmfinalfn::text, '-') AS aggmfinalfn, a.aggmfinalextra, a.aggmfinalmodify,
         format_type(a.aggmtranstype, NULL) AS aggmtranstype, a.aggmtransspace, a.aggminitval,
         o.oprname, opn.nspname AS oprschema",
        "JOIN pg_aggregate a ON a.aggfnoid = p.oid
         LEFT JOIN pg_operator o ON o.oid = a.aggsortop
         LEFT JOIN pg_namespace opn ON opn.oid = o.oprnamespace",
        "p.prokind = 'a'",
    );
    let rows = reader.query("aggregates", &query).await?;
    let star = |arguments: BString| {
        if arguments.is_empty() {
            BString::from("*")
        } else {
            arguments
        }
    };
    let mut aggregates = Vec::new();
    for row in &rows {
        let mut identity = Identity::in_schema(class::PROC, row)?.with_privileges(reader, row)?;
        if reader.admit(&mut identity) {
            aggregates.push(Aggregate {
                argument_types: row.text("argument_types")?,
                arguments: star(row.text("arguments")?),
                identity_arguments: star(row.text("identity_arguments")?),
                options: options(row).map_err(|error| {
                    error.context(format!("reading aggregate {}", identity.sql()))
                })?,
                identity,
            });
        }
    }
    Ok(aggregates)
}

fn options(row: &Row) -> Result<Vec<BString>> {
    let kind = row.char("aggkind")?;
    let mut options = vec![
        sql!("SFUNC = {}", row.bytes("aggtransfn")?),
        sql!("STYPE = {}", row.bytes("aggtranstype")?),
    ];
    let space = |column: &str, word: &str| -> Result<Option<BString>> {
        let space = row.bytes(column)?;
        Ok((space != "0").then(|| sql!("{} = {}", word, space)))
    };
    let initial = |column: &str, word: &str| -> Result<Option<BString>> {
        let value = row.optional(column)?;
        Ok(value.map(|value| sql!("{} = {}", word, sql::literal(value))))
    };
    options.extend(space("aggtransspace", "SSPACE")?);
    options.extend(initial("agginitval", "INITCOND")?);
    final_function(row, "agg", "FINALFUNC", kind, &mut options)?;
    for (column, word) in [
        ("aggcombinefn", "COMBINEFUNC"),
        ("aggserialfn", "SERIALFUNC"),
        ("aggdeserialfn", "DESERIALFUNC"),
    ] {
        if let Some(function) = row.optional(column)? {
            options.push(sql!("{} = {}", word, function));
        }
    }
    // moving-aggregate mode: the same again
    if let Some(function) = row.optional("aggmtransfn")? {
        options.push(sql!("MSFUNC = {}", function));
        options.push(sql!("MINVFUNC = {}", row.bytes("aggminvtransfn")?));
        options.push(sql!("MSTYPE = {}", row.bytes("aggmtranstype")?));
        options.extend(space("aggmtransspace", "MSSPACE")?);
        options.extend(initial("aggminitval", "MINITCOND")?);
        final_function(row, "aggm", "MFINALFUNC", kind, &mut options)?;
    }
    if let Some(operator) = row.optional("oprname")? {
        let schema = sql::identifier(row.bytes("oprschema")?);
        options.push(sql!("SORTOP = OPERATOR({}.{})", schema, operator));
    }
    if kind == b'h' {
        options.push(BString::from("HYPOTHETICAL"));
    }
    match row.char("proparallel")? {
        b's' => options.push(BString::from("PARALLEL = SAFE")),
        b'r' => options.push(BString::from("PARALLEL = RESTRICTED")),
        _ => {}
    }
    Ok(options)
}

/// FINALFUNC or MFINALFUNC with what qualifies it.
fn final_function(
    row: &Row,
    prefix: &str,
    word: &str,
    kind: u8,
    options: &mut Vec<BString>,
) -> Result<()> {
    let Some(function) = row.optional(&format!("{prefix}finalfn"))? else {
        return Ok(());
    };
    options.push(sql!("{} = {}", word, function));
    if row.bool(&format!("{prefix}finalextra"))? {
        options.push(sql!("{}_EXTRA", word));
    }
    // the default differs (DefineAggregate, aggregatecmds.c)
    let default = if kind == b'n' { b'r' } else { b'w' };
    let modify = row.char(&format!("{prefix}finalmodify"))?;
    let value = match modify {
        modify if modify == default => return Ok(()),
        b'r' => "READ_ONLY",
        b's' => "SHAREABLE",
        b'w' => "READ_WRITE",
        _ => {
            return Err(Error::new(format!(
                "unknown {prefix}finalmodify '{}'",
                char::from(modify).escape_default()
            )));
        }
    };
    options.push(sql!("{}_MODIFY = {}", word, value));
    Ok(())
}

impl CatalogObject for Aggregate {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.argument_types.clone()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let name = self.identity.sql();
        let options = self.options.iter().map(|option| sql!("\n    {}", option));
        let create = sql!(
            "CREATE AGGREGATE {}({}) ({}\n);\n",
            name,
            self.arguments,
            sql::join(options, ",")
        );
        let tag_arguments: &[u8] = if self.argument_types.is_empty() {
            b"*"
        } else {
            &self.argument_types
        };
        let definition = Definition::new(
            "AGGREGATE",
            Section::PreData,
            sql!("{}({})", self.identity.name, tag_arguments),
            create,
        )
        .target(sql!("AGGREGATE {}({})", name, self.identity_arguments))
        // GRANT knows no aggregates, only functions
        .privileges("FUNCTION", sql!("{}({})", name, self.argument_types));
        Ok(Some(definition))
    }
}
