//! The tables, and the goals with what was seen of them.

use crate::steps::Steps;

/// Chromium's headless shell, as tables name it.
pub const SHELL: &str = "headless shell";
/// The whole Chromium, as tables name it.
pub const FULL: &str = "Chromium";

/// When a run is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At the moment of the outcome before it.
    BackToBack,
    /// A while after everything of the run before it is done.
    IdleGaps,
}

/// The middle one; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

/// What was measured in one mode.
#[derive(Debug, Clone, Default)]
struct Figures {
    walls: Vec<f64>,
    /// Of each round, for one flow: the tool's own, and the browser's.
    cpu: Vec<(f64, f64)>,
}

/// What was measured of one variant.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    browser: &'static str,
    back_to_back: Figures,
    idle_gaps: Figures,
    weights: Vec<(f64, f64)>,
    /// Why it was given up.
    pub failed: Option<String>,
}

impl Row {
    /// Whether its name or its name with the browser has this in it.
    pub fn is_like(&self, part: &str) -> bool {
        format!("{} {}", self.name, self.browser).contains(part)
    }

    /// An empty one.
    pub fn new(name: &'static str, browser: &'static str) -> Self {
        Self {
            name,
            browser,
            back_to_back: Figures::default(),
            idle_gaps: Figures::default(),
            weights: Vec::new(),
            failed: None,
        }
    }

    fn of(&self, mode: Mode) -> &Figures {
        match mode {
            Mode::BackToBack => &self.back_to_back,
            Mode::IdleGaps => &self.idle_gaps,
        }
    }

    /// Walls of runs, in milliseconds, and the CPU time of one.
    pub fn add(&mut self, mode: Mode, walls: &[f64], cpu: (f64, f64)) {
        let figures = match mode {
            Mode::BackToBack => &mut self.back_to_back,
            Mode::IdleGaps => &mut self.idle_gaps,
        };
        figures.walls.extend(walls);
        figures.cpu.push(cpu);
    }

    /// Memory of the tool and of the browser, in MiB.
    pub fn weigh(&mut self, weight: (f64, f64)) {
        self.weights.push(weight);
    }

    /// Memory of the driver and the browser, in MiB.
    fn weight(&self) -> f64 {
        median(&self.weights.iter().map(|one| one.1).collect::<Vec<_>>())
    }

    fn wall(&self, mode: Mode) -> f64 {
        median(&self.of(mode).walls)
    }

    /// The mean: the kernel counts the CPU time of processes in steps of 10 ms.
    fn cpu(&self, mode: Mode) -> (f64, f64) {
        let cpu = &self.of(mode).cpu;
        (mean(cpu.iter().map(|one| one.0)), mean(cpu.iter().map(|one| one.1)))
    }
}

fn find<'a>(rows: &'a [Row], name: &str, browser: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.name == name && row.browser == browser && !row.back_to_back.walls.is_empty())
}

/// The first table.
pub fn flows(rows: &[Row], rounds: usize) {
    println!("\nFive steps on the demo shop, {rounds} rounds in turn; times from due to outcome\n");
    println!(
        "| {:<26} | {:<14} | {:<12} | {:>9} | {:>13} | {:>20} | {:>16} | {:>12} |",
        "", "browser", "mode", "median ms", "min–max ms", "CPU ms own + browser", "PSS MiB own + br.", "/ wachta warm"
    );
    println!("|---|---|---|--:|--:|--:|--:|--:|");
    for (mode, called) in [(Mode::BackToBack, "back to back"), (Mode::IdleGaps, "idle gaps")] {
        for row in rows {
            let walls = &row.of(mode).walls;
            if walls.is_empty() {
                continue;
            }
            let low = walls.iter().copied().fold(f64::INFINITY, f64::min);
            let high = walls.iter().copied().fold(0.0, f64::max);
            let (own, browser) = row.cpu(mode);
            let own_weight = median(&row.weights.iter().map(|one| one.0).collect::<Vec<_>>());
            let weight = row.weight();
            let ratio = find(rows, "wachta, warm", row.browser).map_or(0.0, |warm| row.wall(mode) / warm.wall(mode));
            println!(
                "| {:<26} | {:<14} | {called:<12} | {:>9.0} | {:>13} | {:>20} | {:>16} | {ratio:>12.2} |",
                row.name,
                row.browser,
                row.wall(mode),
                format!("{low:.0}–{high:.0}"),
                format!("{own:.0} + {browser:.0}"),
                format!("{own_weight:.0} + {weight:.0}"),
            );
        }
    }
}

