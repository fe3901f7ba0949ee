//! Nothing of the host changes: not by a lab that is ended in order, and not by one whose
//! processes are killed. The harness gets a home, a folder for temporary files and a cache of its
//! own, so that everything it leaves is seen.

mod sigkills;
mod snapshot;
mod world;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use snapshot::Snapshot;
use world::{Failure, GONE, Up, Victim, World, killed, nobody_in, wait};

type Case = fn(&World) -> Result<(), Failure>;

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // They compare the host before and after.
    args.test_threads = Some(1);
    let shared = Arc::new(Shared::default());
    let cases: [(&str, Case); 9] = [
        ("an_orderly_run_leaves_nothing", orderly),
        ("an_interrupted_start_leaves_nothing", interrupted),
        ("two_at_once_leave_nothing", two_at_once),
        ("a_killed_harness_leaves_a_folder_that_the_next_start_removes", harness_killed),
        ("a_harness_killed_while_it_starts_leaves_no_process", killed_early),
        ("a_killed_waiting_process_ends_the_lab", |world| lab_killed(world, Victim::Outer)),
        ("a_killed_first_process_ends_the_lab", |world| lab_killed(world, Victim::Lab)),
        ("a_killed_node_leaves_nothing", |world| lab_killed(world, Victim::Node)),
        ("random_sigkills", sigkills::random),
    ];
    let mut trials: Vec<Trial> = cases
        .into_iter()
        .map(|(name, case)| {
            let shared = Arc::clone(&shared);
            Trial::test(name, move || shared.with_world(case))
        })
        .collect();
    let ordinary = || {
        let world = World::ordinary().map_err(|failure| failed(&failure))?;
        orderly(&world).and_then(|()| harness_killed(&world)).map_err(|failure| failed(&failure))
    };
    // An ordinary user has run all of the above as such.
    trials.push(Trial::test("an_ordinary_user", ordinary).with_ignored_flag(!geteuid().is_root()));
    let conclusion = libtest_mimic::run(&args, trials);
    // The world's folder goes with it.
    drop(shared);
    conclusion.exit_code()
}

#[derive(Default)]
struct Shared {
    world: OnceLock<Result<World, String>>,
}

impl Shared {
    fn with_world(&self, case: Case) -> Result<(), Failed> {
        let world = self.world.get_or_init(|| World::new().map_err(|error| error.to_string()));
        let world = world.as_ref().map_err(Failed::from)?;
        case(world).map_err(|failure| failed(&failure))
    }
}

fn failed(failure: &Failure) -> Failed {
    failure.to_string().into()
}

/// Fails if the host is not as it was, or the harness left a file beside its cache.
fn unchanged(world: &World, before: &Snapshot) -> Result<(), Failure> {
    world.untouched()?;
    // What others on this machine do may pass; what a lab did would stay.
    wait(GONE, || {
        let difference = before.difference(&Snapshot::take());
        if difference.is_empty() { Ok(()) } else { Err(difference.join("\n")) }
    })
}

/// Ends a lab as a user does, and checks that nothing of it is left.
fn end(world: &World, mut up: Up) -> Result<(), Failure> {
    let namespace = up.namespace()?;
    let others = world.labs().len() - 1;
    up.signal(Victim::Harness, Signal::SIGINT)?;
    let status = up.ended()?;
    if !status.success() {
        return Err(format!("it ended with {status}: {}", up.said()).into());
    }
    nobody_in(&namespace)?;
    let labs = world.labs();
    if labs.len() == others { Ok(()) } else { Err(format!("left behind: {labs:?}").into()) }
}

fn orderly(world: &World) -> Result<(), Failure> {
    let before = Snapshot::take();
    let mut up = world.up("log")?;
    up.says("up: ")?;
    end(world, up)?;
    unchanged(world, &before)
}

