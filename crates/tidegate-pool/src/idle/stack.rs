//! A bounded lock-free stack.
//!
//! The nodes are numbered and stay; two lists link them by number, those with an item and those
//! without. The head of a list is one word: the number of its first node and a tag that every
//! change advances, so that a head that went and came back in between is not taken for the old
//! one. An item lies in its node under a lock that nobody else can want, because whoever has taken
//! a node off a list owns it; that is what makes this possible without `unsafe`.
//!
//! Nodes are made when they are first needed, in blocks that double in size; only then may a thread
//! wait for another, for the length of an allocation. A node goes with its
//! item to whoever takes it and comes back with the next one, so the usual round trip changes one
//! list twice and the other never.

use crate::sync::{AtomicU32, AtomicU64, Mutex, OnceLock, Ordering};

/// How many nodes the first block has.
const FIRST: u32 = 16;
/// Enough blocks for every number.
const BLOCKS: usize = 29;
/// The number of no node.
const NONE: u32 = u32::MAX;

/// Items in the order last in, first out.
pub(crate) struct Stack<T> {
    full: List,
    free: List,
    /// How many nodes have been used at all.
    used: AtomicU32,
    capacity: u32,
    blocks: [OnceLock<Box<[Node<T>]>>; BLOCKS],
}

/// A node that is on no list. Not to be copied: it is the right to use the node.
#[derive(Debug)]
pub(crate) struct Index(u32);

struct Node<T> {
    /// The one below it, while it is on a list.
    next: AtomicU32,
    item: Mutex<Option<T>>,
}

/// The head of a list: tag above, number below.
struct List(AtomicU64);

impl<T> Stack<T> {
    /// Makes an empty stack for as many items.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            full: List::new(),
            free: List::new(),
            used: AtomicU32::new(0),
            capacity,
            blocks: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// Takes the item put last, with its node.
    pub(crate) fn take(&self) -> Option<(Index, T)> {
        loop {
            let index = self.pop(&self.full)?;
            let item = self.node(index.0).and_then(|node| node.item.lock().take());
            match item {
                Some(item) => return Some((index, item)),
                // Never: a node is put on this list after its item.
                None => self.give_back(index),
            }
        }
    }

    /// Puts an item on top, in the node it came with or in another, or hands it back if there is no
    /// room.
    pub(crate) fn put(&self, index: Option<Index>, item: T) -> Result<(), T> {
        let Some(index) = index.or_else(|| self.vacant()) else { return Err(item) };
        let Some(node) = self.node(index.0) else { return Err(item) };
        *node.item.lock() = Some(item);
        self.push(&self.full, index);
        Ok(())
    }

    /// Gives a node back without an item.
    pub(crate) fn give_back(&self, index: Index) {
        self.push(&self.free, index);
    }

    fn vacant(&self) -> Option<Index> {
        let next = |used| (used < self.capacity).then_some(used + 1);
        self.pop(&self.free).or_else(|| {
            let used = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            used.ok().map(Index)
        })
    }

    fn push(&self, list: &List, Index(index): Index) {
        let Some(node) = self.node(index) else { return };
        let mut head = list.0.load(Ordering::Relaxed);
        loop {
            node.next.store(first(head), Ordering::Relaxed);
            match list.change(head, index) {
                Ok(()) => return,
                Err(now) => head = now,
            }
        }
    }

    fn pop(&self, list: &List) -> Option<Index> {
        let mut head = list.0.load(Ordering::Acquire);
        loop {
            let node = self.node(first(head))?;
            // Perhaps another has the node already and this is any number; then the head has moved.
            let next = node.next.load(Ordering::Relaxed);
            match list.change(head, next) {
                Ok(()) => return Some(Index(first(head))),
                Err(now) => head = now,
            }
        }
    }

    /// The node of a number; `None` for the number of no node.
    fn node(&self, index: u32) -> Option<&Node<T>> {
        let (block, at) = locate(index)?;
        let nodes = self.blocks.get(block)?.get_or_init(|| {
            let size = u64::from(FIRST) << block;
            (0..size).map(|_| Node::new()).collect()
        });
        nodes.get(at)
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { next: AtomicU32::new(NONE), item: Mutex::new(None) }
    }
}

impl List {
    fn new() -> Self {
        Self(AtomicU64::new(u64::from(NONE)))
    }

    /// Makes `index` the first node, if the head is still `head`; or says what it is now.
    fn change(&self, head: u64, index: u32) -> Result<(), u64> {
        let tag = (head >> 32).wrapping_add(1) << 32;
        let new = tag | u64::from(index);
        self.0.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire).map(|_old| ())
    }
}

/// The number of the first node.
const fn first(head: u64) -> u32 {
    head as u32
}

/// In which block a number is, and where there.
fn locate(index: u32) -> Option<(usize, usize)> {
    if index == NONE {
        return None;
    }
    let block = (index / FIRST + 1).ilog2();
    let before = (u64::from(FIRST) << block) - u64::from(FIRST);
    let at = usize::try_from(u64::from(index) - before).ok()?;
    Some((usize::try_from(block).ok()?, at))
}
