//! What a probe costs, side by side: wachta's `/probe`, `blackbox_exporter`, and a fresh connection of hyper that does
//! nothing else. All ask the same local nginx, in turns: one probe after the other, and eight at once. Between the floor
//! and an exporter stands the least there can be: that connection of hyper, asked for by HTTP and answered by twenty
//! metrics, with no targets, modules, redirects, bodies, logs or results that are kept.
//!
//! After that an agent that runs checks by schedule, with everything that follows a run: expectations, metrics, history
//! and alerting; beside it the floor at the same pace, since a program that sleeps between requests pays for waking up.
//!
//! The cost is CPU time, user and system, of the program that probes, with what it takes to answer the scrape; the floor is
//! told by a pipe and answers nobody. No limits: ratios are printed beside what they should be.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Probes of one tool in a row.
const TURN: usize = 200;
/// How many of them at once: alone, and as a Prometheus with many targets asks.
const AT_ONCE: [usize; 2] = [1, 8];
const MODULES: &str = "modules: {http_2xx: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}}\n";

/// A program that ends with this one.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// CPU time of its threads so far, in milliseconds. The first field of schedstat is the time on a CPU in nanoseconds,
    /// where the fields of `stat` count in steps of 10 ms; no thread of these programs ends in between.
    fn cpu(&self) -> Outcome<f64> {
        let mut nanoseconds = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split_ascii_whitespace().next().ok_or("schedstat is empty")?.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e6)
    }
}

enum Tool {
    /// Answers scrapes here.
    Exporter(Program, String),
    Floor(Program, ChildStdin, BufReader<ChildStdout>),
}

impl Tool {
    /// Probes a few hundred times, so many at once; gives the milliseconds of CPU time it took.
    async fn turn(&mut self, client: &reqwest::Client, at_once: usize) -> Outcome<f64> {
        let (Self::Exporter(program, _) | Self::Floor(program, ..)) = &*self;
        let before = program.cpu()?;
        match self {
            Self::Exporter(_, url) => {
                let ask = |_| async { client.get(&*url).send().await?.text().await };
                let mut answers = futures_util::stream::iter(0..TURN).map(ask).buffer_unordered(at_once);
                while let Some(text) = answers.next().await {
                    let text = text?;
                    if !text.contains("\nprobe_success 1\n") {
                        return Err(format!("{url} fails:\n{text}").into());
                    }
                }
            }
            Self::Floor(_, told, answers) => {
                writeln!(told, "{TURN} 0 {at_once}")?;
                if answers.read_line(&mut String::new())? == 0 {
                    return Err("the floor ended".into());
                }
            }
        }
        let (Self::Exporter(program, _) | Self::Floor(program, ..)) = &*self;
        Ok(program.cpu()? - before)
    }
}

impl Tool {
    /// The milliseconds of CPU time that a request of the floor takes at the pace of the agent.
    fn paced(&mut self) -> Outcome<f64> {
        let Self::Floor(program, told, answers) = self else { return Err("only the floor has a pace".into()) };
        let (times, before) = (CHECKS * 10, program.cpu()?);
        writeln!(told, "{times} {} 1", 1_000_000 / CHECKS)?;
        answers.read_line(&mut String::new())?;
        Ok((program.cpu()? - before) / times as f64)
    }
}

