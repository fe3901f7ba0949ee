//! A field told in words, as `outage explain` shows it.

use std::fmt::{self, Display};

use super::{Field, Found, Need, Rule, Shape};

/// More places of the same field are not listed.
const PLACES: usize = 3;
const WIDTH: usize = 96;

impl Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, paths, examples } = self;
        let (first, others) = paths.split_first().map_or(("", &[][..]), |(a, b)| (a.as_str(), b));
        writeln!(f, "{first}: {}{}", field.shape, need(field))?;
        match others {
            [] => {}
            some if some.len() <= PLACES => writeln!(f, "  also {}", some.join(", "))?,
            many => writeln!(f, "  also in {} other places", many.len())?,
        }
        writeln!(f)?;
        paragraph(f, "  ", field.about)?;
        let inner = field.shape.inner();
        if let Shape::Words(words) = inner
            && words.iter().any(|(_, meaning)| !meaning.is_empty())
        {
            writeln!(f, "\nWords:")?;
            for (word, meaning) in words {
                writeln!(f, "  {word}")?;
                paragraph(f, "      ", meaning)?;
            }
        }
        let ways = field.shape.ways();
        let fields = if ways.len() > 1 { ways } else { vec![field.shape.fields()] };
        for (index, fields) in fields.iter().enumerate().filter(|(_, fields)| !fields.is_empty()) {
            let title = match index {
                0 if matches!(inner, Shape::OneOf { .. }) => "One of these fields",
                0 => "Fields",
                _ => "Or these",
            };
            writeln!(f, "\n{title}:")?;
            for field in fields {
                writeln!(f, "  {}: {}{}", field.name, field.shape, need(field))?;
                paragraph(f, "      ", field.about)?;
            }
        }
        if let Shape::Map { rules, .. } = inner
            && !rules.is_empty()
        {
            writeln!(f)?;
            rules.iter().try_for_each(|rule| writeln!(f, "  {rule}"))?;
        }
        if !examples.is_empty() {
            writeln!(f, "\n{}:", if examples.len() > 1 { "Examples" } else { "Example" })?;
            examples.iter().try_for_each(|example| writeln!(f, "  {example}"))?;
        }
        Ok(())
    }
}

/// Whether it must be there, or what it is if not.
fn need(field: &Field) -> String {
    match field.need {
        Need::Required => ", required".to_owned(),
        Need::Optional => String::new(),
        Need::Default(default) => format!(", default {default}"),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text in lines that are not too long.
fn paragraph(f: &mut fmt::Formatter<'_>, indent: &str, text: &str) -> fmt::Result {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + 1 + word.len() > WIDTH {
            writeln!(f, "{indent}{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if line.is_empty() { Ok(()) } else { writeln!(f, "{indent}{line}") }
}

impl Shape {
    /// The fields of each map that it may be.
    fn ways(self) -> Vec<Vec<Field>> {
        match self.own() {
            Self::Map { fields, .. } => vec![fields.to_vec()],
            Self::List { of, .. } | Self::Named { of, .. } => of.ways(),
            Self::Either(shapes) => shapes.iter().flat_map(|shape| shape.ways()).collect(),
            _ => vec![],
        }
    }

    /// What it is made of: of a list its items, of names their values.
    fn inner(self) -> Self {
        match self.own() {
            Self::List { of, .. } | Self::Named { of, .. } => of.inner(),
            Self::Either([first, ..]) => first.inner(),
            shape => shape,
        }
    }
}

/// Its type in a few words.
impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { what, .. } | Self::OneOf { what, .. } => f.write_str(what),
            Self::Just(text) => write!(f, "`{text}`"),
            Self::Whole { least, most: u32::MAX } => {
                write!(f, "a whole number of at least {least}")
            }
            Self::Whole { least, most } => write!(f, "a whole number from {least} to {most}"),
            Self::Numbers(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
                write!(f, "one of {}", numbers.join(", "))
            }
            Self::Number => f.write_str("a number"),
            Self::Fraction => f.write_str("a number between 0 and 1"),
            Self::Bool => f.write_str("true or false"),
            Self::Words([(word, _)]) => write!(f, "`{word}`"),
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                write!(f, "one of {}", quoted(&words))
            }
            Self::List { of, .. } => write!(f, "a list, each {of}"),
            Self::Map { .. } => f.write_str("a map"),
            Self::Named { of, .. } => write!(f, "names, each with {of}"),
            Self::Either(shapes) => {
                let mut shapes: Vec<_> = shapes.iter().map(ToString::to_string).collect();
                shapes.dedup();
                f.write_str(&shapes.join(" or "))
            }
            Self::Any => f.write_str("anything"),
            Self::Nothing => f.write_str("nothing"),
            Self::Shared(_, shape) => write!(f, "{shape}"),
        }
    }
}

/// A rule in a sentence.
impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(names) => write!(f, "Just one of {} is written.", quoted(names)),
            Self::Some(names) => write!(f, "At least one of {} is written.", quoted(names)),
            Self::NotBoth(one, other) => write!(f, "`{one}` and `{other}` exclude each other."),
            Self::With(one, other) => write!(f, "`{one}` goes with `{other}`."),
        }
    }
}
