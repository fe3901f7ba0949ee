//! Valid files, broken in one place each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jsonschema::Validator;
use outage::scenario::reference::{Field, Need, SCENARIO, Shape};
use outage::scenario::{Problem, load};
use serde_json::{Value, json};

use super::places::{Place, fields, places};
use super::scenario_support::json as yaml;
use super::{files, validator};

/// Near to no name.
const UNKNOWN: &str = "qqqqqqqqqqqqqqqq";

/// Each place of the files, once if several are alike: in the shortest, as it is read again for each way
/// in which it is broken.
fn once() -> &'static [(&'static Value, Place)] {
    static ONCE: LazyLock<Vec<(&Value, Place)>> = LazyLock::new(|| {
        let mut all: Vec<(&Value, Place)> = vec![];
        let mut files: Vec<&Value> = files().iter().collect();
        files.sort_by_key(|file| file.to_string().len());
        for file in files {
            for place in places(file) {
                let alike = |(_, other): &(&Value, Place)| {
                    other.path == place.path && other.taken == place.taken
                };
                if !all.iter().any(alike) {
                    all.push((file, place));
                }
            }
        }
        all
    });
    &ONCE
}

/// The file with another value at the place.
fn with(file: &Value, place: &Place, value: Value) -> Value {
    let mut file = file.clone();
    *file.pointer_mut(&place.pointer).unwrap() = value;
    file
}

fn problems(file: &Value) -> Vec<Problem> {
    match load("a.yaml", file.to_string().as_bytes()) {
        Ok(_) => vec![],
        Err(error) => {
            assert!(!error.problems().is_empty(), "refused without a word: {file:#}");
            error.problems().to_vec()
        }
    }
}

fn help(problem: &Problem) -> &str {
    problem.help.as_deref().unwrap_or_default()
}

/// The names that the reader says are allowed where something unknown stands.
fn allowed(problem: &Problem) -> Option<BTreeSet<&str>> {
    let listed = help(problem).split_once("llowed: ")?.1;
    Some(listed.split('`').skip(1).step_by(2).collect())
}

#[test]
fn the_reader_allows_what_the_reference_lists() {
    for (file, place) in once() {
        let (unknown, names) = match place.taken {
            Shape::Map { fields, open: false, .. } => {
                let mut map = file.pointer(&place.pointer).unwrap().clone();
                map[UNKNOWN] = json!(1);
                (map, fields.iter().map(|field| field.name).collect::<BTreeSet<_>>())
            }
            Shape::OneOf { kinds, refused, .. } => {
                let names = kinds.iter().map(|kind| kind.name).chain(refused.iter().copied());
                (json!({UNKNOWN: 1}), names.collect())
            }
            Shape::Words(words) => (json!(UNKNOWN), words.iter().map(|(word, _)| *word).collect()),
            _ => continue,
        };
        let problems = problems(&with(file, place, unknown));
        let said: Vec<_> =
            problems.iter().filter(|p| p.message.contains(UNKNOWN)).filter_map(allowed).collect();
        // Nodes that a fault strikes: the reader says how they are written.
        if problems.iter().any(|problem| problem.message == "this names no nodes") {
            continue;
        }
        assert_eq!(said, [names], "{}: {problems:#?}", place.path);
    }
}

#[test]
fn the_reader_requires_what_the_reference_does() {
    for (file, place) in once() {
        let Shape::Map { fields, .. } = place.taken else { continue };
        if matches!(place.shape.own(), Shape::Either(_)) {
            // Without its fields it can't be told which of the alternatives it is.
            continue;
        }
        let problems = problems(&with(file, place, json!({})));
        let missing: BTreeSet<&str> = problems
            .iter()
            .filter_map(|problem| {
                problem.message.strip_prefix("the field `")?.strip_suffix("` is missing")
            })
            .collect();
        let required = fields.iter().filter(|field| field.need == Need::Required);
        let required: BTreeSet<&str> = required.map(|field| field.name).collect();
        assert_eq!(missing, required, "{}", place.path);
    }
}

