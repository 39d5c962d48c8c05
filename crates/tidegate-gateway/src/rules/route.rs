//! Routes by path.

use std::collections::HashMap;

use tidegate_service::{Error, Kind, Upstream};

/// The edge: hands each call to the route of its path.
pub(crate) fn by_path(routes: impl IntoIterator<Item = (String, Upstream)>) -> Upstream {
    let routes: HashMap<String, Upstream> = routes.into_iter().collect();
    Upstream::chosen(move |call| {
        let route = routes.get(call.cx.path.path()).cloned();
        route.ok_or_else(|| {
            Error::refused(Kind::NotRouted, "no MCP endpoint is served at this path")
        })
    })
}
