//! Replays documented Kubernetes control-plane outages on a real cluster, and measures detection
//! and recovery.

pub mod cluster;
pub mod event;
pub mod report;
pub mod scenario;
