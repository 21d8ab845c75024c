//! Command line: arguments, exit codes, reports.

mod alerts;
mod check;
mod config_file;
mod credentials;
mod demo;
mod explain;
mod http_url;
mod replay;
pub mod report;
mod run;
mod scenario_paths;
pub mod schema;
mod serve;
mod stop_signal;
mod temp_dir;
mod terminal;
mod test_notification;
mod zabbix;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::app::lookup::Environment;
use crate::names::exit;
use crate::own_errors;
use terminal::{colour_on_stdout, say_error};

/// Maximum delay of the process exit by work that hangs.
const SHUTDOWN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// Maximum number of log lines waiting to be written.
const LOG_LINES: usize = 20_000;

/// Synthetic monitoring agent that tests websites and APIs the way their users do.
#[derive(Parser)]
#[command(name = "wachta", version, disable_help_subcommand = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run scenarios once, now, and report
    Run(Box<run::RunArgs>),
    /// Load and lint scenarios without running anything
    Check(check::CheckArgs),
    /// Run the agent: schedule scenarios, send alerts, export metrics
    Serve(serve::ServeArgs),
    /// Run a small shop with switchable faults and an agent that tests it
    Demo(demo::DemoArgs),
    /// Print the JSON Schema of scenario files
    Schema(schema::SchemaArgs),
    /// Show every step with its name, timeout and locator, and the next due times
    Explain(explain::ExplainArgs),
    /// List, explain, acknowledge and silence incidents; test receivers; replay history
    Alerts(Box<alerts::AlertsArgs>),
    /// Set up Zabbix, write its template, find out why it accepts no values
    Zabbix(Box<zabbix::ZabbixArgs>),
    /// Clean up browsers after their agent has terminated; started by the agent itself
    #[command(hide = true)]
    Guard,
}

/// Runs the command line. The exit codes are those of [`exit`].
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::PASSED });
        }
    };
    let colour = colour_on_stdout();
    // These commands run no programs; permission to run them is checked by `run` and `serve`.
    let everything = Environment::everything().with_programs(true);
    let mut out = std::io::stdout().lock();
    let written = match arguments.command {
        Command::Check(args) => check::check(&args, &everything, colour, &mut out),
        Command::Schema(args) => schema::schema(&args, &mut out),
        Command::Explain(args) => explain::explain(&args, &everything, chrono::Utc::now(), colour, &mut out),
        Command::Guard => {
            crate::browser::guard::guard_main(std::io::stdin().lock());
            Ok(exit::PASSED)
        }
        Command::Run(args) => {
            drop(out);
            let _log = logging("warn", std::io::stderr().is_terminal());
            return wait(run::run(*args));
        }
        Command::Serve(args) => {
            drop(out);
            let _log = logging("info", std::io::stderr().is_terminal());
            return wait(serve::serve(args));
        }
        Command::Alerts(args) => {
            drop(out);
            let _log = logging("warn", std::io::stderr().is_terminal());
            return wait(alerts::alerts(*args));
        }
        Command::Zabbix(args) => {
            drop(out);
            let _log = logging("warn", std::io::stderr().is_terminal());
            return wait(zabbix::zabbix(*args));
        }
        Command::Demo(args) => {
            drop(out);
            let _log = logging("warn", std::io::stderr().is_terminal());
            return wait(demo::demo(args));
        }
    };
    match written.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(exit::PASSED),
        Err(error) => {
            say_error(&format!("standard output: {error}"));
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Runs a command to its end on a new runtime.
fn wait(work: impl Future<Output = u8>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A read that hangs, such as one of a pipe or a dead mount, must not delay the exit.
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            ExitCode::from(code)
        }
        Err(error) => {
            say_error(&format!("no runtime: {error}"));
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Initializes the log on standard error: colored text on a terminal, JSON lines otherwise. `WACHTA_LOG` filters it. A
/// separate thread writes it, so that a blocked reader does not block the agent: if more than [`LOG_LINES`] lines are
/// waiting, further ones are dropped. Waiting lines are written when the guard is dropped.
fn logging(default: &str, terminal: bool) -> tracing_appender::non_blocking::WorkerGuard {
    let filter = std::env::var("WACHTA_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .finish(std::io::stderr());
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    let log = if terminal { log.with_ansi(true).boxed() } else { log.json().flatten_event(true).boxed() };
    // Without a filter, this layer would enable all events everywhere.
    let errors = own_errors::Layer.with_filter(LevelFilter::ERROR);
    tracing_subscriber::registry().with(log.with_filter(filter)).with(errors).init();
    own_errors::log_panics();
    guard
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_command_has_two_arguments_of_one_name() {
        Arguments::command().debug_assert();
    }
}
