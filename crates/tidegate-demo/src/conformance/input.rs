//! Tools that need something from the client: a form, its model, its roots.
//!
//! `test_sampling` and `test_elicitation*` are the legacy names, `test_input_required_result_*`
//! the modern ones; both kinds work in both eras.

use serde_json::{Value, json};

use crate::{
    call::{Call, Failure, Outcome},
    catalogue::Tool,
    json::{self, Object},
    question::{Answers, ClientCapabilities, Question},
};

/// The tools of this module.
pub(crate) fn tools() -> Vec<Tool> {
    let mut tools = named_by_legacy();
    tools.extend(named_by_modern());
    tools
}

fn named_by_legacy() -> Vec<Tool> {
    let text = |name: &str| json!({ name: { "type": "string" } });
    vec![
        Tool::new(
            "test_sampling",
            "Asks the client's model",
            (text("prompt"), &["prompt"]),
            |call, args| Box::pin(sample(call, args)),
        ),
        Tool::new(
            "test_elicitation",
            "Asks the user",
            (text("message"), &["message"]),
            |call, args| Box::pin(elicit(call, args)),
        ),
        Tool::plain(
            "test_elicitation_sep1034_defaults",
            "Asks the user with a default for each type",
            |call, _| {
                Box::pin(async move {
                    let message = "Please review and update the form fields with defaults";
                    form(call, message, defaults()).await
                })
            },
        ),
        Tool::plain(
            "test_elicitation_sep1330_enums",
            "Asks the user with each form of an enum",
            |call, _| {
                Box::pin(async move {
                    form(call, "Please select options from the enum fields", enums()).await
                })
            },
        ),
    ]
}

fn named_by_modern() -> Vec<Tool> {
    vec![
        Tool::plain("test_missing_capability", "Needs a client with sampling", |call, _| {
            Box::pin(missing_capability(call))
        }),
        Tool::plain("test_streaming_elicitation", "Reports progress, then asks", |call, _| {
            Box::pin(streaming_elicitation(call))
        }),
        Tool::plain("test_input_required_result_elicitation", "Asks for a name", |call, _| {
            Box::pin(ask_name(call))
        }),
        Tool::plain("test_input_required_result_sampling", "Asks the model", |call, _| {
            Box::pin(ask_model(call))
        }),
        Tool::plain("test_input_required_result_list_roots", "Asks for the roots", |call, _| {
            Box::pin(ask_roots(call))
        }),
        Tool::plain("test_input_required_result_request_state", "Carries a state", |call, _| {
            Box::pin(confirm(call, "state-ok: the state came back"))
        }),
        Tool::plain("test_input_required_result_tampered_state", "Guards a state", |call, _| {
            Box::pin(confirm(call, "integrity-ok: the state is unchanged"))
        }),
        Tool::plain("test_input_required_result_multiple_inputs", "Asks for three", |call, _| {
            Box::pin(ask_three(call))
        }),
        Tool::plain("test_input_required_result_multi_round", "Asks twice", |call, _| {
            Box::pin(ask_twice(call))
        }),
        Tool::plain("test_input_required_result_capabilities", "Asks what it may", |call, _| {
            Box::pin(ask_allowed(call))
        }),
    ]
}

async fn sample(call: Call, args: Object) -> Outcome {
    let prompt: String = args.need("prompt")?;
    let answers = call.gather(vec![("answer", Question::sample(&prompt, 100))], None).await?;
    Ok(json::text(&format!("LLM response: {}", answers.sampled("answer"))))
}

async fn elicit(call: Call, args: Object) -> Outcome {
    let message: String = args.need("message")?;
    let properties = json!({
        "username": { "type": "string", "description": "User's response" },
        "email": { "type": "string", "description": "User's email address" },
    });
    let question = Question::form(&message, &properties, &["username", "email"]);
    let answers = call.gather(vec![("user", question)], None).await?;
    Ok(json::text(&format!("User response: {}", told(&answers, "user"))))
}

async fn form(call: Call, message: &str, properties: Value) -> Outcome {
    let question = Question::form(message, &properties, &[]);
    let answers = call.gather(vec![("form", question)], None).await?;
    Ok(json::text(&format!("Elicitation completed: {}", told(&answers, "form"))))
}

fn told(answers: &Answers, key: &str) -> String {
    format!("action={}, content={}", answers.action(key), answers.content(key))
}

/// One text field.
fn text_form(message: &str, field: &'static str) -> Question {
    Question::form(message, &json!({ field: { "type": "string" } }), &[field])
}

async fn missing_capability(call: Call) -> Outcome {
    // Asked through the one gate that knows what the client declared.
    let question = Question::sample("Say anything.", 10);
    if call.capabilities().allow(&question) {
        return Ok(json::text("Success"));
    }
    call.gather(vec![("any", question)], None).await.map(|_| json::text("Success"))
}