/// How many checks the agent has, each run once a second.
const CHECKS: usize = 200;
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// How many runs an agent has had, by its own account.
async fn runs(client: &reqwest::Client, agent: SocketAddr) -> Outcome<f64> {
    let text = client.get(format!("http://{agent}/metrics")).send().await?.text().await?;
    let passed = text.lines().filter(|line| line.starts_with("wachta_scenario_runs_total{"));
    if text.lines().any(|line| line.starts_with("wachta_scenario_success{") && !line.ends_with(" 1")) {
        return Err("not every check passes".into());
    }
    Ok(passed.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// The milliseconds of CPU time that a run by schedule takes.
async fn scheduled(client: &reqwest::Client, folder: &Path, site: SocketAddr) -> Outcome<f64> {
    let listen = free()?;
    let mut text = String::from("defaults: {every: 1s, timeout: 500ms}\nchecks:\n");
    for number in 0..CHECKS {
        text.push_str(&format!(
            "  site-{number}: {{http: \"http://{site}/\", status: 200, contains: hello, expect: {{headers: {{Content-Type: {{matches: ^text/}}}}, faster_than: 400ms}}}}\n"
        ));
    }
    for part in ["scenarios", "state"] {
        std::fs::create_dir(folder.join(part))?;
    }
    std::fs::write(folder.join("scenarios/checks.yaml"), text)?;
    let config = format!(
        "location: here\nscenarios: [scenarios]\nstore: sqlite:state/wachta.db\nweb: {{listen: \"{listen}\"}}\n"
    );
    std::fs::write(folder.join("scheduled.yaml"), config)?;
    let agent =
        start(Command::new(env!("CARGO_BIN_EXE_wachta")).args(["serve", "--config", "scheduled.yaml"]), folder)?;
    answers(client, &format!("http://{listen}/-/ready")).await?;
    tokio::time::sleep(WATCHED / 5).await;
    let (ran, spent) = (runs(client, listen).await?, agent.cpu()?);
    tokio::time::sleep(WATCHED).await;
    let spent = agent.cpu()? - spent;
    let ran = runs(client, listen).await? - ran;
    let wanted = CHECKS as f64 * WATCHED.as_secs_f64();
    if ran < wanted * 0.95 {
        return Err(format!("{ran} runs instead of {wanted}").into());
    }
    Ok(spent / ran)
}

/// One request on a connection of its own, and nothing else.
async fn request(address: SocketAddr) -> Outcome<()> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/").header("host", address.to_string()).body(Empty::<Bytes>::new())?;
    sender.send_request(request).await?.into_body().collect().await?;
    drop(sender);
    Ok(driver.await??)
}

/// Makes requests as often as a line says, as far apart, in microseconds, and as many at once.
async fn floor(address: SocketAddr) -> Outcome<()> {
    for line in std::io::stdin().lines() {
        let numbers: Vec<u64> = line?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let &[times, apart, at_once] = numbers.as_slice() else {
            return Err("how often, how far apart, how many".into());
        };
        if apart > 0 {
            let mut pace = tokio::time::interval(Duration::from_micros(apart));
            for _ in 0..times {
                pace.tick().await;
                request(address).await?;
            }
        } else {
            let all = futures_util::stream::iter(0..times).map(|_| request(address));
            all.buffer_unordered(usize::try_from(at_once)?).try_collect::<()>().await?;
        }
        println!("done");
    }
    Ok(())
}

/// Makes a request whenever it is asked, and answers with twenty metrics.
async fn bare(site: SocketAddr, listen: SocketAddr) -> Outcome<()> {
    let probe = move || async move {
        let began = Instant::now();
        let success = request(site).await.is_ok();
        let took = began.elapsed().as_secs_f64();
        let mut text = String::with_capacity(2048);
        for number in 1..20 {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP probe_{number} Twenty of them\n# TYPE probe_{number} gauge\nprobe_{number} {}",
                took / f64::from(number)
            );
        }
        let _ = writeln!(
            text,
            "# HELP probe_success As all\n# TYPE probe_success gauge\nprobe_success {}",
            u8::from(success)
        );
        text
    };
    let app = axum::Router::new().route("/probe", axum::routing::get(probe));
    axum::serve(tokio::net::TcpListener::bind(listen).await?, app).await?;
    Ok(())
}

fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn start(command: &mut Command, folder: &Path) -> Outcome<Program> {
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let shown = command.get_program().display().to_string();
    command.spawn().map(Program).map_err(|error| format!("{shown}: {error}").into())
}

