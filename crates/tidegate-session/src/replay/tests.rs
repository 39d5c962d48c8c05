//! Replay from the outside: a scripted upstream inside, readers that leave and come back outside,
//! and a clock that stands until a test moves it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderValue, StatusCode};
use proptest::prelude::*;
use tidegate_protocol::{Envelope, Era, Id, Version, rpc, sse};
use tidegate_service::{
    Body, Call, Cx, Error, EventStream, Frame, Kind, Operation, Origin, Reply, Retry, Session,
    Tasks, Upstream,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{advance, sleep},
};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

use super::{Account, LogLimits, ReplayLayer, ReplayParams, Stats};

const WINDOW: Duration = Duration::from_secs(300);
const PARAMS: ReplayParams = ReplayParams {
    limits: LogLimits { events: 1000, bytes: 1 << 20, age: WINDOW },
    prime_after: Duration::from_secs(1),
    poll_after: None,
    tell: |id, error| rpc::error(Some(id), -31000, error.message(), None),
};

/// The far end of one reply's stream.
type Feed = mpsc::Sender<Result<Frame, Error>>;
type Answer = oneshot::Sender<Result<Reply, Error>>;

/// One call as the upstream got it.
struct Got {
    operation: Operation,
    answer: Answer,
}

/// A route with replay before an upstream that a test answers for.
struct Rig {
    account: Account,
    tasks: Tasks,
    route: Upstream,
    got: Arc<Mutex<VecDeque<Got>>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(PARAMS, 64 << 20)
    }

    fn with(params: ReplayParams, budget: usize) -> Self {
        let (account, tasks) = (Account::new(budget), Tasks::default());
        account.start(Duration::from_secs(10), &tasks);
        let got = Arc::new(Mutex::new(VecDeque::new()));
        let calls = Arc::clone(&got);
        let upstream = service_fn(move |call: Call| {
            let (answer, answered) = oneshot::channel();
            calls.lock().unwrap().push_back(Got { operation: call.operation, answer });
            // A session is kept alive by its calls, as a real upstream does it.
            let session = call.cx.session;
            async move {
                let reply = answered.await.expect("an answer");
                drop(session);
                reply
            }
        });
        let route = Upstream::new(ReplayLayer::new(&account, params).layer(upstream));
        Self { account, tasks, route, got }
    }

    fn start(&self, session: &Session, operation: Operation) -> Pending {
        let mut cx = Cx::new(Era::Legacy);
        cx.session = Some(session.clone());
        let mut reply = Box::pin(self.route.clone().oneshot(Call { operation, cx }));
        assert!((&mut reply).now_or_never().is_none(), "answered before it was asked");
        Pending { reply, got: self.got.lock().unwrap().pop_front().expect("a call") }
    }

    fn request(&self, session: &Session) -> Pending {
        let request = message(r#"{"jsonrpc":"2.0","id":"r","method":"tools/call","params":{}}"#);
        self.start(session, Operation::Send(request))
    }

    /// A call whose answer has begun as a stream.
    async fn stream(&self, session: &Session) -> (Events, Feed) {
        self.request(session).stream().await
    }

    async fn listen(&self, session: &Session, after: Option<&str>) -> (Events, Feed) {
        let last_event_id = after.map(|id| HeaderValue::from_str(id).unwrap());
        self.start(session, Operation::Listen { last_event_id }).stream().await
    }

    /// Comes back to a stream that the upstream need not be asked for.
    async fn resume(&self, session: &Session, after: &str) -> Result<Events, Error> {
        let last_event_id = Some(HeaderValue::from_str(after).unwrap());
        let mut cx = Cx::new(Era::Legacy);
        cx.session = Some(session.clone());
        let call = Call { operation: Operation::Listen { last_event_id }, cx };
        let reply = self.route.clone().oneshot(call).await;
        assert!(self.got.lock().unwrap().is_empty(), "the upstream was asked");
        reply.map(Events::of)
    }

    async fn gap(&self, session: &Session, after: &str) {
        let before = self.account.stats().gaps;
        let error = self.resume(session, after).await.err().expect("a gap");
        assert_eq!(error.kind, Kind::StreamGap);
        assert_eq!(self.account.stats().gaps, before + 1);
    }

    fn stats(&self) -> Stats {
        self.account.stats()
    }

    /// Ends what runs; nothing may be left then.
    async fn finish(self, sessions: impl IntoIterator<Item = Session>) {
        self.tasks.stop().await;
        drop(sessions.into_iter().collect::<Vec<_>>());
        let Stats { logs, bytes, draining, .. } = self.stats();
        assert_eq!((logs, bytes, draining), (0, 0, 0));
    }
}

