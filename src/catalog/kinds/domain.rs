//! Domains.

use std::collections::HashMap;

use bstr::BString;

use super::domain_constraint::InlineConstraint;
use super::types;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct Domain {
    identity: Identity,
    aliases: Vec<Address>,
    base: BString,
    /// With COLLATE, where it is not the base type's own.
    collate: BString,
    not_null: bool,
    default: Option<BString>,
    constraints: Vec<InlineConstraint>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Domain>> {
    let mut constraints: HashMap<Oid, Vec<InlineConstraint>> = HashMap::new();
    for constraint in super::domain_constraint::read_inline(reader).await? {
        constraints
            .entry(constraint.domain)
            .or_default()
            .push(constraint);
    }
    let query = types::query(
        "format_type(t.typbasetype, t.typtypmod) AS base, t.typnotnull,
         coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)) AS \"default\",
         cn.nspname AS collation_schema, c.collname AS collation",
        "LEFT JOIN pg_type b ON b.oid = t.typbasetype
         LEFT JOIN pg_collation c ON c.oid = t.typcollation AND t.typcollation <> b.typcollation
         LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace",
        "t.typtype = 'd'",
    );
    let rows = reader.query("domains", &query).await?;
    let mut domains = Vec::new();
    for row in &rows {
        if let Some(identity) = types::identity(reader, row)? {
            domains.push(Domain {
                aliases: types::array_alias(row)?,
                base: row.text("base")?,
                collate: types::collate(row, "collation_schema", "collation")?,
                not_null: row.bool("typnotnull")?,
                default: row.optional_text("default")?,
                constraints: constraints
                    .remove(&identity.address.oid)
                    .unwrap_or_default(),
                identity,
            });
        }
    }
    Ok(domains)
}

impl CatalogObject for Domain {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn aliases(&self) -> Vec<Address> {
        self.aliases.clone()
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        let domain = self.identity.sql();
        self.constraints
            .iter()
            .map(|constraint| {
                let name = sql::identifier(&constraint.name);
                (
                    constraint.address,
                    0,
                    sql!("CONSTRAINT {} ON DOMAIN {}", name, domain),
                )
            })
            .collect()
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        let mut create = sql!(
            "CREATE DOMAIN {} AS {}{}",
            self.identity.sql(),
            self.base,
            self.collate
        );
        // Servers before 17 have NOT NULL in the type alone.
        let named = self.constraints.iter().find(|c| c.not_null);
        match named {
            Some(constraint) if constraint.name != sql!("{}_not_null", self.identity.name) => {
                create.extend_from_slice(&sql!(
                    " CONSTRAINT {} NOT NULL",
                    sql::identifier(&constraint.name)
                ));
            }
            _ if self.not_null => create.extend_from_slice(b" NOT NULL"),
            _ => {}
        }
        if let Some(default) = &self.default {
            create.extend_from_slice(&sql!(" DEFAULT {}", default));
        }
        for constraint in &self.constraints {
            if !constraint.not_null && !context.is_separate(constraint.address) {
                create.extend_from_slice(&sql!(
                    "\n    CONSTRAINT {} {}",
                    sql::identifier(&constraint.name),
                    constraint.definition
                ));
            }
        }
        create.extend_from_slice(b";\n");
        Ok(Some(types::definition("DOMAIN", &self.identity, create)))
    }
}
