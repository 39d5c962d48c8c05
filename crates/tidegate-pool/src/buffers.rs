//! Memory to read into, shared by many readers of which few read at any moment.
//!
//! A reader needs room before it knows whether anything comes, and thousands of quiet readers with
//! room of their own are memory that nobody uses. Here a reader has room only while it looks:
//! [`Buffers::poll_read`] takes a buffer, asks, and gives it back at once if nothing is there. What
//! came leaves as [`Bytes`], whose last slice returns the memory, on whatever thread it is dropped.
//!
//! It pays where messages are large or readers are many. Reading messages of 20 and 60 KiB takes a
//! fifth to a seventh of the time it takes with a `BytesMut` of the reader's own that grows, because
//! no fresh memory is touched (about 250 bytes are allocated for a message, for the `Bytes`). One of
//! 200 bytes takes 30 to 50 ns more, and one allocation of its own where the `BytesMut` has one for
//! eight messages (`cargo bench -p tidegate-pool --bench buffers`).
//!
//! Free buffers lie in lists, each used by few threads, and what does not fit there in one bounded
//! lock-free queue for each size; more than that is freed. Lists by thread, not in thread locals,
//! because those could be emptied by their own threads only.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

/// The sizes of buffers.
const SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// How many lists there are; more than threads usually read.
const LISTS: usize = 8;
/// How many buffers of one size a list may have.
const IN_LIST: usize = 4;
/// How much memory lies ready in those that a whole process shares.
const MAX_SHARED: usize = 8 << 20;
/// Content that takes up less than this part of its buffer moves to memory of its own, so that a
/// few bytes that are kept do not keep much more.
const SPARSE: usize = 8;

/// Buffers of a few sizes, with a bound on the memory that lies ready. Clones share it.
///
/// ```
/// use tidegate_pool::Buffers;
///
/// let buffers = Buffers::new(1 << 20);
/// let mut buffer = buffers.take(5_000);
/// assert_eq!(buffer.capacity(), 16 << 10);
/// buffer.as_mut()[..4_000].fill(b'x');
/// let bytes = buffer.freeze(4_000);
/// let slice = bytes.slice(..5);
/// drop(bytes);
/// assert_eq!(buffers.stats().lent, 1, "a slice is left");
/// drop(slice);
/// assert_eq!((buffers.stats().lent, buffers.stats().held), (0, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Shared>);

/// Memory to write to. Dropping it gives it back.
#[derive(Debug)]
pub struct Buffer {
    /// Empty only when it has been given back.
    memory: Vec<u8>,
    size: usize,
    home: Arc<Shared>,
}

/// A snapshot of [`Buffers`]; at rest the numbers add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Buffers that lie ready.
    pub held: usize,
    /// Buffers that are out, as such or as [`Bytes`].
    pub lent: usize,
    /// The memory of both, in bytes.
    pub bytes: usize,
    /// Buffers lent that lay ready.
    pub hits: u64,
    /// Buffers lent that had to be made.
    pub misses: u64,
    /// Buffers freed because enough lay ready.
    pub dropped: u64,
}

/// What was read, for as long as somebody has a slice of it.
struct Filled {
    buffer: Buffer,
    length: usize,
}

#[derive(Debug)]
struct Shared {
    lists: [Mutex<List>; LISTS],
    /// What does not fit into the lists, by size.
    spilled: [ArrayQueue<Vec<u8>>; SIZES.len()],
    in_list: [usize; SIZES.len()],
}

/// What a few threads took and gave back.
#[derive(Debug, Default)]
struct List {
    free: [Vec<Vec<u8>>; SIZES.len()],
    /// May be more or less than nothing: buffers come back anywhere.
    lent: [isize; SIZES.len()],
    hits: u64,
    misses: u64,
    dropped: u64,
}

impl Buffers {
    /// Makes a store that keeps no more than `max_bytes` ready, a quarter of it in each size, but
    /// room for one buffer of each.
    pub fn new(max_bytes: usize) -> Self {
        let room = SIZES.map(|size| (max_bytes / SIZES.len() / size).max(1));
        // Half of it in lists, so that threads whose lists are empty find something as well.
        let in_list = room.map(|room| (room / 2 / LISTS).min(IN_LIST));
        let mut spilled = room.into_iter().zip(in_list);
        Self(Arc::new(Shared {
            lists: std::array::from_fn(|_| Mutex::new(List::default())),
            spilled: std::array::from_fn(|_| {
                let (room, in_list) = spilled.next().unwrap_or((1, 0));
                ArrayQueue::new(room - in_list * LISTS)
            }),
            in_list,
        }))
    }

