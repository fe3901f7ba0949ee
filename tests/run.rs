//! The driver as far as it goes without a cluster: a case whose cluster is never made.

// Helpers of tests are tests to us, but not to the lint.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use outage::cluster::{Cluster, ClusterError};
use outage::event::{CaseInfo, Event, Verdict, What};
use outage::run::{Case, Omit, Plan, run_case};
use outage::scenario::{ClusterNeeds, Scenario};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

type Made = Result<Arc<dyn Cluster>, ClusterError>;

fn case() -> Case {
    let scenario = Scenario {
        name: "empty".into(),
        title: String::new(),
        notes: String::new(),
        references: vec![],
        cluster: ClusterNeeds { masters: 1, workers: 0, settings: vec![], addons: vec![] },
        variants: vec!["default".into()],
        steady_state: vec![],
        steps: vec![],
    };
    let info = CaseInfo {
        scenario: "empty".into(),
        variant: "default".into(),
        provider: "none".into(),
        kubernetes: "1.34.4".into(),
        repetition: 1,
        scenario_sha256: String::new(),
        kernel: String::new(),
    };
    let plan = Plan::new(&scenario, "default").unwrap();
    Case { index: 3, info, plan, began: Instant::now(), keep: false, omit: Omit::Nothing }
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("outage-run-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs it; its verdict, and its events as they were told and as they were written.
async fn run<F>(
    name: &str,
    provision: impl FnOnce(mpsc::UnboundedSender<String>) -> F,
    interrupt: CancellationToken,
) -> (Verdict, Vec<What>)
where
    F: Future<Output = Made> + Send + 'static,
{
    let folder = folder(name);
    let (sender, mut events) = mpsc::unbounded_channel();
    let ended = run_case(case(), provision, sender, interrupt, &folder).await.unwrap();
    assert!(ended.cluster.is_none());
    let mut told: Vec<Event> = vec![];
    while let Some(event) = events.recv().await {
        told.push(event);
    }
    let text = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let written: Vec<Event> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told, written);
    assert!(told.iter().all(|event| event.case == 3));
    std::fs::remove_dir_all(&folder).unwrap();
    (ended.verdict, told.into_iter().map(|event| event.what).collect())
}

#[tokio::test]
async fn a_cluster_that_is_not_made_makes_the_case_invalid() {
    let provision = |progress: mpsc::UnboundedSender<String>| async move {
        progress.send("trying".into()).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(ClusterError::new("no space"))
    };
    let (verdict, events) = run("failed", provision, CancellationToken::new()).await;
    assert_eq!(verdict, Verdict::Invalid);
    assert!(matches!(events.first(), Some(What::CaseStarted(_))));
    assert!(events.contains(&What::Progress { text: "trying".into() }));
    let Some(What::CaseEnded { reasons, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reasons, ["there is no cluster: no space"]);
}

#[tokio::test]
async fn an_interrupt_gives_the_cluster_up_and_a_panic_is_said() {
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    let (verdict, events) = run("interrupted", |_| std::future::pending::<Made>(), interrupt).await;
    assert_eq!(verdict, Verdict::Invalid);
    let Some(What::CaseEnded { reasons, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*reasons, ["interrupted"]);

    let provision = |_| async { panic!("a bug") };
    let (verdict, _) = run("panicked", provision, CancellationToken::new()).await;
    assert_eq!(verdict, Verdict::Invalid);
}
