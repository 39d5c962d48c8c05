//! How long a call may take, by its route and its tool.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tidegate_protocol::{Envelope, Kind};
use tidegate_service::{Call, Operation, Timeouts};
use tokio::time::Instant;
use tower::{Layer, Service};

/// What holds for some calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallLimits {
    /// `None` where they are those of the upstream.
    pub(crate) timeouts: Option<Arc<Timeouts>>,
    /// From the call to the end of its answer.
    pub(crate) total: Option<Duration>,
}

/// Tells every call of a route how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct TimeoutsLayer {
    route: CallLimits,
    /// By name; `None` where no tool is special.
    tools: Option<Arc<HashMap<String, CallLimits>>>,
}

/// The service that does so.
#[derive(Clone, Debug)]
pub(crate) struct RouteTimeouts<S> {
    inner: S,
    limits: TimeoutsLayer,
}

impl TimeoutsLayer {
    pub(crate) fn new(route: CallLimits, tools: HashMap<String, CallLimits>) -> Self {
        let tools = (!tools.is_empty()).then(|| Arc::new(tools));
        Self { route, tools }
    }

    fn of(&self, message: &Envelope) -> &CallLimits {
        let special = self.tools.as_ref().filter(|_| message.is_method("tools/call"));
        special.and_then(|tools| tools.get(message.name()?.as_ref())).unwrap_or(&self.route)
    }

    fn limit(&self, call: &mut Call) {
        let limits = match &call.operation {
            Operation::Send(message) => self.of(message),
            Operation::Listen { .. } | Operation::EndSession => &self.route,
        };
        call.cx.timeouts.clone_from(&limits.timeouts);
        if let Some(total) = limits.total
            && ends(&call.operation)
        {
            let deadline = Instant::now() + total;
            let earlier = call.cx.deadline.map_or(deadline, |known| known.min(deadline));
            call.cx.deadline = Some(earlier);
        }
    }
}

/// Whether it is a call that has an end of its own.
fn ends(operation: &Operation) -> bool {
    match operation {
        Operation::Send(message) => {
            message.kind() == Kind::Request && !message.is_method("subscriptions/listen")
        }
        Operation::Listen { .. } | Operation::EndSession => false,
    }
}

impl<S> Layer<S> for TimeoutsLayer {
    type Service = RouteTimeouts<S>;

    fn layer(&self, inner: S) -> RouteTimeouts<S> {
        RouteTimeouts { inner, limits: self.clone() }
    }
}

impl<S: Service<Call>> Service<Call> for RouteTimeouts<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> S::Future {
        self.limits.limit(&mut call);
        self.inner.call(call)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc, time::Duration};

    use tidegate_protocol::{Envelope, Era};
    use tidegate_service::{Call, Cx, Operation, Timeouts};
    use tokio::time::Instant;

    use super::{CallLimits, TimeoutsLayer};

    const TOTAL: Duration = Duration::from_secs(60);

    fn limits(request: u64, total: Option<Duration>) -> CallLimits {
        let request = Some(Duration::from_secs(request));
        CallLimits { timeouts: Some(Arc::new(Timeouts { request, ..Timeouts::default() })), total }
    }

    fn limited(call: &str) -> Cx {
        let tools = HashMap::from([("long".to_owned(), limits(2, None))]);
        let layer = TimeoutsLayer::new(limits(1, Some(TOTAL)), tools);
        let message = Envelope::parse(call.to_owned().into()).unwrap();
        let mut call = Call::send(message, Cx::new(Era::Legacy));
        layer.limit(&mut call);
        call.cx
    }

    fn request(cx: &Cx) -> u64 {
        cx.timeouts.as_ref().unwrap().request.unwrap().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_goes_before_its_route() {
        let due = Some(Instant::now() + TOTAL);
        let call = |method: &str, name: &str| {
            limited(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{name}"}}}}"#
            ))
        };
        let long = call("tools/call", "long");
        assert_eq!((request(&long), long.deadline), (2, None));
        for (method, name) in [("tools/call", "other"), ("prompts/get", "long")] {
            let other = call(method, name);
            assert_eq!((request(&other), other.deadline), (1, due), "{method} {name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_end_has_no_deadline() {
        let endless = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#;
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        for message in [endless, note] {
            let cx = limited(message);
            assert_eq!((request(&cx), cx.deadline), (1, None), "{message}");
        }
        let layer = TimeoutsLayer::new(limits(1, Some(TOTAL)), HashMap::new());
        for operation in [Operation::Listen { last_event_id: None }, Operation::EndSession] {
            let mut call = Call { operation, cx: Cx::new(Era::Legacy) };
            layer.limit(&mut call);
            assert_eq!((request(&call.cx), call.cx.deadline), (1, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_stands() {
        let layer = TimeoutsLayer::new(limits(1, Some(TOTAL)), HashMap::new());
        let message = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let message = Envelope::parse(message.into()).unwrap();
        let mut call = Call::send(message, Cx::new(Era::Modern));
        let early = Instant::now() + TOTAL / 2;
        call.cx.deadline = Some(early);
        layer.limit(&mut call);
        assert_eq!(call.cx.deadline, Some(early));
    }
}
