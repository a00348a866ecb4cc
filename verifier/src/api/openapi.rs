//! The route table as an OpenAPI document.

use quotary_common::reason::{Reason, Refusal};
use quotary_common::wire::{Right, RouteInfo, ShowOpenApi, VERIFIER_ROUTES, path_alone, query_names};
use serde_json::{Map, Value, json};

use super::mount::Call;

pub(super) async fn document(_: Call<ShowOpenApi>) -> Result<Value, Refusal> {
    Ok(describe(VERIFIER_ROUTES))
}

fn describe(routes: &[RouteInfo]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let path = path_alone(route.path).replace("{*", "{");
        let methods = paths.entry(path.clone()).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(route.method.name().to_lowercase(), operation(route, &path));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Quotary verifier", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "operator": { "type": "http", "scheme": "bearer" },
                "client-key": { "type": "mutualTLS" },
            },
            "schemas": { "Error": error_schema() },
        },
    })
}

fn operation(route: &RouteInfo, path: &str) -> Value {
    let mut parameters: Vec<Value> = path
        .split('{')
        .skip(1)
        .filter_map(|part| part.split('}').next())
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters.extend(
        query_names(route.path)
            .map(|name| json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } })),
    );
    let mut done = json!({ "description": "Done." });
    if route.stream {
        done["description"] = json!("A stream that does not end by itself.");
        done["content"] = json!({ "text/event-stream": { "schema": { "type": "string" } } });
    }
    let security = match route.right {
        Right::Join | Right::Host => json!([{ "client-key": [] }]),
        _ => json!([{ "operator": [] }]),
    };
    json!({
        "operationId": route.name,
        "summary": route.doc,
        "description": format!("Right: {}.", route.right.name()),
        "parameters": parameters,
        "security": security,
        "responses": {
            "200": done,
            "default": {
                "description": "Refused.",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    })
}

fn error_schema() -> Value {
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let meanings: Vec<String> =
        Reason::ALL.iter().map(|reason| format!("`{}`: {}", reason.code(), reason.meaning())).collect();
    json!({
        "type": "object",
        "required": ["reason", "detail", "retry"],
        "properties": {
            "reason": { "type": "string", "enum": codes, "description": meanings.join("\n") },
            "detail": { "type": "string" },
            "retry": { "type": "boolean" },
        },
    })
}
