//! CEL expressions over values as JSON has them. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::operators::INDEX;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue};
use cel::{Context, ExecutionError, Program, Value};
use serde_json::Value as Json;

/// The longest value that is shown whole.
const SHOWN: usize = 100;

/// A longer expression is a mistake.
const LONGEST: usize = 1000;

/// So much stack the parser needs at most for the longest text.
const STACK: usize = 64 << 20;

/// Evaluating goes as deep as the expression is nested, on any thread's stack.
const DEEPEST: usize = 50;

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    program: Program,
    /// The fields that it speaks of: `object.spec.replicas`.
    fields: BTreeSet<Vec<String>>,
    /// Its names that nothing in it declares.
    free: BTreeSet<String>,
    /// The functions that it calls.
    functions: BTreeSet<String>,
    /// The keys by which it looks into what its names are.
    keys: BTreeSet<(String, String)>,
    /// The lists of which it says something by `all`, and those whose `size` it asks for.
    judged: BTreeSet<String>,
    counted: BTreeSet<String>,
}

/// What an expression is made of.
enum Part {
    /// A name that is not declared inside, with a chain of fields below it.
    Path(Vec<String>),
    /// The name of a function that is called.
    Function(String),
    /// A name that is not declared inside, and a key: `name["key"]`.
    Key(String, String),
    /// A name that is not declared inside, of whose items something is said by `all`.
    All(String),
    /// A name that is not declared inside, whose `size` is asked for.
    Size(String),
}

/// A place in an expression that is wrong: line from 1, column from 0, and why.
pub(super) type Wrong = ((isize, isize), String);

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    /// In words, if it is not CEL.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::compile(text).map_err(|wrong| {
            let texts = wrong.into_iter().map(|(_, why)| why);
            texts.collect::<Vec<_>>().join("; ")
        })
    }

    /// The parser goes down a stack as far as a text makes it; one of its own is large enough for
    /// the longest text.
    pub(super) fn compile(text: &str) -> Result<Self, Vec<Wrong>> {
        let compiling = std::thread::Builder::new().stack_size(STACK);
        let compiled = std::thread::scope(|scope| {
            let thread = compiling.spawn_scoped(scope, || Self::parse(text));
            thread.map(|thread| thread.join().map_err(|_| "the parser gave up".to_owned()))
        });
        let failed = |why| vec![((1, 0), why)];
        compiled.map_err(|error| failed(error.to_string()))?.map_err(failed)?
    }

    fn parse(text: &str) -> Result<Self, Vec<Wrong>> {
        let whole = |why: String| vec![((1, 0), why)];
        if text.len() > LONGEST {
            return Err(whole(format!("it is longer than {LONGEST} characters")));
        }
        let program = Program::compile(text).map_err(|errors| {
            errors.errors.into_iter().map(|error| (error.pos, error.msg)).collect::<Vec<_>>()
        })?;
        if depth(program.expression()) > DEEPEST {
            return Err(whole("it is nested too deeply".to_owned()));
        }
        let (mut fields, mut free) = (BTreeSet::new(), BTreeSet::new());
        let (mut functions, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let (mut judged, mut counted) = (BTreeSet::new(), BTreeSet::new());
        walk(program.expression(), &mut Vec::new(), &mut |part| match part {
            Part::Function(name) => drop(functions.insert(name)),
            Part::Key(name, key) => drop(keys.insert((name, key))),
            Part::All(name) => drop(judged.insert(name)),
            Part::Size(name) => drop(counted.insert(name)),
            Part::Path(path) => {
                if let Some(root) = path.first() {
                    free.insert(root.clone());
                }
                if let [root, key, ..] = path.as_slice() {
                    keys.insert((root.clone(), key.clone()));
                    fields.insert(path);
                }
            }
        });
        Ok(Self { program, fields, free, functions, keys, judged, counted })
    }

    /// The names that must be given to [`Expression::holds`].
    pub(super) fn free(&self) -> &BTreeSet<String> {
        &self.free
    }

    /// The keys by which it looks into what a name is: `name["key"]` or `name.key`.
    pub(super) fn keys<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys.iter().filter(move |(of, _)| of == name).map(|(_, key)| key.as_str())
    }

    /// Whether it says something of all items of a list, and nothing of how many there are: what is
    /// then true of an empty list says nothing.
    pub fn needs_some(&self, name: &str) -> bool {
        self.judged.contains(name) && !self.counted.contains(name)
    }

    /// A function that it calls and that does not exist.
    pub(super) fn unknown_function(&self) -> Option<&str> {
        // Called with too few or wrong arguments, or on something else, it says something else.
        let forms = ["", "''.", "[].", "timestamp('2000-01-01T00:00:00Z').", "duration('1s')."];
        let unknown = |name: &&String| {
            forms.iter().all(|form| {
                let alone = Program::compile(&format!("{form}{name}(null)"));
                let called = alone.map(|program| program.execute(&Context::default()));
                matches!(called, Ok(Err(ExecutionError::UndeclaredReference(it))) if *it == **name)
            })
        };
        self.functions.iter().find(unknown).map(String::as_str)
    }

    /// Whether it gives `true`.
    ///
    /// # Errors
    /// In words, if it can't be evaluated, a field being absent, or gives neither true nor false.
    pub fn holds(&self, names: &[(&str, &Json)]) -> Result<bool, String> {
        match self.program.execute(&context(names)) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives {}, not true or false", in_words(&other))),
            Err(ExecutionError::NoSuchKey(key)) => Err(format!("there is no field {key}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The fields that it speaks of, with their values: `object.spec.replicas is 3`.
    pub fn shown(&self, names: &[(&str, &Json)]) -> Vec<String> {
        let value = |path: &[String]| {
            let (root, fields) = path.split_first()?;
            let (_, root) = names.iter().find(|(name, _)| name == root)?;
            fields.iter().try_fold(*root, |value, field| value.get(field))
        };
        let shown = |path: &Vec<String>| {
            let value =
                value(path).map_or_else(|| "absent".to_owned(), |value| short(&value.to_string()));
            format!("{} is {value}", path.join("."))
        };
        self.fields
            .iter()
            .filter(|path| names.iter().any(|(name, _)| *name == path[0]))
            .map(shown)
            .collect()
    }
}

/// A value that is not the one that was wanted.
fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(number) => format!("the number {number}"),
        Value::UInt(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", short(text)),
        other => format!("a {}", other.type_of()),
    }
}

/// A text, or its beginning.
fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn context<'a>(names: &[(&str, &Json)]) -> Context<'a, 'a> {
    let mut context = Context::default();
    for (name, value) in names {
        context.add_variable_from_value(*name, cel_value(value));
    }
    context
}

