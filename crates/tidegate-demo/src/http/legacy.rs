//! The HTTP side of the legacy revisions: sessions, streams that can be resumed, batches.
//!
//! Owns the table of sessions. A call belongs to its session, not to the connection it came on:
//! a client that loses the connection can come back for the answer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use crate::{
    http::{
        Front, mirror,
        reply::{self, Body},
    },
    hub::Watching,
    legacy::{Begun, Session},
    log::{Head, Log},
    message::{self, Incoming, Malformed, Request, RpcError},
    server::Server,
    sink::{Item, Sink},
    version::Version,
};

/// The header that carries the session id.
pub(crate) const SESSION: &str = "mcp-session-id";

/// How many sessions there are at most; a new one then ends the one that is idle the longest.
const SESSIONS: usize = 4096;

/// How many finished streams of a session can still be read.
const FINISHED: usize = 8;

/// The number of the stream that belongs to no request.
const STANDALONE: u64 = 0;

/// All sessions, by id.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<Entry>>>);

/// One session and its streams.
#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    standalone: Arc<Log>,
    streams: Mutex<Streams>,
    used: Mutex<Instant>,
    _watching: Watching,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    by_number: VecDeque<(u64, Arc<Log>)>,
}

impl Sessions {
    /// Ends all sessions.
    pub(crate) fn close(&self) {
        for (_, entry) in lock(&self.0).drain() {
            entry.close();
        }
    }

    fn insert(&self, server: &Server, session: Arc<Session>) -> String {
        let id = format!("{:032x}", rand::random::<u128>());
        let standalone = Log::endless();
        let watching = server.hub.watch({
            let (session, log) = (Arc::downgrade(&session), Arc::clone(&standalone));
            move |change| {
                // Without a stream there is nobody to tell.
                let session = session.upgrade().filter(|_| log.was_read());
                if let Some(notice) = session.and_then(|session| session.notice(change)) {
                    log.push(Item::Message(notice));
                }
            }
        });
        let entry = Arc::new(Entry {
            session,
            standalone,
            streams: Mutex::default(),
            used: Mutex::new(Instant::now()),
            _watching: watching,
        });
        let mut sessions = lock(&self.0);
        if sessions.len() >= SESSIONS {
            let idle = sessions
                .iter()
                .filter(|(_, entry)| entry.session.calls.len() == 0)
                .min_by_key(|(_, entry)| *lock(&entry.used))
                .map(|(id, _)| id.clone());
            if let Some(entry) = idle.and_then(|id| sessions.remove(&id)) {
                entry.close();
            }
        }
        sessions.insert(id.clone(), entry);
        id
    }

    /// The session that a request names.
    fn find(&self, headers: &HeaderMap) -> Result<Arc<Entry>, Box<Response<Body>>> {
        let bad = |status, message: &str| {
            Box::new(reply::refuse(status, &RpcError::invalid_request(message)))
        };
        let version = mirror::single(headers, mirror::VERSION)
            .map_err(|error| Box::new(reply::refuse(StatusCode::BAD_REQUEST, &error)))?;
        if let Some(version) = version
            && Version::parse(version).is_none()
        {
            let error = RpcError::unsupported_version(version);
            return Err(Box::new(reply::refuse(StatusCode::BAD_REQUEST, &error)));
        }
        let Ok(Some(id)) = mirror::single(headers, SESSION) else {
            return Err(bad(StatusCode::BAD_REQUEST, "the session id is missing"));
        };
        let entry = lock(&self.0).get(id).cloned();
        let entry = entry.ok_or_else(|| bad(StatusCode::NOT_FOUND, "there is no such session"))?;
        if version.is_some_and(|version| version != entry.session.version().name()) {
            return Err(bad(StatusCode::BAD_REQUEST, "the session agreed on another version"));
        }
        *lock(&entry.used) = Instant::now();
        Ok(entry)
    }
}

impl Entry {
    fn close(&self) {
        self.session.calls.cancel_all();
        self.session.hang_up();
        self.standalone.close();
    }

    /// Makes a stream one that a client can come back to.
    fn keep(&self, log: &Arc<Log>) -> u64 {
        let mut streams = lock(&self.streams);
        let finished = streams.by_number.iter().filter(|(_, log)| log.is_closed()).count();
        if finished >= FINISHED
            && let Some(oldest) = streams.by_number.iter().position(|(_, log)| log.is_closed())
        {
            streams.by_number.remove(oldest);
        }
        streams.last += 1;
        let number = streams.last;
        streams.by_number.push_back((number, Arc::clone(log)));
        number
    }

    fn stream(&self, number: u64) -> Option<Arc<Log>> {
        if number == STANDALONE {
            return Some(Arc::clone(&self.standalone));
        }
        let streams = lock(&self.streams);
        let found = streams.by_number.iter().find(|(other, _)| *other == number);
        found.map(|(_, log)| Arc::clone(log))
    }

    /// Whether streams start with an id and a waiting time.
    fn primes(&self) -> bool {
        self.session.version() >= Version::V2025_11_25
    }
}

/// Answers a POST of one message.
pub(crate) async fn post_one(
    front: &Front,
    headers: &HeaderMap,
    incoming: Incoming,
) -> Response<Body> {
    match incoming {
        Incoming::Request(request) if request.method == "initialize" => {
            initialize(front, headers, &request)
        }
        incoming => match front.sessions.find(headers) {
            Ok(entry) => run(front, &entry, vec![Ok(incoming)], false).await,
            Err(refusal) => *refusal,
        },
    }
}

