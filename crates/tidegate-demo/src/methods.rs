//! The methods that both eras share: lists, calls, reads, prompts, completion.

use serde_json::{Value, json};

use crate::{
    call::{Call, Failure, Outcome},
    catalogue::Content,
    json::{Object, Payload},
    message::RpcError,
    version::Version,
};

/// How long a copy of a list that does not change stays fresh, in milliseconds.
const LIST_FRESH: u32 = 60_000;

/// Whether this module answers the method.
pub(crate) fn is_shared(method: &str) -> bool {
    matches!(
        method,
        "tools/list"
            | "tools/call"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "completion/complete"
    )
}

/// Answers one request.
pub(crate) async fn answer(call: Call, method: &str, params: &Object) -> Outcome {
    let catalogue = &call.server.catalogue;
    match method {
        "tools/list" => page(&call, "tools", catalogue.list_tools(&call.server), params),
        "prompts/list" => page(&call, "prompts", catalogue.list_prompts(&call.server), params),
        "resources/list" => page(&call, "resources", catalogue.list_resources(), params),
        "resources/templates/list" => {
            page(&call, "resourceTemplates", catalogue.list_templates(), params)
        }
        "tools/call" => call_tool(call, params).await,
        "prompts/get" => get_prompt(call, params).await,
        "resources/read" => read(&call, params),
        "completion/complete" => complete(&call, params),
        _ => Err(RpcError::method_not_found(method).into()),
    }
}

/// One page of a list. The cursor is the number of entries before the page.
fn page(call: &Call, key: &'static str, entries: Vec<Value>, params: &Object) -> Outcome {
    let bad_cursor = || RpcError::invalid_params("this cursor is not ours");
    let start = match params.get::<String>("cursor")? {
        None => 0,
        Some(cursor) => cursor.parse::<usize>().map_err(|_| bad_cursor())?,
    };
    let size = call.server.options.page_size.unwrap_or(usize::MAX).max(1);
    if start != 0 && (start >= entries.len() || start % size != 0) {
        return Err(bad_cursor().into());
    }
    let more = entries.len() - start > size;
    let shown: Vec<Value> = entries.into_iter().skip(start).take(size).collect();
    let next = more.then(|| (start + size).to_string());
    let result = Payload::default().with(key, &shown).with_some("nextCursor", next.as_ref());
    // A list that a tool can change is stale at once.
    let fresh = if call.server.options.conformance { 0 } else { LIST_FRESH };
    Ok(with_hints(call, result, fresh, "public"))
}

/// Adds the caching hints that 2026-07-28 requires.
fn with_hints(call: &Call, result: Payload, fresh: u32, scope: &str) -> Payload {
    if call.version().is_modern() {
        result.with("ttlMs", &fresh).with("cacheScope", &scope)
    } else {
        result
    }
}

async fn call_tool(call: Call, params: &Object) -> Outcome {
    let name: String = params.need("name")?;
    let arguments: Object = params.get("arguments")?.unwrap_or_default();
    let Some(tool) = call.server.catalogue.tool(&call.server, &name) else {
        return Err(RpcError::invalid_params(format!("there is no tool `{name}`")).into());
    };
    let (run, version) = (tool.run, call.version());
    match run(call, arguments).await {
        // Older clients do not know structured results.
        Ok(result) if version < Version::V2025_06_18 => Ok(result.without("structuredContent")),
        Err(Failure::Tool(message)) => Ok(crate::json::text(&message).with("isError", &true)),
        outcome => outcome,
    }
}

async fn get_prompt(call: Call, params: &Object) -> Outcome {
    let name: String = params.need("name")?;
    let arguments: Object = params.get("arguments")?.unwrap_or_default();
    let Some(prompt) = call.server.catalogue.prompt(&call.server, &name) else {
        return Err(RpcError::invalid_params(format!("there is no prompt `{name}`")).into());
    };
    let get = prompt.get;
    match get(call, arguments).await {
        Err(Failure::Tool(message)) => Err(RpcError::new(RpcError::INTERNAL, message).into()),
        outcome => outcome,
    }
}

fn read(call: &Call, params: &Object) -> Outcome {
    let uri: String = params.need("uri")?;
    let catalogue = &call.server.catalogue;
    let (content, mime, fresh) = if let Some(resource) = catalogue.resource(&uri) {
        ((resource.read)(&call.server), resource.mime, resource.fresh)
    } else if let Some((template, value)) = catalogue.template(&uri) {
        ((template.read)(value), template.mime, LIST_FRESH)
    } else {
        return Err(not_found(call.version(), &uri).into());
    };
    let entry = match content {
        Content::Text(text) => json!({ "uri": uri, "mimeType": mime, "text": text }),
        Content::Blob(blob) => json!({ "uri": uri, "mimeType": mime, "blob": blob }),
    };
    let result = Payload::default().with("contents", &[entry]);
    Ok(with_hints(call, result, fresh, "private"))
}

/// The error for a URI that names nothing; its code changed with 2026-07-28.
pub(crate) fn not_found(version: Version, uri: &str) -> RpcError {
    let code = if version.is_modern() { RpcError::INVALID_PARAMS } else { -32002 };
    RpcError::new(code, "there is no such resource").with_data(json!({ "uri": uri }))
}

fn complete(call: &Call, params: &Object) -> Outcome {
    let reference: Object = params.need("ref")?;
    let argument: Object = params.need("argument")?;
    let (name, typed): (String, String) = (argument.need("name")?, argument.need("value")?);
    let known: &[&str] = match reference.need::<String>("type")?.as_str() {
        "ref/prompt" => {
            let prompt: String = reference.need("name")?;
            match call.server.catalogue.prompt(&call.server, &prompt) {
                Some(prompt) => (prompt.values)(&name),
                None => return Err(RpcError::invalid_params("there is no such prompt").into()),
            }
        }
        "ref/resource" => {
            let uri: String = reference.need("uri")?;
            if !call.server.catalogue.has_template(&uri) {
                return Err(RpcError::invalid_params("there is no such template").into());
            }
            &[]
        }
        other => {
            return Err(RpcError::invalid_params(format!("unknown reference `{other}`")).into());
        }
    };
    let typed = typed.to_lowercase();
    let fits = |value: &&&str| value.to_lowercase().starts_with(&typed);
    let values: Vec<&str> = known.iter().filter(fits).copied().collect();
    let completion = json!({ "values": values, "total": values.len(), "hasMore": false });
    Ok(Payload::default().with("completion", &completion))
}
