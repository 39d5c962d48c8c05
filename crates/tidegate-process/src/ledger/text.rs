//! What is in a ledger's file, and what of a file can be believed.
//!
//! A header names the boot, the pid namespace and the instance. Each line after it has the same
//! length and is one process or nothing. What is not exactly so is not believed: a wrong number
//! here would be a stranger's.

use crate::{cookie::Instance, tree::Leader};

/// The length of a line with its newline: three numbers, right-aligned.
pub(super) const LINE: usize = 53;

/// How many processes a ledger can name.
pub(super) const MAX_LINES: usize = 1 << 16;

/// A line that names nothing.
pub(super) const BLANK: &str = "----------------------------------------------------\n";

/// The first word of every ledger, with the version of its format.
const MAGIC: &str = "tidegate-process 1";

/// Where and by whom a ledger was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Numbers of processes mean nothing after the next boot.
    pub(super) boot: String,
    /// They mean something else in another namespace.
    pub(super) namespace: String,
    pub(super) instance: Instance,
}

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) header: Option<Header>,
    pub(super) leaders: Vec<Leader>,
    /// Lines that cannot be believed.
    pub(super) skipped: usize,
}

impl Header {
    pub(super) fn write(&self) -> String {
        format!("{MAGIC} {} {} {}\n", self.boot, self.namespace, self.instance)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)?.strip_prefix(' ')?;
        let mut words = rest.split(' ');
        let (boot, namespace) = (words.next()?.to_owned(), words.next()?.to_owned());
        let instance = Instance::parse(words.next()?)?;
        let whole = words.next().is_none() && !boot.is_empty() && !namespace.is_empty();
        whole.then_some(Self { boot, namespace, instance })
    }
}

/// The line of one process.
pub(super) fn line(number: u64, leader: Leader) -> String {
    format!("{number:>20} {:>10} {:>20}\n", leader.pid, leader.start)
}

/// Reads a file. Without a header that can be believed, nothing else is.
pub(super) fn parse(file: &[u8]) -> Content {
    let mut lines = file.split_inclusive(|byte| *byte == b'\n');
    let header = lines.next().and_then(|line| Header::parse(line.strip_suffix(b"\n")?));
    if header.is_none() {
        return Content {
            skipped: usize::from(!file.is_empty()) + lines.count(),
            ..Content::default()
        };
    }
    let mut content = Content { header, ..Content::default() };
    for (n, line) in lines.enumerate() {
        if line == BLANK.as_bytes() {
            continue;
        }
        match parse_line(line).filter(|_| n < MAX_LINES) {
            Some(leader) => content.leaders.push(leader),
            None => content.skipped += 1,
        }
    }
    content
}

