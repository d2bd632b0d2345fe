//! The kinds of objects, a file each.
//!
//! The order of the registry's lines is the sort priority: where dependencies leave a choice,
//! objects of an earlier line are restored first.

mod column;
mod extension_data;
mod registry;
mod relation;
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
    Table => table,
    View => view,
    ViewQuery => view_query,
    MaterializedView => materialized_view,
    Sequence => sequence,
    TableAttach => table_attach,
    SequenceOwnedBy => sequence_owned_by,
    ColumnDefault => column_default,
    CheckConstraint => check_constraint,
    TableData => table_data,
    SequenceValue => sequence_value,
    Constraint => constraint,
    Index => index,
    IndexAttach => index_attach,
    ExtendedStatistics => extended_statistics,
    Rule => rule,
    Trigger => trigger,
    ForeignKey => foreign_key,
    Policy => policy,
    RowSecurity => row_security,
    Refresh => refresh,
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
        Table => table,
    View => view,
    ViewQuery => view_query,
    MaterializedView => materialized_view,
    Sequence => sequence,
    TableAttach => table_attach,
    SequenceOwnedBy => sequence_owned_by,
    ColumnDefault => column_default,
    CheckConstraint => check_constraint,
    TableData => table_data,
    SequenceValue => sequence_value,
    Constraint => constraint,
    Index => index,
    IndexAttach => index_attach,
    ExtendedStatistics => extended_statistics,
        Rule => rule,
    Trigger => trigger,
    ForeignKey => foreign_key,
    Policy => policy,
    RowSecurity => row_security,
    Refresh => refresh,
    DefaultPrivileges => default_privileges,
        LargeObjects => large_object,
    }
    Ok(objects)
}
