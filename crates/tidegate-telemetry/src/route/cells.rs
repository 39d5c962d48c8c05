//! The numbers of one route, and how they are read.
//!
//! Per method one block of atomics, made when the method is first seen. A call finds its block by
//! an index; there is no map, no lock and no label on the way.

use std::{
    array,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    exposition::{Row, Value},
    histogram::Histogram,
    labels::{ERAS, METHODS, Method, OUTCOMES, Outcome},
};

/// The numbers of one pair of route and upstream.
#[derive(Debug)]
pub(crate) struct RouteCells {
    pub(crate) route: Box<str>,
    pub(crate) upstream: Box<str>,
    pub(crate) in_flight: AtomicU64,
    pub(crate) streams: AtomicU64,
    methods: [OnceLock<Box<MethodCells>>; METHODS.len()],
}

/// The numbers of one method of a route.
#[derive(Debug, Default)]
pub(crate) struct MethodCells {
    requests: [[AtomicU64; OUTCOMES.len()]; ERAS.len()],
    pub(crate) duration: Histogram,
    pub(crate) first_item: Histogram,
}

impl RouteCells {
    pub(crate) fn new(route: &str, upstream: &str) -> Self {
        Self {
            route: route.into(),
            upstream: upstream.into(),
            in_flight: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            methods: array::from_fn(|_| OnceLock::new()),
        }
    }

    /// The block of a method; always there.
    pub(crate) fn method(&self, method: Method) -> Option<&MethodCells> {
        let cell = self.methods.get(method.index())?;
        Some(cell.get_or_init(Box::default))
    }

    /// The requests so far, without the combinations that never occurred.
    pub(crate) fn requests(&self) -> impl Iterator<Item = Row<'_>> {
        self.used().flat_map(move |(method, cells)| {
            ERAS.iter().zip(&cells.requests).flat_map(move |(era, outcomes)| {
                let counts = outcomes.iter().map(|count| count.load(Ordering::Relaxed));
                OUTCOMES.iter().zip(counts).filter(|(_, count)| *count > 0).map(
                    move |(outcome, count)| Row {
                        labels: vec![&self.route, &self.upstream, method, outcome, era],
                        value: Value::Count(count),
                    },
                )
            })
        })
    }

    /// One of the histograms, for every method that has an observation.
    pub(crate) fn histograms(
        &self,
        which: fn(&MethodCells) -> &Histogram,
    ) -> impl Iterator<Item = Row<'_>> {
        self.used().filter_map(move |(method, cells)| {
            let snapshot = which(cells).read()?;
            let labels = vec![&*self.route, &*self.upstream, method];
            Some(Row { labels, value: Value::Histogram(snapshot) })
        })
    }

    /// One of the gauges.
    pub(crate) fn gauge(&self, which: fn(&Self) -> &AtomicU64) -> Row<'_> {
        let value = Value::Count(which(self).load(Ordering::Relaxed));
        Row { labels: vec![&self.route, &self.upstream], value }
    }

    fn used(&self) -> impl Iterator<Item = (&'static str, &MethodCells)> {
        let cells = self.methods.iter().map(OnceLock::get);
        METHODS.into_iter().zip(cells).filter_map(|(method, cells)| Some((method, &**cells?)))
    }
}

impl MethodCells {
    pub(crate) fn count(&self, era: usize, outcome: Outcome) {
        let count = self.requests.get(era).and_then(|era| era.get(outcome.index()));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
