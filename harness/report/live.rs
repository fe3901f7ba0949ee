//! What is shown while a run goes on.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use owo_colors::{OwoColorize, Style};

use super::case::Case;
use super::{colours, words};
use crate::event::{ActionState, CaseInfo, Event, Outcome, Phase, Verdict, What};

/// The view of a run while it goes on. It is given every event as it happens.
pub struct Live {
    cases: BTreeMap<usize, Case>,
    view: View,
}

enum View {
    /// Nothing: the table at the end is enough.
    Quiet,
    /// A line for each thing that happens.
    Lines(Box<dyn Write + Send>),
    /// Each case with its phase and its expectations, redrawn in place.
    Terminal { screen: MultiProgress, bars: BTreeMap<usize, Bars>, colours: bool },
}

/// What a case has on the screen.
struct Bars {
    head: ProgressBar,
    expectations: BTreeMap<usize, ProgressBar>,
}

impl Live {
    /// The view that fits: on standard error, in place if it is a terminal, else line by line;
    /// nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let stderr = std::io::stderr();
        let view = if quiet {
            View::Quiet
        } else if stderr.is_terminal() {
            let (screen, bars) = (MultiProgress::new(), BTreeMap::new());
            View::Terminal { screen, bars, colours: colours(&stderr) }
        } else {
            View::Lines(Box::new(stderr))
        };
        Self { cases: BTreeMap::new(), view }
    }

    /// A view in place on that terminal.
    pub fn terminal(to: Box<dyn TermLike>, colours: bool) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(to, 20));
        Self {
            cases: BTreeMap::new(),
            view: View::Terminal { screen, bars: BTreeMap::new(), colours },
        }
    }

    /// A view that writes lines there.
    pub fn lines(to: impl Write + Send + 'static) -> Self {
        Self { cases: BTreeMap::new(), view: View::Lines(Box::new(to)) }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event) {
        let case = self.cases.entry(event.case).or_default();
        case.take(event);
        match &mut self.view {
            View::Quiet => {}
            View::Lines(to) => {
                for line in lines(case, event) {
                    // Whoever reads it may go away; the run goes on.
                    let _ = writeln!(to, "{line}");
                }
            }
            View::Terminal { screen, bars, colours } => {
                draw(screen, bars, case, event, *colours);
            }
        }
        if matches!(event.what, What::CaseEnded { .. }) {
            self.cases.remove(&event.case);
        }
    }
}

/// All that happened in a case, a line each, in the order of time; what was seen, too.
pub fn timeline(events: &[Event], index: usize) -> String {
    let mut case = Case::default();
    let mut out = String::new();
    for event in events.iter().filter(|event| event.case == index) {
        case.take(event);
        let mut all = lines(&case, event);
        if let What::Observed { id, holds, saw } = &event.what {
            let name = case.expectations.get(id).map_or("?", |expectation| &expectation.name);
            let holds = if *holds { "holds" } else { "does not hold" };
            all.push(line(&case, event, &format!("{name}: {holds}: {saw}")));
        }
        for line in all {
            out += &line;
            out.push('\n');
        }
    }
    out
}

/// The lines for an event: `[  12.3s] scenario/variant  detect        ok  …`.
fn lines(case: &Case, event: &Event) -> Vec<String> {
    said(case, &event.what).iter().map(|text| line(case, event, text)).collect()
}

fn line(case: &Case, event: &Event, text: &str) -> String {
    let phase = case.phase.map_or("begin", words::phase);
    let (at, label) = (event.at.as_secs_f64(), case.label());
    format!("[{at:7.1}s] {label}  {phase:<12}  {}", words::printable(text))
}

/// What is said about an event, apart from when and where it happened.
fn said(case: &Case, what: &What) -> Vec<String> {
    match what {
        What::CaseStarted(info) => {
            let CaseInfo { provider, kubernetes, seed, .. } = info;
            vec![format!("on {provider} with Kubernetes {kubernetes}, seed {seed}")]
        }
        What::Phase { .. } | What::ExpectationAdded { .. } | What::Observed { .. } => vec![],
        What::Progress { text } => vec![text.clone()],
        What::ClusterReady { took, reused, .. } => {
            let again = if *reused { "is reused" } else { "is ready" };
            vec![format!("the cluster {again} after {}", words::seconds(*took))]
        }
        What::NodesChosen { nodes } => {
            let words: Vec<_> =
                nodes.iter().map(|(name, node)| format!("{name} is {node}")).collect();
            vec![words.join(", ")]
        }
        What::ObjectsKept { file } => vec![format!("the objects concerned are in {file}")],
        What::ExpectationEnded { id, outcome } => {
            let name = case.expectations.get(id).map_or("?", |expectation| &expectation.name);
            vec![format!("{}  {name}: {}", mark(outcome), words::outcome(outcome))]
        }
        What::Action { name, does, state } => {
            let known = matches!(
                state,
                ActionState::Proven { .. } | ActionState::Reverting | ActionState::Reverted { .. }
            );
            let does = if known { String::new() } else { format!(" ({does})") };
            vec![format!("{name}{does}: {}", words::action(state))]
        }
        What::DiedUnasked { process, status, log } => {
            let head = format!("DIED unasked: {process}: {status}");
            std::iter::once(head).chain(log.iter().map(|line| format!("| {line}"))).collect()
        }
        What::CaseEnded { verdict, reasons, ttd, ttr } => {
            let (ttd, ttr) = (words::measured(*ttd), words::measured(*ttr));
            let head = format!("{verdict}  TTD {ttd}  TTR {ttr}");
            std::iter::once(head).chain(reasons.iter().cloned()).collect()
        }
    }
}

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Met { .. } => "ok",
        Outcome::Failed { .. } => "FAILED",
        Outcome::Dropped => "dropped",
    }
}

