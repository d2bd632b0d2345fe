//! Flags that choose what of an archive is replayed, for every command that replays one; with the
//! names and meanings of pg_restore.

use std::io::Read;
use std::path::{Path, PathBuf};

use bstr::BString;
use clap::{Args, ValueEnum};

use super::inputs::{ARCHIVE, FILTER, Input, LIST};
use crate::archive::Section;
use crate::catalog::filter::Parts;
use crate::catalog::filter::file::{self, Command, ObjectType};
use crate::error::{Error, Result};
use crate::restore::{Selection, parse_list};

/// A section as `--section` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SectionName {
    PreData,
    Data,
    PostData,
}

impl From<SectionName> for Section {
    fn from(name: SectionName) -> Section {
        match name {
            SectionName::PreData => Section::PreData,
            SectionName::Data => Section::Data,
            SectionName::PostData => Section::PostData,
        }
    }
}

/// Which parts of objects: a snapshot takes these flags too.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Parts of objects")]
pub struct PartArguments {
    /// Only rows, sequence values and large objects
    #[arg(short = 'a', long, conflicts_with_all = ["schema_only", "no_data"])]
    data_only: bool,
    /// Only definitions
    #[arg(short = 's', long, conflicts_with = "no_schema")]
    schema_only: bool,
    /// No rows, sequence values and large objects
    #[arg(long)]
    no_data: bool,
    /// No definitions
    #[arg(long)]
    no_schema: bool,
    /// Statistics of the planner, so that a restored database need not be analyzed first. A snapshot
    /// keeps them only if this is given; what an archive has is restored without it
    #[arg(long, conflicts_with_all = ["no_statistics", "data_only", "schema_only"])]
    statistics: bool,
    /// No statistics
    #[arg(long)]
    no_statistics: bool,
    /// Only statistics
    #[arg(long, conflicts_with_all = ["no_statistics", "data_only", "schema_only"])]
    statistics_only: bool,
    /// Only this section (may be repeated)
    #[arg(long = "section", value_name = "SECTION")]
    sections: Vec<SectionName>,
    /// No privileges
    #[arg(short = 'x', long, visible_alias = "no-acl")]
    no_privileges: bool,
    /// No comments
    #[arg(long)]
    no_comments: bool,
    /// No row-level security policies
    #[arg(long)]
    no_policies: bool,
    /// No publications
    #[arg(long)]
    no_publications: bool,
    /// No subscriptions
    #[arg(long)]
    no_subscriptions: bool,
    /// No security labels
    #[arg(long)]
    no_security_labels: bool,
}

/// When statistics are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistics {
    IfAskedFor,
    UnlessLeftOut,
}

impl PartArguments {
    /// As pg_dump and pg_restore of version 18 put these flags together: one that ends with -only
    /// leaves out the other two of definitions, data and statistics.
    pub fn parts(&self, statistics: Statistics) -> Parts {
        let asked_for = self.statistics || self.statistics_only;
        let by_default =
            statistics == Statistics::UnlessLeftOut && !self.data_only && !self.schema_only;
        Parts {
            no_schema: self.data_only || self.statistics_only || self.no_schema,
            no_data: self.schema_only || self.statistics_only || self.no_data,
            no_statistics: self.no_statistics || !(asked_for || by_default),
            sequence_data: false,
            sections: self.sections.iter().copied().map(Section::from).collect(),
            no_privileges: self.no_privileges,
            no_comments: self.no_comments,
            no_policies: self.no_policies,
            no_publications: self.no_publications,
            no_subscriptions: self.no_subscriptions,
            no_security_labels: self.no_security_labels,
        }
    }
}

/// Which entries of an archive.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is chosen")]
pub struct SelectionArguments {
    /// Only objects in this schema (may be repeated)
    #[arg(short = 'n', long = "schema", value_name = "NAME")]
    pub schemas: Vec<String>,
    /// No objects in this schema (may be repeated)
    #[arg(short = 'N', long = "exclude-schema", value_name = "NAME")]
    pub exclude_schemas: Vec<String>,
    /// Only this table, view or sequence; its schema is given with -n (may be repeated)
    #[arg(short = 't', long = "table", value_name = "NAME")]
    pub tables: Vec<String>,
    /// Only this index (may be repeated)
    #[arg(short = 'I', long = "index", value_name = "NAME")]
    pub indexes: Vec<String>,
    /// Only this function, with its argument types (may be repeated)
    #[arg(short = 'P', long = "function", value_name = "NAME(ARGS)")]
    pub functions: Vec<String>,
    /// Only this trigger (may be repeated)
    #[arg(short = 'T', long = "trigger", value_name = "NAME")]
    pub triggers: Vec<String>,
    /// Read such choices from this file: lines like "include table NAME"; - for standard input
    #[arg(long = "filter", value_name = "FILE")]
    pub filters: Vec<PathBuf>,
    /// Fail where the archive has nothing of a name that is given
    #[arg(long)]
    pub strict_names: bool,
    /// Only the entries that this file lists, in its order as far as dependencies allow; - for standard input
    #[arg(short = 'L', long, value_name = "FILE")]
    pub use_list: Option<PathBuf>,

    #[command(flatten)]
    pub parts: PartArguments,
}

fn read_list(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path).map_err(|error| {
            Error::new(format!("could not read \"{}\": {error}", path.display()))
        });
    }
    let mut text = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut text)
        .map_err(|error| {
            Error::new(format!(
                "could not read the list from standard input: {error}"
            ))
        })?;
    Ok(text)
}

impl SelectionArguments {
    /// The archive, and the files that choose of it.
    pub fn inputs<'a>(&'a self, archive: Option<&'a Path>) -> Vec<Input<'a>> {
        let mut inputs: Vec<Input> = archive
            .map(|archive| (ARCHIVE, archive))
            .into_iter()
            .collect();
        inputs.extend(self.use_list.iter().map(|path| (LIST, path.as_path())));
        inputs.extend(self.filters.iter().map(|path| (FILTER, path.as_path())));
        inputs
    }

    /// Reads the list and the filter files as well.
    pub fn selection(&self) -> Result<Selection> {
        let listed = match &self.use_list {
            None => None,
            Some(path) => {
                let text = read_list(path)?;
                Some(parse_list(&String::from_utf8_lossy(&text))?)
            }
        };
        let names = |names: &[String]| -> Vec<BString> {
            names.iter().map(|name| name.as_str().into()).collect()
        };
        let mut selection = Selection {
            schemas: names(&self.schemas),
            excluded_schemas: names(&self.exclude_schemas),
            tables: names(&self.tables),
            indexes: names(&self.indexes),
            functions: names(&self.functions),
            triggers: names(&self.triggers),
            strict_names: self.strict_names,
            parts: self.parts.parts(Statistics::UnlessLeftOut),
            listed,
        };
        for path in &self.filters {
            for item in file::read(path)? {
                let names = match (item.command, item.object) {
                    (Command::Include, ObjectType::Schema) => &mut selection.schemas,
                    (Command::Exclude, ObjectType::Schema) => &mut selection.excluded_schemas,
                    (Command::Include, ObjectType::Table) => &mut selection.tables,
                    (Command::Include, ObjectType::Index) => &mut selection.indexes,
                    (Command::Include, ObjectType::Function) => &mut selection.functions,
                    (Command::Include, ObjectType::Trigger) => &mut selection.triggers,
                    _ => return Err(item.not_allowed()),
                };
                names.push(item.pattern);
            }
        }
        Ok(selection)
    }
}
