//! CHECK constraints of domains. They stand within CREATE DOMAIN, unless they were never validated
//! or their expression needs the domain itself.

use bstr::BString;

use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Drop, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

#[derive(Debug)]
pub struct DomainConstraint {
    identity: Identity,
    domain: Address,
    domain_name: BString,
    /// `CHECK (...)`, with NOT VALID where it applies.
    definition: BString,
    validated: bool,
}

/// A constraint as its domain needs it: all of them but the NOT VALID.
#[derive(Debug)]
pub(super) struct InlineConstraint {
    pub address: Address,
    pub domain: Oid,
    pub name: BString,
    pub definition: BString,
    /// A NOT NULL constraint, which PostgreSQL 17 and later know by name. Never separate.
    pub not_null: bool,
}

pub(super) async fn read_inline(reader: &mut Reader<'_>) -> Result<Vec<InlineConstraint>> {
    let rows = reader
        .query(
            "constraints of domains",
            &format!(
                "SELECT c.oid, c.contypid, c.conname, c.contype = 'n' AS not_null,
                        pg_get_constraintdef(c.oid) AS definition
                 FROM pg_constraint c
                 JOIN pg_type t ON t.oid = c.contypid
                 JOIN pg_namespace n ON n.oid = t.typnamespace
                 WHERE c.contype IN ('c', 'n') AND c.convalidated AND {USER_SCHEMAS}
                 ORDER BY c.contypid, c.conname"
            ),
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(InlineConstraint {
                address: Address::new(class::CONSTRAINT, row.number("oid")?),
                domain: row.number("contypid")?,
                name: row.text("conname")?,
                definition: row.text("definition")?,
                not_null: row.bool("not_null")?,
            })
        })
        .collect()
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<DomainConstraint>> {
    let rows = reader
        .query(
            "check constraints of domains",
            &format!(
                "SELECT c.oid, c.conname AS name, n.nspname AS schema,
                        pg_get_userbyid(t.typowner) AS owner, c.contypid,
                        t.typname AS domain_name, pg_get_constraintdef(c.oid) AS definition,
                        c.convalidated
                 FROM pg_constraint c
                 JOIN pg_type t ON t.oid = c.contypid
                 JOIN pg_namespace n ON n.oid = t.typnamespace
                 WHERE c.contype = 'c' AND {USER_SCHEMAS}"
            ),
        )
        .await?;
    let mut constraints = Vec::new();
    for row in &rows {
        let identity = Identity::in_schema(class::CONSTRAINT, row)?;
        let domain = Address::new(class::TYPE, row.number("contypid")?);
        let is_wanted = identity
            .schema
            .as_ref()
            .is_none_or(|schema| reader.chosen.contents_of(schema));
        if is_wanted && reader.extension_of(domain).is_none() {
            constraints.push(DomainConstraint {
                identity,
                domain,
                domain_name: row.text("domain_name")?,
                definition: row.text("definition")?,
                validated: row.bool("convalidated")?,
            });
        }
    }
    Ok(constraints)
}

impl CatalogObject for DomainConstraint {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.domain_name.clone()
    }

    fn section(&self) -> Section {
        if self.validated {
            Section::PreData
        } else {
            Section::PostData
        }
    }

    fn inline_in(&self) -> Option<Address> {
        self.validated.then_some(self.domain)
    }

    fn requires(&self) -> Vec<Address> {
        if self.validated {
            Vec::new()
        } else {
            vec![self.domain]
        }
    }

    fn define(&self, context: &Defining<'_>) -> Result<Option<Definition>> {
        if self.validated && !context.is_separate(self.identity.address) {
            return Ok(None);
        }
        let domain = match &self.identity.schema {
            Some(schema) => sql::qualified(schema, &self.domain_name),
            None => sql::identifier(&self.domain_name),
        };
        let name = sql::identifier(&self.identity.name);
        let mut definition = Definition::new(
            "CHECK CONSTRAINT",
            Section::PostData,
            sql!("{} {}", self.domain_name, self.identity.name),
            sql!(
                "ALTER DOMAIN {}\n    ADD CONSTRAINT {} {};\n",
                domain,
                name,
                self.definition
            ),
        );
        // ALTER DOMAIN itself has no IF EXISTS
        let guarded = sql!(
            "BEGIN IF pg_catalog.to_regtype({}) IS NOT NULL THEN \
             ALTER DOMAIN {} DROP CONSTRAINT IF EXISTS {}; END IF; END",
            sql::literal(&domain),
            domain,
            name
        );
        definition.drop = Drop::Statement {
            plain: sql!("ALTER DOMAIN {} DROP CONSTRAINT {};", domain, name),
            if_exists: sql!("DO {};", sql::dollar_quoted(guarded)),
        };
        definition.comment_target = Some(sql!("CONSTRAINT {} ON DOMAIN {}", name, domain));
        Ok(Some(definition))
    }
}
