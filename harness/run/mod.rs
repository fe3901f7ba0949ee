//! The experiment: a pure state machine, and the driver that carries out its actions.

mod draw;
mod driver;
mod explain;
mod flags;
mod folder;
mod journal;
mod log;
mod machine;
mod nodes;
mod objects;
mod plan;
mod queue;
mod resume;
mod session;
mod step;
mod tracker;
mod verdict;
mod work;

pub use draw::draw;
pub use driver::{Ask, Case, Ended, Held, Keep, run_case};
pub use explain::explain;
pub use folder::{latest_folder, lock_folder, make_folder, mend_events, read_events, remove_logs};
pub use journal::{Journal, outstanding};
pub use machine::Machine;
pub use nodes::Chooser;
pub use plan::{Act, Block, Plan, PlanError, Planned, PlannedAction, Role, timing_words};
pub use resume::Past;
pub use session::{Chosen, Session, SessionError, numbers, skipped};
pub use step::{Action, Input, Reply, Stands};
pub use tracker::Seen;
pub use work::Omit;
