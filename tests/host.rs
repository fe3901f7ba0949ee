//! Nothing of the host changes.
mod e2e_support;