fn interrupted(world: &World) -> Result<(), Failure> {
    let before = Snapshot::take();
    for text in ["image store", "nodes booted", "kubelets started", "load balancer serves"] {
        let mut up = world.up("log")?;
        up.says(text)?;
        let namespace = up.namespace().ok();
        up.signal(Victim::Harness, Signal::SIGINT)?;
        let status = up.ended()?;
        if status.code() != Some(130) {
            return Err(format!("it ended with {status}: {}", up.said()).into());
        }
        if let Some(namespace) = namespace {
            nobody_in(&namespace)?;
        }
        if !world.labs().is_empty() {
            return Err(format!("left behind at `{text}`: {:?}", world.labs()).into());
        }
    }
    unchanged(world, &before)
}

fn two_at_once(world: &World) -> Result<(), Failure> {
    let before = Snapshot::take();
    let mut one = world.up("log-1")?;
    let mut other = world.up("log-2")?;
    one.says("up: ")?;
    other.says("up: ")?;
    if one.namespace()? == other.namespace()? {
        return Err("they share a namespace".into());
    }
    end(world, one)?;
    // The other one's folder is in use, and it is still there.
    other.namespace()?;
    end(world, other)?;
    unchanged(world, &before)
}

/// Kills the harness; everything must go by itself, but for its folder.
fn abandon(world: &World, mut up: Up) -> Result<(), Failure> {
    let namespace = up.namespace()?;
    up.signal(Victim::Harness, Signal::SIGKILL)?;
    let status = up.ended()?;
    if !killed(status) {
        return Err(format!("it ended with {status}").into());
    }
    nobody_in(&namespace)?;
    if world.labs().len() == 1 { Ok(()) } else { Err(format!("{:?}", world.labs()).into()) }
}

/// The next start removes what a killed one left.
fn next_start_cleans(world: &World, before: &Snapshot) -> Result<(), Failure> {
    let abandoned = world.labs();
    let mut up = world.up("log")?;
    up.says("nodes booted")?;
    let labs = world.labs();
    if labs.len() != 1 || labs.iter().any(|lab| abandoned.contains(lab)) {
        return Err(format!("{abandoned:?} was left, then {labs:?}").into());
    }
    up.says("up: ")?;
    end(world, up)?;
    unchanged(world, before)
}

fn harness_killed(world: &World) -> Result<(), Failure> {
    let before = Snapshot::take();
    let mut up = world.up("log")?;
    up.says("up: ")?;
    abandon(world, up)?;
    unchanged(world, &before)?;
    next_start_cleans(world, &before)
}

fn killed_early(world: &World) -> Result<(), Failure> {
    let before = Snapshot::take();
    for text in ["nodes booted", "kubelets started", "load balancer serves"] {
        let mut up = world.up("log")?;
        up.says(text)?;
        abandon(world, up)?;
    }
    next_start_cleans(world, &before)
}

/// Kills a process of the lab behind the harness's back, then ends the harness.
fn lab_killed(world: &World, victim: Victim) -> Result<(), Failure> {
    let before = Snapshot::take();
    let mut up = world.up("log")?;
    up.says("up: ")?;
    let namespace = up.namespace()?;
    up.signal(victim, Signal::SIGKILL)?;
    if !matches!(victim, Victim::Node) {
        // All of it is gone by itself.
        nobody_in(&namespace)?;
    }
    // The user is told at once, and of the cause alone.
    let process = match victim {
        Victim::Node => "the first process of master-1",
        _ => "the lab's first process",
    };
    up.says(&format!("{process} died"))?;
    if up.said().matches(" died").count() > 1 {
        return Err(format!("more deaths than one: {}", up.said()).into());
    }
    up.signal(Victim::Harness, Signal::SIGINT)?;
    up.ended()?;
    nobody_in(&namespace)?;
    if !world.labs().is_empty() {
        return Err(format!("left behind: {:?}", world.labs()).into());
    }
    unchanged(world, &before)
}
