//! How many processes there are: shared ones are used again and again, own ones come and go with
//! their sessions, and where no more may be started callers wait in line. Every process is counted
//! twice, by the proxy and by its mark in the process table.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidegate_tests::{
    Client, Mark, Metrics, Proxy,
    client::initialize,
    http::{self, Connection, Response},
    stdio_upstream,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const VERSION: &str = "2025-11-25";
const EXHAUSTED: i64 = -31001;

async fn start(mark: &Mark, settings: &str) -> Proxy {
    Proxy::start(&stdio_upstream(&[], &format!(", {}, {settings}", mark.setting()))).await
}

async fn spawns(proxy: &Proxy) -> u64 {
    Metrics::scrape(proxy.ops()).await.count("tidegate_stdio_spawns_total", &[])
}

async fn in_flight(proxy: &Proxy) -> u64 {
    Metrics::scrape(proxy.ops()).await.count("tidegate_requests_in_flight", &[])
}

/// Stops, and sees that nothing is left.
async fn finish(proxy: Proxy, mark: &Mark) {
    proxy.stop().await;
    mark.until(0, "after the stop").await;
}

/// Calls one after the other on a connection of its own, each answer checked.
async fn call(client: Client, proxy: SocketAddr, caller: usize, calls: usize) {
    let mut connection = Connection::open(proxy).await;
    for number in 0..calls {
        let arguments = format!(r#"{{"caller":{caller},"number":{number}}}"#);
        connection.send(&client.tool_bytes(&number.to_string(), "echo", &arguments)).await;
        let answer = connection.response().await.message();
        let told = &answer["result"]["structuredContent"];
        assert_eq!((&told["caller"], &told["number"]), (&caller.into(), &number.into()));
        assert_eq!(answer["id"], number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_of_fifty_clients_start_one_process() {
    for is_modern in [false, true] {
        let mark = Mark::new();
        let proxy = start(&mark, "sharing: shared").await;
        let mut callers = JoinSet::new();
        for caller in 0..50 {
            let client = match is_modern {
                true => Client::modern(&proxy),
                false => Client::legacy(&proxy, VERSION).await,
            };
            callers.spawn(call(client, proxy.address(), caller, 200));
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        assert_eq!((spawns(&proxy).await, mark.pids().len()), (1, 1), "modern: {is_modern}");
        finish(proxy, &mark).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sessions_start_fifty_processes_beside_the_spares_and_leave_only_those() {
    let mark = Mark::new();
    let proxy = start(&mark, "sharing: session, min_idle: 2").await;
    mark.until(2, "the spares are there before anybody asks").await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut opening = JoinSet::new();
        for _ in 0..10 {
            let address = proxy.address();
            opening.spawn(async move { open(address).await });
        }
        clients.extend(opening.join_all().await);
    }
    for answer in &clients {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    mark.until(52, "each session has one, and two are spare").await;
    assert_eq!(spawns(&proxy).await, 52);
    let mut leaving = JoinSet::new();
    for opened in clients {
        let address = proxy.address();
        leaving.spawn(async move { end(address, &opened).await.status });
    }
    assert_eq!(leaving.join_all().await, [200; 50]);
    mark.until(2, "the spares are left").await;
    assert_eq!(spawns(&proxy).await, 52, "no session got a process that another had used");
    finish(proxy, &mark).await;
}

async fn open(address: SocketAddr) -> Response {
    http::post(address, &[], &initialize(VERSION, "{}")).await
}

async fn end(address: SocketAddr, opened: &Response) -> Response {
    let session = opened.header("mcp-session-id").expect("a session");
    let headers = [("mcp-session-id", session), ("mcp-protocol-version", VERSION)];
    http::method(address, "DELETE", "/mcp", &headers).await
}

/// Callers that came one after the other, and the order in which they were answered.
struct Line {
    answered: Arc<Mutex<Vec<usize>>>,
    callers: JoinSet<(usize, Response, Duration)>,
}

impl Line {
    /// Lets callers ask for a session, each when the one before is known to wait.
    async fn form(proxy: &Proxy, length: usize) -> Self {
        let mut line = Self { answered: Arc::default(), callers: JoinSet::new() };
        for place in 0..length {
            let (answered, address) = (Arc::clone(&line.answered), proxy.address());
            line.callers.spawn(async move {
                let began = Instant::now();
                let answer = open(address).await;
                answered.lock().unwrap().push(place);
                (place, answer, began.elapsed())
            });
            let waits = timeout(Duration::from_secs(10), async {
                while in_flight(proxy).await <= place as u64 {
                    sleep(Duration::from_millis(5)).await;
                }
            });
            waits.await.expect("the caller waits");
            // So that the times of two neighbors differ by more than a scheduler's whim.
            sleep(Duration::from_millis(50)).await;
        }
        line
    }

    /// The next answer, whose caller has to be the one in this place.
    async fn next(&mut self, place: usize) -> (Response, Duration) {
        let next = timeout(Duration::from_secs(10), self.callers.join_next()).await;
        let (answered, response, waited) = next.expect("in time").unwrap().unwrap();
        assert_eq!(
            answered,
            place,
            "first come, first served: {:?}",
            self.answered.lock().unwrap()
        );
        (response, waited)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_says_so_in_time_and_in_the_order_of_arrival() {
    let mark = Mark::new();
    let settings =
        "sharing: session, max_processes: 2, max_waiting: 4, acquire_timeout: 2s, min_idle: 0";
    let proxy = start(&mark, settings).await;
    let held = [open(proxy.address()).await, open(proxy.address()).await];
    for answer in &held {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut line = Line::form(&proxy, 4).await;
    // The line is full too: whoever comes now is told at once.
    let began = Instant::now();
    let refused = open(proxy.address()).await;
    assert_eq!(refused.code(), EXHAUSTED, "{}", refused.text());
    assert!(began.elapsed() < Duration::from_secs(1), "at once: {:?}", began.elapsed());
    for place in 0..4 {
        let (answer, waited) = line.next(place).await;
        assert_eq!(answer.code(), EXHAUSTED, "{}", answer.text());
        let range = Duration::from_millis(1950)..Duration::from_secs(4);
        assert!(range.contains(&waited), "caller {place} waited {waited:?}");
    }
    assert_eq!((spawns(&proxy).await, mark.pids().len()), (2, 2));
    // Whoever holds one has not noticed, and gives it to the next.
    for answer in &held {
        assert_eq!(end(proxy.address(), answer).await.status, 200);
        assert_eq!(open(proxy.address()).await.status, 200, "the place is free again");
    }
    mark.until(2, "never more").await;
    finish(proxy, &mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_place_serves_the_first_in_line_at_once() {
    let mark = Mark::new();
    let settings = "sharing: session, max_processes: 2, max_waiting: 8, acquire_timeout: 60s";
    let proxy = start(&mark, settings).await;
    let mut held = vec![open(proxy.address()).await, open(proxy.address()).await];
    let mut line = Line::form(&proxy, 6).await;
    for place in 0..6 {
        let began = Instant::now();
        assert_eq!(end(proxy.address(), &held.remove(0)).await.status, 200);
        let (answer, _) = line.next(place).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        held.push(answer);
        assert_eq!(line.answered.lock().unwrap().len(), place + 1, "nobody else was served");
    }
    for answer in &held {
        assert_eq!(end(proxy.address(), answer).await.status, 200);
    }
    mark.until(0, "all sessions have ended").await;
    assert_eq!(spawns(&proxy).await, 8);
    finish(proxy, &mark).await;
}
