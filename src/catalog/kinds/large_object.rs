//! Large objects: created in batches of equal owner and ACL, and one entry for the contents of all.
//!
//! A database may hold millions of them, so none has an entry of its own.

use bstr::BString;

use crate::archive::{Contents, Section};
use crate::catalog::object::{
    Address, CatalogObject, Defining, Definition, Drop, Identity, Part, class,
};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::postgres::Oid;
use crate::sql;

/// Large objects in one metadata entry: few enough that a transaction over them stays far from
/// filling the lock table.
const BATCH: usize = 1000;

#[derive(Debug)]
pub struct LargeObjects {
    identity: Identity,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Metadata {
        /// Ascending.
        oids: Vec<Oid>,
        /// Those with a comment or a security label.
        described: Vec<Oid>,
    },
    /// Contents of all, once the batches stand at these addresses.
    Data { batches: Vec<Address> },
}

pub async fn read(reader: &mut Reader<'_>) -> Result<Vec<LargeObjects>> {
    if !reader.scope.takes_large_objects() {
        return Ok(Vec::new());
    }
    // batches are cut on the server: a row each, however many large objects there are
    let rows = reader
        .query(
            "large objects",
            &format!(
                "SELECT min(oid) AS oid, min(oid) || CASE WHEN count(*) > 1 THEN '..' || max(oid)
                                                          ELSE '' END AS name,
                        array_agg(oid ORDER BY oid) AS oids,
                        array_agg(oid ORDER BY oid) FILTER (WHERE described) AS described,
                        pg_get_userbyid(lomowner) AS owner, acl::aclitem[] AS acl,
                        acldefault('L', lomowner) AS acldefault
                 FROM (SELECT m.oid, m.lomowner, m.lomacl::text AS acl,
                              EXISTS (SELECT FROM pg_description d
                                      WHERE d.classoid = 'pg_largeobject'::regclass
                                        AND d.objoid = m.oid)
                              OR EXISTS (SELECT FROM pg_seclabel l
                                         WHERE l.classoid = 'pg_largeobject'::regclass
                                           AND l.objoid = m.oid) AS described,
                              (row_number() OVER (PARTITION BY m.lomowner, m.lomacl::text
                                                  ORDER BY m.oid) - 1) / {BATCH} AS batch
                       FROM pg_largeobject_metadata m) AS l
                 GROUP BY lomowner, acl, batch
                 ORDER BY 1"
            ),
        )
        .await?;
    let mut groups = Vec::new();
    let mut batches = Vec::new();
    for row in &rows {
        let identity = Identity::from_row(class::LARGE_OBJECT, row)?.owned(row)?.with_privileges(reader, row)?;
        batches.push(identity.address);
        groups.push(LargeObjects {
            identity,
            content: Content::Metadata {
                oids: row.numbers("oids")?,
                described: row.numbers("described")?,
            },
        });
    }
    if !batches.is_empty() {
        groups.push(LargeObjects {
            identity: Identity {
                address: Address::new(class::LARGE_OBJECT, 0).part(Part::Data),
                schema: None,
                name: BString::from("BLOBS"),
                owner: None,
                acl: None,
                acl_default: None,
                privileges_only: false,
            },
            content: Content::Data { batches },
        });
    }
    Ok(groups)
}

impl LargeObjects {
    fn metadata(&self, oids: &[Oid]) -> Definition {
        let list = |separator| sql::join(oids.iter().map(Oid::to_string), separator);
        let array = sql!("'{{}}'::pg_catalog.oid[]", list(","));
        let create = sql!(
            "SELECT pg_catalog.count(pg_catalog.lo_create(o)) FROM pg_catalog.unnest({}) AS o;\n",
            array
        );
        let mut definition = Definition::new(
            "BLOB METADATA",
            Section::Data,
            self.identity.name.clone(),
            create,
        )
        .privileges("LARGE OBJECT", list(", "));
        if let Some(owner) = &self.identity.owner {
            // ALTER LARGE OBJECT takes one at a time, so all but the last statement stand within
            // what the last one names
            let owner = sql::identifier(owner);
            let targets = oids
                .iter()
                .map(|oid| sql!("LARGE OBJECT {}", oid.to_string()));
            let between = sql!(" OWNER TO {};\nALTER ", owner);
            definition.owner_target = Some(BString::from(bstr::join(
                between,
                targets,
            )));
        }
        // one that is not there must not keep the others
        let unlink = sql!(
            "SELECT pg_catalog.count(pg_catalog.lo_unlink(o)) FROM pg_catalog.unnest({}) AS o \
             WHERE EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata AS m WHERE m.oid = o);",
            array
        );
        definition.drop = Drop::Statement {
            plain: unlink.clone(),
            if_exists: unlink,
        };
        definition
    }
}

impl CatalogObject for LargeObjects {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn section(&self) -> Section {
        Section::Data
    }

    fn requires(&self) -> Vec<Address> {
        match &self.content {
            Content::Metadata { .. } => Vec::new(),
            Content::Data { batches } => batches.clone(),
        }
    }

    fn comment_columns(&self) -> Vec<(Address, i32, BString)> {
        let Content::Metadata { described, .. } = &self.content else {
            return Vec::new();
        };
        described
            .iter()
            .map(|oid| {
                (
                    Address::new(class::LARGE_OBJECT, *oid),
                    0,
                    sql!("LARGE OBJECT {}", oid.to_string()),
                )
            })
            .collect()
    }

    fn define(&self, _: &Defining<'_>) -> Result<Option<Definition>> {
        let definition = match &self.content {
            Content::Metadata { oids, .. } => self.metadata(oids),
            Content::Data { .. } => {
                let mut definition =
                    Definition::new("BLOBS", Section::Data, self.identity.name.clone(), "");
                definition.contents = Contents::LargeObjects;
                definition
            }
        };
        Ok(Some(definition))
    }
}
