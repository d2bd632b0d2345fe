//! Flags of a snapshot that choose what is stored, with the names and meanings of pg_dump.

use std::path::PathBuf;

use bstr::BString;
use clap::Args;

use super::inputs::{FILTER, Input};
use super::replay::ReplayArguments;
use super::selection::{PartArguments, Statistics};
use crate::catalog::Scope;
use crate::catalog::filter::Patterns;
use crate::catalog::filter::file::{self, Command, ObjectType};
use crate::error::Result;
use crate::snapshot::Reading;

/// PATTERN is a name, in which `*` and `?` stand for others; several of one flag add to each other.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is stored")]
pub struct FilterArguments {
    /// Only these schemas, with all in them. In a PATTERN, * stands for any characters and ? for one,
    /// letters are folded to lower case, and double quotes keep what is within them as it is
    #[arg(short = 'n', long = "schema", value_name = "PATTERN")]
    schemas: Vec<String>,
    /// Not these schemas
    #[arg(short = 'N', long = "exclude-schema", value_name = "PATTERN")]
    exclude_schemas: Vec<String>,
    /// Only these tables, views, sequences, with what belongs to them
    #[arg(short = 't', long = "table", value_name = "PATTERN")]
    tables: Vec<String>,
    /// As -t, with all partitions and tables that inherit
    #[arg(long = "table-and-children", value_name = "PATTERN")]
    tables_and_children: Vec<String>,
    /// Not these tables, views, sequences
    #[arg(short = 'T', long = "exclude-table", value_name = "PATTERN")]
    exclude_tables: Vec<String>,
    /// As -T, with all partitions and tables that inherit
    #[arg(long = "exclude-table-and-children", value_name = "PATTERN")]
    exclude_tables_and_children: Vec<String>,
    /// Not the rows of these tables, the values of these sequences
    #[arg(long = "exclude-table-data", value_name = "PATTERN")]
    exclude_table_data: Vec<String>,
    /// As --exclude-table-data, with all partitions and tables that inherit
    #[arg(long = "exclude-table-data-and-children", value_name = "PATTERN")]
    exclude_table_data_and_children: Vec<String>,
    /// Only these extensions
    #[arg(short = 'e', long = "extension", value_name = "PATTERN")]
    extensions: Vec<String>,
    /// Not these extensions
    #[arg(long = "exclude-extension", value_name = "PATTERN")]
    exclude_extensions: Vec<String>,
    /// Also rows of the foreign tables of these servers
    #[arg(
        long = "include-foreign-data",
        value_name = "PATTERN",
        conflicts_with = "schema_only"
    )]
    foreign_data: Vec<String>,
    /// Read such choices from this file: lines like "exclude table_data PATTERN"; - for standard input
    #[arg(long = "filter", value_name = "FILE")]
    filters: Vec<PathBuf>,
    /// Fail where a PATTERN that includes finds nothing
    #[arg(long)]
    strict_names: bool,
    /// Large objects although something in particular is chosen
    #[arg(short = 'b', long = "large-objects", alias = "blobs")]
    large_objects: bool,
    /// No large objects
    #[arg(short = 'B', long = "no-large-objects", alias = "no-blobs")]
    no_large_objects: bool,

    #[command(flatten)]
    parts: PartArguments,
    /// Values of sequences although no rows are stored
    #[arg(long)]
    sequence_data: bool,
    /// No rows of unlogged tables
    #[arg(long)]
    no_unlogged_table_data: bool,
    /// No compression methods of columns
    #[arg(long)]
    no_toast_compression: bool,
    /// Have rows of partitions restored through the root of their tree
    #[arg(long)]
    load_via_partition_root: bool,

    /// Names, definitions and rows in this encoding, one that a database can have; the database's own
    /// if not given
    #[arg(short = 'E', long, value_name = "ENCODING", help_heading = "Reading")]
    encoding: Option<String>,
    /// Take over this snapshot, which another session has exported
    #[arg(long, value_name = "NAME", help_heading = "Reading")]
    snapshot: Option<String>,
    /// Wait for a moment at which all serializable transactions can be seen as in one order
    #[arg(long, help_heading = "Reading", conflicts_with = "snapshot")]
    serializable_deferrable: bool,
    /// Of tables with row-level security, store the rows that the role may see
    #[arg(long, help_heading = "Reading")]
    enable_row_security: bool,
    /// Digits of floating-point numbers; the default, 3, keeps them exact
    #[arg(long, value_name = "NUMBER", help_heading = "Reading", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-15..=3))]
    extra_float_digits: Option<i8>,

    /// Quote every name in definitions, also where it need not be: for a server with other keywords
    #[arg(long, help_heading = "Reading")]
    quote_all_identifiers: bool,

    #[command(flatten)]
    at_restore: AtRestore,
}

