//! The seam: call, reply, error, tasks.
