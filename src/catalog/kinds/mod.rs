//! The kinds of objects, a file each.
//!
//! A line of the registry is all that names a kind. The order of the lines is the sort priority:
//! where dependencies leave a choice, objects of an earlier line are restored first. It is also the
//! order of reading: whatever belongs to relations stands below all kinds of relations, since it is
//! kept only where its relation was.

mod column;
mod extension_data;
mod foreign_options;
mod operator_members;
mod registry;
mod relation;
pub(in crate::catalog) mod routines;
mod types;

registry::kinds! {
    Database => database,
    Schema => schema,
    Extension => extension,
    Collation => collation,
    BaseType => base_type,
    EnumType => enum_type,
    CompositeType => composite_type,
    Domain => domain,
    DomainConstraint => domain_constraint,
    ShellType => shell_type,
    RangeType => range_type,
    ProceduralLanguage => procedural_language,
    Transform => transform,
    Function => function,
    Cast => cast,
    Aggregate => aggregate,
    AccessMethod => access_method,
    Operator => operator,
    OperatorFamily => operator_family,
    OperatorClass => operator_class,
    Conversion => conversion,
    TextSearchParser => text_search_parser,
    TextSearchTemplate => text_search_template,
    TextSearchDictionary => text_search_dictionary,
    TextSearchConfiguration => text_search_configuration,
    ForeignDataWrapper => foreign_data_wrapper,
    ForeignServer => foreign_server,
    UserMapping => user_mapping,
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
    Publication => publication,
    PublicationTable => publication_table,
    PublicationSchema => publication_schema,
    Subscription => subscription,
    EventTrigger => event_trigger,
    Refresh => refresh,
    StatisticsData => statistics_data,
    DefaultPrivileges => default_privileges,
    LargeObjects => large_object,
}
