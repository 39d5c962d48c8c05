//! `tools/call` requests of a given size, in the two shapes that cost a scanner the least and the
//! most: one long string, and many small objects.

/// The sizes that the benches use, with their names.
pub const SIZES: [(&str, usize); 3] = [("200B", 200), ("4KiB", 4 << 10), ("256KiB", 256 << 10)];

const HEAD: &str = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"write_file","_meta":{"progressToken":"t-1"},"arguments":"#;

/// A request of exactly `size` bytes whose argument is one long string.
///
/// ```
/// let request = tidegate_benches::payload::text(4096);
/// assert_eq!(request.len(), 4096);
/// assert!(serde_json::from_str::<serde_json::Value>(&request).is_ok());
/// ```
#[must_use]
pub fn text(size: usize) -> String {
    const OPEN: &str = r#"{"content":""#;
    const CLOSE: &str = r#""}}}"#;
    let fill = size.saturating_sub(HEAD.len() + OPEN.len() + CLOSE.len());
    // Prose with a space now and then, and an escape where a line would end.
    let words = r"the quick brown fox jumps over the lazy dog and runs away from it at once\n";
    let mut content: String = words.chars().cycle().take(fill).collect();
    if content.ends_with('\\') {
        content.replace_range(content.len() - 1.., ".");
    }
    [HEAD, OPEN, &content, CLOSE].concat()
}

/// A request of about `size` bytes (less than 60 more) whose argument is a list of small objects.
///
/// ```
/// let request = tidegate_benches::payload::objects(4096);
/// assert!((4096..4156).contains(&request.len()));
/// assert!(serde_json::from_str::<serde_json::Value>(&request).is_ok());
/// ```
#[must_use]
pub fn objects(size: usize) -> String {
    const OPEN: &str = r#"{"rows":["#;
    const CLOSE: &str = "]}}}";
    let mut request = [HEAD, OPEN].concat();
    let mut number = 0;
    while request.len() + CLOSE.len() < size || number == 0 {
        if number > 0 {
            request.push(',');
        }
        request += &format!(r#"{{"k":{number},"on":true,"v":[1.5,null,"x"]}}"#);
        number += 1;
    }
    request + CLOSE
}
