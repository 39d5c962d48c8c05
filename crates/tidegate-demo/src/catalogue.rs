//! What there is to list, call, read and get. Entries are data with a function; no state.

use std::pin::Pin;

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome},
    conformance, demo,
    hub::Change,
    json::Object,
    server::Server,
};

/// A handler at work.
pub(crate) type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A handler: the call and its arguments.
pub(crate) type Handler = fn(Call, Object) -> Running;

/// A tool.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// JSON Schema of the arguments.
    pub(crate) input: Value,
    /// JSON Schema of the structured result, if there is one.
    pub(crate) output: Option<Value>,
    /// Whether it comes and goes with [`Change::Tools`].
    pub(crate) extra: bool,
    pub(crate) run: Handler,
}

impl Tool {
    /// A tool with these argument properties.
    pub(crate) fn new(
        name: &'static str,
        description: &'static str,
        (properties, required): (Value, &[&str]),
        run: Handler,
    ) -> Self {
        let input = json!({ "type": "object", "properties": properties, "required": required });
        Self { name, description, input, output: None, extra: false, run }
    }

    /// A tool without arguments.
    pub(crate) fn plain(name: &'static str, description: &'static str, run: Handler) -> Self {
        Self::new(name, description, (json!({}), &[]), run)
    }

    fn entry(&self) -> Value {
        let mut entry = json!({
            "name": self.name,
            "description": self.description,
            "inputSchema": self.input,
        });
        if let (Some(output), Some(map)) = (&self.output, entry.as_object_mut()) {
            map.insert("outputSchema".to_owned(), output.clone());
        }
        entry
    }
}

/// A prompt.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    /// Name, description, and whether it is required.
    pub(crate) arguments: &'static [(&'static str, &'static str, bool)],
    /// Values that an argument may complete to.
    pub(crate) values: fn(&str) -> &'static [&'static str],
    /// Whether it comes and goes with [`Change::Prompts`].
    pub(crate) extra: bool,
    pub(crate) get: Handler,
}

impl Prompt {
    fn entry(&self) -> Value {
        let arguments: Vec<Value> = self
            .arguments
            .iter()
            .map(|(name, description, required)| {
                json!({ "name": name, "description": description, "required": required })
            })
            .collect();
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "arguments": arguments,
        })
    }
}

/// What a resource holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Text(String),
    /// Base64.
    Blob(&'static str),
}

/// A resource.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) uri: &'static str,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) mime: &'static str,
    /// How long a copy stays fresh, in milliseconds.
    pub(crate) fresh: u32,
    pub(crate) read: fn(&Server) -> Content,
}

/// A family of resources: `prefix`, a value, `suffix`.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) uri: &'static str,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) mime: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) suffix: &'static str,
    pub(crate) read: fn(&str) -> Content,
}

/// Everything that one server offers.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    resources: Vec<Resource>,
    templates: Vec<Template>,
}

impl Catalogue {
    /// The demo's entries, and the conformance suite's if wanted.
    pub(crate) fn new(conformance: bool) -> Self {
        let mut catalogue = Self {
            tools: demo::tools(),
            prompts: demo::prompts(),
            resources: demo::resources(),
            templates: Vec::new(),
        };
        if conformance {
            catalogue.tools.extend(conformance::tools());
            catalogue.prompts.extend(conformance::prompts());
            catalogue.resources.extend(conformance::resources());
            catalogue.templates.extend(conformance::templates());
        }
        catalogue
    }

    /// The tool of that name, if it is there now.
    pub(crate) fn tool(&self, server: &Server, name: &str) -> Option<&Tool> {
        let there = |tool: &&Tool| !tool.extra || server.shows(&Change::Tools);
        self.tools.iter().find(|tool| tool.name == name).filter(there)
    }

    /// The prompt of that name, if it is there now.
    pub(crate) fn prompt(&self, server: &Server, name: &str) -> Option<&Prompt> {
        let there = |prompt: &&Prompt| !prompt.extra || server.shows(&Change::Prompts);
        self.prompts.iter().find(|prompt| prompt.name == name).filter(there)
    }

    /// The listed resource of that URI.
    pub(crate) fn resource(&self, uri: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.uri == uri)
    }

    /// The template that a URI fits, and the value in it.
    pub(crate) fn template<'a>(&self, uri: &'a str) -> Option<(&Template, &'a str)> {
        self.templates.iter().find_map(|template| {
            let value = uri.strip_prefix(template.prefix)?.strip_suffix(template.suffix)?;
            (!value.is_empty() && !value.contains('/')).then_some((template, value))
        })
    }

    /// Whether a template is listed under exactly this text.
    pub(crate) fn has_template(&self, uri: &str) -> bool {
        self.templates.iter().any(|template| template.uri == uri)
    }

    /// The entries of `tools/list`.
    pub(crate) fn list_tools(&self, server: &Server) -> Vec<Value> {
        let there = |tool: &&Tool| !tool.extra || server.shows(&Change::Tools);
        self.tools.iter().filter(there).map(Tool::entry).collect()
    }

    /// The entries of `prompts/list`.
    pub(crate) fn list_prompts(&self, server: &Server) -> Vec<Value> {
        let there = |prompt: &&Prompt| !prompt.extra || server.shows(&Change::Prompts);
        self.prompts.iter().filter(there).map(Prompt::entry).collect()
    }

    /// The entries of `resources/list`.
    pub(crate) fn list_resources(&self) -> Vec<Value> {
        let entry = |resource: &Resource| {
            json!({
                "uri": resource.uri,
                "name": resource.name,
                "description": resource.description,
                "mimeType": resource.mime,
            })
        };
        self.resources.iter().map(entry).collect()
    }

    /// The entries of `resources/templates/list`.
    pub(crate) fn list_templates(&self) -> Vec<Value> {
        let entry = |template: &Template| {
            json!({
                "uriTemplate": template.uri,
                "name": template.name,
                "description": template.description,
                "mimeType": template.mime,
            })
        };
        self.templates.iter().map(entry).collect()
    }
}
