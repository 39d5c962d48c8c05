//! The idle things, kept in one of two ways that behave alike.

mod slots;
mod stack;

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use self::{
    slots::{Slot, Slots, Token},
    stack::{Index, Stack},
};
use crate::{Params, Usage};

/// How a pool keeps its idle things. It changes the speed and nothing else.
///
/// Both are stacks. With a queue every thing would have its turn, so that none would ever be
/// unused for long, and what was made for a peak would stay.
///
/// The stack is the default because a lease from it costs less: the time of taking and releasing
/// one, as a part of what it takes with bb8, is
///
/// | tasks | 1 | 4 | 64 | 256 |
/// |---|---|---|---|---|
/// | 4 leases | 0.69 | 0.60 | 0.91 | 0.80 |
/// | 64 leases | 0.77 | 0.58 | 0.61 | 0.74 |
///
/// (`cargo bench -p tidegate-pool --bench pool`: medians of ten rounds with both in turn, two
/// workers on two cores that others used as well, so single rounds went from 0.2 to 1.4. With more
/// tasks than leases most of the time goes into the queue, which both share.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// In the slots of a bb8 pool, under its lock. [`crate::Pool::close`] and
    /// [`crate::Pool::sweep`] need a tokio runtime around them; outside of one they leave idle things
    /// alone, and those stay until the pool is dropped.
    Bb8,
    /// On a lock-free stack.
    #[default]
    Stack,
}

/// A thing with its history.
pub(crate) struct Entry<C> {
    pub(crate) item: C,
    pub(crate) usage: Usage,
}

/// Where idle things lie.
#[expect(clippy::large_enum_variant, reason = "one for each pool, behind its Arc")]
pub(crate) enum Store<C: Send + 'static> {
    Bb8(Slots<C>),
    Stack {
        stack: Stack<Entry<C>>,
        /// How many lie there; never fewer than can be taken.
        idle: AtomicUsize,
    },
}

/// What one caller past the gate holds: a thing, or the room for one. Ends in [`Store::put`] or
/// [`Store::forget`].
pub(crate) enum Held<C: Send + 'static> {
    Bb8(Token<C>),
    Stack { index: Option<Index>, entry: Option<Entry<C>> },
}

impl<C: Send + 'static> Store<C> {
    pub(crate) fn new(params: &Params) -> Self {
        match params.idle {
            Idle::Bb8 => Self::Bb8(Slots::new(params.max)),
            Idle::Stack => {
                Self::Stack { stack: Stack::new(params.max.get()), idle: AtomicUsize::new(0) }
            }
        }
    }

    /// Takes the thing used last, or room for one, for a caller that has passed the gate. `None`
    /// only while the pool is being closed.
    pub(crate) fn take(&self) -> Option<Held<C>> {
        match self {
            Self::Bb8(slots) => slots.take().map(Held::Bb8),
            Self::Stack { .. } => {
                Some(self.take_idle().unwrap_or(Held::Stack { index: None, entry: None }))
            }
        }
    }

    /// Takes the thing used last, if there is one.
    pub(crate) fn take_idle(&self) -> Option<Held<C>> {
        match self {
            Self::Bb8(slots) => slots.take_idle().map(Held::Bb8),
            Self::Stack { stack, idle } => {
                let (index, entry) = stack.take()?;
                idle.fetch_sub(1, Relaxed);
                Some(Held::Stack { index: Some(index), entry: Some(entry) })
            }
        }
    }

    /// Whether [`Store::take`] may be called here; callers need not ask, because they wait in a
    /// runtime.
    pub(crate) fn is_within_reach(&self) -> bool {
        match self {
            // It arms a timer.
            Self::Bb8(_) => tokio::runtime::Handle::try_current().is_ok(),
            Self::Stack { .. } => true,
        }
    }

    /// Keeps a thing for reuse. The caller leaves after this.
    pub(crate) fn put(&self, held: Held<C>) {
        match (self, held) {
            (Self::Bb8(slots), Held::Bb8(token)) => slots.put(token),
            (Self::Stack { stack, idle }, Held::Stack { index, entry: Some(entry) }) => {
                idle.fetch_add(1, Relaxed);
                if stack.put(index, entry).is_err() {
                    // Never: there is a node for everybody who may come in.
                    idle.fetch_sub(1, Relaxed);
                }
            }
            (_, held) => self.forget(held),
        }
    }

    /// Gives up the room for a thing. The caller leaves after this.
    pub(crate) fn forget(&self, held: Held<C>) {
        match (self, held) {
            (Self::Stack { stack, .. }, Held::Stack { index: Some(index), .. }) => {
                stack.give_back(index);
            }
            (_, Held::Bb8(mut token)) => *token = Slot::Spent,
            (_, Held::Stack { .. }) => (),
        }
    }

    /// How many things lie ready.
    pub(crate) fn idle(&self) -> usize {
        match self {
            Self::Bb8(slots) => slots.idle(),
            Self::Stack { idle, .. } => idle.load(Relaxed),
        }
    }
}

impl<C: Send + 'static> Held<C> {
    pub(crate) fn entry(&mut self) -> Option<&mut Entry<C>> {
        match self {
            Self::Bb8(token) => match &mut **token {
                Slot::Idle(entry) => Some(entry),
                Slot::Vacant | Slot::Spent => None,
            },
            Self::Stack { entry, .. } => entry.as_mut(),
        }
    }

    pub(crate) fn is_filled(&self) -> bool {
        match self {
            Self::Bb8(token) => matches!(&**token, Slot::Idle(_)),
            Self::Stack { entry, .. } => entry.is_some(),
        }
    }

    pub(crate) fn fill(&mut self, new: Entry<C>) {
        match self {
            Self::Bb8(token) => **token = Slot::Idle(new),
            Self::Stack { entry, .. } => *entry = Some(new),
        }
    }

    /// Takes the thing out; what is left is room for another.
    pub(crate) fn empty(&mut self) -> Option<Entry<C>> {
        match self {
            Self::Bb8(token) => match std::mem::replace(&mut **token, Slot::Spent) {
                Slot::Idle(entry) => Some(entry),
                Slot::Vacant | Slot::Spent => None,
            },
            Self::Stack { entry, .. } => entry.take(),
        }
    }
}

impl<C: Send + 'static> fmt::Debug for Store<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("idle", &self.idle()).finish_non_exhaustive()
    }
}
