//! The places of a file, each with what the reference says of it.

use outage::scenario::reference::{Field, SCENARIO, Shape};
use serde_json::Value;

/// A place in a file.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is, as a JSON pointer.
    pub pointer: String,
    /// Places that are alike have the same path: its last part begins where a shared shape does.
    pub path: String,
    /// With what the paths begin of what stands under it.
    pub inner: String,
    /// What can stand there, with the alternatives.
    pub shape: Shape,
    /// That of the alternatives which does.
    pub taken: Shape,
    /// The field whose value this is; not for items and the author's own names.
    pub field: Option<Field>,
}

impl Place {
    /// The fields that this map can have itself.
    pub fn fields(&self) -> Vec<Field> {
        match self.taken {
            Shape::Map { fields, .. } => fields.to_vec(),
            Shape::OneOf { kinds, .. } => kinds.to_vec(),
            _ => vec![],
        }
    }

    pub fn is_one_of(&self) -> bool {
        matches!(self.taken, Shape::OneOf { .. })
    }
}

/// Every place of a file.
pub fn places(file: &Value) -> Vec<Place> {
    let mut all = vec![];
    walk(file, "", String::new(), SCENARIO, None, &mut all);
    all
}

fn walk(
    value: &Value,
    pointer: &str,
    path: String,
    shape: Shape,
    field: Option<Field>,
    all: &mut Vec<Place>,
) {
    let taken = taken(shape, value).unwrap_or_else(|| panic!("{pointer}: {value} is no {shape}"));
    let inner = match shape {
        Shape::Shared(name, _) => format!("#{name}"),
        _ => path.clone(),
    };
    let place =
        Place { pointer: pointer.to_owned(), path, inner: inner.clone(), shape, taken, field };
    all.push(place.clone());
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match (taken, value) {
        (Shape::List { of, .. }, Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{pointer}/{index}"), inner.clone() + "[]", *of, None, all);
            }
        }
        (Shape::Named { of, .. }, Value::Object(entries)) => {
            for (name, item) in entries {
                let pointer = format!("{pointer}/{}", escaped(name));
                walk(item, &pointer, inner.clone() + ".*", *of, None, all);
            }
        }
        (_, Value::Object(entries)) => {
            for (name, item) in entries {
                let fields = place.fields();
                let Some(field) = fields.iter().find(|field| field.name == name) else { continue };
                let pointer = format!("{pointer}/{}", escaped(name));
                walk(item, &pointer, format!("{inner}.{name}"), field.shape, Some(*field), all);
            }
        }
        // A kind without content.
        (Shape::OneOf { kinds, .. }, Value::String(word)) => {
            let field = kinds.iter().find(|kind| kind.name == word).copied();
            all.push(Place { taken: Shape::Nothing, field, ..place });
        }
        _ => {}
    }
}

/// The alternative that the value is one of, as far as it itself tells.
fn taken(shape: Shape, value: &Value) -> Option<Shape> {
    let shape = shape.own();
    let fits = match shape {
        Shape::Either(shapes) => return shapes.iter().find_map(|shape| taken(*shape, value)),
        Shape::Text { .. } => value.is_string(),
        Shape::Just(text) => value == text,
        Shape::Words(words) => words.iter().any(|(word, _)| value == word),
        Shape::Whole { .. } | Shape::Numbers(_) => value.is_i64(),
        Shape::Number | Shape::Fraction => value.is_number(),
        Shape::Bool => value.is_boolean(),
        Shape::Nothing => value.is_null(),
        Shape::List { .. } => value.is_array(),
        Shape::Named { .. } => value.is_object(),
        Shape::Any => true,
        Shape::Map { fields, open, .. } => value.as_object().is_some_and(|entries| {
            open || entries.keys().all(|key| fields.iter().any(|field| field.name == key))
        }),
        Shape::OneOf { kinds, .. } => match value {
            Value::String(word) => kinds.iter().any(|kind| kind.name == word),
            Value::Object(entries) => {
                let known = |key| kinds.iter().any(|kind| kind.name == key);
                entries.len() == 1 && entries.keys().all(known)
            }
            _ => false,
        },
        Shape::Shared(..) => false,
    };
    fits.then_some(shape)
}

/// Every field of the reference, once.
pub fn fields(shape: Shape) -> Vec<Field> {
    let mut all = vec![];
    collect(shape, &mut all);
    all
}

fn collect(shape: Shape, all: &mut Vec<Field>) {
    for field in shape.fields() {
        if !all.contains(&field) {
            all.push(field);
            collect(field.shape, all);
        }
    }
}
