//! Decide by declaration: which route a call takes, and which headers may go along.

mod headers;
mod route;

pub(crate) use self::{
    headers::{Forward, HeaderPolicyLayer},
    route::by_path,
};
