//! What people and programs are told of a run, from a hand-written stream of events.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outage::event::{ActionState, CaseInfo, Event, Measured, Outcome, Phase, Verdict, What};
use outage::report::{Live, cases, exit_code, json, junit, not_passed, text, timeline};

/// Events with a clock that goes on by 1.25 s each.
struct Log {
    events: Vec<Event>,
    case: usize,
}

impl Log {
    fn add(&mut self, what: What) {
        let at = Duration::from_millis(1250) * u32::try_from(self.events.len()).unwrap();
        self.events.push(Event { at, case: self.case, what });
    }

    fn start(&mut self, variant: &str, repetition: usize) {
        self.start_on("lab", variant, repetition);
    }

    fn start_on(&mut self, provider: &str, variant: &str, repetition: usize) {
        self.add(What::CaseStarted(CaseInfo {
            scenario: "stopped-apiserver".into(),
            variant: variant.into(),
            provider: provider.into(),
            kubernetes: "1.34.4".into(),
            repetition,
            scenario_sha256: "5a".repeat(32),
            kernel: "6.12.0".into(),
            seed: 7,
        }));
        self.phase(Phase::Provision);
    }

    fn phase(&mut self, phase: Phase) {
        self.add(What::Phase { phase });
    }

    fn cluster(&mut self) {
        self.add(What::Progress { text: "3 of 3 apiservers ready".into() });
        self.add(What::ClusterReady {
            took: Duration::from_millis(13_870),
            provenance: vec![("etcd".into(), "3.6.5 sha256:ab built with go1.25".into())],
            departures: vec!["cgroupsPerQOS: false".into()],
            flags: vec![("etcd on master-1".into(), vec!["--name=master-1".into()])],
            reused: false,
            logs: Some("logs-0".into()),
        });
    }

    fn expect(&mut self, id: usize, phase: Phase, name: &str, timing: &str) {
        let (name, timing) = (name.into(), timing.into());
        let (wanted, every, waits) = ("it".into(), Duration::from_millis(200), vec![]);
        self.add(What::ExpectationAdded { id, phase, name, timing, wanted, every, waits });
    }

    fn act(&mut self, state: ActionState) {
        let does = "stop kube-apiserver on master-3 by SIGKILL".into();
        self.add(What::Action { name: "stopped".into(), does, state });
    }

    fn met(&mut self, id: usize, after: Option<u64>, saw: &str) {
        let after = after.map(measured);
        self.add(What::ExpectationEnded { id, outcome: Outcome::Met { after, saw: saw.into() } });
    }

    fn end(&mut self, verdict: Verdict, reasons: &[&str], ttd: Option<u64>, ttr: Option<u64>) {
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        let (ttd, ttr) = (ttd.map(measured), ttr.map(measured));
        self.add(What::CaseEnded { verdict, reasons, ttd, ttr });
        self.case += 1;
    }
}

fn measured(millis: u64) -> Measured {
    Measured {
        time: Duration::from_millis(millis),
        uncertainty: Duration::from_millis(52),
        resolution: Duration::from_millis(104),
    }
}

fn issued_and_proven(log: &mut Log) {
    log.phase(Phase::Inject);
    log.act(ActionState::Issued);
    log.act(ActionState::Proven {
        took: Duration::from_millis(52),
        evidence: vec!["pid 4711 is gone".into(), "6443 refuses".into()],
    });
}

/// One case of each kind.
fn run() -> Vec<Event> {
    let mut log = Log { events: vec![], case: 0 };
    pass(&mut log);
    fail(&mut log);

    log.start("invalid", 1);
    log.cluster();
    log.end(
        Verdict::Invalid,
        &["it already held before the injection: the address is gone"],
        None,
        None,
    );

    log.start("inconclusive", 1);
    log.act(ActionState::Issued);
    log.act(ActionState::Unproven { why: "pid 4712 came back after 0.80 s".into() });
    log.end(Verdict::Inconclusive, &["the fault could not be proven"], None, None);

    log.start("dirty", 1);
    issued_and_proven(&mut log);
    log.phase(Phase::Revert);
    log.act(ActionState::Reverting);
    log.act(ActionState::NotReverted { why: "the manifest is <missing>".into() });
    log.end(Verdict::Dirty, &["a revert could not be verified"], Some(420), None);

    log.start("skip", 1);
    log.end(Verdict::Skip, &["the lab has no cgroups"], None, None);

    log.start("cut-short", 2);
    log.events
}

