//! The demo catalogue: six tools, one resource that changes, one prompt.

use std::time::Duration;

use serde_json::{Value, json, value::RawValue};
use tokio::time::sleep;

use crate::{
    call::{Call, Failure, Outcome},
    catalogue::{Content, Prompt, Resource, Tool},
    json::{self, Object, Payload},
    message::RpcError,
    question::Question,
    version::Level,
};

/// The resource that changes every clock period.
pub(crate) const CLOCK: &str = "demo://clock";

/// The longest text that `big` makes.
const BIG_LIMIT: u64 = 64 << 20;

/// The languages that the prompt knows, and their greetings.
const LANGUAGES: &[&str] = &["English", "Esperanto", "French", "German", "Japanese", "Spanish"];

/// The tools.
pub(crate) fn tools() -> Vec<Tool> {
    let echo = Tool::new(
        "echo",
        "Returns `text`; `value`, if given, comes back byte for byte as structured content.",
        (json!({ "text": { "type": "string" }, "value": {} }), &["text"]),
        |call, args| Box::pin(echo(call, args)),
    );
    let add = Tool {
        output: Some(json!({
            "type": "object",
            "properties": { "sum": { "type": "number" } },
            "required": ["sum"],
        })),
        ..Tool::new(
            "add",
            "Adds two numbers; integers exactly.",
            (json!({ "a": { "type": "number" }, "b": { "type": "number" } }), &["a", "b"]),
            |_, args| Box::pin(async move { add(&args) }),
        )
    };
    let slow = Tool::new(
        "slow",
        "Works for `seconds` in `steps`, and reports progress after each step.",
        (
            json!({
                "seconds": { "type": "number", "minimum": 0, "maximum": 600, "default": 2 },
                "steps": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 5 },
            }),
            &[],
        ),
        |call, args| Box::pin(slow(call, args)),
    );
    let fail = Tool::new(
        "fail",
        "Always fails, with `message` if given.",
        (json!({ "message": { "type": "string" } }), &[]),
        |_, args| Box::pin(async move { fail(&args) }),
    );
    let big = Tool::new(
        "big",
        "Returns `bytes` bytes of text, and says how long `data` was.",
        (
            json!({
                "bytes": { "type": "integer", "minimum": 0, "maximum": BIG_LIMIT, "default": 0 },
                "data": { "type": "string" },
            }),
            &[],
        ),
        |_, args| Box::pin(async move { big(&args) }),
    );
    let ask = Tool::new(
        "ask",
        "Asks you a question through your client, and returns what you answered.",
        (json!({ "question": { "type": "string" } }), &[]),
        |call, args| Box::pin(ask(call, args)),
    );
    vec![echo, add, slow, fail, big, ask]
}

/// The resources.
pub(crate) fn resources() -> Vec<Resource> {
    vec![Resource {
        uri: CLOCK,
        name: "clock",
        description: "Seconds since the server started; subscribe to hear it tick.",
        mime: "application/json",
        fresh: 0,
        read: |server| Content::Text(json!({ "uptimeSeconds": server.uptime() }).to_string()),
    }]
}

/// The prompts.
pub(crate) fn prompts() -> Vec<Prompt> {
    vec![Prompt {
        name: "greet",
        title: "Greet somebody",
        description: "Asks the model to greet somebody.",
        arguments: &[
            ("name", "Whom to greet", true),
            ("language", "In which language; English if not given", false),
        ],
        values: |argument| if argument == "language" { LANGUAGES } else { &[] },
        extra: false,
        get: |_, args| Box::pin(async move { greet(&args) }),
    }]
}

/// A bad argument is the tool's failure, so that a model can read it and try again.
fn argument<T: serde::de::DeserializeOwned>(
    args: &Object,
    name: &str,
) -> Result<Option<T>, Failure> {
    args.get(name).map_err(|error| Failure::Tool(error.message))
}

fn needed<T: serde::de::DeserializeOwned>(args: &Object, name: &str) -> Result<T, Failure> {
    argument(args, name)?.ok_or_else(|| Failure::Tool(format!("`{name}` is missing")))
}

