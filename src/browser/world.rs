//! The isolated world, in which the agent's scripts run beside those of the page and invisibly to them.
//!
//! A page may overwrite `Map`, `Event` or `Array.prototype.find`, forbid scripts by its policy, or set properties on
//! its elements. A sandbox realm of WebDriver `BiDi` shares the document but has its own global objects. The scripts
//! are added to every document when it is created, once per session, so that a step only sends one line. Without `BiDi`
//! there is deliberately no isolated world; the scripts then run in the page's own.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

use super::bidi::{Bidi, BidiError};
use super::command::ELEMENT;
use super::session::BRISK;

/// Name of the world.
const WORLD: &str = "wachta";

/// The scripts without their comments, as a function body that returns their public functions.
static LIBRARY: LazyLock<String> = LazyLock::new(|| {
    let scripts = [
        include_str!("natives.js"),
        include_str!("names.js"),
        include_str!("ready.js"),
        include_str!("locate.js"),
        include_str!("tree.js"),
        include_str!("world.js"),
    ];
    let lines = scripts.iter().flat_map(|script| script.lines()).map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).map(|line| format!("{line}\n")).collect()
});

/// Returns a function that installs the scripts in a document.
fn installation() -> String {
    format!("function () {{ globalThis.wachta = (() => {{ {} }})(); }}", *LIBRARY)
}

/// Installs the scripts in every future document of a session.
pub(super) async fn prepare(bidi: &Bidi) -> Result<(), BidiError> {
    let params = json!({"functionDeclaration": installation(), "sandbox": WORLD});
    bidi.call("script.addPreloadScript", params, BRISK).await.map(drop)
}

/// Returns the parameters of `script.callFunction` that install the scripts in one document.
pub(super) fn install(context: &str) -> Json {
    json!({
        "functionDeclaration": installation(),
        "awaitPromise": false,
        "target": {"context": context, "sandbox": WORLD},
    })
}

/// Returns the parameters of `script.callFunction` that run a function body in the isolated world of a document. The
/// body gets its argument as `arguments[0]` and the scripts as `wachta`. The response is decoded by [`result`].
pub(super) fn call(context: &str, body: &str, argument: &Json) -> Json {
    let mut elements = Vec::new();
    let text = place(argument, &mut elements).to_string();
    let mut arguments = vec![json!({"type": "string", "value": text})];
    arguments.extend(elements.iter().map(|id| json!({"sharedId": id})));
    let declaration = format!(
        "function (text, ...elements) {{
           const wachta = globalThis.wachta;
           return wachta ? wachta.pack((function () {{ {body}\n }}).call(undefined, wachta.unpack(text, elements))) : null;
         }}"
    );
    json!({
        "functionDeclaration": declaration,
        "awaitPromise": true,
        "arguments": arguments,
        "target": {"context": context, "sandbox": WORLD},
    })
}

/// Returns the same function body as a classic script, including the scripts.
pub(super) fn classic(body: &str) -> String {
    let library = &*LIBRARY;
    format!(
        "const wachta = (() => {{ {library} }})(); return (function () {{ {body}\n }}).call(undefined, arguments[0]);"
    )
}

/// Result of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Called {
    /// The result of the function.
    Result(Json),
    /// The scripts are not installed in the document yet.
    NotInstalled,
    /// The function threw an exception with this message.
    Threw(String),
}

/// Decodes the response to a [`call`].
pub(super) fn result(answer: &Json) -> Called {
    if let Some(text) = thrown(answer) {
        return Called::Threw(text);
    }
    let parts = &answer["result"]["value"];
    let Some(text) = parts[0]["value"].as_str() else { return Called::NotInstalled };
    let Ok(value) = serde_json::from_str(text) else {
        return Called::Threw(format!("unexpected result of a script: {text}"));
    };
    Called::Result(fill(value, &parts[1]["value"], &parts[2]["value"]))
}

/// Returns the message of the exception that a function threw.
pub(super) fn thrown(answer: &Json) -> Option<String> {
    let text = answer["exceptionDetails"]["text"].as_str().unwrap_or("an exception");
    (answer["type"] == "exception").then(|| text.trim_start_matches("Uncaught ").to_owned())
}

/// Replaces each element by a number and collects the elements in a list.
fn place(value: &Json, elements: &mut Vec<String>) -> Json {
    match value {
        Json::Array(items) => items.iter().map(|item| place(item, elements)).collect(),
        Json::Object(entries) => match entries.get(ELEMENT).and_then(Json::as_str) {
            Some(id) => {
                elements.push(id.to_owned());
                json!({ELEMENT: elements.len() - 1})
            }
            None => {
                entries.iter().map(|(key, value)| (key.clone(), place(value, elements))).collect::<Map<_, _>>().into()
            }
        },
        other => other.clone(),
    }
}

