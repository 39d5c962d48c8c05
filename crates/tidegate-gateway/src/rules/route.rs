//! Routes by path.

use std::{
    collections::HashMap,
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use tidegate_service::{Call, Error, Kind, Reply, Upstream};
use tower::{Service, ServiceExt as _, util::Oneshot};

/// The edge: hands each call to the route of its path.
#[derive(Clone, Debug)]
pub(crate) struct Router(Arc<HashMap<String, Upstream>>);

impl Router {
    pub(crate) fn new(routes: impl IntoIterator<Item = (String, Upstream)>) -> Self {
        Self(Arc::new(routes.into_iter().collect()))
    }
}

impl Service<Call> for Router {
    type Response = Reply;
    type Error = Error;
    type Future = Either<Oneshot<Upstream, Call>, Ready<Result<Reply, Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        match self.0.get(&*call.cx.path) {
            Some(route) => Either::Left(route.clone().oneshot(call)),
            None => Either::Right(std::future::ready(Err(Error::refused(
                Kind::NotRouted,
                "no MCP endpoint is served at this path",
            )))),
        }
    }
}
