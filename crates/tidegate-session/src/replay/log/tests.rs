//! The log as a table of cases, and against a model that forgets nothing.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_protocol::sse::Block;
use tokio::time::Instant;

use super::{BASE_COST, Entry, Log, LogLimits, Missed};

const ROOMY: LogLimits = LogLimits { events: 100, bytes: 1 << 20, age: Duration::from_secs(60) };

fn block(number: u64, size: usize) -> Block {
    Block::message(&number.to_string(), "x".repeat(size).as_bytes()).unwrap()
}

/// All that follows on `cursor`, by number.
fn read(log: &Log, cursor: u64) -> Result<Vec<u64>, Missed> {
    log.check(cursor)?;
    let blocks = (cursor + 1..log.next()).map(|number| log.get(number).expect("a kept event"));
    Ok(blocks
        .map(|block| str::from_utf8(block.id.as_ref().unwrap()).unwrap().parse().unwrap())
        .collect())
}

fn filled(limits: &LogLimits, sizes: &[usize], now: Instant) -> Log {
    let mut log = Log::default();
    for &size in sizes {
        let number = log.next();
        log.append(block(number, size), now, limits);
    }
    log
}

#[tokio::test]
async fn a_reader_gets_what_followed_or_hears_of_the_gap() {
    let now = Instant::now();
    let cost = |size| Entry { at: now, block: block(1, size) }.cost();
    let few = LogLimits { events: 2, ..ROOMY };
    let small = LogLimits { bytes: BASE_COST + 2 * cost(10), ..ROOMY };
    let gone = Err(Missed::Evicted);
    let never = Err(Missed::NeverSent);
    for (what, limits, sizes, cursor, expected) in [
        ("nothing was sent", ROOMY, &[][..], 0, Ok(vec![])),
        ("nothing was sent, and more is claimed", ROOMY, &[], 1, never.clone()),
        ("from the beginning", ROOMY, &[1, 1, 1], 0, Ok(vec![1, 2, 3])),
        ("from the middle", ROOMY, &[1, 1, 1], 2, Ok(vec![3])),
        ("from the end", ROOMY, &[1, 1, 1], 3, Ok(vec![])),
        ("from the future", ROOMY, &[1, 1, 1], 4, never.clone()),
        ("from the far future", ROOMY, &[1], u64::MAX, never),
        ("before what is kept", few, &[1, 1, 1, 1], 1, gone.clone()),
        ("at the edge of what is kept", few, &[1, 1, 1, 1], 2, Ok(vec![3, 4])),
        ("bytes count as well", small, &[10, 10, 10], 0, gone.clone()),
        ("up to the last byte", small, &[10, 10, 10], 1, Ok(vec![2, 3])),
        ("one byte more costs one event more", small, &[10, 10, 11], 1, gone.clone()),
        ("too large by itself", small, &[10, 5_000], 1, gone),
        ("too large by itself, and seen", small, &[10, 5_000], 2, Ok(vec![])),
    ] {
        assert_eq!(read(&filled(&limits, sizes, now), cursor), expected, "{what}");
    }
}

#[tokio::test]
async fn events_go_when_they_are_old_but_not_before_they_are_read() {
    let start = Instant::now();
    let mut log = filled(&ROOMY, &[1, 1], start);
    log.append(block(3, 1), start + Duration::from_secs(30), &ROOMY);
    let almost = start + Duration::from_millis(59_999);
    assert_eq!(log.expire(almost, ROOMY.age, u64::MAX), 0);
    let minute = start + Duration::from_secs(60);
    assert_eq!(log.expire(minute, ROOMY.age, 2), 1, "the second is still to be read");
    assert_eq!(read(&log, 1), Ok(vec![2, 3]));
    assert_eq!(log.expire(minute, ROOMY.age, u64::MAX), 1);
    assert_eq!((read(&log, 1), read(&log, 2)), (Err(Missed::Evicted), Ok(vec![3])));
    assert_eq!(log.expire(minute + ROOMY.age, ROOMY.age, u64::MAX), 1);
    assert_eq!((log.bytes(), read(&log, 3)), (BASE_COST, Ok(vec![])), "empty costs what it did");
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Wait(u64),
    Evict,
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_usize..400).prop_map(Op::Append),
        2 => (0_u64..40).prop_map(Op::Wait),
        1 => Just(Op::Evict),
        1 => Just(Op::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, each cursor gives exactly the events after it, or a gap;
    /// and nothing goes that the limits let stay.
    #[test]
    fn any_history_gives_the_missed_suffix_or_a_gap(
        ops in prop::collection::vec(op(), 0..60),
        events in 1_usize..12,
        bytes in 600_usize..4_000,
    ) {
        let limits = LogLimits { events, bytes, age: Duration::from_secs(60) };
        let start = tokio::runtime::Builder::new_current_thread().build().unwrap()
            .block_on(async { Instant::now() });
        let (mut log, mut now) = (Log::default(), start);
        // Every event there ever was, and how many of the oldest are gone.
        let (mut all, mut gone): (Vec<(Instant, usize)>, usize) = (Vec::new(), 0);
        for op in ops {
            let before = gone;
            let expired = |all: &[(Instant, usize)], now: Instant| {
                all.iter().take_while(|(at, _)| now - *at >= limits.age).count()
            };
            let told = match op {
                Op::Wait(seconds) => { now += Duration::from_secs(seconds); 0 }
                Op::Evict => { gone += usize::from(gone < all.len()); usize::from(log.evict()) }
                Op::Expire => {
                    gone = gone.max(expired(&all, now));
                    log.expire(now, limits.age, u64::MAX)
                }
                Op::Append(size) => {
                    let event = block(log.next(), size);
                    all.push((now, Entry { at: now, block: event.clone() }.cost()));
                    gone = gone.max(expired(&all, now));
                    let held = |gone: usize| all[gone..].iter().map(|(_, cost)| cost).sum::<usize>();
                    while all.len() - gone > events || BASE_COST + held(gone) > bytes && gone < all.len() {
                        gone += 1;
                    }
                    log.append(event, now, &limits)
                }
            };
            prop_assert_eq!(told, gone - before);
            let held: usize = all[gone..].iter().map(|(_, cost)| cost).sum();
            prop_assert_eq!(log.bytes(), BASE_COST + held);
            for cursor in 0..=all.len() + 1 {
                let expected = if cursor > all.len() {
                    Err(Missed::NeverSent)
                } else if cursor < gone {
                    Err(Missed::Evicted)
                } else {
                    Ok((cursor as u64 + 1..=all.len() as u64).collect())
                };
                prop_assert_eq!(read(&log, cursor as u64), expected);
            }
        }
    }
}