/// Answers a POST of a batch, which only 2025-03-26 has.
pub(crate) async fn post_batch(
    front: &Front,
    headers: &HeaderMap,
    batch: Vec<Result<Incoming, Malformed>>,
) -> Response<Body> {
    let entry = match front.sessions.find(headers) {
        Ok(entry) => entry,
        Err(refusal) => return *refusal,
    };
    let bad = |message| reply::refuse(StatusCode::BAD_REQUEST, &RpcError::invalid_request(message));
    if entry.session.version() != Version::V2025_03_26 {
        return bad("batches exist in 2025-03-26 only");
    }
    let answers = batch.iter().filter(|item| matches!(item, Ok(Incoming::Answer(_)))).count();
    if answers != 0 && answers != batch.len() {
        return bad("a batch holds either responses or requests and notifications");
    }
    run(front, &entry, batch, true).await
}

fn initialize(front: &Front, headers: &HeaderMap, request: &Request) -> Response<Body> {
    if headers.contains_key(SESSION) {
        let error = RpcError::invalid_request("this session is initialized already");
        return reply::json(StatusCode::BAD_REQUEST, message::error(Some(&request.id), &error));
    }
    let session = Session::new(Arc::clone(&front.server));
    let Begun::Answered(answer) = session.begin(request) else {
        return reply::bare(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let initialized = session.is_initialized();
    let mut response = reply::json(StatusCode::OK, answer);
    if initialized {
        let id = front.sessions.insert(&front.server, session);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(SESSION, value);
        }
    }
    response
}

/// Acts on messages of a session, and answers the requests among them.
async fn run(
    front: &Front,
    entry: &Arc<Entry>,
    messages: Vec<Result<Incoming, Malformed>>,
    batch: bool,
) -> Response<Body> {
    let owed =
        messages.iter().filter(|item| matches!(item, Ok(Incoming::Request(_)) | Err(_))).count();
    let log = Log::new(owed);
    for message in messages {
        match message {
            Ok(Incoming::Notification(notification)) => entry.session.notified(&notification),
            Ok(Incoming::Answer(answer)) => entry.session.answered(answer),
            Ok(Incoming::Request(request)) => begin(front, entry, &log, request).await,
            Err(refused) => {
                log.owe().pay(message::error(refused.id.as_ref(), &refused.error));
            }
        }
    }
    if owed == 0 {
        return reply::bare(StatusCode::ACCEPTED);
    }
    match log.head().await {
        Head::Answers(answers) if batch => reply::json(StatusCode::OK, message::array(&answers)),
        Head::Answers(answers) => {
            reply::json(StatusCode::OK, answers.into_iter().next().unwrap_or_default())
        }
        Head::Stream => {
            let number = entry.keep(&log);
            match log.read_after(0) {
                Some(reader) => reply::replay(number, 0, reader, entry.primes()),
                None => reply::bare(StatusCode::INTERNAL_SERVER_ERROR),
            }
        }
    }
}

async fn begin(front: &Front, entry: &Arc<Entry>, log: &Arc<Log>, request: Request) {
    let owed = log.owe();
    match entry.session.begin(&request) {
        Begun::Answered(answer) => owed.pay(answer),
        Begun::Running(ticket) => {
            let (session, sink) = (Arc::clone(&entry.session), Sink::Log(Arc::clone(log)));
            let call = async move {
                if let Some(answer) = session.run(request, ticket, sink).await {
                    owed.pay(answer);
                }
            };
            front.spawner.spawn(call).await;
        }
    }
}

/// Answers a GET: the stream for what belongs to no request, or one to go on with.
pub(crate) fn get(front: &Front, headers: &HeaderMap) -> Response<Body> {
    let entry = match front.sessions.find(headers) {
        Ok(entry) => entry,
        Err(refusal) => return *refusal,
    };
    let Some(last) = headers.get("last-event-id") else {
        let after = entry.standalone.last();
        return match entry.standalone.read_after(after) {
            Some(reader) => reply::replay(STANDALONE, after, reader, entry.primes()),
            None => reply::bare(StatusCode::INTERNAL_SERVER_ERROR),
        };
    };
    let place = last.to_str().ok().and_then(|id| {
        let (stream, event) = id.split_once('-')?;
        Some((stream.parse::<u64>().ok()?, event.parse::<u64>().ok()?))
    });
    let resumed = place.and_then(|(number, after)| {
        let reader = entry.stream(number)?.read_after(after)?;
        Some(reply::replay(number, after, reader, entry.primes()))
    });
    resumed.unwrap_or_else(|| {
        let error = RpcError::invalid_request("nothing is kept behind this event id");
        reply::refuse(StatusCode::BAD_REQUEST, &error)
    })
}

/// Answers a DELETE: ends the session and everything that runs in it.
pub(crate) fn delete(front: &Front, headers: &HeaderMap) -> Response<Body> {
    match front.sessions.find(headers) {
        Ok(entry) => {
            lock(&front.sessions.0).retain(|_, other| !Arc::ptr_eq(other, &entry));
            entry.close();
            reply::bare(StatusCode::OK)
        }
        Err(refusal) => *refusal,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
