//! A machine that dies by itself, not because a fault cut its power.

use std::sync::{Arc, PoisonError};

use outage::cluster::{Command, DiedUnasked};

use super::e2e_support::{Failure, run_on, wait_for};
use super::{BOOT, Ctx, SOON, host_name, logs_and_exec, pods_answer};

/// Its death is reported once, as what it is; the node is off then, and can be powered on again.
pub async fn machine_dies(ctx: &Ctx) -> Result<(), Failure> {
    let node = Arc::clone(ctx.cluster.nodes().last().ok_or("no such node")?);
    let host = host_name(&*node).await?;
    (ctx.provider.kill_machine)(&host)?;
    let death = wait_for("its death is reported", SOON, async || {
        next_death(ctx).ok_or_else(|| "nothing was reported".into())
    })
    .await?;
    assert!(death.process.contains(node.name()), "{death:?}");
    assert!(death.process.contains("first process"), "{death:?}");
    assert!(death.status.contains("signal 9"), "{death:?}");
    assert!(!node.powered());
    let refused = node.run(Command::new(["true"])).await;
    assert!(refused.is_err(), "a dead machine ran a command");

    node.power(true).await?;
    assert!(node.powered());
    run_on(&*node, Command::new(["true"])).await?;
    ctx.workload_runs(BOOT).await?;
    wait_for("every replica answers from everywhere", SOON, async || pods_answer(ctx).await)
        .await?;
    logs_and_exec(ctx).await?;
    // What ran on it died with it: that is no death of its own.
    match next_death(ctx) {
        None => Ok(()),
        Some(death) => Err(format!("{death:?}").into()),
    }
}

fn next_death(ctx: &Ctx) -> Option<DiedUnasked> {
    ctx.deaths.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
}
