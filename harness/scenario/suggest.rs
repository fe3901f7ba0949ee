//! What was probably meant by a word that is not known.

/// "did you mean" with the nearest of the names, and all of them.
pub(super) fn suggest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let all = self::names(names.iter().copied());
    match nearest(name, names.iter().copied()).or_else(|| whole(name, &names)) {
        Some(meant) if names.len() > 1 => format!("did you mean `{meant}`? Allowed: {all}"),
        _ => format!("allowed: {all}"),
    }
}

/// The one name that a part of it was written of.
fn whole<'a>(part: &str, names: &[&'a str]) -> Option<&'a str> {
    let part = part.to_lowercase();
    let mut whole = names.iter().filter(|name| name.to_lowercase().contains(&part));
    match (whole.next(), whole.next()) {
        (Some(name), None) if part.len() > 2 => Some(name),
        _ => None,
    }
}

/// The name that was probably meant.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing takes time in proportion to both lengths: no long text is near to any name.
    let short: String = name.chars().take(64).collect();
    let distance = |other: &str| strsim::osa_distance(&short.to_lowercase(), &other.to_lowercase());
    let near = |(distance, other): &(usize, &str)| *distance <= (other.len() / 3).max(1);
    names
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(near)
        .min()
        .map(|(_, other)| other)
}

/// Words as they are told.
pub(super) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
