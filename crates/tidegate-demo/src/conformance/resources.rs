//! Resources and the one resource template.

use serde_json::json;

use super::PIXEL;
use crate::catalogue::{Content, Resource, Template};

/// How long a copy stays fresh, in milliseconds.
const FRESH: u32 = 60_000;

/// The resources.
pub(crate) fn resources() -> Vec<Resource> {
    vec![
        Resource {
            uri: "test://static-text",
            name: "static-text",
            description: "A text that does not change",
            mime: "text/plain",
            fresh: FRESH,
            read: |_| Content::Text("This is the content of the static text resource.".to_owned()),
        },
        Resource {
            uri: "test://static-binary",
            name: "static-binary",
            description: "An image that does not change",
            mime: "image/png",
            fresh: FRESH,
            read: |_| Content::Blob(PIXEL),
        },
        Resource {
            uri: "test://watched-resource",
            name: "watched-resource",
            description: "A text to subscribe to",
            mime: "text/plain",
            fresh: 0,
            read: |_| Content::Text("Watched resource content".to_owned()),
        },
    ]
}

/// The templates.
pub(crate) fn templates() -> Vec<Template> {
    vec![Template {
        uri: "test://template/{id}/data",
        name: "template",
        description: "One resource per id",
        mime: "application/json",
        prefix: "test://template/",
        suffix: "/data",
        read: |id| {
            let data = format!("Data for ID: {id}");
            let content = json!({ "id": id, "templateTest": true, "data": data });
            Content::Text(content.to_string())
        },
    }]
}