#[test]
fn a_default_is_what_the_reader_takes() {
    let read = |file: &Value| load("a.yaml", file.to_string().as_bytes());
    let mut defaults: Vec<Field> = fields(SCENARIO);
    defaults.retain(|field| matches!(field.need, Need::Default(_)));
    for (file, place) in
        files().iter().flat_map(|file| places(file).into_iter().map(move |place| (file, place)))
    {
        let map = file.pointer(&place.pointer).unwrap();
        for field in place.fields() {
            let Need::Default(default) = field.need else { continue };
            let Some(at) = defaults.iter().position(|other| *other == field) else { continue };
            let (mut without, mut written) = (map.clone(), map.clone());
            let Some(entries) = without.as_object_mut() else { continue };
            entries.remove(field.name);
            written[field.name] = yaml(default);
            let files = [without, written].map(|map| read(&with(file, &place, map)));
            if let [Ok(without), Ok(written)] = files {
                assert_eq!(without, written, "{}.{}", place.path, field.name);
                defaults.remove(at);
            }
        }
    }
    let names: Vec<_> = defaults.iter().map(|field| field.name).collect();
    assert!(names.is_empty(), "no file can be read with and without these: {names:?}");
}

/// Whether the reader objects to the form: to what a schema can say, too.
fn is_of_form(problem: &Problem) -> bool {
    let message = problem.message.as_str();
    let names_something = ["no variant", "no node", "no earlier action", "the expression"];
    let of_form = message.starts_with("expected ")
        || (message.starts_with("the field `") && message.ends_with("` is missing"))
        || message.contains("is written with just one field")
        || message == "this list is empty"
        || message == "this must not be empty"
        || message == "this names no nodes"
        || allowed(problem).is_some();
    of_form && !names_something.iter().any(|start| message.starts_with(start))
}

/// The schema refuses no file that the reader takes, and takes none whose form the reader refuses.
fn agree(validator: &Validator, file: &Value, what: &str) {
    let problems = problems(file);
    let is_valid = validator.is_valid(file);
    if problems.is_empty() {
        let wrong =
            || validator.iter_errors(file).map(|error| error.to_string()).collect::<Vec<_>>();
        assert!(is_valid, "{what}: refused by the schema alone: {:#?}", wrong());
    } else if problems.iter().any(is_of_form) {
        assert!(!is_valid, "{what}: refused by the reader alone: {problems:#?}");
    }
}

#[test]
fn the_schema_and_the_reader_agree_about_broken_files() {
    let validator = validator();
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(7),
        json!(0.5),
        json!(-1),
        json!(""),
        json!(UNKNOWN),
        json!("two\nlines"),
        json!({"worker": 1}),
        json!([{"worker": 1}]),
        json!([]),
        json!([1]),
        json!({}),
        json!({"a": 1}),
    ];
    for (file, place) in once() {
        for value in &values {
            let changed = with(file, place, value.clone());
            agree(&validator, &changed, &format!("{} = {value}", place.path));
        }
    }
}

#[test]
fn the_schema_and_the_reader_agree_about_fields_that_come_or_go() {
    let validator = validator();
    let mut known: BTreeMap<(String, String), Value> = BTreeMap::new();
    for (file, place) in once() {
        if let (Some(_), Some((above, name))) = (place.field, place.path.rsplit_once('.')) {
            let value = file.pointer(&place.pointer).unwrap().clone();
            known.entry((above.to_owned(), name.to_owned())).or_insert(value);
        }
    }
    for (file, place) in once() {
        let map = file.pointer(&place.pointer).unwrap();
        for field in place.fields() {
            let what = format!("{} with or without {}", place.path, field.name);
            let mut changed = map.clone();
            let Some(entries) = changed.as_object_mut() else { continue };
            if entries.remove(field.name).is_none() {
                let value = known.get(&(place.inner.clone(), field.name.to_owned()));
                entries.insert(field.name.to_owned(), value.cloned().unwrap_or(json!(null)));
            }
            let changed = with(file, place, changed);
            agree(&validator, &changed, &what);
            if field.need == Need::Required && map.get(field.name).is_some() {
                assert!(!problems(&changed).is_empty(), "{what}");
                assert!(!validator.is_valid(&changed), "{what}");
            }
        }
    }
}
