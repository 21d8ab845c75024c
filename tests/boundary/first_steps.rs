//! The page for newcomers, docs/first-scenario.md, is carried out from top to bottom in an empty folder: its files are
//! written, its commands are run, and what it shows must be printed.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wachta::demo::Demo;

use crate::command_line::{Ran, wachta};
use crate::support::agent::Agent;
use crate::support::site::Site;
use crate::support::{Folder, until};

/// Maximum time for two runs and their notification on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Parts of an output that differ from run to run, and their replacements.
static VARIABLE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?Z?", "TIME"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "RUN"),
        (r"\b(\d+(ms|us|µs|ns|s|m|h))+\b", "DURATION"),
        (r" ×\d+ since TIME", ""),
        (r"▬+", "▬"),
        (r"\^+", "^"),
        (r" {2,}", " "),
    ];
    patterns.into_iter().map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).collect()
});

/// Returns a text without its variable parts.
fn masked(text: &str) -> String {
    VARIABLE.iter().fold(text.to_owned(), |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

/// A fenced block of a page.
struct Block<'p> {
    language: &'p str,
    /// The last line of text before the block.
    before: &'p str,
    text: String,
}

/// Returns the fenced blocks of a page in their order.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut lines = page.lines();
    let (mut blocks, mut before) = (Vec::new(), "");
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language, before, text: inside.join("\n") + "\n" });
        } else if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

/// Returns the shown lines that were not printed.
fn missing(shown: &str, printed: &str) -> Vec<String> {
    let (shown, printed) = (masked(shown), masked(printed));
    let is_printed = |line: &str| printed.lines().any(|other| other.trim() == line.trim());
    shown.lines().filter(|line| !is_printed(line)).map(str::to_owned).collect()
}

/// Returns whether a log line is in the log. It is shown in the format of a terminal; the log has the JSON of a pipe.
fn is_logged(log: &[String], shown: &str) -> bool {
    let parts = shown.split_once(" wachta::").and_then(|(_, rest)| rest.split_once(": "));
    let Some((target, text)) = parts else { return false };
    let (target, text) = (format!("wachta::{target}"), masked(text));
    log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|line| {
        let message = masked(line["message"].as_str().unwrap_or_default());
        line["target"].as_str() == Some(target.as_str()) && !message.is_empty() && text.starts_with(message.as_str())
    })
}

/// Runs a `wachta` command of the page; those that manage an agent get its address.
async fn run(folder: &Folder, agent: Option<&Agent>, line: &str) -> Ran {
    let mut arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
    let url = agent.map(|agent| agent.url("")).unwrap_or_default();
    if arguments.first() == Some(&"alerts") {
        arguments.extend(["--url", url.as_str()]);
    }
    wachta(folder, None, &arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn first_steps_print_what_the_page_shows() {
    let (stop, folder) = (CancellationToken::new(), Folder::new("first-steps"));
    let shop = Demo::open(0, 0, &stop).await.unwrap();
    let site = Site::open(&folder.path().join("site")).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-scenario.md");
    let mut page = std::fs::read_to_string(path).unwrap();
    // Free ports, and less time between two runs.
    let port = site.address.port().to_string();
    for (shown, here) in [
        ("8000", port.as_str()),
        ("listen: \"127.0.0.1:9815\"", "listen: \"127.0.0.1:0\""),
        ("every: 10s", "every: 1s"),
    ] {
        assert!(page.contains(shown), "no {shown:?} on the page");
        page = page.replace(shown, here);
    }

    let mut agent: Option<Agent> = None;
    let (mut command, mut printed) = (String::new(), None);
    let mut compared = 0;
    for block in blocks(&page) {
        match block.language {
            "yaml" => {
                let name = block.before.split('`').nth(1).expect("a file name before the block");
                folder.write(name, &block.text);
            }
            "sh" => {
                for line in block.text.lines() {
                    line.clone_into(&mut command);
                    if line == "wachta serve" {
                        let mut serve = Command::new(env!("CARGO_BIN_EXE_wachta"));
                        serve.arg("serve");
                        agent = Some(Agent::start(serve, folder.path(), &shop).await);
                    } else if line.starts_with("wachta ") {
                        printed = Some(run(&folder, agent.as_ref(), line).await);
                    } else if !line.starts_with("python3 ") {
                        // The server of the site is `Site`, which listens already.
                        let done = Command::new("sh").args(["-c", line]).current_dir(folder.path()).status().unwrap();
                        assert!(done.success(), "{line}");
                    }
                }
            }
            "text" if block.text.contains(" wachta::") => {
                let agent = agent.as_ref().expect("the page starts the agent first");
                let what = format!("the agent logs, after `{command}`:\n{}", block.text);
                until(&what, SOON, async || {
                    let log = agent.log();
                    block.text.lines().all(|line| is_logged(&log, line)).then_some(())
                })
                .await;
                compared += 1;
            }
            // The state of the agent may change with its next run only.
            "text" if command.starts_with("wachta alerts list") || command.starts_with("wachta alerts why") => {
                let what = format!("`{command}` prints:\n{}", block.text);
                until(&what, SOON, async || {
                    let again = run(&folder, agent.as_ref(), &command).await;
                    (again.code == Some(0) && missing(&block.text, &again.out).is_empty()).then_some(())
                })
                .await;
                compared += 1;
            }
            "text" => {
                let ran = printed.as_ref().expect("a command before its output");
                assert_eq!(missing(&block.text, &ran.out), [""; 0], "{command}\n{}", ran.said());
                let code = i32::from(block.text.contains("1 failed"));
                assert_eq!(ran.code, Some(code), "{command}\n{}", ran.said());
                compared += 1;
            }
            other => panic!("a block of {other:?} is neither a file nor commands nor their output"),
        }
    }
    assert_eq!(compared, 10, "outputs on the page");
    assert_eq!(agent.expect("the page starts an agent").stop().await, Some(0));
    stop.cancel();
}
