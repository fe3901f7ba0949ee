//! SIGKILL for some process of the harness at some time, again and again.
//!
//! `OUTAGE_SIGKILLS` is how often (3), `OUTAGE_SEED` repeats the choices of a run that printed it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::snapshot::Snapshot;
use super::world::{Failure, UP, Up, Victim, World, killed, nobody_in, wait};
use super::{next_start_cleans, unchanged};

const VICTIMS: [Victim; 6] = [
    Victim::Harness,
    Victim::Outer,
    Victim::Lab,
    Victim::Node,
    Victim::Containerd,
    Victim::Kubelet,
];

/// In milliseconds. A start takes about so long: some kills come before its end, some after.
const LATEST: usize = 40_000;

/// Every kill must end in nothing but the lab's folder, and that only if the harness itself was
/// killed; the next start removes it.
pub fn random(world: &World) -> Result<(), Failure> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("OUTAGE_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("OUTAGE_SEED={seed}");
    let mut numbers = Numbers(seed);
    let before = Snapshot::take();
    for round in 1..=number("OUTAGE_SIGKILLS").unwrap_or(3) {
        let victim = VICTIMS[numbers.below(VICTIMS.len())];
        let after = Duration::from_millis(numbers.below(LATEST) as u64);
        let began = Instant::now();
        let outcome = one(world, victim, after, &before);
        let took = began.elapsed().as_secs();
        match outcome {
            Ok(how) => println!("{round}: {victim:?} after {after:?}: {how}, {took} s"),
            Err(error) => {
                return Err(format!("{round}: {victim:?} after {after:?}: {error}").into());
            }
        }
    }
    next_start_cleans(world, &before)
}

/// Starts a lab, kills one of its processes, and checks what is left.
fn one(
    world: &World,
    victim: Victim,
    after: Duration,
    before: &Snapshot,
) -> Result<String, Failure> {
    let abandoned = world.labs();
    let mut up = world.up("log")?;
    let due = Instant::now() + after;
    // What is to be killed may not be there yet when it is due.
    wait(UP, || {
        if Instant::now() < due && !up.has_ended() {
            return Err("it is not due".to_owned());
        }
        up.victim(victim).map(drop).map_err(|error| error.to_string())
    })
    .map_err(|error| format!("{error}: {}", up.said()))?;
    let namespace = up.namespace().ok();
    let said = up.said().lines().last().unwrap_or_default().to_owned();
    up.signal(victim, Signal::SIGKILL)?;
    let how = finish(victim, &mut up)?;
    if let Some(namespace) = namespace {
        nobody_in(&namespace)?;
    }
    unchanged(world, before)?;
    let own: Vec<PathBuf> =
        world.labs().into_iter().filter(|lab| !abandoned.contains(lab)).collect();
    let most = usize::from(matches!(victim, Victim::Harness));
    if own.len() > most {
        return Err(format!("left behind: {own:?}").into());
    }
    // A harness that was killed at once has removed nothing yet.
    let removed = !own.is_empty() || !matches!(victim, Victim::Harness);
    if removed && world.labs().len() != own.len() {
        return Err(format!("not removed by the next start: {abandoned:?}").into());
    }
    Ok(format!("{how} (at `{said}`)"))
}

/// The harness notices what happened to its lab and ends in order, by itself or when it is told to.
fn finish(victim: Victim, up: &mut Up) -> Result<&'static str, Failure> {
    if matches!(victim, Victim::Harness) {
        let status = up.ended()?;
        return if killed(status) { Ok("killed") } else { Err(format!("{status}").into()) };
    }
    let noticed = |said: &str| said.contains("up: ") && said.contains(" died: ");
    wait(UP, || {
        let said = up.said();
        if up.has_ended() || noticed(&said) { Ok(()) } else { Err(said) }
    })?;
    if up.has_ended() {
        let said = up.said();
        // Only a failed start ends by itself, and says why.
        let why = said.lines().any(|line| line.starts_with("outage: "));
        return if why { Ok("its start failed") } else { Err(said.into()) };
    }
    up.signal(Victim::Harness, Signal::SIGINT)?;
    let status = up.ended()?;
    if status.success() { Ok("noticed") } else { Err(format!("{status}: {}", up.said()).into()) }
}

/// Numbers that look random and come from a seed: `SplitMix64`.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }
}
