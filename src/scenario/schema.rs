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
    let mut steps: Vec<(&str, Json)> = actions
        .map(|action| {
            let tables: &[&[Key]] = &[&[action.key], action.sibling_keys, MODIFIERS, PAGE_MODIFIERS];
            (action.key.name, map(tables, &[action.key.name]))
        })
        .collect();
    for name in METHODS {
        steps.push((name, map(&[&[Key { name, ..method }], REQUEST, MODIFIERS], &[name])));
    }
    steps.push(("group", map(&[&[GROUP.key], GROUP.sibling_keys, MODIFIERS], &["group", "steps"])));
    steps.push(("use", map(&[&[USE.key], USE.sibling_keys, MODIFIERS], &["use"])));
    let checks = CHECK_KINDS.iter().filter(|kind| kind.key.shape.is_some()).map(|kind| {
        let request: &[Key] = if kind.key.name == HTTP.key.name { REQUEST } else { &[] };
        (kind.key.name, map(&[&[kind.key], kind.sibling_keys, request, CHECK], &[kind.key.name]))
    });
    let mut matcher = map(&[MATCHERS], &[]);
    matcher["minProperties"] = json!(1);
    matcher["maxProperties"] = json!(1);
    let value = any_type(&["string", "number", "boolean", "null", "array"]);
    let option = json!({"type": "object", "properties": {"value": text()}, "required": ["value"], "additionalProperties": false});
    json!({
        "$schema": DIALECT,
        "title": "wachta scenario file",
        "type": "object",
        "if": has("scenario"),
        "then": map(&[SCENARIO], &["scenario", "steps"]),
        "else": {
            "if": has("checks"),
            "then": map(&[CHECKS], &["checks"]),
            "else": map(&[FRAGMENT], &["steps"]),
        },
        "$defs": {
            "steps": {"type": "array", "minItems": 1, "items": by_first_key(&steps)},
            "check": by_first_key(&checks.collect::<Vec<_>>()),
            "target": map(&[&ROLE_KEYS, HOW, TARGET_BESIDE], &[]),
            "matcher": {"if": {"type": "object"}, "then": matcher, "else": value},
            "number": any_type(&["number", "string"]),
            "option": {"if": {"type": "object"}, "then": option, "else": text()},
            "page_facts": map(&[PAGE_FACTS, ELEMENT_FACTS], &[]),
        },
    })
}

/// Tells alternatives apart by a key that each of them requires, so that an error is that of the one that was meant and
/// not of all of them.
fn by_first_key(alternatives: &[(&str, Json)]) -> Json {
    let mut known = Map::new();
    for (_, schema) in alternatives {
        for name in schema["properties"].as_object().into_iter().flat_map(Map::keys) {
            known.insert(name.clone(), Json::Null);
        }
    }
    let names: Vec<&String> = known.keys().collect();
    // Editors suggest the keys that are listed here while none of them is written yet.
    let suggested: Map<String, Json> = alternatives
        .iter()
        .map(|(name, schema)| {
            let description = &schema["properties"][name]["description"];
            ((*name).to_owned(), json!({"description": description}))
        })
        .collect();
    let required: Vec<Json> = alternatives.iter().map(|(name, _)| has(name)).collect();
    let case = |(name, schema): &(&str, Json)| {
        // A key such as `expect` is an alternative of its own, and an option of others.
        let others = alternatives.iter().filter(|(other, with)| other != name && !with["properties"][name].is_null());
        let others: Vec<Json> = others.map(|(other, _)| has(other)).collect();
        let mut when = has(name);
        if !others.is_empty() {
            when["not"] = json!({"anyOf": others});
        }
        json!({"if": when, "then": schema})
    };
    let cases: Vec<Json> = alternatives.iter().map(case).collect();
    json!({
        "type": "object",
        "properties": suggested,
        "propertyNames": {"enum": names},
        "anyOf": required,
        "allOf": cases,
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

/// Accepts a map that has a key. The key is also listed under `properties`, which validators in strict mode require.
fn has(name: &str) -> Json {
    json!({"properties": {name: true}, "required": [name]})
}

fn text() -> Json {
    any_type(&["string", "number"])
}

/// Accepts a value of any of these types. A list of types is not used, because validators in strict mode reject it.
fn any_type(types: &[&str]) -> Json {
    json!({"anyOf": types.iter().map(|name| json!({"type": name})).collect::<Vec<_>>()})
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
        if !schema["not"].is_null() && fits(root, &schema["not"], node).is_ok() {
            return Err("not".into());
        }
        if let Some(name) = schema["$ref"].as_str() {
            return fits(root, &root["$defs"][name.trim_start_matches("#/$defs/")], node);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let errors: Vec<_> = any.iter().filter_map(|one| fits(root, one, node).err()).collect();
            if errors.len() == any.len() {
                return Err(errors.join(" | "));
            }
        }
        for one in schema["allOf"].as_array().into_iter().flatten() {
            fits(root, one, node)?;
        }
        if !schema["if"].is_null() {
            let branch = if fits(root, &schema["if"], node).is_ok() { "then" } else { "else" };
            fits(root, &schema[branch], node)?;
        }
        if let Some(names) = schema["propertyNames"]["enum"].as_array() {
            let mut keys = node.entries().unwrap_or_default().iter();
            if let Some(entry) = keys.find(|entry| !names.iter().any(|name| *name == entry.key)) {
                return Err(format!("unknown {}", entry.key));
            }
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
        if let Some(wanted) = schema["type"].as_str()
            && wanted != kind
            && !(wanted == "integer" && kind == "number")
        {
            return Err(format!("{kind} is not {wanted}"));
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

    /// Editors show these errors, so they must be about the key that is wrong.
    #[test]
    fn an_error_is_about_the_alternative_that_was_meant() {
        let validator = jsonschema::validator_for(&scenario_files()).unwrap();
        let errors = |step: Json| -> Vec<String> {
            let file = json!({"scenario": "A", "steps": [step]});
            validator.iter_errors(&file).map(|error| error.to_string()).collect()
        };
        assert_eq!(errors(json!({"click": {"button": "Buy"}, "timeout": "3s"})), Vec::<String>::new());
        for (step, part) in [
            (json!({"click": {"button": "Buy"}, "tmeout": "3s"}), "tmeout"),
            (json!({"clik": {"button": "Buy"}}), "clik"),
            (json!({"GET": "/", "expect": {"stats": 200}}), "stats"),
        ] {
            let found = errors(step);
            assert!(found.len() <= 2 && found.iter().any(|error| error.contains(part)), "{part}: {found:#?}");
        }
    }
}