    /// Those that everybody in this process reads into, whatever comes from where: at one moment
    /// only few read.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Buffers> = LazyLock::new(|| Buffers::new(MAX_SHARED));
        &SHARED
    }

    /// Takes a buffer with room for `size` bytes, or the largest there is.
    pub fn take(&self, size: usize) -> Buffer {
        let class = SIZES.partition_point(|&known| known < size).min(SIZES.len() - 1);
        self.0.take(class, &self.0)
    }

    /// Reads once, `size` bytes at most or as many as the largest buffer takes. No bytes mean the
    /// end. While there is nothing to read, no memory is held.
    ///
    /// # Errors
    ///
    /// Those of the reader.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        reader: Pin<&mut impl AsyncRead>,
        size: usize,
    ) -> Poll<io::Result<Bytes>> {
        let mut buffer = self.take(size);
        let room = size.clamp(1, buffer.memory.len());
        let mut read = ReadBuf::new(buffer.memory.get_mut(..room).unwrap_or_default());
        ready!(reader.poll_read(cx, &mut read))?;
        let length = read.filled().len();
        Poll::Ready(Ok(buffer.freeze(length)))
    }

    /// Frees what lies ready. What is out comes back as usual.
    pub fn clear(&self) {
        for list in &self.0.lists {
            // Freed when nobody is kept waiting by it.
            let free = std::mem::take(&mut list.lock().free);
            drop(free);
        }
        for queue in &self.0.spilled {
            while queue.pop().is_some() {}
        }
    }

    /// What lies ready, what is out, and what happened so far.
    pub fn stats(&self) -> BufferStats {
        let mut stats = BufferStats::default();
        let mut lent = [0; SIZES.len()];
        let mut held = [0; SIZES.len()];
        for list in &self.0.lists {
            let list = list.lock();
            stats.hits += list.hits;
            stats.misses += list.misses;
            stats.dropped += list.dropped;
            lent.iter_mut().zip(list.lent).for_each(|(sum, lent)| *sum += lent);
            held.iter_mut().zip(&list.free).for_each(|(sum, free)| *sum += free.len());
        }
        held.iter_mut().zip(&self.0.spilled).for_each(|(sum, queue)| *sum += queue.len());
        for ((held, lent), size) in held.into_iter().zip(lent).zip(SIZES) {
            let lent = usize::try_from(lent).unwrap_or_default();
            stats.held += held;
            stats.lent += lent;
            stats.bytes += (held + lent) * size;
        }
        stats
    }
}

impl Buffer {
    /// How much it takes.
    pub const fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Makes the first `length` bytes a shared value. Dropping its last slice gives the memory
    /// back. If they are few, they are copied and it is given back now.
    pub fn freeze(self, length: usize) -> Bytes {
        let length = length.min(self.memory.len());
        if length <= self.memory.len() / SPARSE {
            return Bytes::copy_from_slice(self.memory.get(..length).unwrap_or_default());
        }
        Bytes::from_owner(Filled { buffer: self, length })
    }
}

impl Shared {
    fn take(&self, class: usize, home: &Arc<Self>) -> Buffer {
        let mut list = self.list().lock();
        if let Some(lent) = list.lent.get_mut(class) {
            *lent += 1;
        }
        let free = list.free.get_mut(class).and_then(Vec::pop);
        let found = free.or_else(|| self.spilled.get(class)?.pop());
        match found {
            Some(_) => list.hits += 1,
            None => list.misses += 1,
        }
        drop(list);
        let size = SIZES.get(class).copied().unwrap_or_default();
        let memory = found.unwrap_or_else(|| vec![0; size]);
        Buffer { memory, size, home: Arc::clone(home) }
    }

    fn give_back(&self, memory: Vec<u8>, size: usize) {
        let class = SIZES.partition_point(|&known| known < size);
        let in_list = self.in_list.get(class).copied().unwrap_or_default();
        let mut list = self.list().lock();
        if let Some(lent) = list.lent.get_mut(class) {
            *lent -= 1;
        }
        if let Some(free) = list.free.get_mut(class)
            && free.len() < in_list
        {
            free.push(memory);
            return;
        }
        let Some(queue) = self.spilled.get(class) else { return };
        if let Err(memory) = queue.push(memory) {
            list.dropped += 1;
            // Freeing may take longer than others should wait.
            drop(list);
            drop(memory);
        }
    }

    /// The list of the current thread.
    fn list(&self) -> &Mutex<List> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SEAT: usize = THREADS.fetch_add(1, Relaxed);
        }
        // A thread that is ending has no seat any more.
        let seat = SEAT.try_with(|seat| seat % LISTS).unwrap_or_default();
        let [first, ..] = &self.lists;
        self.lists.get(seat).unwrap_or(first)
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.buffer.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory), self.size);
    }
}
