//! `wachta schema`: the JSON Schema of scenario files, or of the agent configuration.

use std::io;

use crate::names::exit;

/// Arguments of `wachta schema`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SchemaArgs {
    /// Print the schema of the agent configuration instead
    #[arg(long)]
    pub config: bool,
}

/// Writes the schema.
pub fn schema(args: &SchemaArgs, out: &mut dyn io::Write) -> io::Result<u8> {
    let schema = if args.config { crate::app::config::schema() } else { crate::scenario::schema::scenario_files() };
    writeln!(out, "{schema:#}")?;
    Ok(exit::PASSED)
}
