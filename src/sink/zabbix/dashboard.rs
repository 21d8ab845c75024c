//! Global dashboard of all hosts to which the template is linked, in the format of the API. Pure.
//!
//! One page shows problems, the last verdicts and the durations of runs; the other shows steps with their timing, like
//! the page of a web scenario. The names of widgets and of their fields differ between versions: 7.0 has 72 columns,
//! puts the index of a field first, and shows values in a honeycomb, because later versions have no data overview.

use serde_json::{Value, json};

use super::api::Version;

/// Name of the dashboard.
pub const NAME: &str = "wachta";

/// Format of the dashboard, which depends on the version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Format before 7.0.
    Old,
    /// Format of 7.0 and later.
    New,
}

/// Returns the dashboard for the hosts of a group and with these visible names.
pub fn dashboard(version: Version, group: &str, hosts: &[String]) -> Value {
    let form = if version < Version::new(7, 0) { Form::Old } else { Form::New };
    let mut problems = tags(form, "tags", "target", super::template::NAME);
    problems.push(number("show_tags", 3));
    problems.push(text("tag_priority", "scenario,service,team"));
    json!({
        "name": NAME,
        // Visible to all users.
        "private": "0",
        "display_period": "30",
        "auto_start": "0",
        "pages": [
            {
                "name": "Scenarios",
                "widgets": [
                    widget(form, "problems", "Problems", 0, 3, "WACHA", problems),
                    values(form, "Verdict of the last run", "status", group, 3, 3, "WACHB"),
                    lines(form, "Duration of runs", "*: run duration", hosts, 6, 5, "WACHC"),
                ],
            },
            {
                "name": "Steps",
                "widgets": [
                    values(form, "Duration of steps in the last run", "step.duration", group, 0, 4, "WACHD"),
                    lines(form, "Duration of steps", "*: step duration", hosts, 4, 5, "WACHE"),
                ],
            },
        ],
    })
}

fn field(kind: u8, name: &str, value: &str) -> Value {
    json!({"type": kind.to_string(), "name": name, "value": value})
}

fn number(name: &str, value: u32) -> Value {
    field(0, name, &value.to_string())
}

fn text(name: &str, value: &str) -> Value {
    field(1, name, value)
}

/// Returns the fields of a condition: a tag has exactly this value.
fn tags(form: Form, field: &str, tag: &str, value: &str) -> Vec<Value> {
    let name = |part: &str| match form {
        Form::Old => format!("{field}.{part}.0"),
        Form::New => format!("{field}.0.{part}"),
    };
    vec![text(&name("tag"), tag), number(&name("operator"), 1), text(&name("value"), value)]
}

fn widget(form: Form, kind: &str, name: &str, y: u32, height: u32, reference: &str, mut fields: Vec<Value>) -> Value {
    let width = match form {
        Form::Old => "24",
        Form::New => {
            fields.push(text("reference", reference));
            "72"
        }
    };
    json!({
        "type": kind, "name": name, "x": "0", "y": y.to_string(), "width": width, "height": height.to_string(),
        "fields": fields,
    })
}

/// Returns a widget with the last values of the items of a component.
fn values(form: Form, name: &str, component: &str, group: &str, y: u32, height: u32, reference: &str) -> Value {
    match form {
        Form::Old => {
            let mut fields = vec![field(2, "groupids", group)];
            fields.extend(tags(form, "tags", "component", component));
            widget(form, "dataover", name, y, height, reference, fields)
        }
        Form::New => {
            let mut fields = vec![field(2, "groupids.0", group), text("items.0", "*")];
            fields.extend(tags(form, "item_tags", "component", component));
            fields.push(text("primary_label", "{ITEM.NAME}"));
            if component == "status" {
                // The name of the verdict, and its number without decimals.
                fields.push(number("secondary_label_type", 0));
                fields.push(text("secondary_label", "{ITEM.LASTVALUE}"));
                // A value has the color of the last threshold that it reaches: passed, degraded, failed, unknown.
                for (verdict, colour) in ["59DB8F", "FFC859", "E45959", "97AAB3"].iter().enumerate() {
                    fields.push(text(&format!("thresholds.{verdict}.color"), colour));
                    fields.push(text(&format!("thresholds.{verdict}.threshold"), &verdict.to_string()));
                }
            }
            widget(form, "honeycomb", name, y, height, reference, fields)
        }
    }
}

/// Returns a graph of the items whose names match a pattern.
fn lines(form: Form, name: &str, items: &str, hosts: &[String], y: u32, height: u32, reference: &str) -> Value {
    let field = |part: &str, n: Option<usize>| match (form, n) {
        (Form::Old, None) => format!("ds.{part}.0"),
        (Form::Old, Some(n)) => format!("ds.{part}.0.{n}"),
        (Form::New, None) => format!("ds.0.{part}"),
        (Form::New, Some(n)) => format!("ds.0.{part}.{n}"),
    };
    let mut fields: Vec<_> = hosts.iter().enumerate().map(|(n, host)| text(&field("hosts", Some(n)), host)).collect();
    fields.extend([text(&field("items", Some(0)), items), text(&field("color", None), "1A7C11")]);
    widget(form, "svggraph", name, y, height, reference, fields)
}
