//! The kinds of objects, a file each.
//!
//! The order of the registry's lines is the sort priority: where dependencies leave a choice,
//! objects of an earlier line are restored first.

mod registry;
mod routines;
mod types;

registry::kinds! {
    Schema => schema,
    Extension => extension,
    Collation => collation,
    EnumType => enum_type,
    CompositeType => composite_type,
    Domain => domain,
    DomainConstraint => domain_constraint,
    RangeType => range_type,
    ProceduralLanguage => procedural_language,
    Function => function,
    Cast => cast,
    Operator => operator,
    Aggregate => aggregate,
    DefaultPrivileges => default_privileges,
    LargeObjects => large_object,
}

use super::reader::Reader;
use crate::error::Result;

/// Reads all kinds. Tables come first: others keep only what belongs to them.
pub async fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    macro_rules! read {
        ($($variant:ident => $module:ident),* $(,)?) => {
            $(objects.extend($module::read(reader).await?.into_iter().map(Object::$variant));)*
        };
    }
    read! {
        Schema => schema,
        Extension => extension,
        Collation => collation,
        EnumType => enum_type,
        CompositeType => composite_type,
        Domain => domain,
        DomainConstraint => domain_constraint,
        RangeType => range_type,
        ProceduralLanguage => procedural_language,
        Function => function,
        Cast => cast,
        Operator => operator,
        Aggregate => aggregate,
        DefaultPrivileges => default_privileges,
        LargeObjects => large_object,
    }
    Ok(objects)
}
