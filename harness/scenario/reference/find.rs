//! Fields by their path, `spec.steps.inject.fault.traffic`, or by a part of it.

use super::super::suggest::nearest;
use super::{Field, SCENARIO, Shape};

/// A field, and the paths of all places where just this one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The field.
    pub field: Field,
    /// Its paths, the first as it comes in a file.
    pub paths: Vec<String>,
    /// Examples: its own, or else those of the nearest field around it that has some.
    pub examples: &'static [&'static str],
}

/// No field has such a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("scenarios have no field `{path}`{}", self.near.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
pub struct UnknownField {
    /// What was asked for.
    pub path: String,
    /// What was probably meant.
    pub near: Option<String>,
}

/// One place in a file.
struct Place {
    path: Vec<&'static str>,
    field: Field,
    examples: &'static [&'static str],
}

/// Finds fields by their path from the top, or by some of its names in their order, the last one
/// among them: `traffic`, `steps.inject.traffic`. Several are found if they differ.
///
/// # Errors
/// If there is none: with the nearest path, if one is near.
pub fn find(path: &str) -> Result<Vec<Found>, UnknownField> {
    let wanted: Vec<&str> = path.split('.').collect();
    let mut places = vec![];
    collect(&[], &[], SCENARIO, &mut places);
    let matching = |fits: &dyn Fn(&Place) -> bool| -> Vec<_> {
        places.iter().filter(|place| fits(place)).collect()
    };
    let mut named = matching(&|place| place.path == wanted);
    if named.is_empty() {
        named = matching(&|place| is_part(&wanted, &place.path));
    }
    if named.is_empty() {
        return Err(UnknownField { path: path.to_owned(), near: near(&wanted, &places) });
    }
    let mut all: Vec<Found> = vec![];
    for place in &named {
        if !all.iter().any(|found| found.field == place.field) {
            let (field, examples) = (place.field, place.examples);
            // Those that were named come first.
            let same = named.iter().copied().chain(&places).filter(|place| place.field == field);
            let mut paths: Vec<String> = vec![];
            for path in same.map(|place| place.path.join(".")) {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            all.push(Found { field, paths, examples });
        }
    }
    Ok(all)
}

fn collect(
    above: &[&'static str],
    examples: &'static [&'static str],
    shape: Shape,
    places: &mut Vec<Place>,
) {
    for field in shape.fields() {
        let path = [above, &[field.name]].concat();
        let examples = if field.examples.is_empty() { examples } else { field.examples };
        places.push(Place { path: path.clone(), field, examples });
        collect(&path, examples, field.shape, places);
    }
}

/// Whether the names stand in the path in this order, and both end alike.
fn is_part(names: &[&str], path: &[&str]) -> bool {
    let mut rest = path.iter();
    names.last() == path.last() && names.iter().all(|name| rest.any(|part| part == name))
}

/// The path that was probably meant: right up to its last name, or a last name of any path.
fn near(wanted: &[&str], places: &[Place]) -> Option<String> {
    let (last, above) = wanted.split_last()?;
    let names = |beside: bool| {
        let fits = move |place: &&Place| {
            !beside
                || above.is_empty()
                || place.path.split_last().is_some_and(|(_, rest)| is_part(above, rest))
        };
        places.iter().filter(fits).map(|place| place.field.name)
    };
    if let Some(name) = nearest(last, names(true)) {
        return Some([above, &[name]].concat().join("."));
    }
    // With a wrong name further up, the last one may be right.
    let name = nearest(last, names(false))?;
    let mut paths = places.iter().map(|place| &place.path);
    paths.find(|path| path.last() == Some(&name)).map(|path| path.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str) -> Vec<String> {
        find(path).unwrap().into_iter().map(|found| found.paths[0].clone()).collect()
    }

    #[test]
    fn a_field_is_found_by_any_part_of_its_path_that_ends_with_it() {
        let traffic = ["spec.steps.inject.fault.traffic"];
        for part in ["traffic", "inject.traffic", "spec.steps.inject.traffic", traffic[0]] {
            assert_eq!(paths(part), traffic, "{part}");
        }
        assert_eq!(paths("steps.remedy.traffic"), ["spec.steps.remedy.fault.traffic"]);
        assert_eq!(
            paths("metadata"),
            ["metadata", "spec.steps.inject.fault.apply.manifest.metadata"][..1]
        );
        assert_eq!(paths("spec.cluster.settings"), ["spec.cluster.settings"]);
        assert!(paths("on").len() > 3);
        assert_eq!(find("traffic").unwrap()[0].paths.len(), 2);
    }

    #[test]
    fn a_wrong_path_is_answered_with_the_nearest() {
        let near = |path: &str| find(path).unwrap_err().near;
        assert_eq!(near("spec.cluster.setings").as_deref(), Some("spec.cluster.settings"));
        assert_eq!(near("trafic").as_deref(), Some("traffic"));
        assert_eq!(near("spec.stepps.detect").as_deref(), Some("spec.steps.detect"));
        assert_eq!(near("zzzzzzzz"), None);
        assert_eq!(near(""), None);
        assert_eq!(near("spec."), None);
    }
}