/// Replaces each number by its element; a frame also gets its context.
fn fill(value: Json, elements: &Json, windows: &Json) -> Json {
    match value {
        Json::Array(items) => items.into_iter().map(|item| fill(item, elements, windows)).collect(),
        Json::Object(entries) => {
            match entries.get(ELEMENT).and_then(Json::as_u64).and_then(|at| usize::try_from(at).ok()) {
                Some(at) => json!({ELEMENT: elements[at]["sharedId"], "context": windows[at]["value"]["context"]}),
                None => {
                    let entries = entries.into_iter().map(|(key, value)| (key, fill(value, elements, windows)));
                    entries.collect::<Map<_, _>>().into()
                }
            }
        }
        other => other,
    }
}

/// Encodes a value as an argument of `script.callFunction`.
pub(super) fn local(value: &Json) -> Json {
    match value {
        Json::Null => json!({"type": "null"}),
        Json::Bool(value) => json!({"type": "boolean", "value": value}),
        Json::Number(value) => json!({"type": "number", "value": value}),
        Json::String(value) => json!({"type": "string", "value": value}),
        Json::Array(items) => json!({"type": "array", "value": items.iter().map(local).collect::<Vec<_>>()}),
        Json::Object(entries) => {
            let entries: Vec<Json> = entries.iter().map(|(key, value)| json!([key, local(value)])).collect();
            json!({"type": "object", "value": entries})
        }
    }
}

/// Decodes a value that a script has returned as JSON. Values that JSON cannot represent become null.
pub(super) fn plain(value: &Json) -> Json {
    let inner = &value["value"];
    match value["type"].as_str().unwrap_or_default() {
        "string" | "boolean" | "date" => inner.clone(),
        "number" => match inner.as_str() {
            Some("-0") => json!(0),
            // NaN or infinity.
            Some(_) => Json::Null,
            None => inner.clone(),
        },
        "bigint" => {
            inner.as_str().and_then(|digits| digits.parse::<i64>().ok()).map_or_else(|| inner.clone(), Json::from)
        }
        "array" | "set" | "nodelist" | "htmlcollection" => {
            inner.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().into()
        }
        "object" | "map" => {
            let entries = inner.as_array().into_iter().flatten().map(|entry| {
                let key = entry[0].as_str().map_or_else(|| plain(&entry[0]).to_string(), ToOwned::to_owned);
                (key, plain(&entry[1]))
            });
            entries.collect::<Map<_, _>>().into()
        }
        "node" => json!({ELEMENT: value["sharedId"]}),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_travel_beside_the_text() {
        let params = call("c", "return 1", &json!({"a": [{ELEMENT: "e1"}, {"b": {ELEMENT: "e2"}}], "n": 1}));
        let arguments = params["arguments"].as_array().unwrap();
        assert_eq!(arguments[1..], [json!({"sharedId": "e1"}), json!({"sharedId": "e2"})]);
        let text: Json = serde_json::from_str(arguments[0]["value"].as_str().unwrap()).unwrap();
        assert_eq!(text, json!({"a": [{ELEMENT: 0}, {"b": {ELEMENT: 1}}], "n": 1}));
        let elements = json!({"type": "array", "value": [{"type": "node", "sharedId": "e7"}]});
        let windows = json!({"type": "array", "value": [{"type": "window", "value": {"context": "w"}}]});
        let parts = json!([{"type": "string", "value": json!([{ELEMENT: 0}]).to_string()}, elements, windows]);
        let answer = json!({"type": "success", "result": {"type": "array", "value": parts}});
        assert_eq!(result(&answer), Called::Result(json!([{ELEMENT: "e7", "context": "w"}])));
        assert_eq!(result(&json!({"type": "success", "result": {"type": "null"}})), Called::NotInstalled);
        let threw = json!({"type": "exception", "exceptionDetails": {"text": "Uncaught TypeError: no"}});
        assert_eq!(result(&threw), Called::Threw("TypeError: no".into()));
    }

    #[test]
    fn values_of_scripts_are_json() {
        for (value, expected) in [
            (json!({"type": "number", "value": "NaN"}), Json::Null),
            (json!({"type": "number", "value": 1.5}), json!(1.5)),
            (json!({"type": "undefined"}), Json::Null),
            (json!({"type": "array", "value": [{"type": "string", "value": "a"}]}), json!(["a"])),
            (json!({"type": "object", "value": [["k", {"type": "boolean", "value": true}]]}), json!({"k": true})),
            (json!({"type": "map", "value": [[{"type": "number", "value": 1}, {"type": "null"}]]}), json!({"1": null})),
            (json!({"type": "node", "sharedId": "e"}), json!({ELEMENT: "e"})),
            (json!({"type": "bigint", "value": "12"}), json!(12)),
        ] {
            assert_eq!(plain(&value), expected, "{value}");
        }
        assert_eq!(
            plain(&local(&json!({"a": [1, "b", null, {"c": true}]}))),
            json!({"a": [1, "b", null, {"c": true}]})
        );
    }
}