fn pass(log: &mut Log) {
    log.start("lease-sigkill", 1);
    log.cluster();
    log.phase(Phase::SteadyState);
    log.expect(0, Phase::SteadyState, "three addresses in the Service", "within 1m");
    log.add(What::Observed { id: 0, holds: true, saw: "master-1, master-2, master-3".into() });
    log.met(0, Some(10), "master-1, master-2, master-3");
    issued_and_proven(log);
    log.phase(Phase::Detect);
    log.expect(1, Phase::Detect, "the dead address is gone", "within 30s");
    log.expect(2, Phase::Detect, "no request fails", "throughout 10s");
    log.met(1, Some(19_800), "master-1, master-2");
    log.met(2, None, "0 of 20 failed");
    log.phase(Phase::Revert);
    log.act(ActionState::Reverting);
    log.act(ActionState::Reverted { took: Duration::from_millis(900) });
    log.end(Verdict::Pass, &[], Some(19_800), Some(2_340));
}

fn fail(log: &mut Log) {
    log.start("master-count-sigkill", 1);
    log.cluster();
    issued_and_proven(log);
    log.phase(Phase::Detect);
    log.expect(0, Phase::Detect, "the dead address stays", "throughout 1m");
    log.expect(1, Phase::Detect, "a third is refused", "within 10s");
    log.add(What::Observed { id: 0, holds: true, saw: "master-1, master-2, master-3".into() });
    log.add(What::DiedUnasked {
        process: "kubelet on master-2".into(),
        status: "exit status 255".into(),
        log: vec![
            "E0721 \u{1b}[31mrunning out of inotify watches\u{1b}[0m".into(),
            "exiting".into(),
        ],
    });
    let (wanted, saw) = ("addresses with master-3".into(), "master-1, master-2".into());
    log.add(What::ExpectationEnded { id: 0, outcome: Outcome::Failed { wanted, saw } });
    log.add(What::ExpectationEnded { id: 1, outcome: Outcome::Dropped });
    let reasons = ["the dead address stays: not met", "kubelet on master-2 died unasked"];
    log.end(Verdict::Fail, &reasons, None, None);
}

#[test]
fn the_text_at_the_end() {
    insta::assert_snapshot!(text(&run(), None, false));
}

#[test]
fn where_there_is_more_and_what_repetitions_came_to() {
    let mut log = Log { events: vec![], case: 0 };
    for (repetition, ttd) in [(1, 900), (2, 1_300), (3, 1_100)] {
        log.start("lease-sigkill", repetition);
        log.cluster();
        log.add(What::NodesChosen { nodes: vec![("lost".into(), "master-2".into())] });
        if repetition == 3 {
            log.expect(0, Phase::Detect, "the dead address is gone", "within 30s");
            log.add(What::Observed { id: 0, holds: false, saw: "all three".into() });
            log.add(What::ObjectsKept { file: "objects-2.yaml".into() });
            log.end(Verdict::Fail, &["the address stays"], None, None);
        } else {
            log.end(Verdict::Pass, &[], Some(ttd), Some(2_000));
        }
    }
    let folder = std::path::Path::new("/runs/run-1");
    insta::assert_snapshot!("artefacts", text(&log.events, Some(folder), false));
    insta::assert_snapshot!("timeline", timeline(&log.events, 2));
    assert_eq!(not_passed(&log.events), [2]);
}

#[test]
fn what_providers_came_to_stands_side_by_side() {
    let mut log = Log { events: vec![], case: 0 };
    log.start_on("lab", "lease-sigkill", 1);
    log.end(Verdict::Pass, &[], Some(10_000), Some(2_000));
    log.start_on("lab", "lease-sigkill", 2);
    log.end(Verdict::Pass, &[], Some(12_000), Some(2_000));
    log.start_on("lab", "lease-sigterm", 1);
    log.end(Verdict::Pass, &[], Some(100), Some(2_000));
    log.start_on("lab", "on-labs-alone", 1);
    log.end(Verdict::Pass, &[], None, None);
    log.start_on("kind", "lease-sigkill", 1);
    log.end(Verdict::Pass, &[], Some(11_500), Some(3_000));
    log.start_on("kind", "lease-sigterm", 1);
    log.end(Verdict::Fail, &["the address stays"], None, None);
    let text = text(&log.events, None, false);
    let table: Vec<&str> = text.lines().skip_while(|line| *line != "lab / kind:").take(4).collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    lab / kind:
    SCENARIO           VARIANT        PASS             TTD                                TTR
    stopped-apiserver  lease-sigkill  2 of 2 / 1 of 1  11.00 s (10.00 … 12.00) / 11.50 s  2.00 s / 3.00 s
    stopped-apiserver  lease-sigterm  1 of 1 / 0 of 1  0.10 s / -                         2.00 s / -       they differ
    ");
}

