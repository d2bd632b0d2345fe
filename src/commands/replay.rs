//! What is made of an archive, whichever way it is replayed: flags of `restore` and `sql`, which
//! `snapshot` takes as well, as pg_dump does, though they say nothing in an archive.

use clap::Args;

#[derive(Debug, Clone, Default, Args)]
pub struct ReplayArguments {
    /// Create the archive's database, and go on in it
    #[arg(short = 'C', long)]
    pub create: bool,
    /// Drop objects before they are created
    #[arg(short = 'c', long, conflicts_with = "data_only")]
    pub clean: bool,
    /// Use IF EXISTS when dropping
    #[arg(long, requires = "clean")]
    pub if_exists: bool,
    /// Do not set owners: everything belongs to the role that replays the archive
    #[arg(short = 'O', long)]
    pub no_owner: bool,
    /// Do not place anything in tablespaces
    #[arg(long)]
    pub no_tablespaces: bool,
    /// Do not choose access methods of tables
    #[arg(long)]
    pub no_table_access_method: bool,
    /// Where rows alone are loaded (-a), disable triggers meanwhile, those of foreign keys too; takes a
    /// superuser. A restore that an error or a signal ends enables them, one that is killed (SIGKILL) does not
    #[arg(long)]
    pub disable_triggers: bool,
}
