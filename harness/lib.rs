//! Replays documented Kubernetes control-plane outages on a real cluster.

pub mod assets;
