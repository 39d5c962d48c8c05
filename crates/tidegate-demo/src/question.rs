//! What a handler can ask a client for, and what the client answers. Data only; [`crate::call`]
//! does the asking.

use std::collections::BTreeMap;

use serde_json::{Value, json, value::RawValue};

use crate::{json::Object, version::Version};

/// Something to ask the client for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    method: &'static str,
    params: Value,
}

impl Question {
    /// A form for the user to fill in.
    pub(crate) fn form(message: &str, properties: &Value, required: &[&str]) -> Self {
        let params = json!({
            "message": message,
            "requestedSchema": {
                "type": "object", "properties": properties, "required": required,
            },
        });
        Self { method: "elicitation/create", params }
    }

    /// A prompt for the client's model.
    pub(crate) fn sample(prompt: &str, max_tokens: u32) -> Self {
        let params = json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": max_tokens,
        });
        Self { method: "sampling/createMessage", params }
    }

    /// The client's roots.
    pub(crate) fn roots() -> Self {
        Self { method: "roots/list", params: json!({}) }
    }

    /// The method that asks it.
    pub(crate) const fn method(&self) -> &'static str {
        self.method
    }

    /// The client capability it needs.
    pub(crate) fn capability(&self) -> Value {
        match self.method {
            "elicitation/create" => json!({ "elicitation": { "form": {} } }),
            "sampling/createMessage" => json!({ "sampling": {} }),
            _ => json!({ "roots": {} }),
        }
    }

    /// The params as `version` has them: forms have a mode since 2025-11-25.
    pub(crate) fn params(&self, version: Version) -> Value {
        let mut params = self.params.clone();
        if self.method == "elicitation/create"
            && version >= Version::V2025_11_25
            && let Some(map) = params.as_object_mut()
        {
            map.insert("mode".to_owned(), json!("form"));
        }
        params
    }

    /// Whether an answer has the form that the question asks for.
    pub(crate) fn is_answered_by(&self, answer: &Object) -> bool {
        let has = |key: &str| answer.raw(key).is_some();
        match self.method {
            "elicitation/create" => matches!(
                answer.get::<String>("action").ok().flatten().as_deref(),
                Some("accept" | "decline" | "cancel")
            ),
            "sampling/createMessage" => has("role") && has("content"),
            _ => matches!(answer.get::<Vec<Value>>("roots"), Ok(Some(_))),
        }
    }
}

/// What a client declared that it can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCapabilities {
    pub(crate) form: bool,
    pub(crate) sampling: bool,
    pub(crate) roots: bool,
}

impl ClientCapabilities {
    /// Reads the object that a client sent. `elicitation: {}` means forms.
    pub(crate) fn parse(value: &Value) -> Self {
        let form = value.get("elicitation").and_then(Value::as_object);
        Self {
            form: form.is_some_and(|map| map.contains_key("form") || !map.contains_key("url")),
            sampling: value.get("sampling").is_some_and(Value::is_object),
            roots: value.get("roots").is_some_and(Value::is_object),
        }
    }

    /// Whether this question may be asked.
    pub(crate) fn allow(self, question: &Question) -> bool {
        match question.method {
            "elicitation/create" => self.form,
            "sampling/createMessage" => self.sampling,
            _ => self.roots,
        }
    }
}

/// The client's answers, by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(BTreeMap<&'static str, Object>);

impl Answers {
    /// Adds an answer.
    pub(crate) fn insert(&mut self, key: &'static str, answer: Object) {
        self.0.insert(key, answer);
    }

    /// The answer object.
    pub(crate) fn of(&self, key: &str) -> Object {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// The `action` of a filled form: accept, decline or cancel.
    pub(crate) fn action(&self, key: &str) -> String {
        self.of(key).get("action").ok().flatten().unwrap_or_default()
    }

    /// The content of a filled form, as it was sent.
    pub(crate) fn content(&self, key: &str) -> String {
        self.of(key).raw("content").map_or("{}", RawValue::get).to_owned()
    }

    /// One string of a filled form.
    pub(crate) fn field(&self, key: &str, field: &str) -> Option<String> {
        self.of(key).get::<Object>("content").ok()??.get(field).ok()?
    }

    /// The text that a model gave.
    pub(crate) fn sampled(&self, key: &str) -> String {
        let content: Option<Object> = self.of(key).get("content").ok().flatten();
        let text = content.and_then(|content| content.get("text").ok().flatten());
        text.unwrap_or_else(|| "no text".to_owned())
    }

    /// How many roots the client listed.
    pub(crate) fn root_count(&self, key: &str) -> usize {
        self.of(key).get::<Vec<Value>>("roots").ok().flatten().map_or(0, |roots| roots.len())
    }
}
