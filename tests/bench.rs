//! What the benchmark (`benches/start`) works out of what it measured: its statistics, the
//! comparison of settings, and what it reads of processes.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../benches/start/processes.rs"]
mod processes;
#[path = "../benches/start/settings.rs"]
mod settings;
#[path = "../benches/start/statistics.rs"]
mod statistics;

use std::process::{Command, Stdio};

use statistics::{Summary, summary};

#[test]
fn the_interval_is_made_of_the_values_that_a_coin_would_leave() {
    assert_eq!(summary(&[]), None);
    let plain = |median| Some(Summary { median, interval: None });
    assert_eq!(summary(&[2.0]), plain(2.0));
    assert_eq!(summary(&[4.0, 2.0]), plain(3.0));
    assert_eq!(summary(&[1.0, 5.0, 2.0, 4.0, 3.0]), plain(3.0));
    let first = |count: u8| (1..=count).map(f64::from).collect::<Vec<_>>();
    // How many may be left out of each end is in every table for the sign test.
    for (count, low, high) in
        [(6, 1.0, 6.0), (8, 1.0, 8.0), (9, 2.0, 8.0), (10, 2.0, 9.0), (20, 6.0, 15.0)]
    {
        let found = summary(&first(count)).unwrap();
        assert_eq!(found.interval, Some((low, high)), "{count} values");
    }
}

#[test]
fn settings_that_differ_are_named_with_both_sides() {
    let set = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(place, text)| ((*place).to_owned(), (*text).to_owned())).collect()
    };
    let lab =
        set(&[("etcd: command lines", "etcd --a\netcd --b"), ("haproxy", "x"), ("only", "y")]);
    let other = set(&[("etcd: command lines", "etcd --a\netcd --c"), ("haproxy", "x")]);
    assert_eq!(settings::difference(&lab, &lab), "");
    let expected = "etcd: command lines\n  lab: etcd --b\n  baseline: etcd --c\nonly\n  lab: y\n";
    assert_eq!(settings::difference(&lab, &other), expected);
}

#[test]
fn a_tree_holds_a_process_and_what_it_started_with_memory_and_time() {
    let script = "sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo; wait";
    let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut String::new()).unwrap();
    let pid = i32::try_from(shell.id()).unwrap();
    let tree = processes::tree(pid);
    let memory = processes::memory(&tree);
    let (both, time) = (tree.len(), processes::own_cpu(pid).unwrap());
    for process in &tree {
        let pid = nix::unistd::Pid::from_raw(process.pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    shell.wait().unwrap();
    assert_eq!(both, 2, "{tree:?}");
    assert!(memory[processes::HOLDER] > 0);
    assert!(time <= processes::cpu(&tree));
    assert!(processes::tree(pid).is_empty());
}
