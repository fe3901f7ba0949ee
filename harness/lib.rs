//! Replays documented Kubernetes control-plane outages on a real cluster, and measures detection
//! and recovery.

pub mod assets;
pub mod cli;
pub mod cluster;
pub mod event;
pub mod fault;
pub mod probe;
pub mod report;
pub mod run;
pub mod scenario;
