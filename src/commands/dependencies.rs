//! Flags that bring a table back with all that it needs.

use clap::Args;

use crate::error::{Error, Result};
use crate::restore::{Dependencies, Selection};

#[derive(Debug, Args)]
#[command(next_help_heading = "A table with what it needs")]
pub struct DependencyArguments {
    /// Restore what is chosen (-t, -n ...) with what belongs to it (rows, indexes, constraints,
    /// triggers, policies, its sequences, its partitions, comments, privileges) and with what it needs
    /// (types, functions, other sequences, its schema, parents that it inherits from). What it needs and
    /// the target has is used as it is if its definition reads the same, or the restore is refused
    /// before anything is written. A partition without its parent becomes a table of its own, as
    /// DETACH PARTITION leaves one: with the foreign keys of its parents, without their triggers and
    /// identity. Foreign keys to tables that are not there, views and whatever else depends on what is
    /// chosen, publications are left out. All of that is told, and so are functions that come along
    /// and whose bodies are text: what they name is not looked for
    #[arg(long, conflicts_with_all = ["create", "clean", "data_only", "list"])]
    with_dependencies: bool,
    /// With --with-dependencies: restore the tables chosen into this schema, which is made if it
    /// is not there. What they need keeps its own. They appear there when all of it is done; where
    /// rows cannot be loaded they stay in a schema that a warning names
    #[arg(long, value_name = "SCHEMA", requires = "with_dependencies")]
    into_schema: Option<String>,
    /// With --with-dependencies: restore the one table chosen under this name. Its indexes and
    /// sequences keep theirs where they are free, and else get one made from it
    #[arg(long = "as", value_name = "NAME", requires = "with_dependencies")]
    as_name: Option<String>,
}

/// The server would take a longer one for another, which may exist.
pub fn refuse_bad_length(flag: &str, name: &str) -> Result<()> {
    match name.len() {
        1..=63 => Ok(()),
        _ => Err(Error::usage(format!(
            "{flag} takes a name of 1 to 63 bytes"
        ))),
    }
}

impl DependencyArguments {
    /// None: the filters choose what they choose, and nothing more.
    pub fn dependencies(&self, selection: &Selection) -> Result<Option<Dependencies>> {
        if !self.with_dependencies {
            return Ok(None);
        }
        if selection.parts.is_of_some_sections() || selection.parts.no_schema {
            return Err(Error::usage(
                "--with-dependencies brings back all of a table: neither --section nor a restore without definitions goes with it",
            ));
        }
        if !selection.is_of_a_part() {
            return Err(Error::usage("--with-dependencies needs something chosen")
                .hint("choose a table with -t"));
        }
        for (flag, name) in [
            ("--into-schema", &self.into_schema),
            ("--as", &self.as_name),
        ] {
            if let Some(name) = name {
                refuse_bad_length(flag, name)?;
            }
        }
        if let Some(schema) = &self.into_schema
            && (schema.starts_with("pg_") || schema == "information_schema")
        {
            return Err(Error::usage(format!(
                "schema {schema} is the system's: what is in it is in no backup"
            )));
        }
        let name = |name: &Option<String>| name.as_ref().map(|name| name.as_str().into());
        Ok(Some(Dependencies {
            into_schema: name(&self.into_schema),
            name: name(&self.as_name),
            ..Dependencies::default()
        }))
    }
}
