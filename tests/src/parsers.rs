//! What servers read in a message: the parsers of JavaScript and Python.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// Takes a list of texts and gives what stands in each: `null` where it is no object, else the
/// method, the name, the URI and the id, as `["string", TEXT]`, `["integer", DIGITS]`, `["other"]`
/// or `null` where there is none. A text that is no Unicode counts as something other.
const NODE: &str = r#"
const own = (object, key) =>
  typeof object === "object" && object !== null && !Array.isArray(object) && Object.hasOwn(object, key)
    ? object[key] : null;
const told = (value) => {
  if (value === null) return null;
  if (typeof value === "string" && !/\p{Surrogate}/u.test(value)) return ["string", value];
  if (Number.isSafeInteger(value)) return ["integer", BigInt(value).toString()];
  return ["other"];
};
const read = (text) => {
  let message;
  try { message = JSON.parse(text); } catch { return null; }
  if (typeof message !== "object" || message === null || Array.isArray(message)) return null;
  const params = own(message, "params");
  return [own(message, "method"), own(params, "name"), own(params, "uri"), own(message, "id")].map(told);
};
const texts = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(texts.map(read)));
"#;

/// The same.
const PYTHON: &str = r#"
import json, sys

def own(thing, key):
    return thing.get(key) if isinstance(thing, dict) else None

def told(value):
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return ["other"]
        return ["string", value]
    # Beyond this JavaScript rounds, so what is sent there cannot be compared.
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return ["integer", str(value)]
    return ["other"]

def read(text):
    try:
        message = json.loads(text)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    params = own(message, "params")
    parts = own(message, "method"), own(params, "name"), own(params, "uri"), own(message, "id")
    return [told(part) for part in parts]

texts = json.loads(sys.stdin.buffer.read())
sys.stdout.write(json.dumps([read(text) for text in texts]))
"#;

/// What a parser finds in a message: method, name, URI and id.
pub type Reading = [Value; 4];

/// Asks a parser about all texts. `None` is what it does not take for a message.
async fn ask(program: &str, arguments: [&str; 2], texts: &[String]) -> Vec<Option<Reading>> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.unwrap_or_else(|error| {
        panic!("{program}: {error}; this test compares with it, and `.ci/run` installs it")
    });
    let mut stdin = child.stdin.take().unwrap();
    let question = serde_json::to_vec(texts).unwrap();
    let asked = async {
        let write = async move {
            stdin.write_all(&question).await.unwrap();
            drop(stdin);
        };
        tokio::join!(write, child.wait_with_output()).1.unwrap()
    };
    let output = timeout(Duration::from_secs(60), asked).await.expect("it answers in time");
    assert!(output.status.success(), "{program} ended with {}", output.status);
    let readings: Vec<Option<Reading>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(readings.len(), texts.len());
    readings
}

/// What JavaScript and Python read, each in one process.
pub async fn read(texts: &[String]) -> [Vec<Option<Reading>>; 2] {
    let (node, python) =
        tokio::join!(ask("node", ["-e", NODE], texts), ask("python3", ["-c", PYTHON], texts));
    [node, python]
}
