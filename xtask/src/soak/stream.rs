//! One stream of the scripted server on one connection, and how it ends before its end.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until, timeout};

use super::script::Script;
use super::server::Inner;
use super::wire::{Wire, chunk_of};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    KeepOn,
    Close,
    Reset,
}

/// How a server ends a stream that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// In the middle of an event, with a FIN.
    Closed,
    Reset,
    /// In order: a server of 2025-11-25 may want to be polled.
    Ended,
    /// It says nothing more.
    Stalled,
}

impl Cut {
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "server closes in mid-event",
            Self::Reset => "server resets",
            Self::Ended => "server ends in order",
            Self::Stalled => "server stalls",
        }
    }

    /// After which event of this connection, if at all, and how.
    fn plan(script: &Script, from: u64) -> Option<(u64, Self)> {
        let mut dice = script.dice.borrow_mut();
        if script.session.is_none() {
            // A modern stream is over then, so it happens to some of them only.
            let kind = match dice.below(6) {
                0 => Self::Closed,
                1 => Self::Reset,
                _ => return None,
            };
            return Some((from + 3 + dice.below(20) as u64, kind));
        }
        let kind = match dice.below(10) {
            0..=2 => Self::Closed,
            3..=5 => Self::Reset,
            6..=8 => Self::Ended,
            // Only of what answers a POST silence is a sign of a stall: nobody can tell the rest of
            // an answer, which a client asks for by GET, from what is said unasked.
            _ if script.count.is_none() || from > 0 => Self::Ended,
            _ => Self::Stalled,
        };
        Some((from + 10 + dice.below(50) as u64, kind))
    }
}

/// The most bytes that are written before anything else is looked at.
const STRETCH: usize = 64 << 10;
const QUIET: Duration = Duration::from_secs(2);
/// A stall that nobody ends is over then.
const STALL: Duration = Duration::from_secs(60);

/// Says what follows on `from`, until the stream is over, or cut, or taken over, or its reader leaves.
pub(super) async fn serve_stream(
    server: &Inner,
    wire: &mut Wire,
    script: &Rc<Script>,
    from: u64,
) -> Then {
    let said = say(server, wire, script, from).await;
    // Its reader has left in the middle of a write.
    said.unwrap_or_else(|_gone| {
        script.was_left.set(true);
        Then::Close
    })
}

async fn say(server: &Inner, wire: &mut Wire, script: &Rc<Script>, from: u64) -> io::Result<Then> {
    let turn = script.turn.get() + 1;
    script.turn.set(turn);
    script.bell.notify_waiters();
    wire.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
          transfer-encoding: chunked\r\n\r\n",
    )
    .await?;
    if script.has_ids && from == 0 {
        wire.write(&chunk_of(format!("id: {}_0\ndata:\n\n", script.name).as_bytes())).await?;
    }
    let is_cut = server.has_cuts && (script.has_ids || script.session.is_none());
    let cut = if is_cut { Cut::plan(script, from) } else { None };
    let mut next = from + 1;
    loop {
        let stopped = server.stopped.get();
        let due = script.due(Instant::now(), stopped);
        let mut piece = Vec::new();
        while next <= due && piece.len() < STRETCH {
            if let Some((at, kind)) = cut
                && next > at
                && stopped.is_none()
                // What its reader has got by now is enough to come back with.
                && !script.is_answer(next)
            {
                wire.write(&piece).await?;
                script.written.set(next - 1);
                return end_early(server, wire, script, (next, kind)).await;
            }
            let event = script.event(next);
            // A chunk without bytes would end the body.
            if !event.is_empty() {
                piece.extend(chunk_of(&event));
            }
            if script.stops_at() == Some(next) {
                piece.extend(b"0\r\n\r\n");
                wire.write(&piece).await?;
                return Ok(Then::KeepOn);
            }
            next += 1;
        }
        let is_over = script.count.is_some_and(|count| next > count + 1);
        if is_over {
            piece.extend(b"0\r\n\r\n");
        }
        wire.write(&piece).await?;
        script.written.set(script.written.get().max(next - 1));
        if is_over {
            return Ok(Then::KeepOn);
        }
        if next <= due {
            continue;
        }
        if script.turn.get() != turn {
            return Ok(Then::Close);
        }
        let (due_at, quiet_at) = (script.due_at(next), Instant::now() + QUIET);
        let until = if stopped.is_some() { quiet_at } else { due_at.min(quiet_at) };
        tokio::select! {
            () = sleep_until(until.into()) => {
                if until == quiet_at {
                    wire.write(&chunk_of(b": quiet\n\n")).await?;
                }
            }
            () = script.bell.notified() => (),
            () = server.stopping.notified() => (),
            () = wire.gone() => {
                script.was_left.set(true);
                return Ok(Then::Close);
            }
        }
    }
}

async fn end_early(
    server: &Inner,
    wire: &mut Wire,
    script: &Script,
    (next, kind): (u64, Cut),
) -> io::Result<Then> {
    // What was written before has to be read first: a reset may overtake it.
    sleep(Duration::from_millis(20)).await;
    server.books.count(kind.name());
    script.was_cut.set(true);
    script.cut.set(Some((Instant::now(), next - 1, kind.name())));
    let refusals = match script.dice.borrow_mut().below(20) {
        0..=2 => 2,
        3..=7 => 1,
        _ => 0,
    };
    script.refusals.set(refusals);
    match kind {
        Cut::Closed => {
            let chunk = chunk_of(&script.event(next));
            wire.write(chunk.get(..chunk.len() / 2).unwrap_or_default()).await?;
            Ok(Then::Close)
        }
        Cut::Reset => Ok(Then::Reset),
        Cut::Ended => {
            wire.write(&chunk_of(b"retry: 200\n\n")).await?;
            wire.write(b"0\r\n\r\n").await?;
            Ok(Then::KeepOn)
        }
        Cut::Stalled => {
            // Nobody is owed a word more on this connection.
            let _left = timeout(STALL, wire.gone()).await;
            Ok(Then::Close)
        }
    }
}