async fn streaming_elicitation(call: Call) -> Outcome {
    call.progress(50, 100, "about to ask").await;
    let answers = call.gather(vec![("name", text_form("Who is there?", "name"))], None).await?;
    Ok(json::text(&format!("Streaming complete: {}", told(&answers, "name"))))
}

async fn ask_name(call: Call) -> Outcome {
    let question = text_form("What is your name?", "name");
    let answers = call.gather(vec![("user_name", question)], None).await?;
    let name = answers.field("user_name", "name");
    Ok(json::text(&format!("Hello, {}!", name.as_deref().unwrap_or("stranger"))))
}

async fn ask_model(call: Call) -> Outcome {
    let question = Question::sample("What is the capital of France?", 100);
    let answers = call.gather(vec![("capital_question", question)], None).await?;
    Ok(json::text(&answers.sampled("capital_question")))
}

async fn ask_roots(call: Call) -> Outcome {
    let answers = call.gather(vec![("client_roots", Question::roots())], None).await?;
    Ok(json::text(&format!("Found {} root(s)", answers.root_count("client_roots"))))
}

async fn confirm(call: Call, done: &str) -> Outcome {
    let properties = json!({ "ok": { "type": "boolean" } });
    let question = Question::form("Please confirm", &properties, &["ok"]);
    call.gather(vec![("confirm", question)], Some(json!({ "step": "confirm" }))).await?;
    if call.version().is_modern() && call.state("step").is_none() {
        return Err(Failure::Tool("the state did not come back".to_owned()));
    }
    Ok(json::text(done))
}

async fn ask_three(call: Call) -> Outcome {
    let questions = vec![
        ("user_name", text_form("What is your name?", "name")),
        ("greeting", Question::sample("Generate a greeting", 50)),
        ("client_roots", Question::roots()),
    ];
    let answers = call.gather(questions, Some(json!({ "step": "three" }))).await?;
    let name = answers.field("user_name", "name").unwrap_or_default();
    let (greeting, roots) = (answers.sampled("greeting"), answers.root_count("client_roots"));
    Ok(json::text(&format!("Name: {name}; greeting: {greeting}; roots: {roots}")))
}

async fn ask_twice(call: Call) -> Outcome {
    let name = match call.state("name") {
        Some(name) => name,
        None => {
            let question = text_form("Step 1: What is your name?", "name");
            let state = json!({ "round": "1" });
            let answers = call.gather(vec![("step1", question)], Some(state)).await?;
            answers.field("step1", "name").unwrap_or_default()
        }
    };
    let question = text_form("Step 2: What is your favorite color?", "color");
    let answers = call.gather(vec![("step2", question)], Some(json!({ "name": name }))).await?;
    let color = answers.field("step2", "color").unwrap_or_default();
    Ok(json::text(&format!("{name} likes {color}")))
}

async fn ask_allowed(call: Call) -> Outcome {
    let ClientCapabilities { form, sampling, .. } = call.capabilities();
    let mut questions = Vec::new();
    if form {
        questions.push(("elicit_input", text_form("Elicitation input", "value")));
    }
    if sampling {
        questions.push(("sample_input", Question::sample("Sample request", 50)));
    }
    let asked = questions.len();
    call.gather(questions, None).await?;
    Ok(json::text(&format!("{asked} question(s) answered")))
}

fn defaults() -> Value {
    let states = ["active", "inactive", "pending"];
    json!({
        "name": { "type": "string", "description": "User name", "default": "John Doe" },
        "age": { "type": "integer", "description": "User age", "default": 30 },
        "score": { "type": "number", "description": "User score", "default": 95.5 },
        "status": {
            "type": "string", "description": "User status", "enum": states, "default": "active",
        },
        "verified": { "type": "boolean", "description": "Verified or not", "default": true },
    })
}

fn enums() -> Value {
    let plain = ["option1", "option2", "option3"];
    let titled = |word: &str| {
        json!([
            { "const": "value1", "title": format!("First {word}") },
            { "const": "value2", "title": format!("Second {word}") },
            { "const": "value3", "title": format!("Third {word}") },
        ])
    };
    json!({
        "untitledSingle": { "type": "string", "description": "Select one", "enum": plain },
        "titledSingle": {
            "type": "string", "description": "Select one by title", "oneOf": titled("Option"),
        },
        "legacyEnum": {
            "type": "string",
            "description": "Select one by name",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "description": "Select some",
            "minItems": 1,
            "maxItems": 3,
            "items": { "type": "string", "enum": plain },
        },
        "titledMulti": {
            "type": "array",
            "description": "Select some by title",
            "minItems": 1,
            "maxItems": 3,
            "items": { "anyOf": titled("Choice") },
        },
    })
}