fn parse_line(line: &[u8]) -> Option<Leader> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() == LINE)?;
    let mut words = text.split_ascii_whitespace();
    let number = words.next()?.parse().ok()?;
    let pid = words.next()?.parse().ok()?;
    let start = words.next()?.parse().ok()?;
    let leader = Leader { pid, start };
    // Written anew it must be the same, to the last space. Nobody but init has a number below 2, and
    // nobody started at 0.
    (self::line(number, leader) == text && pid > 1 && start > 0).then_some(leader)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{BLANK, Content, Header, LINE, Leader, line, parse};
    use crate::cookie::Instance;

    fn header() -> Header {
        let (boot, namespace) = ("f608319f-4f33".to_owned(), "pid:[4026531836]".to_owned());
        Header { boot, namespace, instance: Instance::new() }
    }

    fn leader() -> impl Strategy<Value = Leader> {
        (2..=i32::MAX as u32, 1..u64::MAX).prop_map(|(pid, start)| Leader { pid, start })
    }

    fn file(header: &Header, leaders: &[Option<(u64, Leader)>]) -> Vec<u8> {
        let lines = leaders.iter().map(|entry| match entry {
            Some((number, leader)) => line(*number, *leader),
            None => BLANK.to_owned(),
        });
        (header.write() + &lines.collect::<String>()).into_bytes()
    }

    #[test]
    fn every_line_has_the_same_length() {
        let most = Leader { pid: u32::MAX, start: u64::MAX };
        assert_eq!(line(u64::MAX, most).len(), LINE);
        assert_eq!(line(1, Leader { pid: 2, start: 1 }).len(), LINE);
        assert_eq!(BLANK.len(), LINE);
    }

    #[test]
    fn what_is_not_exactly_a_line_is_skipped() {
        let good = line(1, Leader { pid: 4711, start: 815 });
        for (bad, why) in [
            (good.replace("4711", "   1"), "init"),
            (good.replace("4711", "  -1"), "everybody"),
            (good.replace("4711", "   0"), "our own group"),
            (good.replace("4711", "+711"), "a sign"),
            (good.replace("4711", "0711"), "a leading zero"),
            (good.replace("815", "  0"), "no start"),
            (good.replace(" 4711", "4711 "), "not aligned"),
            (good.replace('\n', " \n"), "too long"),
            (good.replace('\n', ""), "cut"),
            (good.replace("  ", "\t\t"), "tabs"),
            ("\n".to_owned(), "empty"),
        ] {
            let content = parse(format!("{}{good}{bad}", header().write()).as_bytes());
            assert_eq!((content.leaders.len(), content.skipped), (1, 1), "{why}: {bad:?}");
        }
    }

    #[test]
    fn without_a_header_nothing_is_believed() {
        let good = line(1, Leader { pid: 4711, start: 815 });
        let whole = header().write();
        for head in
            ["", "\n", "tidegate-process 2 a b 1.0000000000000000\n", "tidegate-process 1\n"]
        {
            let content = parse(format!("{head}{good}").as_bytes());
            assert_eq!((content.header, content.leaders.len()), (None, 0), "{head:?}");
            assert!(content.skipped > 0);
        }
        assert_eq!(parse(b""), Content::default());
        assert_eq!(parse(whole.trim_end().as_bytes()).header, None, "a cut header");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            entries in vec(proptest::option::of((any::<u64>(), leader())), 0..20),
        ) {
            let header = header();
            let content = parse(&file(&header, &entries));
            let leaders: Vec<Leader> = entries.iter().flatten().map(|entry| entry.1).collect();
            prop_assert_eq!(content, Content { header: Some(header), leaders, skipped: 0 });
        }

        #[test]
        fn a_cut_file_names_only_what_was_written(
            entries in vec((any::<u64>(), leader()), 1..8), cut in any::<prop::sample::Index>(),
        ) {
            let entries: Vec<_> = entries.into_iter().map(Some).collect();
            let whole = file(&header(), &entries);
            let cut = cut.index(whole.len());
            let content = parse(&whole[..cut]);
            prop_assert!(content.leaders.len() < entries.len());
            for (read, written) in content.leaders.iter().zip(entries.iter().flatten()) {
                prop_assert_eq!(read, &written.1);
            }
        }

        #[test]
        fn anything_may_be_in_a_file(
            bytes in vec(any::<u8>(), 0..300), with_header in any::<bool>(),
        ) {
            let head = if with_header { header().write() } else { String::new() };
            let content = parse(&[head.as_bytes(), &bytes].concat());
            prop_assert!(content.leaders.iter().all(|leader| leader.pid > 1 && leader.start > 0));
            // Random bytes are never fifty-three of the right ones.
            prop_assert!(content.leaders.is_empty());
        }

        #[test]
        fn a_flipped_byte_spoils_its_line_or_changes_one_number(
            entries in vec((any::<u64>(), leader()), 1..4),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let header = header();
            let entries: Vec<_> = entries.into_iter().map(Some).collect();
            let mut bytes = file(&header, &entries);
            let first = header.write().len();
            let at = first + at.index(bytes.len() - first);
            bytes[at] = byte;
            let content = parse(&bytes);
            let written: Vec<Leader> = entries.iter().flatten().map(|entry| entry.1).collect();
            let wrong = content.leaders.iter().filter(|leader| {
                // A process is named by both numbers, so one wrong number names nobody.
                !written.iter().any(|known| known.pid == leader.pid || known.start == leader.start)
            });
            prop_assert_eq!(wrong.count(), 0);
        }
    }
}
