//! Every order in which threads can meet on the idle things, tried one after the other by loom.
//!
//! The files under test are compiled again here, beside a `sync` with the atomics and locks of
//! loom in place of those of std; see `src/sync.rs`.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../src/closing.rs"]
mod closing;
#[path = "../src/idle/stack.rs"]
mod stack;
mod sync {
    //! What `src/sync.rs` offers, by loom.

    pub(crate) use std::sync::OnceLock;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

    /// A lock that must be free whenever somebody wants it, or the model fails.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.try_lock().unwrap()
        }
    }
}

use std::sync::Arc;

use loom::{
    model::Builder,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use crate::{closing::Closing, stack::Stack};

fn check(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// A stack whose first block of nodes is there, with one of them on the list of free ones. That the
/// block appears for all threads is the work of `OnceLock`, which loom does not see.
fn stack(capacity: u32) -> Arc<Stack<usize>> {
    let stack = Stack::new(capacity);
    stack.put(None, 0).unwrap();
    drain(&stack);
    Arc::new(stack)
}

fn drain<T>(stack: &Stack<T>) -> Vec<T> {
    std::iter::from_fn(|| {
        let (index, item) = stack.take()?;
        stack.give_back(index);
        Some(item)
    })
    .collect()
}

/// Takes an item, or makes one, and puts it back: what a caller does.
fn use_once(stack: &Stack<usize>, made: usize) {
    let (index, item) = match stack.take() {
        Some((index, item)) => (Some(index), item),
        None => (None, made),
    };
    stack.put(index, item).unwrap();
}

#[test]
fn no_item_is_lost_or_given_to_two() {
    check(3, || {
        let stack = stack(2);
        stack.put(None, 1).unwrap();
        stack.put(None, 2).unwrap();
        let other = thread::spawn({
            let stack = Arc::clone(&stack);
            move || stack.take().map(|(index, item)| (stack.put(Some(index), item), item).1)
        });
        let mine = stack.take().map(|(index, item)| {
            stack.give_back(index);
            item
        });
        let theirs = other.join().unwrap();
        assert!(mine.is_some() && theirs.is_some(), "each finds one");
        let mut all = drain(&stack);
        all.extend(mine);
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn a_head_that_went_and_came_back_is_not_taken_for_the_old_one() {
    check(4, || {
        let stack = stack(3);
        for item in [1, 2, 3] {
            stack.put(None, item).unwrap();
        }
        let other = thread::spawn({
            let stack = Arc::clone(&stack);
            // 3 and 2 go, 3 comes back in the node it had.
            move || {
                let top = stack.take();
                let below = stack.take();
                if let Some((index, item)) = top {
                    stack.put(Some(index), item).unwrap();
                }
                below.map(|(index, item)| (stack.give_back(index), item).1)
            }
        });
        let mine = stack.take().map(|(index, item)| (stack.give_back(index), item).1);
        let theirs = other.join().unwrap();
        let mut all = drain(&stack);
        all.extend(mine.into_iter().chain(theirs));
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn there_is_a_node_for_everybody_inside() {
    check(2, || {
        let stack = stack(3);
        let others = [1, 2].map(|made| {
            let stack = Arc::clone(&stack);
            thread::spawn(move || use_once(&stack, made))
        });
        // Somebody who came before them and found nothing.
        stack.put(None, 3).unwrap();
        for other in others {
            other.join().unwrap();
        }
        let all = drain(&stack);
        assert!((1..=3).contains(&all.len()));
        // All nodes are back: as many items fit as ever.
        for item in 0..3 {
            stack.put(None, item).unwrap();
        }
        assert_eq!(stack.put(None, 9), Err(9));
        assert_eq!(drain(&stack), [2, 1, 0], "last in, first out");
    });
}

/// A pool in small: those who leave put down and look, the one who closes says so and picks up.
#[test]
fn nothing_stays_behind_in_a_pool_that_closes() {
    check(2, || {
        let stack = stack(2);
        let closing = Arc::new(Closing::new());
        let gone = Arc::new(AtomicUsize::new(0));
        let leave = |item: usize| {
            let (stack, closing, gone) =
                (Arc::clone(&stack), Arc::clone(&closing), Arc::clone(&gone));
            move || {
                stack.put(None, item).unwrap();
                if closing.look() {
                    gone.fetch_add(drain(&stack).len(), SeqCst);
                }
            }
        };
        let others = [thread::spawn(leave(1)), thread::spawn(leave(2))];
        closing.close();
        gone.fetch_add(drain(&stack).len(), SeqCst);
        for other in others {
            other.join().unwrap();
        }
        assert!(closing.is_closed());
        assert_eq!(gone.load(SeqCst), 2);
        assert!(drain(&stack).is_empty());
    });
}

/// The places of a gate in small: whoever waits for the last to leave hears of it.
#[test]
fn whoever_waits_for_the_last_to_leave_is_told() {
    check(3, || {
        let closing = Arc::new(Closing::new());
        let inside = Arc::new(AtomicUsize::new(1));
        let told = Arc::new(AtomicUsize::new(0));
        let other = thread::spawn({
            let (closing, inside, told) =
                (Arc::clone(&closing), Arc::clone(&inside), Arc::clone(&told));
            move || {
                inside.fetch_sub(1, SeqCst);
                if closing.look() {
                    told.fetch_add(1, SeqCst);
                }
            }
        });
        closing.close();
        let seen_empty = inside.load(SeqCst) == 0;
        other.join().unwrap();
        assert!(seen_empty || told.load(SeqCst) == 1);
    });
}