/// A whole number is CEL's `int`, as in Kubernetes' own CEL.
fn cel_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, float) => Value::Float(float.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(cel_value).collect())),
        Json::Object(fields) => {
            let fields: HashMap<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), cel_value(value))).collect();
            Value::Map(fields.into())
        }
    }
}

/// How deeply an expression is nested.
fn depth(of: &IdedExpr) -> usize {
    let deepest = |parts: &mut dyn Iterator<Item = &IdedExpr>| parts.map(depth).max().unwrap_or(0);
    let of_entries = |entries: &[IdedEntryExpr]| {
        let depths = entries.iter().map(|entry| match &entry.expr {
            EntryExpr::StructField(field) => depth(&field.value),
            EntryExpr::MapEntry(entry) => depth(&entry.key).max(depth(&entry.value)),
        });
        depths.max().unwrap_or(0)
    };
    1 + match &of.expr {
        Expr::Call(call) => deepest(&mut call.target.as_deref().into_iter().chain(&call.args)),
        Expr::Comprehension(over) => deepest(
            &mut [
                &over.iter_range,
                &over.accu_init,
                &over.loop_cond,
                &over.loop_step,
                &over.result,
            ]
            .into_iter(),
        ),
        Expr::List(list) => deepest(&mut list.elements.iter()),
        Expr::Map(map) => of_entries(&map.entries),
        Expr::Struct(value) => of_entries(&value.entries),
        Expr::Select(select) => depth(&select.operand),
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => 0,
    }
}