/// Brings the screen up to date with an event.
fn draw(
    screen: &MultiProgress,
    all: &mut BTreeMap<usize, Bars>,
    case: &Case,
    event: &Event,
    colours: bool,
) {
    let bars = all
        .entry(event.case)
        .or_insert_with(|| Bars { head: head(screen), expectations: BTreeMap::new() });
    bars.head.set_prefix(case.label());
    match &event.what {
        What::Phase { phase } => {
            if !matches!(phase, Phase::Inject | Phase::Revert | Phase::Remedy) {
                clear(screen, bars);
            }
            bars.head.set_message(words::phase(*phase));
        }
        What::Progress { text } => {
            let phase = case.phase.map_or("", words::phase);
            bars.head.set_message(format!("{phase}: {}", words::printable(text)));
        }
        What::ExpectationAdded { id, .. }
        | What::Observed { id, .. }
        | What::ExpectationEnded { id, .. } => {
            let last = bars.expectations.values().next_back().unwrap_or(&bars.head).clone();
            let bar = bars.expectations.entry(*id).or_insert_with(|| {
                let bar = screen.insert_after(&last, ProgressBar::no_length());
                bar.with_style(plain("    {wide_msg}"))
            });
            bar.set_message(expectation(case, *id, colours));
        }
        What::Action { .. } | What::DiedUnasked { .. } | What::NodesChosen { .. } => {
            for line in said(case, &event.what) {
                let _ = screen.println(format!("{}  {}", case.label(), words::printable(&line)));
            }
        }
        What::CaseEnded { verdict, .. } => {
            clear(screen, bars);
            bars.head.finish_and_clear();
            screen.remove(&bars.head);
            let style =
                if *verdict == Verdict::Pass { Style::new().green() } else { Style::new().red() };
            for line in said(case, &event.what) {
                let line = format!("{}  {}", case.label(), words::printable(&line));
                let _ = screen.println(if colours { line.style(style).to_string() } else { line });
            }
            all.remove(&event.case);
        }
        What::CaseStarted(_) | What::ClusterReady { .. } | What::ObjectsKept { .. } => {}
    }
}

/// A case's first line: a spinner, its name, what goes on, and for how long.
fn head(screen: &MultiProgress) -> ProgressBar {
    let bar = screen.add(ProgressBar::new_spinner());
    bar.set_style(plain("{spinner} {prefix}  {wide_msg} {elapsed_precise}"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn plain(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn clear(screen: &MultiProgress, bars: &mut Bars) {
    for bar in std::mem::take(&mut bars.expectations).into_values() {
        bar.finish_and_clear();
        screen.remove(&bar);
    }
}

/// An expectation's line: its state, its name, what is seen.
fn expectation(case: &Case, id: usize, colours: bool) -> String {
    let Some(record) = case.expectations.get(&id) else { return String::new() };
    let (state, style, saw) = match (&record.outcome, &record.observed) {
        (Some(outcome), _) => {
            let style = match outcome {
                Outcome::Met { .. } => Style::new().green(),
                Outcome::Failed { .. } => Style::new().red(),
                Outcome::Dropped => Style::new().dimmed(),
            };
            (mark(outcome), style, words::outcome(outcome))
        }
        (None, Some((holds, saw))) => {
            let state = if *holds { "holds" } else { "waits" };
            (state, Style::new().yellow(), saw.clone())
        }
        (None, None) => ("waits", Style::new().yellow(), String::new()),
    };
    let state = if colours { state.style(style).to_string() } else { state.to_owned() };
    let (name, timing) = (&record.name, &record.timing);
    format!("{state}  {name} ({timing})  {}", words::printable(&saw))
}
