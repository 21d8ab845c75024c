//! `wachta zabbix`: writes the template, sets up Zabbix, and finds out why values do not arrive.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config_file::agents_file;
use super::serve::folder_of;
use super::terminal::say_error;
use crate::app::lookup::Environment;
use crate::app::scenario_source::{DiskSource, ScenarioSource as _};
use crate::app::sink_client;
use crate::bounded::credential::Credential;
use crate::names::exit;
use crate::scenario::{Catalog, assemble, load};
use crate::sink::zabbix::api::{self, Api, Login, url_of};
use crate::sink::zabbix::doctor::{self, Expected, Finding};
use crate::sink::zabbix::provision::{self, Change, Wanted};
use crate::sink::zabbix::template::{self, Format};
use crate::sink::zabbix::{Config, items};
use crate::sink::{HttpSettings, SinkConfig};

/// Environment variable with the API token, used if no other token is configured.
const TOKEN: &str = "ZABBIX_TOKEN";

/// Arguments of `wachta zabbix`.
#[derive(clap::Args)]
pub(super) struct ZabbixArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Write the template as a file for import
    Template {
        /// Oldest version of Zabbix that must be able to import the template
        #[arg(long, value_enum, default_value_t = TemplateVersion::V6_0)]
        version: TemplateVersion,
        /// Tag of scenarios to copy to items and problems in Zabbix; may be repeated
        #[arg(long = "tag", value_name = "NAME")]
        tags: Vec<String>,
        /// Output file (default: standard output)
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Create or update template, host and dashboard through the API; a second run changes nothing
    Provision(ProvisionArgs),
    /// Find out why Zabbix accepts no values, and suggest corrections
    Doctor(DoctorArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TemplateVersion {
    #[value(name = "6.0")]
    V6_0,
    #[value(name = "7.0")]
    V7_0,
}

/// Zabbix API with its credentials.
#[derive(clap::Args)]
struct Frontend {
    /// Agent configuration whose `zabbix:` section is used
    #[arg(long, value_name = "FILE", default_value = "wachta.yaml")]
    config: PathBuf,
    /// Name of the sink, such as zabbix/NAME, if the configuration has several (default: all of them)
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// URL of the frontend, instead of `zabbix.api.url`
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// File with an API token, instead of the configured credentials; with --api-url alone, the variable `ZABBIX_TOKEN`
    /// is used
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct ProvisionArgs {
    #[command(flatten)]
    frontend: Frontend,
    /// Host group for a new host; created if it is missing
    #[arg(long, value_name = "NAME", default_value = "wachta")]
    group: String,
    /// Addresses from which Zabbix accepts values of this host, separated by commas (default: any)
    #[arg(long, value_name = "LIST")]
    allowed_hosts: Option<String>,
    /// Only show what would be changed
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct DoctorArgs {
    /// Ids of scenarios (default: all scenarios of the configuration)
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    #[command(flatten)]
    frontend: Frontend,
}

/// Runs the command. The exit code is 0 for success, 1 for problems in Zabbix, and 2 for an error in the command or the
/// configuration.
pub(super) async fn zabbix(args: ZabbixArgs) -> u8 {
    let done = match args.what {
        What::Template { version, tags, output } => write_template(version, &tags, output.as_deref()),
        What::Provision(args) => of_each(&args.frontend, async |config, _| provision(&args, &config).await).await,
        What::Doctor(args) => of_each(&args.frontend, async |config, roots| doctor(&args, &config, &roots).await).await,
    };
    match done {
        Ok(code) => code,
        Err(text) => {
            say_error(&text);
            exit::USAGE
        }
    }
}

/// Processes each selected Zabbix sink, and prints its name if there are several. Returns the worst exit code.
async fn of_each(
    frontend: &Frontend,
    mut work: impl AsyncFnMut(Config, Vec<String>) -> Result<u8, String>,
) -> Result<u8, String> {
    let (meant, roots) = frontend.read()?;
    let several = meant.len() > 1;
    let mut worst = exit::PASSED;
    for (name, config) in meant {
        if several {
            print(&format!("{name}:\n"))?;
        }
        worst = worst.max(work(config, roots.clone()).await?);
    }
    Ok(worst)
}

fn write_template(version: TemplateVersion, tags: &[String], output: Option<&Path>) -> Result<u8, String> {
    let format = match version {
        TemplateVersion::V6_0 => Format::V6_0,
        TemplateVersion::V7_0 => Format::V7_0,
    };
    let text = template::file(format, tags);
    match output {
        None => print(&text)?,
        Some(path) => std::fs::write(path, text).map_err(|e| format!("{} cannot be written: {e}", path.display()))?,
    }
    Ok(exit::PASSED)
}

async fn provision(args: &ProvisionArgs, config: &Config) -> Result<u8, String> {
    let api = match connect(config).await {
        Ok(api) => api,
        Err(error) => return Ok(failed(&error)),
    };
    let wanted = Wanted {
        host: config.host.clone(),
        group: args.group.clone(),
        tags: config.tags.clone(),
        allowed_hosts: args.allowed_hosts.clone(),
    };
    let result = provision::provision(&api, &wanted, args.dry_run).await;
    close(api).await;
    let verb = if args.dry_run { "would " } else { "" };
    let shown = |changes: &[Change]| -> String {
        let line = |change: &Change| {
            let parts: String = change.parts.iter().map(|part| format!("    {part}\n")).collect();
            format!("{verb}{}\n{parts}", change.what)
        };
        changes.iter().map(line).collect()
    };
    match result {
        Ok(changes) if changes.is_empty() => print("nothing to change\n")?,
        Ok(changes) => print(&shown(&changes))?,
        Err(failure) => {
            print(&shown(&failure.made))?;
            return Ok(failed(&failure));
        }
    }
    Ok(exit::PASSED)
}

async fn doctor(args: &DoctorArgs, config: &Config, roots: &[String]) -> Result<u8, String> {
    let expected = expected(&args.frontend.config, roots, &args.scenarios)?;
    let api = match connect(config).await {
        Ok(api) => api,
        Err(error) => {
            // The response of the server itself is useful even without the API.
            let mut findings: Vec<_> = doctor::examine_server(config).await.into_iter().collect();
            findings.push(no_api(&error));
            return report(&findings, "");
        }
    };
    let version = api.version();
    let examined = doctor::examine(&api, config, &expected).await;
    close(api).await;
    let well = format!(
        "Zabbix {version} accepts values of host `{}` at {}: {} {}\n",
        config.host,
        config.place(),
        expected.len(),
        if expected.len() == 1 { "scenario" } else { "scenarios" }
    );
    match examined {
        Ok(findings) => report(&findings, &well),
        Err(error) => report(&[no_api(&error)], ""),
    }
}

/// Converts an API error to a finding with advice.
fn no_api(error: &api::Error) -> Finding {
    let advice = if error.is_unauthorized() {
        "create an API token in Zabbix (Users → API tokens) and name it at `zabbix.api.token`"
    } else if error.is_forbidden() {
        "use a user whose role allows the methods host.get, item.get, discoveryrule.get, itemprototype.get, usermacro.get, template.get and proxy.get"
    } else {
        "correct `zabbix.api` in the agent configuration, then try again"
    };
    Finding { problem: format!("cannot check with the API: {error}"), advice: advice.to_owned() }
}

fn report(findings: &[Finding], well: &str) -> Result<u8, String> {
    if findings.is_empty() {
        print(well)?;
        return Ok(exit::PASSED);
    }
    let line = |finding: &Finding| format!("problem: {}\n     do: {}\n", finding.problem, finding.advice);
    print(&findings.iter().map(line).collect::<String>())?;
    Ok(exit::FAILED)
}

fn failed(error: &dyn std::fmt::Display) -> u8 {
    say_error(&error.to_string());
    exit::FAILED
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| format!("standard output: {e}"))
}

async fn connect(config: &Config) -> Result<Api, api::Error> {
    let Some(of_api) = &config.api else {
        return Err(api::Error::Credential("there is no `zabbix.api`".to_owned()));
    };
    let client = sink_client(HttpSettings { roots: of_api.ca.as_deref(), ..HttpSettings::default() })
        .map_err(api::Error::Credential)?;
    Api::connect(of_api, client).await
}

/// Closes the session. If that fails, the session expires by itself.
async fn close(api: Api) {
    if let Err(error) = api.close().await {
        tracing::warn!(%error, "cannot log out of the Zabbix API");
    }
}

/// Zabbix configurations with the names of their sinks.
type Meant = Vec<(Arc<str>, Config)>;

impl Frontend {
    /// Returns the configuration of each selected Zabbix sink by name, and the paths of the scenarios.
    fn read(&self) -> Result<(Meant, Vec<String>), String> {
        let config = agents_file(&self.config)?;
        let shown = self.config.display();
        let sinks = config.sinks.into_iter().filter_map(|sink| match sink.config {
            SinkConfig::Zabbix(zabbix) => Some((sink.name, zabbix)),
            _ => None,
        });
        let mut meant: Vec<_> = sinks.collect();
        if meant.is_empty() {
            return Err(format!("{shown} has no `zabbix:`; configure the Zabbix server"));
        }
        if let Some(wanted) = &self.sink {
            let names: Vec<_> = meant.iter().map(|(name, _)| name.to_string()).collect();
            meant.retain(|(name, _)| **name == **wanted);
            if meant.is_empty() {
                return Err(format!("{shown} has no sink `{wanted}`; it has {}", names.join(", ")));
            }
        }
        if meant.len() > 1 && (self.api_url.is_some() || self.token_file.is_some()) {
            return Err(format!("{shown} has several Zabbix sinks: select one with --sink"));
        }
        for (_, zabbix) in &mut meant {
            self.overrule(zabbix)?;
        }
        Ok((meant, config.scenarios))
    }

    /// Overrides the configuration with the arguments.
    fn overrule(&self, zabbix: &mut Config) -> Result<(), String> {
        let token = self.token_file.as_ref().map(|file| Credential::File(file.clone().into()));
        if let Some(url) = &self.api_url {
            let url = url_of(url)
                .map_err(|problem| format!("--api-url {problem}: write it like https://zabbix.example.com/"))?;
            let token = token.unwrap_or_else(|| Credential::Env(TOKEN.to_owned()));
            let ca = zabbix.api.take().and_then(|of_api| of_api.ca);
            zabbix.api = Some(api::Config { url, login: Login::Token(token), ca });
        } else if let (Some(token), Some(of_api)) = (token, &mut zabbix.api) {
            of_api.login = Login::Token(token);
        }
        if zabbix.api.is_none() {
            return Err(format!(
                "{} does not configure the Zabbix API; write `api: {{url: https://zabbix.example.com/, token: {{file: PATH}}}}` below `zabbix:`, or give --api-url and --token-file",
                self.config.display()
            ));
        }
        Ok(())
    }
}

/// Returns the scenarios with these ids, or all scenarios of the configuration.
fn expected(config: &Path, roots: &[String], ids: &[String]) -> Result<Vec<Expected>, String> {
    let lookup = Environment::everything().with_programs(true);
    let files = DiskSource::new(folder_of(config)).read(roots);
    let mut loaded = Vec::new();
    for (path, text) in files {
        let text = text.map_err(|error| format!("{path} cannot be read: {error}"))?;
        let one = load(&path, &text, &lookup);
        loaded.push((path, one));
    }
    let (catalog, _) = assemble(&Catalog::default(), loaded);
    for (refused, reason) in &catalog.refused {
        say_error(&format!("{refused} is omitted: {reason}; see `wachta check`"));
    }
    let known = catalog.scenarios.values().map(|scenario| {
        let entry = items::entry(scenario);
        Expected { id: entry.id.as_str().to_owned(), steps: entry.steps }
    });
    let known: Vec<_> = known.filter(|one| ids.is_empty() || ids.contains(&one.id)).collect();
    match ids.iter().find(|id| known.iter().all(|one| one.id != **id)) {
        Some(id) => Err(format!("there is no scenario `{id}` in the files of {}", config.display())),
        None => Ok(known),
    }
}
