//! A strict reader of the OpenMetrics text format, version 1.0, for what this crate emits.

use std::collections::{BTreeMap, BTreeSet};

/// A family as its metadata lines tell it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) unit: String,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// A whole scrape.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    pub(crate) families: BTreeMap<String, Family>,
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
    /// In the order of the text, to check buckets by.
    ordered: Vec<(String, Labels, f64)>,
}

impl Scrape {
    /// Reads a text and finds every fault that a scraper could stumble over.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("no end mark")?;
        if !body.is_empty() && !body.ends_with('\n') {
            return Err("the last line is cut".into());
        }
        let mut scrape = Self::default();
        let mut current = String::new();
        for line in body.lines() {
            scrape.line(line, &mut current).map_err(|fault| format!("{fault}: {line}"))?;
        }
        scrape.check_histograms()?;
        Ok(scrape)
    }

    /// The sum of a metric over every series that has these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &Labels| {
            labels.iter().all(|(k, v)| found.get(*k).is_some_and(|found| found == v))
        };
        let samples = self.samples.iter();
        samples.filter(|((n, l), _)| n == name && fits(l)).map(|(_, value)| value).sum()
    }

    fn line(&mut self, line: &str, current: &mut String) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix("# ") {
            return self.metadata(comment, current);
        }
        let (name, labels, value) = sample(line)?;
        let family = self.families.get(current).ok_or("a sample without a family")?;
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => return Err("a type this reader does not know".into()),
        };
        let suffix = name.strip_prefix(current.as_str()).ok_or("a sample of another family")?;
        if !suffixes.contains(&suffix) {
            return Err("a suffix that does not fit the type".into());
        }
        if value.is_nan() || (!suffix.is_empty() && value < 0.0) {
            return Err("an impossible value".into());
        }
        if self.samples.insert((name.clone(), labels.clone()), value).is_some() {
            return Err("the series is there twice".into());
        }
        self.ordered.push((name, labels, value));
        Ok(())
    }

    fn metadata(&mut self, comment: &str, current: &mut String) -> Result<(), String> {
        let mut parts = comment.splitn(3, ' ');
        let (Some(what), Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("incomplete metadata".into());
        };
        check_family_name(name)?;
        if name != current && self.families.contains_key(name) {
            return Err("the family is there twice".into());
        }
        name.clone_into(current);
        if self.ordered.iter().any(|(sample, ..)| sample.starts_with(&format!("{name}_total"))) {
            return Err("metadata after samples".into());
        }
        let family = self.families.entry(name.to_owned()).or_default();
        let field = match what {
            "HELP" => &mut family.help,
            "TYPE" => &mut family.kind,
            "UNIT" if name.ends_with(&format!("_{rest}")) => &mut family.unit,
            "UNIT" => return Err("the name does not end with the unit".into()),
            _ => return Err("unknown metadata".into()),
        };
        if !field.is_empty() || rest.is_empty() {
            return Err("metadata twice or empty".into());
        }
        rest.clone_into(field);
        Ok(())
    }

    /// Buckets rise in bound and count, and the last one is the count.
    fn check_histograms(&self) -> Result<(), String> {
        let mut last: BTreeMap<(String, Labels), (f64, f64)> = BTreeMap::new();
        for (name, labels, value) in &self.ordered {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let mut labels = labels.clone();
            let le = labels.remove("le").ok_or("a bucket without its bound")?;
            let le = if le == "+Inf" { f64::INFINITY } else { number(&le)? };
            let series = (family.to_owned(), labels);
            if last.get(&series).is_some_and(|(bound, count)| *bound >= le || count > value) {
                return Err(format!("buckets out of order: {series:?}"));
            }
            last.insert(series, (le, *value));
        }
        for ((family, labels), (le, count)) in last {
            let total = self.samples.get(&(format!("{family}_count"), labels.clone()));
            if le != f64::INFINITY || total != Some(&count) {
                return Err(format!("the last bucket is not the count: {family} {labels:?}"));
            }
            if !self.samples.contains_key(&(format!("{family}_sum"), labels)) {
                return Err(format!("no sum: {family}"));
            }
        }
        Ok(())
    }
}

fn check_family_name(name: &str) -> Result<(), String> {
    let reserved = ["_total", "_created", "_bucket", "_count", "_sum", "_gcount", "_gsum"];
    if reserved.iter().any(|suffix| name.ends_with(suffix)) {
        return Err("the name ends with a reserved suffix".into());
    }
    if !name.starts_with("tidegate_") && !name.starts_with("process_") {
        return Err("a foreign prefix".into());
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(fits) { Ok(()) } else { Err("an odd name".into()) }
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let name_end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Labels::new(), rest),
    };
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok((name.to_owned(), labels, number(value)?))
}

fn number(text: &str) -> Result<f64, String> {
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | '-' | '+');
    if !text.chars().all(plain) {
        return Err("not a number".into());
    }
    text.parse().map_err(|_| "not a number".into())
}

/// Reads `name="value",…}` and returns what follows the brace.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    let mut seen = BTreeSet::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        let fits = |c: char| c.is_ascii_lowercase() || c == '_';
        if name.is_empty() || !name.chars().all(fits) || !seen.insert(name) {
            return Err("an odd label name, or one twice".into());
        }
        let (value, after) = quoted(after)?;
        if value.is_empty() {
            return Err("an empty label".into());
        }
        labels.insert(name.to_owned(), value);
        if let Some(after) = after.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = after.strip_prefix(',').ok_or("no comma between labels")?;
    }
}

/// Reads up to the closing quote, undoing the three escapes there are.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                _ => return Err("an unknown escape".into()),
            }),
            c => value.push(c),
        }
    }
    Err("a label value without an end".into())
}

#[test]
fn the_reader_finds_faults() {
    let good = "# HELP tidegate_x_seconds Help.\n# TYPE tidegate_x_seconds histogram\n\
                # UNIT tidegate_x_seconds seconds\ntidegate_x_seconds_sum 0.5\n\
                tidegate_x_seconds_count 2\ntidegate_x_seconds_bucket{le=\"0.1\"} 1\n\
                tidegate_x_seconds_bucket{le=\"+Inf\"} 2\n# EOF\n";
    assert!(Scrape::read(good).is_ok(), "{:?}", Scrape::read(good));
    let faults = [
        ("# EOF\n", ""),
        ("_count 2\n", "_count 3\n"),
        ("\"+Inf\"} 2", "\"+Inf\"} 0"),
        ("\"+Inf\"", "\"0.05\""),
        ("le=\"0.1\"", "le=\"0.1"),
        ("le=\"0.1\"", "le=\"0.1\",le=\"0.1\""),
        ("le=\"0.1\"", "le=\"0.\\1\""),
        ("_sum 0.5", "_sum NaN"),
        ("_sum 0.5", "_total 0.5"),
        ("_sum 0.5\n", "_sum 0.5\n\n"),
        ("_sum 0.5\n", "_sum 0.5\ntidegate_x_seconds_sum 0.5\n"),
        ("# UNIT tidegate_x_seconds seconds", "# UNIT tidegate_x_seconds bytes"),
        ("# TYPE tidegate_x_seconds histogram\n", ""),
        ("tidegate_x", "tidegate-x"),
        ("tidegate_x", "x"),
    ];
    for (from, to) in faults {
        assert!(Scrape::read(&good.replace(from, to)).is_err(), "{from:?} to {to:?}");
    }
}