struct Pending {
    reply: futures_util::future::BoxFuture<'static, Result<Reply, Error>>,
    got: Got,
}

impl Pending {
    async fn stream(self) -> (Events, Feed) {
        let (feed, events) = feed();
        assert!(self.got.answer.send(Ok(Reply::stream(events))).is_ok());
        (Events::of(self.reply.await.unwrap()), feed)
    }
}

fn feed() -> (Feed, EventStream) {
    let (feed, frames) = mpsc::channel(64);
    let frames = stream::unfold(frames, async |mut frames| Some((frames.recv().await?, frames)));
    (feed, EventStream::new(frames))
}

/// What a client reads: the events' data and the last id.
struct Events {
    frames: EventStream,
    last: String,
}

impl Events {
    fn of(reply: Reply) -> Self {
        assert_eq!(reply.status, StatusCode::OK);
        let Body::Stream(frames) = reply.body else { panic!("not a stream: {:?}", reply.body) };
        Self { frames, last: String::new() }
    }

    /// The next block as a client decodes it; `None` at the end.
    async fn block(&mut self) -> Option<Result<sse::Block, Error>> {
        let frame = match self.frames.next().await? {
            Ok(Frame::Block(block) | Frame::Stamped { block, .. }) => block,
            Ok(Frame::Message(message)) => panic!("without an id: {message:?}"),
            Err(error) => return Some(Err(error)),
        };
        let mut decoder = sse::Decoder::new(1 << 20);
        decoder.push(frame.raw.clone());
        let block = decoder.next().unwrap().expect("one whole block");
        assert_eq!(block, frame, "the block is what its bytes say");
        if let Some(id) = &block.id {
            self.last = String::from_utf8(id.to_vec()).unwrap();
        }
        Some(Ok(block))
    }

    async fn primed(&mut self) {
        let block = self.block().await.unwrap().unwrap();
        assert_eq!((block.data, block.retry), (Some(Bytes::new()), Some(1000)));
        assert!(!self.last.is_empty());
    }

    /// The numbers of the next events.
    async fn read(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let block = self.block().await.expect("more").expect("no failure");
            numbers.push(number(&block));
        }
        numbers
    }

    /// The numbers of all further events of a stream that ends in order.
    async fn rest(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(block) = self.block().await {
            numbers.push(number(&block.expect("no failure")));
        }
        numbers
    }

    fn is_silent(&mut self) -> bool {
        self.frames.next().now_or_never().is_none()
    }
}

fn message(text: &str) -> Envelope {
    Envelope::parse(Bytes::from(text.to_owned())).unwrap()
}

