//! The experiment: a pure state machine, and the driver that carries out its actions.

mod journal;
mod plan;
mod tracker;

pub use journal::{Journal, outstanding};
pub use plan::{Act, Block, Plan, PlanError, Planned, PlannedAction, timing_words};
