//! Every name there is: one row per metric family, and the names of the labels.
//!
//! A row says the variant, the type, the name, the unit and the labels; its doc comment is the help
//! text. Names stand here without the prefix `tidegate_`, without the unit and without `_total`,
//! because the encoder appends them. Times are in seconds and sizes in bytes.
//!
//! The rows of [`Process`] are the exception to the prefix: `process_*` are the names that the
//! Prometheus client libraries agreed on, and dashboards expect them unprefixed.

use prometheus_client::{metrics::MetricType, registry::Unit};

/// What every family of ours begins with.
pub(crate) const PREFIX: &str = "tidegate";

/// What is known of a metric family before it has a value.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: MetricType,
    pub(crate) unit: Option<Unit>,
    pub(crate) labels: &'static [Label],
}

macro_rules! labels {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The name of a label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Label { $($(#[$doc])* $variant,)+ }

        impl Label {
            /// The name as it is exposed.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

labels! {
    /// The configured name of a route.
    Route = "route",
    /// The configured name of an upstream.
    Upstream = "upstream",
    /// The configured name of one endpoint of an upstream.
    Endpoint = "endpoint",
    /// A method of MCP, or a word for what has none; see [`crate::METHODS`].
    Method = "method",
    /// How a call ended; see [`crate::OUTCOMES`].
    Outcome = "outcome",
    /// `legacy` or `modern`.
    Era = "era",
    /// Why something ended. Its values are a closed set of whoever counts.
    Cause = "cause",
    /// Why something was refused. Its values are a closed set of whoever counts.
    Reason = "reason",
    /// What something is doing now. Its values are a closed set of whoever counts.
    State = "state",
    /// The version of the program.
    Version = "version",
}

macro_rules! families {
    (
        $(#[$meta:meta])* $vis:vis enum $set:ident {
            $(
                #[doc = $help:literal]
                $variant:ident: $kind:ident = $name:literal $(in $unit:ident)? [$($label:ident),*],
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        $vis enum $set { $(#[doc = $help] $variant,)+ }

        impl $set {
            /// Every one of them.
            $vis const ALL: &[Self] = &[$(Self::$variant),+];

            pub(crate) const fn family(self) -> Family {
                match self {
                    $(Self::$variant => Family {
                        name: $name,
                        help: $help.trim_ascii(),
                        kind: MetricType::$kind,
                        unit: unit!($($unit)?),
                        labels: &[$(Label::$label),*],
                    },)+
                }
            }
        }
    };
}

macro_rules! unit {
    () => {
        None
    };
    ($unit:ident) => {
        Some(Unit::$unit)
    };
}

families! {
    /// What this crate measures itself, at the seam.
    pub(crate) enum Own {
        /// Calls that are over, by how they ended.
        Requests: Counter = "requests" [Route, Upstream, Method, Outcome, Era],
        /// Time from a call's arrival at its route to the end of its reply's body.
        RequestDuration: Histogram = "request_duration" in Seconds [Route, Upstream, Method],
        /// Time from a call's arrival at its route to the first message of its reply.
        TimeToFirstItem: Histogram = "request_time_to_first_item" in Seconds [Route, Upstream, Method],
        /// Calls whose reply has not ended.
        RequestsInFlight: Gauge = "requests_in_flight" [Route, Upstream],
        /// Replies that are streams and have not ended, the listening ones included.
        StreamsOpen: Gauge = "streams_open" [Route, Upstream],
        /// Attempts to have an endpoint answer, by how they ended.
        Attempts: Counter = "upstream_attempts" [Upstream, Endpoint, Outcome],
        /// Time from an attempt's start to the head of its reply.
        TimeToHead: Histogram = "upstream_time_to_head" in Seconds [Upstream, Endpoint],
        /// Always 1; the labels tell what is running.
        BuildInfo: Gauge = "build_info" [Version],
    }
}

families! {
    /// Gauges that others feed at scrape time, see [`crate::Samples::gauge`].
    pub enum Gauge {
        /// Legacy sessions that exist now.
        SessionsOpen: Gauge = "sessions_open" [],
        /// Logs of streams of legacy sessions that are kept for clients that may come back.
        ReplayLogs: Gauge = "replay_logs" [],
        /// Memory that the logs of streams take.
        ReplayLogBytes: Gauge = "replay_log" in Bytes [],
        /// Calls that go on without their clients, which may come back for the answer.
        ReplayDraining: Gauge = "replay_streams_draining" [],
        /// Memory of the messages that wait for clients which do not read.
        SlowClientBacklog: Gauge = "slow_client_backlog" in Bytes [],
        /// Child processes that exist: starting, spare, serving or stopping.
        StdioProcesses: Gauge = "stdio_processes" [Upstream, State],
        /// Resident memory of the child processes and all that they started.
        StdioResidentMemory: Gauge = "stdio_resident_memory" in Bytes [Upstream],
        /// Requests written to a child process and not answered yet.
        StdioInFlight: Gauge = "stdio_requests_in_flight" [Upstream],
        /// Messages that wait to be written to a child process.
        StdioQueueMessages: Gauge = "stdio_queue_messages" [Upstream],
        /// Bytes of the messages that wait to be written to a child process.
        StdioQueueBytes: Gauge = "stdio_queue" in Bytes [Upstream],
        /// Most child processes that may exist at once.
        StdioPoolMax: Gauge = "stdio_pool_processes_max" [Upstream],
        /// Child processes that could be had without waiting, spare or new ones.
        StdioPoolAvailable: Gauge = "stdio_pool_processes_available" [Upstream],
        /// Callers that wait for a child process.
        StdioPoolWaiting: Gauge = "stdio_pool_waiting" [Upstream],
        /// Whether the server counts as down, since its starts kept failing.
        StdioDown: Gauge = "stdio_down" [Upstream],
        /// Most connections to the endpoint that may carry a request at once.
        HttpConnectionsMax: Gauge = "http_pool_connections_max" [Upstream, Endpoint],
        /// Connections to the endpoint that could be had without waiting, kept or new ones.
        HttpConnectionsAvailable: Gauge = "http_pool_connections_available" [Upstream, Endpoint],
        /// Connections to the endpoint that are kept for reuse.
        HttpConnectionsIdle: Gauge = "http_pool_connections_idle" [Upstream, Endpoint],
        /// Connections to the endpoint that carry a request now.
        HttpConnectionsInUse: Gauge = "http_pool_connections_in_use" [Upstream, Endpoint],
        /// Requests that wait for a connection to the endpoint.
        HttpWaiting: Gauge = "http_pool_requests_waiting" [Upstream, Endpoint],
        /// Broken streams of the endpoint whose readers wait for them to go on.
        HttpStreamsWaiting: Gauge = "http_streams_waiting" [Upstream, Endpoint],
        /// Streams of HTTP+SSE that are open to the endpoint, one for each session.
        SseStreamsOpen: Gauge = "sse_streams_open" [Upstream, Endpoint],
        /// Requests posted to an endpoint of HTTP+SSE and not answered yet.
        SseInFlight: Gauge = "sse_requests_in_flight" [Upstream, Endpoint],
        /// Bytes of the buffers that are in use or kept to be used again.
        BuffersHeld: Gauge = "buffers_held" in Bytes [],
        /// Buffers that are in use.
        BuffersLent: Gauge = "buffers_lent" [],
        /// Connections from clients that are open.
        ConnectionsOpen: Gauge = "downstream_connections_open" [],
        /// Response streams to clients that are open.
        DownstreamStreamsOpen: Gauge = "downstream_streams_open" [],
        /// Bytes of request bodies that are in memory.
        RequestBodies: Gauge = "downstream_request_bodies" in Bytes [],
    }
}

families! {
    /// Counters that others feed at scrape time, see [`crate::Samples::counter`].
    pub enum Counter {
        /// HTTP requests refused before a route was chosen.
        RequestsRefused: Counter = "http_requests_refused" [Reason],
        /// Legacy sessions started.
        SessionsStarted: Counter = "sessions_started" [],
        /// Legacy sessions ended.
        SessionsEnded: Counter = "sessions_ended" [Cause],
        /// Legacy sessions refused because there were too many.
        SessionsRefused: Counter = "sessions_refused" [],
        /// Events put into the log of their stream.
        ReplayLogged: Counter = "replay_events_logged" [],
        /// Events that were sent again to a client that came back.
        ReplayReplayed: Counter = "replay_events_replayed" [],
        /// Events dropped from their log, since they were too old or too many.
        ReplayEvicted: Counter = "replay_events_evicted" [],
        /// Streams that a client came back to.
        ReplayResumed: Counter = "replay_streams_resumed" [],
        /// Clients that came back for something that was not kept any more.
        ReplayGaps: Counter = "replay_gaps" [],
        /// Streams that were ended because their clients did not read them, by why.
        SlowClientStreamsEnded: Counter = "slow_client_streams_ended" [Route, Reason],
        /// Times that an upstream's messages were not read for a while, since their client did not.
        ReadsPaused: Counter = "upstream_reads_paused" [Upstream],
        /// Child processes started.
        StdioSpawns: Counter = "stdio_spawns" [Upstream],
        /// Child processes that could not be started.
        StdioSpawnFailures: Counter = "stdio_spawn_failures" [Upstream],
        /// Starts that failed between the spawn and the answer to the first request.
        StdioStartFailures: Counter = "stdio_start_failures" [Upstream],
        /// CPU time that the child processes and all that they started have used.
        StdioCpu: Counter = "stdio_cpu" in Seconds [Upstream],
        /// Callers that got no child process: too many waited, or one waited too long.
        StdioPoolRefused: Counter = "stdio_pool_refused" [Upstream, Reason],
        /// Child processes that were ended to be replaced or saved, by why.
        StdioRecycled: Counter = "stdio_recycled" [Upstream, Reason],
        /// Times that a server was given a process per session, since it needed a client of its own.
        StdioSharingMoves: Counter = "stdio_sharing_moves" [Upstream],
        /// Child processes that ended.
        StdioExits: Counter = "stdio_exits" [Upstream, Cause],
        /// Subscriptions that went on with another process than they began with.
        StdioResumedListens: Counter = "stdio_resumed_listens" [Upstream],
        /// Lines from child processes that are not messages.
        StdioGarbageLines: Counter = "stdio_garbage_lines" [Upstream],
        /// Messages from or for child processes that nobody could take.
        StdioDroppedMessages: Counter = "stdio_dropped_messages" [Upstream, Cause],
        /// Requests of child processes that were refused, since no client could take them.
        StdioAsksRefused: Counter = "stdio_asks_refused" [Upstream],
        /// Things that child processes did and their protocol revision forbids.
        StdioViolations: Counter = "stdio_violations" [Upstream],
        /// Lines that child processes wrote to stderr.
        StdioStderrLines: Counter = "stdio_stderr_lines" [Upstream],
        /// Lines from stderr that were not logged, since there were too many.
        StdioStderrLinesDropped: Counter = "stdio_stderr_lines_dropped" [Upstream],
        /// Processes ended that had left the process group of the child that started them.
        StraysEnded: Counter = "process_strays_ended" [],
        /// Processes reaped whose parent had ended before them.
        StraysReaped: Counter = "process_strays_reaped" [],
        /// Processes ended at the start that a proxy before this one had left behind.
        OrphansEnded: Counter = "process_orphans_ended" [],
        /// Buffers lent that had been used before.
        BufferHits: Counter = "buffers_hits" [],
        /// Buffers lent that had to be made.
        BufferMisses: Counter = "buffers_misses" [],
        /// Buffers given back and not kept, since they were too large or too many.
        BuffersDropped: Counter = "buffers_dropped" [],
        /// Connections to the endpoint opened.
        HttpConnectionsOpened: Counter = "http_pool_connections_opened" [Upstream, Endpoint],
        /// Requests to the endpoint that went over a connection used before.
        HttpConnectionsReused: Counter = "http_pool_connections_reused" [Upstream, Endpoint],
        /// Connections to the endpoint closed.
        HttpConnectionsClosed: Counter = "http_pool_connections_closed" [Upstream, Endpoint, Cause],
        /// Connections to the endpoint that were to be kept ready and could not be opened.
        HttpUpkeepFailures: Counter = "http_pool_upkeep_failures" [Upstream, Endpoint],
        /// Requests that got no connection to the endpoint.
        HttpRefused: Counter = "http_pool_requests_refused" [Upstream, Endpoint, Reason],
        /// Attempts to go on with a broken stream of the endpoint.
        HttpReconnects: Counter = "http_reconnects" [Upstream, Endpoint, Outcome],
        /// Breaks of a stream after which it went on from the last event that had an id.
        HttpStreamsResumed: Counter = "http_streams_resumed" [Upstream, Endpoint],
        /// Breaks of a stream after which it went on without an id, so that events may be missing.
        HttpStreamGaps: Counter = "http_stream_gaps" [Upstream, Endpoint],
        /// Breaks of a stream after which it was given up.
        HttpStreamsGivenUp: Counter = "http_streams_given_up" [Upstream, Endpoint],
        /// Events that came again after a break and were not passed on.
        HttpEventsReplayed: Counter = "http_events_replayed" [Upstream, Endpoint],
        /// Events under an id that the server had used for another one; they were passed on.
        HttpEventIdsReused: Counter = "http_event_ids_reused" [Upstream, Endpoint],
        /// Messages from or for an endpoint of HTTP+SSE that nobody could take.
        SseDroppedMessages: Counter = "sse_dropped_messages" [Upstream, Endpoint, Cause],
        /// Requests of an endpoint of HTTP+SSE that were refused, since no client could take them.
        SseAsksRefused: Counter = "sse_asks_refused" [Upstream, Endpoint],
        /// Connections from clients accepted.
        ConnectionsAccepted: Counter = "downstream_connections_accepted" [],
        /// Connections from clients turned away.
        ConnectionsRefused: Counter = "downstream_connections_refused" [],
    }
}

families! {
    /// Histograms that others feed at scrape time, see [`crate::Samples::histogram`].
    pub enum Histogram {
        /// Time from a child process's spawn to its answer to the first request.
        StdioSpawnTime: Histogram = "stdio_spawn_time" in Seconds [Upstream],
        /// Time that callers waited for the child process they got; most do not wait.
        StdioAcquireTime: Histogram = "stdio_pool_acquire_time" in Seconds [Upstream],
        /// Time that requests waited for the connection they got to the endpoint; most do not wait.
        HttpAcquireTime: Histogram = "http_pool_acquire_time" in Seconds [Upstream, Endpoint],
        /// Time from the break of a stream to the moment when it went on.
        HttpReconnectTime: Histogram = "http_reconnect_time" in Seconds [Upstream, Endpoint],
    }
}

families! {
    /// What the kernel says about this process. Without our prefix, see the module.
    pub(crate) enum Process {
        /// Total user and system CPU time spent in seconds.
        Cpu: Counter = "process_cpu" in Seconds [],
        /// Number of open file descriptors.
        OpenFds: Gauge = "process_open_fds" [],
        /// Maximum number of open file descriptors.
        MaxFds: Gauge = "process_max_fds" [],
        /// Virtual memory size in bytes.
        VirtualMemory: Gauge = "process_virtual_memory" in Bytes [],
        /// Resident memory size in bytes.
        ResidentMemory: Gauge = "process_resident_memory" in Bytes [],
        /// Number of OS threads in the process.
        Threads: Gauge = "process_threads" [],
        /// Start time of the process since unix epoch in seconds.
        StartTime: Gauge = "process_start_time" in Seconds [],
    }
}
