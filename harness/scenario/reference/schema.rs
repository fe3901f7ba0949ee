//! The reference as a JSON Schema, for editors. Draft 7: what the language server for YAML reads.

use std::collections::BTreeMap;

use serde_json::{Map as JsonMap, Value as Json, json};

use super::super::tree;
use super::{Field, Need, Rule, SCENARIO, Shape};

/// The JSON Schema of scenario files.
pub fn schema() -> String {
    let mut definitions = BTreeMap::new();
    let mut schema = of_shape(SCENARIO, &mut definitions);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Scenario of outage, outage/v1alpha1");
    schema["description"] =
        json!("One documented incident: a cluster, what must hold at first, and steps.");
    schema["definitions"] = json!(definitions);
    schema.sort_all_objects();
    format!("{schema:#}\n")
}

/// Shared shapes by their names.
type Definitions = BTreeMap<&'static str, Json>;

fn of_shape(shape: Shape, definitions: &mut Definitions) -> Json {
    match shape {
        // The message is for the language server; nobody else knows it.
        Shape::Text { what, pattern } => {
            let message = format!("expected {what}");
            json!({"type": "string", "pattern": pattern, "patternErrorMessage": message})
        }
        Shape::Just(text) => json!({"type": "string", "const": text}),
        Shape::Whole { least, most: u32::MAX } => json!({"type": "integer", "minimum": least}),
        Shape::Whole { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Shape::Numbers(numbers) => json!({"type": "integer", "enum": numbers}),
        Shape::Number => json!({"type": "number"}),
        Shape::Fraction => json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Words(words) => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            json!({"type": "string", "enum": words})
        }
        Shape::List { of, least } => {
            let mut list = json!({"type": "array", "items": of_shape(*of, definitions)});
            if least > 0 {
                list["minItems"] = json!(least);
            }
            list
        }
        Shape::Map { fields, rules, open } => {
            let mut map = of_fields(fields, definitions);
            let required = fields.iter().filter(|field| field.need == Need::Required);
            let required: Vec<_> = required.map(|field| field.name).collect();
            if !required.is_empty() {
                map["required"] = json!(required);
            }
            if !rules.is_empty() {
                map["allOf"] = rules.iter().map(of_rule).collect();
            }
            map["additionalProperties"] = json!(open);
            map
        }
        Shape::OneOf { kinds, .. } => of_kinds(kinds, definitions),
        Shape::Named { of, names, count: (least, most) } => {
            let values = of_shape(*of, definitions);
            let mut named = json!({"type": "object", "additionalProperties": values});
            if !names.is_empty() {
                named["propertyNames"] = json!({"pattern": names});
            }
            if least > 0 {
                named["minProperties"] = json!(least);
            }
            if most < usize::MAX {
                named["maxProperties"] = json!(most);
            }
            named
        }
        Shape::Either(shapes) => {
            let any: Vec<_> = shapes.iter().map(|shape| of_shape(*shape, definitions)).collect();
            json!({"anyOf": any})
        }
        Shape::Any => json!({}),
        Shape::Nothing => json!({"type": "null"}),
        Shape::Shared(name, shape) => {
            if !definitions.contains_key(name) {
                let definition = of_shape(*shape, definitions);
                definitions.insert(name, definition);
            }
            json!({"$ref": format!("#/definitions/{name}")})
        }
    }
}

fn of_fields(fields: &[Field], definitions: &mut Definitions) -> Json {
    let properties: JsonMap<_, _> =
        fields.iter().map(|field| (field.name.to_owned(), of_field(field, definitions))).collect();
    json!({"type": "object", "properties": properties})
}

/// One field of a map. Not `oneOf`: an editor that finds none of its branches fitting can't say
/// what is wrong, and this says the same.
fn of_kinds(kinds: &[Field], definitions: &mut Definitions) -> Json {
    let mut map = of_fields(kinds, definitions);
    map["additionalProperties"] = json!(false);
    map["minProperties"] = json!(1);
    map["maxProperties"] = json!(1);
    let words: Vec<_> = kinds.iter().filter(|kind| kind.shape == Shape::Nothing).collect();
    if words.is_empty() {
        return map;
    }
    let words: Vec<_> = words.iter().map(|kind| kind.name).collect();
    json!({"anyOf": [map, {"type": "string", "enum": words}]})
}

fn of_field(field: &Field, definitions: &mut Definitions) -> Json {
    let mut schema = of_shape(field.shape, definitions);
    if schema.get("$ref").is_some() {
        // In draft 7, what stands beside a reference has no meaning.
        schema = json!({"allOf": [schema]});
    }
    schema["description"] = json!(description(field));
    if let Need::Default(default) = field.need {
        schema["default"] = value(default);
    }
    let examples: Vec<_> =
        field.examples.iter().map(|text| value(text)[field.name].clone()).collect();
    if !examples.is_empty() {
        schema["examples"] = json!(examples);
    }
    schema
}

/// What the field says, and what its words mean.
fn description(field: &Field) -> String {
    let mut parts = vec![field.about.to_owned()];
    if let Shape::Words(words) = field.shape.own() {
        let told = words.iter().filter(|(_, meaning)| !meaning.is_empty());
        parts.extend(told.map(|(word, meaning)| format!("`{word}`: {meaning}")));
    }
    parts.join("\n\n")
}

fn of_rule(rule: &Rule) -> Json {
    let each = |names: &[&str]| -> Vec<_> {
        names.iter().map(|name| json!({"required": [name]})).collect()
    };
    match rule {
        Rule::One(names) => json!({"oneOf": each(names)}),
        Rule::Some(names) => json!({"anyOf": each(names)}),
        Rule::NotBoth(one, other) => json!({"not": {"required": [one, other]}}),
        Rule::With(one, other) => json!({"dependencies": {*one: [other]}}),
    }
}

/// A value that is written in YAML.
fn value(yaml: &str) -> Json {
    tree::parse(yaml).map_or(Json::Null, |parsed| parsed.root.json())
}