/// A notification with a number.
fn note(number: u64) -> Result<Frame, Error> {
    let text = format!(r#"{{"jsonrpc":"2.0","method":"n/{number}"}}"#);
    Ok(Frame::Message(message(&text)))
}

fn answer() -> Envelope {
    message(r#"{"jsonrpc":"2.0","id":"r","result":{}}"#)
}

/// The number of a notification; 0 for the answer, 99 for an error.
fn number(block: &sse::Block) -> u64 {
    let message = Envelope::parse(block.data.clone().expect("data")).unwrap();
    match message.method() {
        Some(method) => method.strip_prefix("n/").unwrap().parse().unwrap(),
        None => {
            assert_eq!(message.id(), Id::parse("\"r\"".into()));
            if message.error_code().is_some() { 99 } else { 0 }
        }
    }
}

fn block(raw: &str) -> Result<Frame, Error> {
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(Bytes::from(raw.to_owned()));
    Ok(Frame::Block(decoder.next().unwrap().unwrap()))
}

fn session(version: Version) -> Session {
    let session = Session::new("0123456789abcdef");
    session.negotiated(version);
    session
}

fn died() -> Error {
    Error::new(Kind::Died, Origin::Upstream, Retry::Never, "the process ended")
}

/// Lets the keeper and the drains do what they can.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_could_keep_for_a_listener_is_told_as_a_gap() {
    let rig = Rig::new();
    let session = session(Version::V2025_06_18);
    let (mut events, feed) = rig.listen(&session, None).await;
    feed.send(note(1)).await.unwrap();
    assert_eq!(events.read(1).await, [1]);
    let last = events.last.clone();
    drop((events, feed));
    // The server's end could not keep all that came meanwhile, and says so once.
    let last_event_id = Some(HeaderValue::from_str(&last).unwrap());
    let Pending { reply, got } = rig.start(&session, Operation::Listen { last_event_id });
    let frames = EventStream::new(stream::pending()).after_missing(3);
    assert!(got.answer.send(Ok(Reply::stream(frames))).is_ok());
    assert_eq!(reply.await.err().map(|error| error.kind), Some(Kind::StreamGap));
    rig.gap(&session, &last).await;
    // What comes from then on can be gone on from as ever.
    let (mut events, feed) = rig.listen(&session, None).await;
    feed.send(note(2)).await.unwrap();
    assert_eq!(events.read(1).await, [2]);
    let last = events.last.clone();
    drop((events, feed));
    let (mut events, feed) = rig.listen(&session, Some(&last)).await;
    feed.send(note(3)).await.unwrap();
    assert_eq!(events.read(1).await, [3]);
    assert_eq!(rig.stats().gaps, 2);
    drop(events);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gets_the_rest_when_it_comes_back() {
    for version in [Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25] {
        let rig = Rig::new();
        let session = session(version);
        let (mut events, feed) = rig.stream(&session).await;
        if version == Version::V2025_11_25 {
            events.primed().await;
        }
        feed.send(note(1)).await.unwrap();
        feed.send(note(2)).await.unwrap();
        assert_eq!(events.read(1).await, [1]);
        let last = events.last.clone();
        drop(events);
        settle().await;
        assert_eq!((rig.stats().draining, session.in_use()), (1, 1), "the call goes on");
        feed.send(note(3)).await.unwrap();
        settle().await;
        let mut again = rig.resume(&session, &last).await.unwrap();
        assert_eq!(again.read(2).await, [2, 3]);
        assert!(again.is_silent());
        settle().await;
        assert_eq!(rig.stats().draining, 0, "the client reads again");
        feed.send(note(4)).await.unwrap();
        feed.send(Ok(Frame::Message(answer()))).await.unwrap();
        drop(feed);
        assert_eq!(again.rest().await, [4, 0]);
        // Even what was read to its end can be had again from any place in it.
        let mut once_more = rig.resume(&session, &last).await.unwrap();
        assert_eq!(once_more.rest().await, [2, 3, 4, 0]);
        let stats = rig.stats();
        assert_eq!((stats.logs, stats.logged, stats.resumed), (1, 5, 2));
        assert_eq!((stats.replayed, stats.gaps, stats.evicted), (6, 0, 0));
        drop((again, once_more));
        rig.finish([session]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_how_may_be_asked_to_come_back_for_a_slow_answer() {
    let patience = Duration::from_secs(20);
    let rig = Rig::with(ReplayParams { poll_after: Some(patience), ..PARAMS }, 64 << 20);
    let newest = session(Version::V2025_11_25);
    let (mut events, feed) = rig.stream(&newest).await;
    events.primed().await;
    let began = tokio::time::Instant::now();
    assert_eq!(events.rest().await, [0; 0], "it ends in order, with nothing said");
    assert_eq!(began.elapsed(), patience);
    let place = events.last.clone();
    drop(events);
    // The call goes on, and what comes meanwhile waits.
    feed.send(note(1)).await.unwrap();
    settle().await;
    let mut again = rig.resume(&newest, &place).await.unwrap();
    assert_eq!(again.rest().await, [1], "and once more");
    let place = again.last.clone();
    drop(again);
    feed.send(Ok(Frame::Message(answer()))).await.unwrap();
    drop(feed);
    settle().await;
    assert_eq!(rig.resume(&newest, &place).await.unwrap().rest().await, [0]);
    // Others wait for as long as it takes: they would take the end for a failure, and a stream
    // without an answer has none to come back for.
    let older = session(Version::V2025_06_18);
    let (mut call, _call_feed) = rig.stream(&older).await;
    let (mut unasked, _feed) = rig.listen(&newest, None).await;
    unasked.primed().await;
    sleep(100 * patience).await;
    assert!(call.is_silent() && unasked.is_silent());
    drop((call, unasked));
    rig.finish([newest, older]).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_long_gets_an_id_first_if_the_client_knows_what_to_do_with_it() {
    let rig = Rig::new();
    let newest = session(Version::V2025_11_25);
    let pending = rig.request(&newest);
    let began = tokio::time::Instant::now();
    let mut events = Events::of(pending.reply.await.unwrap());
    assert_eq!(began.elapsed(), PARAMS.prime_after);
    events.primed().await;
    assert!(events.is_silent());
    let place = events.last.clone();
    drop(events);
    settle().await;
    assert!(pending.got.answer.send(Ok(Reply::one(answer()))).is_ok(), "the call goes on");
    settle().await;
    assert_eq!(rig.resume(&newest, &place).await.unwrap().rest().await, [0]);

    let quick = rig.request(&newest);
    assert!(quick.got.answer.send(Ok(Reply::one(answer()))).is_ok());
    assert!(matches!(quick.reply.await.unwrap().body, Body::One(_)), "a quick one stays JSON");

    let older = session(Version::V2025_06_18);
    let mut pending = rig.request(&older);
    advance(Duration::from_secs(3600)).await;
    assert!((&mut pending.reply).now_or_never().is_none(), "an older client would not know it");
    drop(pending.reply);
    settle().await;
    assert!(pending.got.answer.is_closed(), "and cannot come back for it");
    rig.finish([newest, older]).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_given_no_id_is_not_waited_for() {
    let rig = Rig::new();
    for (version, reads_priming) in
        [(Version::V2025_11_25, false), (Version::V2025_06_18, false), (Version::V2025_11_25, true)]
    {
        let session = session(version);
        let (mut events, feed) = rig.stream(&session).await;
        if reads_priming {
            events.primed().await;
        }
        drop(events);
        settle().await;
        assert_eq!((feed.is_closed(), rig.stats().logs == 0), (!reads_priming, !reads_priming));
    }
    rig.finish([]).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_client_stays_away() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut events, feed) = rig.stream(&session).await;
    events.primed().await;
    let place = events.last.clone();
    drop(events);
    sleep(WINDOW - Duration::from_secs(1)).await;
    assert!(!feed.is_closed());
    sleep(Duration::from_secs(1)).await;
    settle().await;
    assert!(feed.is_closed(), "nobody reads it any more");
    rig.gap(&session, &place).await;
    assert_eq!((rig.stats().logs, session.in_use()), (0, 0));
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_stream_is_kept_for_the_window_and_no_longer() {
    for is_swept in [true, false] {
        let rig = Rig::new();
        if !is_swept {
            rig.tasks.stop().await;
        }
        let session = session(Version::V2025_11_25);
        let (mut events, feed) = rig.stream(&session).await;
        events.primed().await;
        let place = events.last.clone();
        feed.send(Ok(Frame::Message(answer()))).await.unwrap();
        drop(feed);
        assert_eq!(events.rest().await, [0]);
        drop(events);
        advance(WINDOW - Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(rig.resume(&session, &place).await.unwrap().rest().await, [0]);
        advance(WINDOW).await;
        rig.gap(&session, &place).await;
        rig.finish([session]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ids_are_good_for_their_own_session_and_for_what_was_sent() {
    let rig = Rig::new();
    let one = session(Version::V2025_11_25);
    let two = session(Version::V2025_11_25);
    let (mut events, feed) = rig.stream(&one).await;
    let (mut others, other_feed) = rig.stream(&two).await;
    events.primed().await;
    others.primed().await;
    feed.send(note(1)).await.unwrap();
    other_feed.send(note(2)).await.unwrap();
    assert_eq!((events.read(1).await, others.read(1).await), (vec![1], vec![2]));
    let (mine, theirs) = (events.last.clone(), others.last.clone());
    rig.gap(&one, &theirs).await;
    rig.gap(&two, &mine).await;
    let stem = mine.strip_suffix("-1-1").unwrap();
    for odd in ["-1-2", "-1-18446744073709551615", "-2-0", "-0-0"] {
        rig.gap(&one, &format!("{stem}{odd}")).await;
    }
    assert!(events.is_silent(), "nobody has taken the stream over");
    feed.send(note(3)).await.unwrap();
    assert_eq!(events.read(1).await, [3]);
    drop((events, others));
    rig.finish([one, two]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_evicted_is_a_gap_and_what_was_not_is_exact() {
    let limits = LogLimits { events: 3, ..PARAMS.limits };
    let rig = Rig::with(ReplayParams { limits, ..PARAMS }, 64 << 20);
    let session = session(Version::V2025_11_25);
    let (mut events, feed) = rig.stream(&session).await;
    events.primed().await;
    let mut ids = vec![events.last.clone()];
    for number in 1..=2 {
        feed.send(note(number)).await.unwrap();
        events.read(1).await;
        ids.push(events.last.clone());
    }
    drop(events);
    for number in 3..=5 {
        feed.send(note(number)).await.unwrap();
    }
    settle().await;
    rig.gap(&session, &ids[0]).await;
    rig.gap(&session, &ids[1]).await;
    assert_eq!(rig.resume(&session, &ids[2]).await.unwrap().read(3).await, [3, 4, 5]);
    assert_eq!(rig.stats().evicted, 2);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_to_come_reads_and_the_earlier_reader_ends() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut first, feed) = rig.stream(&session).await;
    first.primed().await;
    let place = first.last.clone();
    feed.send(note(1)).await.unwrap();
    assert_eq!(first.read(1).await, [1]);
    // It waits in a task of its own, so that it must be woken.
    let (ended, end) = oneshot::channel();
    rig.tasks.spawn("first reader", tidegate_service::OnError::Log, async move {
        drop(ended.send(first.rest().await));
        Ok(())
    });
    settle().await;
    let mut second = rig.resume(&session, &place).await.unwrap();
    assert_eq!(end.await.unwrap(), [0_u64; 0], "nothing was taken from the second");
    feed.send(note(2)).await.unwrap();
    assert_eq!(second.read(2).await, [1, 2]);
    settle().await;
    assert_eq!(rig.stats().draining, 0, "who was taken over has not left");
    drop(second);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_was_cut_off_gets_what_it_missed_and_then_what_comes() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut events, feed) = rig.listen(&session, None).await;
    events.primed().await;
    feed.send(note(1)).await.unwrap();
    feed.send(note(2)).await.unwrap();
    assert_eq!(events.read(1).await, [1]);
    let seen = events.last.clone();
    assert_eq!(events.read(1).await, [2], "sent, and lost on the way");
    drop(events);
    settle().await;
    assert!(feed.is_closed(), "what comes now waits at the server");
    assert_eq!(rig.stats().draining, 0);
    // The server is asked anew, and what it says is numbered on.
    let (mut again, feed) = rig.listen(&session, Some(&seen)).await;
    feed.send(note(3)).await.unwrap();
    assert_eq!(again.read(2).await, [2, 3]);
    assert!(again.last.ends_with("-1-3"), "{}", again.last);
    drop(again);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn two_listeners_have_a_stream_each() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut one, feed_one) = rig.listen(&session, None).await;
    let (mut two, feed_two) = rig.listen(&session, None).await;
    one.primed().await;
    two.primed().await;
    feed_one.send(note(1)).await.unwrap();
    feed_two.send(note(2)).await.unwrap();
    feed_one.send(note(3)).await.unwrap();
    assert_eq!((one.read(2).await, two.read(1).await), (vec![1, 3], vec![2]));
    assert!(one.is_silent() && two.is_silent());
    assert_ne!(one.last, two.last);
    let (first, _) = one.last.rsplit_once('-').unwrap();
    let start = format!("{first}-0");
    drop((one, two));
    let (mut again, _feed) = rig.listen(&session, Some(&start)).await;
    assert_eq!(again.read(2).await, [1, 3], "and nothing of the other");
    drop(again);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_head_is_an_event_like_any_other() {
    for is_late in [true, false] {
        let rig = Rig::new();
        let session = session(Version::V2025_11_25);
        let place = if is_late {
            let pending = rig.request(&session);
            let mut events = Events::of(pending.reply.await.unwrap());
            events.primed().await;
            assert!(pending.got.answer.send(Err(died())).is_ok());
            assert_eq!(events.rest().await, [99]);
            events.last
        } else {
            let (mut events, feed) = rig.stream(&session).await;
            events.primed().await;
            feed.send(note(1)).await.unwrap();
            feed.send(Err(died())).await.unwrap();
            assert_eq!(events.rest().await, [1, 99]);
            events.last
        };
        let (stem, _) = place.rsplit_once('-').unwrap();
        let again = rig.resume(&session, &format!("{stem}-0")).await.unwrap().rest().await;
        assert_eq!(again.last(), Some(&99));
        rig.finish([session]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_its_own_log_is_asked_for_the_rest() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut events, feed) = rig.stream(&session).await;
    events.primed().await;
    feed.send(block("id: up-1\nretry: 7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"n/1\"}\n\n"))
        .await
        .unwrap();
    feed.send(block(": a comment\n\n")).await.unwrap();
    feed.send(block("id: up-2\n\n")).await.unwrap();
    drop(feed);
    let first = events.block().await.unwrap().unwrap();
    assert_eq!((number(&first), first.retry), (1, Some(7)));
    let last = events.last.clone();
    assert!(last.starts_with("tg-"), "{last}");
    assert_eq!(events.block().await.unwrap().unwrap().raw, ": a comment\n\n");
    assert_eq!(events.block().await.unwrap().unwrap().id, None, "not an id of ours");
    assert!(events.block().await.is_none(), "closed before the answer");
    drop(events);
    let last_event_id = Some(HeaderValue::from_str(&last).unwrap());
    let pending = rig.start(&session, Operation::Listen { last_event_id });
    let Operation::Listen { last_event_id: Some(asked) } = &pending.got.operation else { panic!() };
    assert_eq!(asked, "up-2");
    let (mut again, feed) = pending.stream().await;
    feed.send(block("id: up-3\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"r\",\"result\":{}}\n\n"))
        .await
        .unwrap();
    drop(feed);
    assert_eq!(again.rest().await, [0]);
    // With the answer it is over, so the server is not asked again.
    assert_eq!(rig.resume(&session, &last).await.unwrap().rest().await, [0]);
    drop(again);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn foreign_ids_go_to_the_server() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let last_event_id = Some(HeaderValue::from_static("up-9"));
    let pending = rig.start(&session, Operation::Listen { last_event_id });
    let Operation::Listen { last_event_id: Some(asked) } = &pending.got.operation else { panic!() };
    assert_eq!(asked, "up-9");
    drop(pending);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_could_resume_passes_untouched() {
    let rig = Rig::new();
    let fresh = Session::new("0123456789abcdef");
    let old = session(Version::V2024_11_05);
    let batched = session(Version::V2025_03_26);
    let good = session(Version::V2025_11_25);
    for (session, era, is_batched) in [
        (None, Era::Modern, false),
        (Some(&good), Era::Modern, false),
        (None, Era::Legacy, false),
        (Some(&fresh), Era::Legacy, false),
        (Some(&old), Era::Legacy, false),
        (Some(&batched), Era::Legacy, true),
    ] {
        let mut cx = Cx::new(era);
        cx.session = session.cloned();
        cx.batched = is_batched;
        let request = message(r#"{"jsonrpc":"2.0","id":"r","method":"tools/call"}"#);
        let mut reply = Box::pin(rig.route.clone().oneshot(Call::send(request, cx)));
        assert!((&mut reply).now_or_never().is_none());
        let got = rig.got.lock().unwrap().pop_front().unwrap();
        let (feed, events) = feed();
        assert!(got.answer.send(Ok(Reply::stream(events))).is_ok());
        let Body::Stream(mut frames) = reply.await.unwrap().body else { panic!() };
        feed.send(note(1)).await.unwrap();
        assert!(matches!(frames.next().await, Some(Ok(Frame::Message(_)))));
        drop(frames);
        settle().await;
        assert!(feed.is_closed(), "and ends when it is left");
    }
    assert_eq!(rig.stats(), Stats::default());
    rig.finish([fresh, old, batched, good]).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_the_server_up_and_not_the_log() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut events, feed) = rig.stream(&session).await;
    events.primed().await;
    let mut sent = 0_u64;
    while feed.try_send(note(sent + 1)).is_ok() {
        sent += 1;
        settle().await;
    }
    assert_eq!((sent, rig.stats().logged), (64, 0), "the queue before it is full, the log empty");
    assert_eq!(events.read(2).await, [1, 2]);
    assert_eq!(rig.stats().logged, 2);
    drop(events);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn the_budget_costs_first_what_nobody_reads_and_then_what_grows() {
    let rig = Rig::with(PARAMS, 16 << 10);
    let session = session(Version::V2025_11_25);
    let big = |number| {
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"n/{number}","params":{{"x":"{}"}}}}"#,
            "x".repeat(4000)
        );
        Ok(Frame::Message(message(&text)))
    };
    let mut finished = Vec::new();
    for number in 1..=2 {
        let (mut events, feed) = rig.stream(&session).await;
        events.primed().await;
        let place = events.last.clone();
        feed.send(big(number)).await.unwrap();
        drop(feed);
        assert_eq!(events.rest().await, [number]);
        finished.push(place);
    }
    let (mut events, feed) = rig.stream(&session).await;
    events.primed().await;
    let mut places = vec![events.last.clone()];
    for number in 3..=4 {
        feed.send(big(number)).await.unwrap();
        events.read(1).await;
        places.push(events.last.clone());
        assert!(rig.stats().bytes <= 16 << 10, "{:?}", rig.stats());
    }
    rig.gap(&session, &finished[0]).await;
    assert_eq!(rig.resume(&session, &finished[1]).await.unwrap().rest().await, [2]);
    for number in 5..=9 {
        feed.send(big(number)).await.unwrap();
        events.read(1).await;
        places.push(events.last.clone());
        assert!(rig.stats().bytes <= 16 << 10, "{:?}", rig.stats());
    }
    rig.gap(&session, &finished[1]).await;
    drop(events);
    rig.gap(&session, &places[0]).await;
    let last = &places[places.len() - 3];
    assert_eq!(rig.resume(&session, last).await.unwrap().read(2).await, [8, 9]);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_without_its_client_in_so_many_streams_only() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let mut feeds = Vec::new();
    for _ in 0..65 {
        let (mut events, feed) = rig.stream(&session).await;
        events.primed().await;
        feeds.push((events.last.clone(), feed));
    }
    settle().await;
    assert_eq!((rig.stats().draining, rig.stats().logs), (64, 64));
    let (place, feed) = feeds.pop().unwrap();
    assert!(feed.is_closed());
    rig.gap(&session, &place).await;
    assert!(feeds.iter().all(|(_, feed)| !feed.is_closed()));
    // One that comes back gives its place to another.
    let back = rig.resume(&session, &feeds[0].0).await.unwrap();
    settle().await;
    assert_eq!(rig.stats().draining, 63);
    drop(back);
    settle().await;
    assert_eq!(rig.stats().draining, 64);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_or_of_the_proxy_is_the_end_of_its_streams() {
    for is_stop in [true, false] {
        let rig = Rig::new();
        let session = session(Version::V2025_11_25);
        let (mut away, feed_away) = rig.stream(&session).await;
        away.primed().await;
        drop(away);
        let (mut reading, feed) = rig.stream(&session).await;
        reading.primed().await;
        settle().await;
        if is_stop {
            rig.tasks.stop().await;
        } else {
            session.end();
            settle().await;
        }
        assert!(feed_away.is_closed());
        assert_eq!((rig.stats().draining, session.in_use()), (0, 0));
        // A call that is read goes on to its end, as without replay.
        feed.send(Ok(Frame::Message(answer()))).await.unwrap();
        drop(feed);
        assert_eq!(reading.rest().await, [0]);
        let (mut late, feed) = rig.stream(&session).await;
        late.primed().await;
        drop(late);
        settle().await;
        assert!(feed.is_closed(), "nobody is left to go on with it");
        drop(reading);
        rig.finish([session]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgets_the_session_ends_it_after_the_head_too() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let pending = rig.request(&session);
    let mut events = Events::of(pending.reply.await.unwrap());
    events.primed().await;
    let forgotten = Reply::with(StatusCode::NOT_FOUND, Body::Empty);
    assert!(pending.got.answer.send(Ok(forgotten)).is_ok());
    assert_eq!(events.rest().await, [99]);
    assert!(session.is_ended());
    drop(events);
    rig.finish([session]).await;
}

#[tokio::test(start_paused = true)]
async fn a_resumption_that_is_given_up_leaves_the_stream_as_it_was() {
    let rig = Rig::new();
    let session = session(Version::V2025_11_25);
    let (mut events, feed) = rig.listen(&session, None).await;
    events.primed().await;
    let place = events.last.clone();
    feed.send(note(1)).await.unwrap();
    assert_eq!(events.read(1).await, [1]);
    drop(events);
    let last_event_id = Some(HeaderValue::from_str(&place).unwrap());
    drop(rig.start(&session, Operation::Listen { last_event_id }));
    let (mut again, _feed) = rig.listen(&session, Some(&place)).await;
    assert_eq!(again.read(1).await, [1]);
    drop(again);
    let mut route = rig.route.clone();
    assert!(route.ready().now_or_never().is_some_and(|ready| ready.is_ok()));
    drop(route.call(Call { operation: Operation::EndSession, cx: Cx::new(Era::Legacy) }));
    rig.finish([session]).await;
}

/// What may happen to one stream.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The server says so much more.
    Said(u64),
    /// The client reads so much, if there is that much.
    Reads(usize),
    /// The connection breaks; what was under way to the client is lost.
    Cut,
    /// Time passes.
    Waits(u64),
    /// The client comes back, whether it has noticed a break or not, from so far before what it
    /// was given last.
    Resumes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_u64..6).prop_map(Event::Said),
        4 => (1_usize..6).prop_map(Event::Reads),
        1 => Just(Event::Cut),
        1 => (0_u64..200).prop_map(Event::Waits),
        2 => (0_u64..8).prop_map(Event::Resumes),
    ]
}

/// A client that may be cut off at any time, against the numbers that the server said in order.
async fn live_through(events: Vec<Event>, kept: usize) -> Result<(), TestCaseError> {
    let limits = LogLimits { events: kept, ..PARAMS.limits };
    let rig = Rig::with(ReplayParams { limits, ..PARAMS }, 64 << 20);
    let session = session(Version::V2025_11_25);
    let (mut first, feed) = rig.stream(&session).await;
    first.primed().await;
    let stem = first.last.strip_suffix("-0").unwrap().to_owned();
    // The reader, the last number that it was given, and how much was said.
    let (mut reader, mut given, mut said) = (Some(first), 0, 0);
    for event in events {
        match event {
            Event::Said(more) => {
                for _ in 0..more {
                    // A full queue means that nobody reads, and then the server waits.
                    if feed.try_send(note(said + 1)).is_ok() {
                        said += 1;
                    }
                }
                settle().await;
            }
            Event::Reads(count) => {
                for _ in 0..count {
                    let Some(reader) = &mut reader else { break };
                    let Some(next) = reader.block().now_or_never() else { break };
                    let block = next.expect("the server is not done").expect("no failure");
                    prop_assert_eq!(number(&block), given + 1, "nothing is missing or twice");
                    prop_assert_eq!(&reader.last, &format!("{}-{}", stem, given + 1));
                    given += 1;
                }
            }
            Event::Cut => reader = None,
            Event::Waits(seconds) => sleep(Duration::from_secs(seconds)).await,
            Event::Resumes(before) => {
                let cursor = given.saturating_sub(before);
                match rig.resume(&session, &format!("{stem}-{cursor}")).await {
                    Ok(again) => {
                        reader = Some(again);
                        given = cursor;
                    }
                    Err(error) => {
                        prop_assert_eq!(error.kind, Kind::StreamGap);
                        // Never while everything is there that the bounds let stay.
                        let is_old = feed.is_closed() || rig.stats().evicted > 0;
                        prop_assert!(is_old, "a gap after {} of {}", cursor, said);
                    }
                }
            }
        }
        if reader.is_none() && feed.is_closed() {
            break;
        }
    }
    drop((reader, feed));
    rig.finish([session]).await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_client_that_is_cut_off_at_will_misses_nothing_unawares(
        events in prop::collection::vec(event(), 0..40),
        kept in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live_through(events, kept))?;
    }
}
