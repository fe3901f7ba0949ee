//! What can be written in a scenario, as data: each field with its description, its type, whether it
//! is required, its default and its words. The JSON Schema and `outage explain FIELD` are made of
//! it, and so are the tables of `docs/language.md`.
//!
//! The reader does not use it. What a fault, a probe or any other map is written with stands beside
//! the function that reads it; [`SCENARIO`] in `document.rs` is the top. `tests/reference.rs` breaks
//! valid files in every place and compares what the reader says with what stands here, so neither
//! can change without the other.

mod find;
mod schema;
mod shapes;
mod tell;

pub use super::document::SCENARIO;
pub use find::{Found, UnknownField, find};
pub use schema::schema;
pub(super) use shapes::*;

/// A field of a map; or a kind, of those of which a map has just one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it says, in whole sentences.
    pub about: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether it must be there.
    pub need: Need,
    /// Examples in YAML, each on one line and with the field's name.
    pub examples: &'static [&'static str],
}

/// Whether a field must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may be left away, and nothing stands for it.
    Optional,
    /// It may be left away, which is the same as to write this (in YAML).
    Default(&'static str),
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text that the regular expression fits.
    Text {
        /// What it is, in words: "a duration such as `30s`".
        what: &'static str,
        /// What it looks like, as far as an expression can say it.
        pattern: &'static str,
    },
    /// Just this text.
    Just(&'static str),
    /// A whole number, bounds included.
    Whole {
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// One of these numbers.
    Numbers(&'static [u32]),
    /// Any number.
    Number,
    /// A number between 0 and 1, both excluded.
    Fraction,
    /// `true` or `false`.
    Bool,
    /// One of these words, each with its meaning (empty: it says it all).
    Words(&'static [(&'static str, &'static str)]),
    /// A list.
    List {
        /// What its items look like.
        of: &'static Shape,
        /// How many there are at least.
        least: usize,
    },
    /// A map with fields.
    Map {
        /// The fields that it can have.
        fields: &'static [Field],
        /// How they go together.
        rules: &'static [Rule],
        /// Whether it can have other fields, too.
        open: bool,
    },
    /// A map with just one field, whose name says what it is. A kind without content is written as
    /// a plain word, too.
    OneOf {
        /// What it is, in words: "a fault".
        what: &'static str,
        /// The fields of which it has one.
        kinds: &'static [Field],
        /// Others that the reader knows, but only to say why they can't be here.
        refused: &'static [&'static str],
    },
    /// Names of the author's own, each with a value.
    Named {
        /// What the values look like.
        of: &'static Shape,
        /// What the names look like.
        names: &'static str,
        /// How many there are at least, and at most.
        count: (usize, usize),
    },
    /// One of several.
    Either(&'static [Shape]),
    /// Anything.
    Any,
    /// No value.
    Nothing,
    /// A shape with a name of its own, as it stands in several places.
    Shared(&'static str, &'static Shape),
}

/// How the fields of a map go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Just one of these is there.
    One(&'static [&'static str]),
    /// At least one of these is there.
    Some(&'static [&'static str]),
    /// At most one of these two is there.
    NotBoth(&'static str, &'static str),
    /// The first is there only with the second.
    With(&'static str, &'static str),
}

/// A field that must be there.
pub(super) const fn required(name: &'static str, about: &'static str, shape: Shape) -> Field {
    Field { name, about, shape, need: Need::Required, examples: &[] }
}

/// A field that may be left away.
pub(super) const fn optional(name: &'static str, about: &'static str, shape: Shape) -> Field {
    Field { name, about, shape, need: Need::Optional, examples: &[] }
}

/// One of the kinds of which a map has one.
pub(super) const fn kind(name: &'static str, about: &'static str, shape: Shape) -> Field {
    optional(name, about, shape)
}

impl Field {
    /// The same, with what it is if it is left away.
    pub(super) const fn or(self, default: &'static str) -> Self {
        Self { need: Need::Default(default), ..self }
    }

    /// The same, with examples.
    pub(super) const fn examples(self, examples: &'static [&'static str]) -> Self {
        Self { examples, ..self }
    }
}

/// A map with these fields and no others.
pub(super) const fn map(fields: &'static [Field]) -> Shape {
    Shape::Map { fields, rules: &[], open: false }
}

/// The same, with rules.
pub(super) const fn ruled(fields: &'static [Field], rules: &'static [Rule]) -> Shape {
    Shape::Map { fields, rules, open: false }
}

/// A map with one of these fields.
pub(super) const fn one_of(what: &'static str, kinds: &'static [Field]) -> Shape {
    Shape::OneOf { what, kinds, refused: &[] }
}

/// A list that may be empty.
pub(super) const fn list(of: &'static Shape) -> Shape {
    Shape::List { of, least: 0 }
}

/// A list with at least one item.
pub(super) const fn some(of: &'static Shape) -> Shape {
    Shape::List { of, least: 1 }
}

/// A text, by what it is and what it looks like.
pub(super) const fn text(what: &'static str, pattern: &'static str) -> Shape {
    Shape::Text { what, pattern }
}

/// A whole number of at least `least`.
pub(super) const fn whole(least: u32) -> Shape {
    Shape::Whole { least, most: u32::MAX }
}

impl Shape {
    /// Itself, or what a shared shape stands for.
    #[must_use]
    pub fn own(self) -> Self {
        match self {
            Self::Shared(_, shape) => shape.own(),
            shape => shape,
        }
    }

    /// The fields that stand under it. Items of lists and names of the author's own have no part in
    /// paths.
    pub fn fields(self) -> Vec<Field> {
        match self.own() {
            Self::Map { fields, .. } => fields.to_vec(),
            Self::OneOf { kinds, .. } => kinds.to_vec(),
            Self::List { of, .. } | Self::Named { of, .. } => of.fields(),
            Self::Either(shapes) => {
                let mut fields: Vec<Field> = vec![];
                for field in shapes.iter().flat_map(|shape| shape.fields()) {
                    if !fields.contains(&field) {
                        fields.push(field);
                    }
                }
                fields
            }
            _ => vec![],
        }
    }
}