/// What was measured of one kind of step, of each run.
pub struct Step {
    /// What it does.
    pub name: String,
    /// Commands.
    pub commands: Vec<f64>,
    /// wachta's own CPU time, in milliseconds.
    pub cpu: Vec<f64>,
    /// From its beginning to its end, in milliseconds.
    pub wall: Vec<f64>,
}

impl Step {
    /// The middle one.
    pub fn wall(&self) -> f64 {
        median(&self.wall)
    }
}

/// The second table.
pub fn steps(steps: &Steps) {
    println!("\nSteps of wachta, headless shell, warm: medians\n");
    println!("| {:<36} | {:>8} | {:>10} | {:>7} |", "step", "commands", "own CPU ms", "wall ms");
    println!("|---|--:|--:|--:|");
    for step in &steps.kinds {
        println!(
            "| {:<36} | {:>8.0} | {:>10.2} | {:>7.1} |",
            step.name,
            median(&step.commands),
            median(&step.cpu),
            step.wall()
        );
    }
    if let Some((click, raw, frames)) = steps.click {
        println!(
            "\nA click that changes nothing: {click:.1} ms, of which the wait for a stable element, two frames of the page, \
             takes {frames:.1} ms. The driver's own command for a click, alone: {raw:.1} ms."
        );
    }
}

/// The goals: each with what was measured.
pub fn goals(rows: &[Row], steps: &Steps) {
    println!("\nGoals\n");
    let say = |what: &str, seen: Option<f64>, limit: f64, at_least: bool| {
        let Some(seen) = seen else {
            println!("- not measured: {what}");
            return;
        };
        let met = if at_least { seen >= limit } else { seen <= limit };
        let word = if at_least { "at least" } else { "at most" };
        println!("- {}: {what}: {seen:.2}, {word} {limit}", if met { "met" } else { "NOT met" });
    };
    let times = |browser: &str, mode| {
        let (warm, fresh) = (find(rows, "wachta, warm", browser)?, find(rows, "wachta, fresh", browser)?);
        Some(fresh.wall(mode) / warm.wall(mode))
    };
    for (browser, mode, called, limit) in [
        (SHELL, Mode::IdleGaps, "with idle gaps", 1.8),
        ("Firefox", Mode::IdleGaps, "with idle gaps", 5.0),
        (SHELL, Mode::BackToBack, "back to back", 1.4),
        ("Firefox", Mode::BackToBack, "back to back", 4.0),
    ] {
        let what = format!("warm is faster than fresh, {browser}, {called}, times");
        say(&what, times(browser, mode), limit, true);
    }
    let (warm, full) = (find(rows, "wachta, warm", SHELL), find(rows, "wachta, warm", FULL));
    let of_full = |shell: fn(&Row) -> f64| warm.zip(full).map(|(warm, full)| shell(warm) / shell(full));
    say("memory of the headless shell's session against Chromium's", of_full(Row::weight), 0.55, false);
    let cpu = of_full(|row| row.cpu(Mode::IdleGaps).0 + row.cpu(Mode::IdleGaps).1);
    say("CPU of the headless shell's runs against Chromium's, with idle gaps", cpu, 0.8, false);
    let time = of_full(|row| row.wall(Mode::IdleGaps));
    say("time of the headless shell's runs against Chromium's, with idle gaps", time, 1.0, false);
    let theirs = find(rows, "Playwright, new context", SHELL);
    for (mode, called) in [(Mode::IdleGaps, "with idle gaps"), (Mode::BackToBack, "back to back")] {
        let both = warm.zip(theirs);
        let time = both.map(|(warm, theirs)| warm.wall(mode) / theirs.wall(mode));
        say(&format!("time of warm against Playwright with new contexts, {called}"), time, 1.1, false);
        let cpu = both.map(|(warm, theirs)| {
            let ((own, browser), (their, theirs)) = (warm.cpu(mode), theirs.cpu(mode));
            (own + browser) / (their + theirs)
        });
        say(&format!("CPU of warm against Playwright with new contexts, {called}"), cpu, 1.0, false);
    }
    let most = |of: fn(&Step) -> &Vec<f64>| {
        // A look that is repeated is no plain action.
        let plain = steps.kinds.iter().filter(|step| !step.name.contains("waits"));
        plain.map(|step| median(of(step))).max_by(f64::total_cmp)
    };
    say("commands of a plain action", most(|step| &step.commands), 3.0, false);
    say("own CPU of a step, ms", most(|step| &step.cpu), 5.0, false);
}
