//! Operators and functions that make up operator classes and families.

use std::collections::HashMap;

use bstr::BString;

use crate::catalog::object::{Address, class};
use crate::catalog::reader::Reader;
use crate::error::Result;
use crate::sql;

/// An operator or function, as CREATE OPERATOR CLASS and ALTER OPERATOR FAMILY ... ADD take it.
#[derive(Debug)]
pub(super) struct Member {
    pub address: Address,
    pub clause: BString,
}

/// By the class or family that each hangs on: those of a class go with it, others are loose in
/// their family.
pub(super) async fn read(reader: &mut Reader<'_>) -> Result<HashMap<Address, Vec<Member>>> {
    let mut members: HashMap<Address, Vec<Member>> = HashMap::new();
    let operators = reader
        .query(
            "operators of operator families",
            "SELECT o.oid, d.refclassid, d.refobjid, o.amopstrategy AS number,
                    o.amopopr::regoperator AS operator,
                    n.nspname AS sort_schema, f.opfname AS sort_family
             FROM pg_amop o
             JOIN pg_depend d ON d.classid = 'pg_amop'::regclass AND d.objid = o.oid
              AND d.refclassid IN ('pg_opclass'::regclass, 'pg_opfamily'::regclass)
              AND d.deptype IN ('i', 'a') AND d.refobjid <> o.amopsortfamily
             LEFT JOIN pg_opfamily f ON f.oid = o.amopsortfamily
             LEFT JOIN pg_namespace n ON n.oid = f.opfnamespace
             WHERE o.oid >= 16384
             ORDER BY o.amopstrategy, o.amopopr::regoperator::text",
        )
        .await?;
    for row in &operators {
        let mut clause = sql!(
            "OPERATOR {} {}",
            row.bytes("number")?,
            row.bytes("operator")?
        );
        if let Some(family) = row.optional("sort_family")? {
            let family = sql::qualified(row.bytes("sort_schema")?, family);
            clause.extend_from_slice(&sql!(" FOR ORDER BY {}", family));
        }
        members
            .entry(Address::new(
                row.number("refclassid")?,
                row.number("refobjid")?,
            ))
            .or_default()
            .push(Member {
                address: Address::new(class::OPERATOR_OF_FAMILY, row.number("oid")?),
                clause,
            });
    }
    let functions = reader
        .query(
            "functions of operator families",
            "SELECT p.oid, d.refclassid, d.refobjid, p.amprocnum AS number,
                    format_type(p.amproclefttype, NULL) AS left,
                    format_type(p.amprocrighttype, NULL) AS right,
                    p.amproc::regprocedure AS function
             FROM pg_amproc p
             JOIN pg_depend d ON d.classid = 'pg_amproc'::regclass AND d.objid = p.oid
              AND d.refclassid IN ('pg_opclass'::regclass, 'pg_opfamily'::regclass)
              AND d.deptype IN ('i', 'a')
             WHERE p.oid >= 16384
             ORDER BY p.amprocnum, 5, 6",
        )
        .await?;
    for row in &functions {
        members
            .entry(Address::new(
                row.number("refclassid")?,
                row.number("refobjid")?,
            ))
            .or_default()
            .push(Member {
                address: Address::new(class::FUNCTION_OF_FAMILY, row.number("oid")?),
                clause: sql!(
                    "FUNCTION {} ({}, {}) {}",
                    row.bytes("number")?,
                    row.bytes("left")?,
                    row.bytes("right")?,
                    row.bytes("function")?
                ),
            });
    }
    Ok(members)
}