async fn answers(client: &reqwest::Client, url: &str) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
        if Instant::now() > deadline {
            return Err(format!("{url} does not answer").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A folder that goes with the benchmark.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn measure() -> Outcome<()> {
    let rounds = std::env::var("WACHTA_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15_usize);
    // Plain HTTP, but the client wants to know how it would do TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let folder = Folder(std::env::temp_dir().join(format!("wachta-bench-probe-{}", std::process::id())));
    let path = folder.0.as_path();
    std::fs::create_dir_all(path)?;
    let (site, ours, theirs, least) = (free()?, free()?, free()?, free()?);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {name};"))
        .collect();
    std::fs::write(
        path.join("nginx.conf"),
        format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; \
             {temporary} server {{ listen {site}; location / {{ default_type text/plain; return 200 \"{}\"; }} }} }}\n",
            "hello ".repeat(170)
        ),
    )?;
    std::fs::write(path.join("blackbox.yml"), MODULES)?;
    std::fs::write(
        path.join("wachta.yaml"),
        format!(
            "location: here\nscenarios: []\nstore: sqlite:wachta.db\nweb: {{listen: \"{ours}\"}}\nprobe: {{modules: blackbox.yml}}\n"
        ),
    )?;
    // Debian's stands where only root looks for programs.
    let nginx = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let nginx = start(Command::new(nginx).arg("-p").arg(path).args(["-c", "nginx.conf", "-e", "stderr"]), path)?;
    answers(&client, &format!("http://{site}/")).await?;
    let wachta = start(Command::new(env!("CARGO_BIN_EXE_wachta")).args(["serve", "--config", "wachta.yaml"]), path)?;
    answers(&client, &format!("http://{ours}/-/ready")).await?;
    let listen = format!("--web.listen-address={theirs}");
    let exporter =
        start(Command::new("prometheus-blackbox-exporter").args(["--config.file=blackbox.yml", &listen]), path)?;
    answers(&client, &format!("http://{theirs}/-/healthy")).await?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["floor", &site.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let bare =
        start(Command::new(std::env::current_exe()?).args(["bare", &site.to_string(), &least.to_string()]), path)?;
    answers(&client, &format!("http://{least}/probe")).await?;
    let told = child.stdin.take().ok_or("a pipe was asked for")?;
    let said = BufReader::new(child.stdout.take().ok_or("a pipe was asked for")?);
    let url = |address| format!("http://{address}/probe?target=http://{site}/&module=http_2xx");
    let mut tools = [
        ("wachta", Tool::Exporter(wachta, url(ours)), [0.0; 2]),
        ("blackbox_exporter", Tool::Exporter(exporter, url(theirs)), [0.0; 2]),
        ("hyper, fresh connection", Tool::Floor(Program(child), told, said), [0.0; 2]),
        ("the same behind axum, twenty metrics", Tool::Exporter(bare, url(least)), [0.0; 2]),
    ];
    for (_, tool, _) in &mut tools {
        for at_once in AT_ONCE {
            tool.turn(&client, at_once).await?;
        }
    }
    for round in 0..rounds {
        // Each round begins with another one, so that what else the machine does falls on all.
        for at in 0..tools.len() {
            let (_, tool, spent) = &mut tools[(round + at) % 4];
            for (spent, at_once) in spent.iter_mut().zip(AT_ONCE) {
                *spent += tool.turn(&client, at_once).await?;
            }
        }
    }
    let scheduled = scheduled(&client, path, site).await?;
    let paced = tools[2].1.paced()?;
    drop(nginx);
    let probes = (rounds * TURN) as f64;
    println!(
        "{probes} probes each\n\n| | at once | CPU µs per probe | wachta / it | should be at most |\n|---|--:|--:|--:|--:|"
    );
    let ours = tools[0].2;
    for (mode, at_once) in AT_ONCE.iter().enumerate() {
        for ((name, _, spent), goal) in tools.iter().zip(["", "0.25", "1.5", ""]) {
            let (spent, ratio) = (spent[mode] * 1000.0 / probes, ours[mode] / spent[mode]);
            println!("| {name} | {at_once} | {spent:.0} | {ratio:.2} | {goal} |");
        }
    }
    let floor = tools[2].2[0] / probes;
    println!(
        "\nBy schedule, with all that follows a run: {:.0} µs, {:.2} times the floor at the same pace ({:.0} µs), should be \
         at most 2; {:.2} times the floor without a pause",
        scheduled * 1000.0,
        scheduled / paced,
        paced * 1000.0,
        scheduled / floor
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("floor") => floor(arguments.get(2).ok_or("floor needs an address")?.parse()?).await,
        Some("bare") => {
            let address = |at: usize| arguments.get(at).ok_or("bare needs two addresses");
            bare(address(2)?.parse()?, address(3)?.parse()?).await
        }
        _ => measure().await,
    }
}