/// Tells each name and each chain of fields below a name that is not declared inside, and each function.
fn walk(of: &IdedExpr, declared: &mut Vec<String>, tell: &mut impl FnMut(Part)) {
    if let Some(path) = path(&of.expr) {
        if !path[0].starts_with('@') && !declared.contains(&path[0]) {
            tell(Part::Path(path));
        }
        return;
    }
    match &of.expr {
        Expr::Call(call) => {
            // Operators are called, too: `_==_`, `@in`.
            if call.func_name.starts_with(|char: char| char.is_ascii_alphabetic()) {
                tell(Part::Function(call.func_name.clone()));
            }
            tell_call(call, declared, tell);
            call.target.iter().for_each(|target| walk(target, declared, tell));
            call.args.iter().for_each(|argument| walk(argument, declared, tell));
        }
        Expr::Comprehension(over) => {
            // Of the macros only `all` begins with true.
            if let Expr::Literal(LiteralValue::Boolean(begins)) = &over.accu_init.expr
                && *begins.inner()
                && let Some(name) = list(&over.iter_range.expr, declared)
            {
                tell(Part::All(name.clone()));
            }
            walk(&over.iter_range, declared, tell);
            walk(&over.accu_init, declared, tell);
            let outside = declared.len();
            declared.extend([over.iter_var.clone(), over.accu_var.clone()]);
            declared.extend(over.iter_var2.clone());
            for part in [&over.loop_cond, &over.loop_step, &over.result] {
                walk(part, declared, tell);
            }
            declared.truncate(outside);
        }
        Expr::List(list) => list.elements.iter().for_each(|item| walk(item, declared, tell)),
        Expr::Map(map) => walk_entries(&map.entries, declared, tell),
        Expr::Struct(value) => walk_entries(&value.entries, declared, tell),
        Expr::Select(select) => walk(&select.operand, declared, tell),
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
    }
}

/// Tells what a call looks up or counts.
fn tell_call(call: &CallExpr, declared: &[String], tell: &mut impl FnMut(Part)) {
    if call.func_name == INDEX
        && let [of, key] = call.args.as_slice()
        && let Expr::Ident(name) = &of.expr
        && let Expr::Literal(LiteralValue::String(key)) = &key.expr
        && !declared.contains(name)
    {
        tell(Part::Key(name.clone(), key.inner().to_owned()));
    }
    if call.func_name == "size" {
        let of = call.target.as_deref().into_iter().chain(&call.args);
        of.filter_map(|of| list(&of.expr, declared))
            .for_each(|name| tell(Part::Size(name.clone())));
    }
}

/// The name of the list that this is, or is made of by `filter` and `map`.
fn list<'a>(of: &'a Expr, declared: &[String]) -> Option<&'a String> {
    match of {
        Expr::Ident(name) => (!declared.contains(name)).then_some(name),
        Expr::Comprehension(over) => list(&over.iter_range.expr, declared),
        _ => None,
    }
}

fn walk_entries(
    entries: &[IdedEntryExpr],
    declared: &mut Vec<String>,
    tell: &mut impl FnMut(Part),
) {
    for entry in entries {
        match &entry.expr {
            EntryExpr::StructField(field) => walk(&field.value, declared, tell),
            EntryExpr::MapEntry(entry) => {
                walk(&entry.key, declared, tell);
                walk(&entry.value, declared, tell);
            }
        }
    }
}

