//! Tools whose results have every kind of content, or come with logs and progress.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::PIXEL;
use crate::{
    call::{Call, Failure, Outcome},
    catalogue::Tool,
    hub::Change,
    json::{self, Object, Payload},
    version::Level,
};

/// A WAV file without samples.
const SILENCE: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

/// The pause between two logs or two steps, long enough to be seen apart.
const PAUSE: Duration = Duration::from_millis(50);
/// What a client has to come back.
const RECONNECTION: Duration = Duration::from_secs(2);

/// The tools of this module.
pub(crate) fn tools() -> Vec<Tool> {
    let mut tools = fixed();
    tools.extend(live());
    tools
}

/// Tools that always return the same.
fn fixed() -> Vec<Tool> {
    let extra = Tool {
        extra: true,
        ..Tool::plain("test_dynamic_tool", "Comes and goes with each tool change", |_, _| {
            Box::pin(async { Ok(json::text("Here for now.")) })
        })
    };
    vec![
        Tool::plain("test_simple_text", "Returns a text", |_, _| {
            Box::pin(async { Ok(json::text("This is a simple text response for testing.")) })
        }),
        Tool::plain("test_image_content", "Returns an image", |_, _| {
            Box::pin(async { content(&[image()]) })
        }),
        Tool::plain("test_audio_content", "Returns a sound", |_, _| {
            let audio = json!({ "type": "audio", "data": SILENCE, "mimeType": "audio/wav" });
            Box::pin(async move { content(&[audio]) })
        }),
        Tool::plain("test_embedded_resource", "Returns a resource", |_, _| {
            let text = "This is an embedded resource content.";
            Box::pin(async { content(&[embedded("test://embedded-resource", "text/plain", text)]) })
        }),
        Tool::plain("test_multiple_content_types", "Returns three kinds of content", |_, _| {
            let data = r#"{"test":"data","value":123}"#;
            let uri = "test://mixed-content-resource";
            let resource = embedded(uri, "application/json", data);
            let text = json::text_block("Multiple content types test:");
            Box::pin(async move { content(&[text, image(), resource]) })
        }),
        Tool::plain("test_error_handling", "Always fails", |_, _| {
            let message = "This tool intentionally returns an error for testing";
            Box::pin(async { Err(Failure::Tool(message.to_owned())) })
        }),
        Tool {
            input: schema_2020_12(),
            ..Tool::plain(
                "json_schema_2020_12_tool",
                "Has an input schema with the vocabulary of JSON Schema 2020-12",
                |_, args| Box::pin(async move { Ok(json::text(&names(&args))) }),
            )
        },
        Tool::new(
            "test_mirrored_header",
            "Wants one argument to be repeated in a header",
            (json!({ "region": { "type": "string", "x-mcp-header": "Region" } }), &["region"]),
            |_, args| Box::pin(async move { Ok(json::text(&names(&args))) }),
        ),
        extra,
    ]
}

/// Tools that send something before their result, or change something.
fn live() -> Vec<Tool> {
    vec![
        Tool::plain("test_tool_with_logging", "Logs three times", |call, _| {
            Box::pin(log_thrice(call))
        }),
        Tool::plain("test_tool_with_progress", "Reports progress three times", |call, _| {
            Box::pin(progress_thrice(call))
        }),
        Tool::plain("test_logging_tool", "Logs if the request says so", |call, _| {
            Box::pin(async move {
                call.log(Level::Info, "looking").await;
                Ok(json::text("Logging evaluated"))
            })
        }),
        Tool::plain("test_reconnection", "Hangs up and goes on", |call, _| {
            Box::pin(async move {
                call.hang_up().await;
                sleep(RECONNECTION).await;
                Ok(json::text("You came back for this."))
            })
        }),
        Tool::plain("test_trigger_tool_change", "Changes the list of tools", |call, _| {
            Box::pin(async move {
                call.server.change(&Change::Tools);
                Ok(json::text("Changed the tools."))
            })
        }),
        Tool::plain("test_trigger_prompt_change", "Changes the list of prompts", |call, _| {
            Box::pin(async move {
                call.server.change(&Change::Prompts);
                Ok(json::text("Changed the prompts."))
            })
        }),
    ]
}

fn content(blocks: &[Value]) -> Outcome {
    Ok(Payload::default().with("content", &blocks))
}

fn image() -> Value {
    json!({ "type": "image", "data": PIXEL, "mimeType": "image/png" })
}

/// A resource inside a result.
pub(crate) fn embedded(uri: &str, mime: &str, text: &str) -> Value {
    let resource = json!({ "uri": uri, "mimeType": mime, "text": text });
    json!({ "type": "resource", "resource": resource })
}

/// Says which arguments came.
fn names(args: &Object) -> String {
    let names: Vec<&str> = args.iter().map(|(name, _)| name).collect();
    format!("Called with: {}", names.join(", "))
}

async fn log_thrice(call: Call) -> Outcome {
    call.log(Level::Info, "Tool execution started").await;
    sleep(PAUSE).await;
    call.log(Level::Info, "Tool processing data").await;
    sleep(PAUSE).await;
    call.log(Level::Info, "Tool execution completed").await;
    Ok(json::text("Tool with logging executed successfully"))
}

async fn progress_thrice(call: Call) -> Outcome {
    for done in [0, 50, 100] {
        if done > 0 {
            sleep(PAUSE).await;
        }
        call.progress(done, 100, &format!("Completed {done} of 100")).await;
    }
    Ok(json::text("Tool with progress executed successfully"))
}

fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": {
            "properties": { "contactMethod": { "const": "phone" } },
            "required": ["contactMethod"],
        },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
