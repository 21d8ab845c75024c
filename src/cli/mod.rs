//! Arguments, exit codes, reports.

mod alerts;
mod check;
mod credentials;
mod demo;
mod explain;
mod replay;
pub mod report;
mod run;
pub mod schema;
mod scratch;
mod serve;
mod trial;
mod zabbix;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::app::config;
use crate::app::lookup::Environment;
use crate::bounded;
use crate::diagnostic::Severity;
use crate::names::exit;
use crate::own_errors;
use crate::scenario::tree::MAX_BYTES;

/// How long work that hangs may hold up the end of the process.
const SHUTDOWN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// How many lines of the log may wait for whoever reads them.
const LOG_LINES: usize = 20_000;

/// A watch over websites and APIs that uses them as their customers do.
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
    /// Watch: load, schedule, run, alert, export
    Serve(serve::ServeArgs),
    /// A small shop with faults to switch on, and the agent watching it
    Demo(demo::DemoArgs),
    /// Print the JSON Schema of scenario files
    Schema(schema::SchemaArgs),
    /// Show every step with its name, timeout and target, and the next due times
    Explain(explain::ExplainArgs),
    /// List incidents, say why, take over, silence; try a receiver, or another configuration on what happened
    Alerts(Box<alerts::AlertsArgs>),
    /// Set Zabbix up, write its template, find out why it takes no values
    Zabbix(Box<zabbix::ZabbixArgs>),
    /// Ends browsers when the agent that started them is gone; started by the agent itself
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
    // Nothing is run here: whether a program may be is told by `run` and `serve`.
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
        // Who reads had enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(exit::PASSED),
        Err(error) => {
            say_error(&format!("standard output: {error}"));
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Runs to the end on a runtime of its own.
fn wait(work: impl Future<Output = u8>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // A read that hangs, of a pipe or a dead mount, must not hold up the end.
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
            ExitCode::from(code)
        }
        Err(error) => {
            say_error(&format!("no runtime: {error}"));
            ExitCode::from(exit::USAGE)
        }
    }
}

/// The log goes to standard error: coloured text on a terminal, JSON lines elsewhere. `WACHTA_LOG` filters it. It is
/// written by a thread of its own, so that a reader that stands still holds up nothing: beyond [`LOG_LINES`] lines that
/// wait, further ones are lost. What waits is written when the guard is dropped.
fn logging(default: &str, terminal: bool) -> tracing_appender::non_blocking::WorkerGuard {
    let filter = std::env::var("WACHTA_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .finish(std::io::stderr());
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    let log = if terminal { log.with_ansi(true).boxed() } else { log.json().flatten_event(true).boxed() };
    // Filtered as well: a layer that may want everything would have everything made that is logged anywhere.
    let errors = own_errors::Layer.with_filter(LevelFilter::ERROR);
    tracing_subscriber::registry().with(log.with_filter(filter)).with(errors).init();
    own_errors::log_panics();
    guard
}

/// An error that no place in a file goes with.
fn say_error(text: &str) {
    eprintln!("error: {text}");
}

/// What standard output is like: whether colours are wanted there.
fn colour_on_stdout() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Reads the agent's file; what is wrong with it is shown, with its place.
fn agents_file(file: &Path) -> Result<config::Config, String> {
    let shown = file.display().to_string();
    let text = bounded::read_text(file, MAX_BYTES as u64)
        .map_err(|e| format!("{shown} cannot be read: {e}; name the agent's file with --config"))?;
    let (config, diagnostics) = config::read(&shown, &text);
    for diagnostic in &diagnostics {
        eprint!("{}", diagnostic.render(false));
    }
    match config {
        Some(config) if diagnostics.iter().all(|d| d.severity < Severity::Error) => Ok(config),
        _ => Err(format!("{shown} does not load")),
    }
}

/// Comes back at SIGTERM or Ctrl-C. Both are heard from the call on, not only once this is waited for: a signal that
/// nobody hears ends the process.
fn stop_asked() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    async move {
        let heard = signals.into_iter().map(async |signal| match signal {
            Ok(mut signal) => {
                let _ = signal.recv().await;
            }
            Err(error) => {
                tracing::error!(%error, "a signal is not heard");
                std::future::pending::<()>().await;
            }
        });
        futures_util::future::select_all(heard.map(Box::pin)).await;
    }
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