/// `a.b.c` as its parts.
fn path(of: &Expr) -> Option<Vec<String>> {
    match of {
        Expr::Ident(name) => Some(vec![name.clone()]),
        Expr::Select(select) => {
            let mut path = path(&select.operand.expr)?;
            path.push(select.field.clone());
            Some(path)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(text: &str, object: &Json) -> Result<bool, String> {
        Expression::new(text).unwrap().holds(&[("object", object)])
    }

    #[test]
    fn expressions_over_an_object() {
        let object = json!({
            "spec": {"replicas": 3, "ratio": 0.5, "holder": "master-1_x"},
            "list": [{"type": "Ready", "status": "True"}],
            "since": "2026-11-22T10:16:41.524017Z",
        });
        for (text, holds) in [
            ("object.spec.replicas == 3", true),
            ("object.spec.replicas > 3", false),
            ("object.spec.ratio < 1.0", true),
            ("object.spec.holder.startsWith('master-1')", true),
            ("object.spec.holder.matches('^master-[23]')", false),
            ("object != null", true),
            ("has(object.spec.paused)", false),
            ("!has(object.spec.paused) || object.spec.paused", true),
            ("object.list.exists(c, c.type == 'Ready' && c.status == 'True')", true),
            ("size(object.list) == 2", false),
            ("object['spec']['replicas'] in [1, 3]", true),
            ("object.spec.replicas - 1 == 2 ? true : false", true),
            ("timestamp(object.since) > timestamp('2026-11-22T10:16:40Z')", true),
            ("timestamp(object.since) > timestamp('2026-11-22T11:16:40Z') - duration('1h')", true),
        ] {
            assert_eq!(given(text, &object), Ok(holds), "{text}");
        }
        assert_eq!(given("object == null", &Json::Null), Ok(true));
    }

    #[test]
    fn what_cannot_be_said_is_no_false() {
        let object = json!({"spec": {}, "text": "true"});
        for (text, why) in [
            ("object.spec.holder == 'x'", "there is no field holder"),
            ("size(object.spec)", "it gives the number 0, not true or false"),
            ("object.text", "it gives the text \"true\", not true or false"),
            ("object.spec", "it gives a map, not true or false"),
            ("object.spec > 3", "overload"),
        ] {
            let error = given(text, &object).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(given("object.spec.x == 1", &Json::Null).is_err());
    }

    #[test]
    fn names_declared_inside_are_not_free() {
        let free = |text: &str| {
            let expression = Expression::new(text).unwrap();
            expression.free().iter().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            free("objects.all(o, o.x == nodes['a'] && o.y.exists(c, c > d))"),
            "d nodes objects"
        );
        assert_eq!(
            free("objects.filter(o, has(o.x)).map(o, o.x)[0] == {'k': v, w: [z]}"),
            "objects v w z"
        );
        assert_eq!(free("1 == 1"), "");
    }

    #[test]
    fn keys_of_maps_are_found_wherever_they_stand() {
        let keys = |text: &str| {
            let expression = Expression::new(text).unwrap();
            expression.keys("nodes").map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        for (text, wanted) in [
            ("object.x == nodes['a'] || nodes[\"b\"] in object.y", "a b"),
            ("objects.all(o, o.x == nodes['a'] && [nodes.b] == o.y)", "a b"),
            ("object.x.startsWith(nodes['a'] + '_')", "a"),
            ("object.list.exists(nodes, nodes['a'] == 1)", ""),
            ("objects.exists(o, nodes[o.x] == 'a') && hosts['b'] == ''", ""),
        ] {
            assert_eq!(keys(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_true_of_an_empty_list_is_known() {
        for (text, needs) in [
            ("objects.all(o, o.x == 1)", true),
            ("objects . all(o, o.x == 1) && !objects.exists(o, o.y == 1)", true),
            ("objects.filter(o, has(o.x)).all(o, o.x == 1)", true),
            ("size(objects) == 0 || objects.all(o, o.x == 1)", false),
            ("objects.all(o, o.x == 1) && objects.size() < 3", false),
            ("!objects.exists(o, o.x == 'objects.all(')", false),
            ("objects.exists(o, o.list.all(x, x == 1))", false),
            ("objects.exists_one(o, o.x == 1)", false),
        ] {
            assert_eq!(Expression::new(text).unwrap().needs_some("objects"), needs, "{text}");
        }
    }

    #[test]
    fn fields_are_shown_with_their_values() {
        let object =
            json!({"spec": {"holder": "a", "n": 3}, "list": [1, 2], "long": "x".repeat(200)});
        let expression = Expression::new(
            "object.spec.holder != 'b' && has(object.no.x) && object.list.exists(o, o.y == 1)",
        )
        .unwrap();
        assert_eq!(
            expression.shown(&[("object", &object), ("nodes", &Json::Null)]),
            ["object.list is [1,2]", "object.no.x is absent", "object.spec.holder is \"a\""]
        );
        let long = Expression::new("object.long == ''").unwrap().shown(&[("object", &object)]);
        assert!(long[0].ends_with('…') && long[0].len() < 150, "{long:?}");
    }

    #[test]
    fn broken_texts_are_errors_and_never_panics() {
        let deep = "(".repeat(900);
        let many = "object.x && ".repeat(80);
        let fields = format!("object{} == 1", ".x".repeat(450));
        let sum = format!("1{} == 1", "+1".repeat(450));
        let lists = "[".repeat(900);
        let long = format!("object == '{}'", "x".repeat(1000));
        for text in [
            "",
            "object.",
            "object ==",
            "'",
            "a b",
            "\u{1F980}",
            "object.x = 1",
            "\\",
            &deep,
            &many,
            &fields,
            &sum,
            &lists,
            &long,
        ] {
            assert!(Expression::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn functions_that_do_not_exist_are_found() {
        let unknown =
            |text: &str| Expression::new(text).unwrap().unknown_function().map(str::to_owned);
        assert_eq!(unknown("sise(object) == 1"), Some("sise".into()));
        assert_eq!(
            unknown("object.a.b == 1 && object.x.beginsWith('a')"),
            Some("beginsWith".into())
        );
        for known in [
            "object.x.matches('a')",
            "timestamp(object.x) > timestamp(object.y)",
            "size(object) in [1]",
            "duration('1h') > object.x",
            "int(object.x) == 1 && string(object.y) == ''",
            "object.x.contains('b')",
            "object.x.endsWith('b')",
        ] {
            assert_eq!(unknown(known), None, "{known}");
        }
        assert_eq!(unknown("object.spec.x.startsWith('a')"), None);
    }
}