async fn echo(call: Call, args: Object) -> Outcome {
    call.log(Level::Debug, "echoing").await;
    let result = json::text(&needed::<String>(&args, "text")?);
    Ok(match args.raw("value") {
        Some(value) => {
            let structured = Payload::default().with_raw("value", value.to_owned());
            result.with("structuredContent", &structured)
        }
        None => result,
    })
}

fn add(args: &Object) -> Outcome {
    let raw =
        |name: &str| args.raw(name).ok_or_else(|| Failure::Tool(format!("`{name}` is missing")));
    let (a, b) = (raw("a")?.get(), raw("b")?.get());
    let sum = match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => {
            let sum = a.checked_add(b);
            sum.ok_or_else(|| Failure::Tool("the sum is too large".to_owned()))?.to_string()
        }
        _ => {
            let number = |name: &str| needed::<f64>(args, name);
            let sum = number("a")? + number("b")?;
            serde_json::Number::from_f64(sum)
                .ok_or_else(|| Failure::Tool("the sum is not a number".to_owned()))?
                .to_string()
        }
    };
    let raw = RawValue::from_string(sum.clone())
        .map_err(|_| Failure::Tool("the sum is not a number".to_owned()))?;
    Ok(json::text(&sum).with("structuredContent", &Payload::default().with_raw("sum", raw)))
}

async fn slow(call: Call, args: Object) -> Outcome {
    let seconds = argument::<f64>(&args, "seconds")?.unwrap_or(2.0);
    let steps = argument::<u32>(&args, "steps")?.unwrap_or(5);
    if !(0.0..=600.0).contains(&seconds) || !(1..=1000).contains(&steps) {
        return Err(Failure::Tool("`seconds` or `steps` is out of range".to_owned()));
    }
    call.open().await;
    call.log(Level::Info, "started").await;
    let pause = Duration::from_secs_f64(seconds / f64::from(steps));
    for step in 1..=steps {
        sleep(pause).await;
        let text = format!("step {step} of {steps}");
        call.progress(step.into(), steps.into(), &text).await;
    }
    call.log(Level::Info, "finished").await;
    Ok(json::text(&format!("Done: {steps} steps in {seconds} s.")))
}

fn fail(args: &Object) -> Outcome {
    let message = argument::<String>(args, "message")?;
    Err(Failure::Tool(message.unwrap_or_else(|| "This tool always fails.".to_owned())))
}

fn big(args: &Object) -> Outcome {
    let bytes = argument::<u64>(args, "bytes")?.unwrap_or(0);
    let data = argument::<String>(args, "data")?.unwrap_or_default();
    if bytes > BIG_LIMIT {
        return Err(Failure::Tool(format!("`bytes` must be at most {BIG_LIMIT}")));
    }
    // A pattern whose every position differs from its neighbours', so that a lost or doubled
    // slice shows.
    let text: String = ('a'..='z').cycle().take(usize::try_from(bytes).unwrap_or(0)).collect();
    let sizes = json!({ "sent": bytes, "received": data.len() });
    Ok(json::text(&text).with("structuredContent", &sizes))
}

async fn ask(call: Call, args: Object) -> Outcome {
    let question = argument::<String>(&args, "question")?
        .unwrap_or_else(|| "What is your favorite color?".to_owned());
    let form = Question::form(&question, &json!({ "answer": { "type": "string" } }), &["answer"]);
    let answers = call.gather(vec![("answer", form)], None).await?;
    let text = match (answers.action("answer").as_str(), answers.field("answer", "answer")) {
        ("accept", Some(answer)) => format!("You answered: {answer}"),
        ("accept", None) => "You accepted without an answer.".to_owned(),
        ("decline", _) => "You declined to answer.".to_owned(),
        _ => "You closed the question.".to_owned(),
    };
    Ok(json::text(&text))
}

fn greet(args: &Object) -> Outcome {
    let name: String = args.need("name")?;
    let language = args.get::<String>("language")?.unwrap_or_else(|| "English".to_owned());
    if !LANGUAGES.contains(&language.as_str()) {
        return Err(RpcError::invalid_params(format!("the prompt does not know {language}")).into());
    }
    let text = format!("Greet {name} in {language}, warmly and in one sentence.");
    let message: Value = json!({ "role": "user", "content": json::text_block(&text) });
    Ok(Payload::default().with("description", &"A greeting").with("messages", &[message]))
}
