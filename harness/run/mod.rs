//! The experiment: a pure state machine, and the driver that carries out its actions.

mod driver;
mod journal;
mod log;
mod machine;
mod plan;
mod session;
mod step;
mod tracker;
mod verdict;
mod work;

pub use driver::{Case, Ended, run_case};
pub use journal::{Journal, outstanding};
pub use machine::Machine;
pub use plan::{Act, Block, Plan, PlanError, Planned, PlannedAction, timing_words};
pub use session::{Chosen, Finished, Session, SessionError};
pub use step::{Action, Input};
pub use tracker::Seen;
pub use work::Omit;