#[test]
fn a_case_that_was_cut_short_and_run_again_counts_once() {
    let mut log = Log { events: vec![], case: 0 };
    log.start("v", 1);
    log.case = 1;
    log.start("v", 2);
    log.case = 2;
    log.start("v", 1);
    log.end(Verdict::Invalid, &["interrupted"], None, None);
    log.start("v", 1);
    log.end(Verdict::Pass, &[], None, None);
    let cases = cases(&log.events);
    assert_eq!(cases.iter().map(|case| case.index).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(exit_code(&log.events, false), 1, "the second repetition never ended");
}

#[test]
fn colours_change_nothing_but_colours() {
    let coloured = text(&run(), None, true);
    assert!(coloured.contains("\u{1b}[32mPASS"), "{coloured}");
    assert_eq!(console::strip_ansi_codes(&coloured), text(&run(), None, false));
}

#[test]
fn one_case_and_none() {
    let mut log = Log { events: vec![], case: 0 };
    insta::assert_snapshot!(text(&log.events, None, false), @r"
    SCENARIO  VARIANT  CLUSTER  VERDICT  TTD  TTR

    no cases
    ");
    pass(&mut log);
    assert!(text(&log.events, None, false).ends_with("\n1 case: 1 PASS\n"));
}

#[test]
fn the_junit_report() {
    insta::assert_snapshot!(String::from_utf8(junit(&run()).unwrap()).unwrap());
}

#[test]
fn the_json_report() {
    insta::assert_snapshot!(json(&run()).unwrap());
}

#[test]
fn a_report_can_be_made_later() {
    let events = run();
    let lines: Vec<_> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let again: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(again, events);
    assert_eq!(json(&again).unwrap(), json(&events).unwrap());
}

#[test]
fn exit_codes() {
    let ended = |verdicts: &[Verdict]| {
        let mut log = Log { events: vec![], case: 0 };
        for verdict in verdicts {
            log.start("v", 1);
            log.end(*verdict, &[], None, None);
        }
        log.events
    };
    assert_eq!(exit_code(&[], false), 3);
    assert_eq!(exit_code(&ended(&[Verdict::Skip]), false), 3);
    assert_eq!(exit_code(&ended(&[Verdict::Pass]), false), 0);
    assert_eq!(exit_code(&ended(&[Verdict::Pass, Verdict::Skip]), false), 0);
    assert_eq!(exit_code(&ended(&[Verdict::Pass, Verdict::Skip]), true), 1);
    assert_eq!(exit_code(&ended(&[Verdict::Pass]), true), 0);
    for bad in [Verdict::Fail, Verdict::Invalid, Verdict::Inconclusive, Verdict::Dirty] {
        assert_eq!(exit_code(&ended(&[Verdict::Pass, bad]), false), 1);
        assert_eq!(exit_code(&ended(&[bad, Verdict::Skip]), false), 1);
    }
    let mut unfinished = ended(&[Verdict::Pass, Verdict::Pass]);
    unfinished.pop();
    assert_eq!(exit_code(&unfinished, false), 1);
}

/// Standard error of a run without a terminal.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_while_it_goes_on() {
    let written = Shared::default();
    let mut live = Live::lines(written.clone());
    for event in &run() {
        live.event(event);
    }
    let written = written.0.lock().unwrap().clone();
    insta::assert_snapshot!(String::from_utf8(written).unwrap());
}

#[test]
fn the_screen_while_it_goes_on() {
    let terminal = indicatif::InMemoryTerm::new(30, 110);
    let mut live = Live::terminal(Box::new(terminal.clone()), false);
    let events = run();
    let detecting = events.iter().position(|event| matches!(event.what, What::DiedUnasked { .. }));
    for event in &events[..=detecting.unwrap()] {
        live.event(event);
    }
    let shown = terminal.contents();
    for part in [
        "stopped-apiserver/lease-sigkill  PASS",
        "DIED unasked: kubelet on master-2: exit status 255",
        "stopped-apiserver/master-count-sigkill  detect",
        "holds  the dead address stays (throughout 1m)  master-1, master-2, master-3",
        "waits  a third is refused (within 10s)",
    ] {
        assert!(shown.contains(part), "{part:?} is not on the screen:\n{shown}");
    }
}