/// What pg_dump takes as well, and says nothing in an archive either.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Known from pg_dump, given at restore")]
struct AtRestore {
    #[command(flatten)]
    replay: ReplayArguments,
    /// Superuser who disables triggers
    #[arg(short = 'S', long, value_name = "NAME")]
    superuser: Option<String>,
}

impl FilterArguments {
    /// Reads the filter files as well.
    pub fn scope(&self) -> Result<Scope> {
        let mut parts = self.parts.parts(Statistics::IfAskedFor);
        parts.sequence_data = self.sequence_data;
        Ok(Scope {
            patterns: self.patterns()?,
            parts,
            no_large_objects: self.no_large_objects,
            with_large_objects: self.large_objects,
            no_unlogged_table_data: self.no_unlogged_table_data,
            load_via_partition_root: self.load_via_partition_root,
            no_toast_compression: self.no_toast_compression,
            enable_row_security: self.enable_row_security,
        })
    }

    /// The files that choose.
    pub fn inputs(&self) -> Vec<Input<'_>> {
        let files = self.filters.iter();
        files.map(|path| (FILTER, path.as_path())).collect()
    }

    pub fn reading(&self) -> Reading {
        Reading {
            encoding: self.encoding.clone(),
            snapshot: self.snapshot.clone(),
            serializable_deferrable: self.serializable_deferrable,
            extra_float_digits: self.extra_float_digits,
            quote_all_identifiers: self.quote_all_identifiers,
        }
    }

    /// What the user should know of the flags that have no meaning yet.
    pub fn warning(&self) -> Option<String> {
        let of = &self.at_restore;
        let given: Vec<&str> = [
            (of.replay.clean, "--clean"),
            (of.replay.if_exists, "--if-exists"),
            (of.replay.create, "--create"),
            (of.replay.no_owner, "--no-owner"),
            (of.replay.no_tablespaces, "--no-tablespaces"),
            (of.replay.no_table_access_method, "--no-table-access-method"),
            (of.replay.disable_triggers, "--disable-triggers"),
            (of.superuser.is_some(), "--superuser"),
        ]
        .into_iter()
        .filter_map(|(is_given, flag)| is_given.then_some(flag))
        .collect();
        (!given.is_empty()).then(|| {
            format!(
                "an archive can be restored with or without {}: say so at restore",
                given.join(", ")
            )
        })
    }

    fn patterns(&self) -> Result<Patterns> {
        let texts = |texts: &[String]| -> Vec<BString> {
            texts.iter().map(|text| text.as_str().into()).collect()
        };
        let mut patterns = Patterns {
            schemas: texts(&self.schemas),
            excluded_schemas: texts(&self.exclude_schemas),
            tables: texts(&self.tables),
            tables_and_children: texts(&self.tables_and_children),
            excluded_tables: texts(&self.exclude_tables),
            excluded_tables_and_children: texts(&self.exclude_tables_and_children),
            excluded_data: texts(&self.exclude_table_data),
            excluded_data_and_children: texts(&self.exclude_table_data_and_children),
            extensions: texts(&self.extensions),
            excluded_extensions: texts(&self.exclude_extensions),
            foreign_data: texts(&self.foreign_data),
            strict_names: self.strict_names,
            ..Patterns::default()
        };
        for path in &self.filters {
            for item in file::read(path)? {
                let list = match (item.command, item.object) {
                    (Command::Include, ObjectType::Schema) => &mut patterns.schemas,
                    (Command::Exclude, ObjectType::Schema) => &mut patterns.excluded_schemas,
                    (Command::Include, ObjectType::Table) => &mut patterns.tables,
                    (Command::Exclude, ObjectType::Table) => &mut patterns.excluded_tables,
                    (Command::Include, ObjectType::TableAndChildren) => {
                        &mut patterns.tables_and_children
                    }
                    (Command::Exclude, ObjectType::TableAndChildren) => {
                        &mut patterns.excluded_tables_and_children
                    }
                    (Command::Exclude, ObjectType::TableData) => &mut patterns.excluded_data,
                    (Command::Exclude, ObjectType::TableDataAndChildren) => {
                        &mut patterns.excluded_data_and_children
                    }
                    (Command::Include, ObjectType::Extension) => &mut patterns.extensions,
                    (Command::Exclude, ObjectType::Extension) => &mut patterns.excluded_extensions,
                    (Command::Include, ObjectType::ForeignData) => &mut patterns.foreign_data,
                    _ => return Err(item.not_allowed()),
                };
                list.push(item.pattern);
            }
        }
        Ok(patterns)
    }
}
