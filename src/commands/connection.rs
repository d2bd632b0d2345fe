//! The connection flags of PostgreSQL's own programs.

use clap::Args;

use super::output::tell;
use crate::error::Result;
use crate::postgres::Connector;
use crate::postgres::conninfo::{ConnectionFlags, Environment, PasswordPrompt, resolve};

/// `-h` is the host here, as in all of PostgreSQL's programs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArguments {
    /// Database name, or a connection string (postgresql://... or key=value ...), which overrides the other flags
    #[arg(short = 'd', long = "dbname", value_name = "CONNINFO")]
    pub dbname: Option<String>,
    /// Server host, or folder of its Unix socket
    #[arg(short = 'h', long, value_name = "HOST")]
    pub host: Option<String>,
    /// Server port
    #[arg(short = 'p', long, value_name = "PORT")]
    pub port: Option<String>,
    /// Role to connect as
    #[arg(short = 'U', long, value_name = "NAME")]
    pub username: Option<String>,
    /// Never ask for a password
    #[arg(short = 'w', long, conflicts_with = "password")]
    pub no_password: bool,
    /// Ask for a password before connecting
    #[arg(short = 'W', long)]
    pub password: bool,
    /// Do SET ROLE after connecting
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
}

impl ConnectionArguments {
    pub fn connector(&self) -> Result<Connector> {
        let flags = ConnectionFlags {
            dbname: self.dbname.clone(),
            host: self.host.clone(),
            port: self.port.clone(),
            username: self.username.clone(),
            password_prompt: if self.no_password {
                PasswordPrompt::Never
            } else if self.password {
                PasswordPrompt::Always
            } else {
                PasswordPrompt::WhenNeeded
            },
            ..ConnectionFlags::default()
        };
        let target = resolve(&flags, &Environment::of_process())?;
        // now: connecting may fail for just this reason
        for warning in target.warnings() {
            tell(format_args!("warning: {warning}"));
        }
        Ok(Connector::new(target).with_role(self.role.clone()))
    }
}
