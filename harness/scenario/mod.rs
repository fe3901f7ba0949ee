//! What an author writes: the scenario language, its reading and its checks. Depends on no other
//! room.

mod types;

pub use types::*;
