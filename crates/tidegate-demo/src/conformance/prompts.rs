//! Prompts, one of which needs the client's input first.

use serde_json::{Value, json};

use super::{PIXEL, content::embedded};
use crate::{
    call::{Call, Outcome},
    catalogue::Prompt,
    json::{self, Object, Payload},
    question::Question,
};

/// The prompts.
pub(crate) fn prompts() -> Vec<Prompt> {
    let plain = Prompt {
        name: "test_simple_prompt",
        title: "Simple test prompt",
        description: "Has no arguments",
        arguments: &[],
        values: |_| &[],
        extra: false,
        get: |_, _| {
            let text = json::text_block("This is a simple prompt for testing.");
            Box::pin(async { messages(vec![text]) })
        },
    };
    vec![
        Prompt {
            name: "test_prompt_with_arguments",
            title: "Prompt with arguments",
            description: "Repeats its arguments",
            arguments: &[("arg1", "First argument", true), ("arg2", "Second argument", true)],
            values: |_| &["test", "testing", "tested"],
            get: |_, args| Box::pin(async move { with_arguments(&args) }),
            ..plain.clone()
        },
        Prompt {
            name: "test_prompt_with_embedded_resource",
            title: "Prompt with a resource",
            description: "Holds a resource of your choice",
            arguments: &[("resourceUri", "URI of the resource", true)],
            get: |_, args| Box::pin(async move { with_resource(&args) }),
            ..plain.clone()
        },
        Prompt {
            name: "test_prompt_with_image",
            title: "Prompt with an image",
            description: "Holds an image",
            get: |_, _| Box::pin(async { with_image() }),
            ..plain.clone()
        },
        Prompt {
            name: "test_input_required_result_prompt",
            title: "Prompt with a question",
            description: "Asks the user first",
            get: |call, _| Box::pin(with_input(call)),
            ..plain.clone()
        },
        Prompt {
            name: "test_dynamic_prompt",
            title: "Prompt for now",
            description: "Comes and goes with each prompt change",
            extra: true,
            ..plain.clone()
        },
        plain,
    ]
}

fn messages(contents: Vec<Value>) -> Outcome {
    let message = |content| json!({ "role": "user", "content": content });
    let messages: Vec<Value> = contents.into_iter().map(message).collect();
    Ok(Payload::default().with("messages", &messages))
}

fn with_arguments(args: &Object) -> Outcome {
    let (one, two): (String, String) = (args.need("arg1")?, args.need("arg2")?);
    messages(vec![json::text_block(&format!("Prompt with arguments: arg1='{one}', arg2='{two}'"))])
}

fn with_resource(args: &Object) -> Outcome {
    let uri: String = args.need("resourceUri")?;
    let resource = embedded(&uri, "text/plain", "Embedded resource content for testing.");
    messages(vec![resource, json::text_block("Please process the embedded resource above.")])
}

fn with_image() -> Outcome {
    let image = json!({ "type": "image", "data": PIXEL, "mimeType": "image/png" });
    messages(vec![image, json::text_block("Please analyze the image above.")])
}

async fn with_input(call: Call) -> Outcome {
    let properties = json!({ "context": { "type": "string" } });
    let question = Question::form("What context should the prompt use?", &properties, &["context"]);
    let answers = call.gather(vec![("user_context", question)], None).await?;
    let context = answers.field("user_context", "context").unwrap_or_default();
    messages(vec![json::text_block(&format!("Prompt with context: {context}"))])
}
