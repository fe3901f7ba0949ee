//! The reference of the language is what the reader reads. Valid files are broken in every place, and
//! what the reader says is compared with what the reference and its JSON Schema say.

#![allow(clippy::unwrap_used)]

mod scenario_support;

#[path = "reference/breaking.rs"]
mod breaking;
#[path = "reference/documentation.rs"]
mod documentation;
#[path = "reference/places.rs"]
mod places;

use std::sync::LazyLock;

use jsonschema::Validator;
use outage::scenario::reference::{SCENARIO, schema};
use outage::scenario::{BUILTIN, load};
use places::{Place, fields, places};
use scenario_support::{SMALL, json};
use serde_json::Value;

fn validator() -> Validator {
    scenario_support::validator(&schema())
}

/// Valid files in which every field stands somewhere: a small one, one with everything around, and
/// these with each example of the reference at a place where it can be read.
fn files() -> &'static [Value] {
    static FILES: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let texts =
            [SMALL, include_str!("reference/named.yaml"), include_str!("reference/full.yaml")];
        let mut files: Vec<_> = texts.map(json).into();
        for file in &files {
            let read = load("a.yaml", file.to_string().as_bytes());
            read.unwrap_or_else(|error| panic!("{}", error.plain()));
        }
        files.extend(examples(&files));
        files
    });
    &FILES
}

/// The given files with each example of the reference instead of what stood there. An example may
/// stand in another.
fn examples(files: &[Value]) -> Vec<Value> {
    let with_places = |file: Value| (places(&file), file);
    let mut all: Vec<_> = files.iter().cloned().map(with_places).collect();
    let mut open: Vec<(String, &str)> = vec![];
    for field in fields(SCENARIO) {
        open.extend(field.examples.iter().map(|example| (field.name.to_owned(), *example)));
    }
    loop {
        let before = open.len();
        open.retain(|(name, example)| match placed(&all, name, example) {
            Some(file) => {
                all.push(with_places(file));
                false
            }
            None => true,
        });
        if open.len() == before {
            break;
        }
    }
    assert!(open.is_empty(), "these examples can be read nowhere: {open:#?}");
    all.split_off(files.len()).into_iter().map(|(_, file)| file).collect()
}

/// The first file that can be read with the example in it.
fn placed(files: &[(Vec<Place>, Value)], name: &str, example: &str) -> Option<Value> {
    let written = json(example);
    let places = files.iter().flat_map(|(places, file)| places.iter().map(move |at| (file, at)));
    let fitting = places.filter_map(|(file, place)| {
        let fields = place.fields();
        let field =
            fields.iter().find(|field| field.name == name && field.examples.contains(&example))?;
        let mut changed = file.clone();
        let at = changed.pointer_mut(&place.pointer)?;
        if place.is_one_of() {
            *at = written.clone();
        } else {
            at.as_object_mut()?.insert(field.name.into(), written[name].clone());
        }
        Some(changed)
    });
    let mut readable = fitting.filter(|file| load("a.yaml", file.to_string().as_bytes()).is_ok());
    readable.next()
}

#[test]
fn every_field_stands_in_a_valid_file() {
    let seen: Vec<_> = files().iter().flat_map(places).filter_map(|place| place.field).collect();
    for field in fields(SCENARIO) {
        assert!(
            seen.contains(&field),
            "no file and no example has `{}`: {}",
            field.name,
            field.about
        );
    }
}

#[test]
fn valid_files_are_valid_by_the_schema() {
    let validator = validator();
    let shipped = BUILTIN.iter().map(|builtin| json(builtin.text));
    for file in shipped.chain(files().iter().cloned()) {
        let wrong: Vec<_> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:#?} in {file:#}");
    }
}

#[test]
fn the_schema_that_is_checked_in_is_current() {
    scenario_support::current("docs/scenario.schema.json", &schema());
}
