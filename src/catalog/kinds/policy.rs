//! Row-level security policies. Those on tables of extensions come with the extension: nothing tells
//! whose they are, and pg_dump leaves them out too.

use bstr::BString;

use super::relation::{OWNER_COLUMNS, OWNER_JOINS, Relation};
use crate::archive::Section;
use crate::catalog::object::{Address, CatalogObject, Defining, Definition, Identity, class};
use crate::catalog::reader::{Reader, USER_SCHEMAS};
use crate::error::Result;
use crate::sql;

#[derive(Debug)]
pub struct Policy {
    identity: Identity,
    relation: Relation,
    command: u8,
    is_permissive: bool,
    /// Empty for PUBLIC.
    roles: Vec<BString>,
    using: Option<BString>,
    with_check: Option<BString>,
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<Policy>> {
    let wanted = reader.of_wanted();
    let rows = reader
        .query(
            "policies",
            &format!(
                "SELECT p.oid, p.polname AS name, p.polcmd, p.polpermissive,
                        pg_get_expr(p.polqual, p.polrelid) AS using_expression,
                        pg_get_expr(p.polwithcheck, p.polrelid) AS check_expression,
                        ARRAY(SELECT r.rolname FROM pg_roles r
                              WHERE p.polroles <> '{{0}}' AND r.oid = ANY (p.polroles)
                              ORDER BY r.rolname) AS roles,
                        {OWNER_COLUMNS}
                 FROM pg_policy p
                 JOIN pg_class c ON c.oid = p.polrelid
                 {OWNER_JOINS}
                 WHERE {USER_SCHEMAS} AND {wanted}"
            ),
        )
        .await?;
    let relations: Vec<Relation> = rows.iter().map(Relation::from_row).collect::<Result<_>>()?;
    rows.iter()
        .zip(relations)
        .filter(|(_, relation)| reader.has_relation(relation.oid))
        .map(|(row, relation)| {
            Ok(Policy {
                identity: Identity::in_schema(class::POLICY, row)?,
                relation,
                command: row.char("polcmd")?,
                is_permissive: row.bool("polpermissive")?,
                roles: row.texts("roles")?,
                using: row.optional_text("using_expression")?,
                with_check: row.optional_text("check_expression")?,
            })
        })
        .collect()
}

impl CatalogObject for Policy {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn natural_key(&self) -> BString {
        self.relation.name.clone()
    }

    fn section(&self) -> Section {
        Section::PostData
    }

    fn requires(&self) -> Vec<Address> {
        vec![self.relation.address()]
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let command = match self.command {
            b'r' => " FOR SELECT",
            b'a' => " FOR INSERT",
            b'w' => " FOR UPDATE",
            b'd' => " FOR DELETE",
            _ => "",
        };
        let mut create = sql!(
            "CREATE POLICY {} ON {}{}{}",
            sql::identifier(&self.identity.name),
            self.relation.sql(),
            if self.is_permissive {
                ""
            } else {
                " AS RESTRICTIVE"
            },
            command
        );
        if !self.roles.is_empty() {
            let roles = sql::join(self.roles.iter().map(sql::identifier), ", ");
            create.extend_from_slice(&sql!(" TO {}", roles));
        }
        if let Some(expression) = &self.using {
            create.extend_from_slice(&sql!(" USING ({})", expression));
        }
        if let Some(expression) = &self.with_check {
            create.extend_from_slice(&sql!(" WITH CHECK ({})", expression));
        }
        create.extend_from_slice(b";\n");
        let definition = Definition::new(
            "POLICY",
            Section::PostData,
            self.relation.tag(&self.identity.name),
            create,
        );
        Ok(Some(self.relation.target(
            definition,
            "POLICY",
            &self.identity.name,
        )))
    }
}
