//! JSON Schema (draft 2020-12) of scenario files, generated from the same tables as the reader.
//!
//! It lets editors suggest and check keys. Types of matchers and references are checked only by the reader.

use serde_json::{Map, Value as Json, json};

use super::keys::{
    CHECK, CHECK_KINDS, CHECKS, ELEMENT_FACTS, FRAGMENT, GROUP, HOW, HTTP, Key, MATCHERS, METHODS, MODIFIERS,
    PAGE_ACTIONS, PAGE_FACTS, PAGE_MODIFIERS, REQUEST, ROLE_KEYS, SCENARIO, Shape, TARGET_BESIDE, USE,
};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Returns the schema of scenario files.
pub fn scenario_files() -> Json {
    let method = Key { name: "GET", shape: Some(Shape::Text), doc: "request to a path or URL" };
    let actions = PAGE_ACTIONS.iter().filter(|action| action.key.shape.is_some());
    let mut steps: Vec<Json> = actions
        .map(|action| map(&[&[action.key], action.sibling_keys, MODIFIERS, PAGE_MODIFIERS], &[action.key.name]))
        .collect();
    for name in METHODS {
        steps.push(map(&[&[Key { name, ..method }], REQUEST, MODIFIERS], &[name]));
    }
    steps.push(map(&[&[GROUP.key], GROUP.sibling_keys, MODIFIERS], &["group", "steps"]));
    steps.push(map(&[&[USE.key], USE.sibling_keys, MODIFIERS], &["use"]));
    let checks = CHECK_KINDS.iter().filter(|kind| kind.key.shape.is_some()).map(|kind| {
        let request: &[Key] = if kind.key.name == HTTP.key.name { REQUEST } else { &[] };
        map(&[&[kind.key], kind.sibling_keys, request, CHECK], &[kind.key.name])
    });
    let mut matcher = map(&[MATCHERS], &[]);
    matcher["minProperties"] = json!(1);
    matcher["maxProperties"] = json!(1);
    json!({
        "$schema": DIALECT,
        "title": "wachta scenario file",
        "anyOf": [map(&[SCENARIO], &["scenario", "steps"]), map(&[CHECKS], &["checks"]), map(&[FRAGMENT], &["steps"])],
        "$defs": {
            "steps": {"type": "array", "minItems": 1, "items": {"anyOf": steps}},
            "check": {"anyOf": checks.collect::<Vec<_>>()},
            "target": map(&[&ROLE_KEYS, HOW, TARGET_BESIDE], &[]),
            "matcher": {"anyOf": [{"type": ["string", "number", "boolean", "null", "array"]}, matcher]},
            "number": {"type": ["number", "string"]},
            "option": {"anyOf": [
                text(),
                {"type": "object", "properties": {"value": text()}, "required": ["value"], "additionalProperties": false},
            ]},
            "page_facts": map(&[PAGE_FACTS, ELEMENT_FACTS], &[]),
        },
    })
}

/// Creates a schema with the keys of these tables, except those not supported yet.
pub fn of_tables(title: &str, tables: &[&[Key]], required: &[&str]) -> Json {
    let mut schema = map(tables, required);
    schema["$schema"] = json!(DIALECT);
    schema["title"] = json!(title);
    schema
}

fn map(tables: &[&[Key]], required: &[&str]) -> Json {
    let mut properties = Map::new();
    for key in tables.iter().flat_map(|table| table.iter()) {
        if let Some(shape) = &key.shape {
            let mut schema = of(shape);
            schema["description"] = json!(key.doc);
            properties.insert(key.name.to_owned(), schema);
        }
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn text() -> Json {
    json!({"type": ["string", "number"]})
}

fn of(shape: &Shape) -> Json {
    match shape {
        Shape::Text => text(),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Whole => json!({"type": "integer", "minimum": 0}),
        Shape::Number => json!({"type": "number"}),
        Shape::Size => json!({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(B|KB|MB|GB|KiB|MiB|GiB)$"}),
        Shape::Pixels => json!({"type": "string", "pattern": "^-?[0-9]+px$"}),
        Shape::Count => json!({"type": "integer", "minimum": 1}),
        Shape::Duration => json!({"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$"}),
        Shape::Any => json!({}),
        Shape::Words(words) => json!({"enum": words}),
        Shape::Ref(name) => json!({"$ref": format!("#/$defs/{name}")}),
        Shape::List(item) => json!({"type": "array", "items": of(item)}),
        Shape::OneOrMany(item) => json!({"anyOf": [of(item), {"type": "array", "items": of(item)}]}),
        Shape::Map(value) => json!({"type": "object", "additionalProperties": of(value)}),
        Shape::Either(shapes) => json!({"anyOf": shapes.iter().map(of).collect::<Vec<_>>()}),
        Shape::Keys(tables) => map(tables, &[]),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tree::{Node, NodeKind, Resolved};
    use super::*;

    /// Checks a tree against a schema, as far as the features used in this module. The error is the path to the
    /// mismatch.
    pub fn fits(root: &Json, schema: &Json, node: &Node) -> Result<(), String> {
        if let Some(name) = schema["$ref"].as_str() {
            return fits(root, &root["$defs"][name.trim_start_matches("#/$defs/")], node);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let errors: Vec<_> = any.iter().filter_map(|one| fits(root, one, node).err()).collect();
            return if errors.len() == any.len() { Err(errors.join(" | ")) } else { Ok(()) };
        }
        if let Some(words) = schema["enum"].as_array() {
            let text = node.scalar().map(|scalar| scalar.text.as_str());
            return if words.iter().any(|word| word.as_str() == text) { Ok(()) } else { Err("enum".into()) };
        }
        let kind = match &node.kind {
            NodeKind::List(_) => "array",
            NodeKind::Map(_) => "object",
            NodeKind::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => "null",
                Resolved::Bool(_) => "boolean",
                Resolved::Number => "number",
                Resolved::Text => "string",
            },
        };
        let types: Vec<&str> = match &schema["type"] {
            Json::String(one) => vec![one.as_str()],
            Json::Array(many) => many.iter().filter_map(Json::as_str).collect(),
            _ => return Ok(()),
        };
        if !types.iter().any(|one| *one == kind || (*one == "integer" && kind == "number")) {
            return Err(format!("{kind} is not {types:?}"));
        }
        match &node.kind {
            NodeKind::List(items) if !schema["items"].is_null() => {
                items.iter().try_for_each(|item| fits(root, &schema["items"], item))
            }
            NodeKind::Map(entries) => {
                for name in schema["required"].as_array().into_iter().flatten() {
                    if node.get(name.as_str().unwrap_or_default()).is_none() {
                        return Err(format!("{name} is missing"));
                    }
                }
                for entry in entries {
                    let inner = match &schema["properties"][&entry.key] {
                        Json::Null if schema["additionalProperties"] == json!(false) => {
                            return Err(format!("unknown {}", entry.key));
                        }
                        Json::Null => &schema["additionalProperties"],
                        inner => inner,
                    };
                    fits(root, inner, &entry.value).map_err(|error| format!("{}: {error}", entry.key))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
