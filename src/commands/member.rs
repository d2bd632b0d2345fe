//! Which part of a set is meant.

use clap::Args;

use crate::restore::Choice;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sets")]
pub struct MemberArguments {
    /// Of a set (of snapshot --all-databases), only this database; it is then treated as an archive of its own
    #[arg(long, value_name = "DATABASE", conflicts_with = "globals_only")]
    member: Option<String>,
    /// Of a set, only roles and tablespaces
    #[arg(short = 'g', long)]
    globals_only: bool,
}

impl MemberArguments {
    pub fn choice(&self) -> Choice {
        match &self.member {
            Some(name) => Choice::Database(name.as_str().into()),
            None if self.globals_only => Choice::Globals,
            None => Choice::All,
        }
    }
}
