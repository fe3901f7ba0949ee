//! The repository's own rules. Each checker is a pure function of text, and is shown to fail on a
//! text that breaks its rule; the tests at the end run them over every file that git knows.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

// ---------------------------------------------------------------------------------------------
// The rules

/// Which room may name which. A room is a folder (or file) directly under `harness/`.
const EDGES: [(&str, &[&str]); 8] = [
    ("scenario", &[]),
    ("event", &[]),
    ("assets", &[]),
    // `NodeRef` and `Component` are the author's words for a node and a component: one type each,
    // instead of two that are converted into each other.
    ("cluster", &["assets", "scenario"]),
    // A fault is carried out as the author wrote it: its fields are the scenario's type.
    ("fault", &["cluster", "scenario"]),
    // So is a probe.
    ("probe", &["cluster", "scenario"]),
    // The run plans a scenario, writes events, and hands assets on to whoever makes the cluster.
    ("run", &["fault", "probe", "cluster", "assets", "scenario", "event"]),
    // Reports are made from events alone, so that they can be made again later.
    ("report", &["event"]),
];

/// Rooms that may name any other: the command line, and what only names the rooms.
const ROOTS: [&str; 3] = ["cli", "lib", "main"];

/// Where a provider's room may be named: in its own, where one is chosen, and where the program
/// stands in for a lab's first process.
const CHOOSES_PROVIDER: [&str; 3] = ["harness/cluster/", "harness/cli/", "harness/main.rs"];

const UNSAFE: &str = "harness/cluster/agent/sys.rs";
const MOST_LINES: usize = 600;

/// What ends the program instead of telling its caller. `expect` also is a name of our own, so only
/// a call with a text counts.
const PANICS: [&str; 7] = [
    ".unwrap()",
    ".unwrap_err()",
    ".expect(\"",
    "panic!",
    "unreachable!",
    "todo!",
    "unimplemented!",
];

/// Files that may name a path below a home folder or a temporary one, and why.
const PATHS_ALLOWED: [(&str, &str); 2] = [
    ("harness/cluster/lab/enter.rs", "a file system mounted in a namespace of its own"),
    ("tests/tidy.rs", "this rule"),
];

// ---------------------------------------------------------------------------------------------
// Reading Rust, as far as the rules need it

/// How many hashes stand before the quote, if a raw string begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let name = chars[..at].iter().rev().take_while(|c| is_name(**c)).count();
    let in_name = name > 1 || (name == 1 && chars[at - 1] != 'b');
    if chars.get(at) != Some(&'r') || in_name {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// The text with the insides of comments, strings and characters blanked; quotes and lines stay.
fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                blank(&mut out, chars[i]);
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                if i >= chars.len() {
                    break;
                }
                let pair = (at(i), at(i + 1));
                let step = usize::from(pair == ('/', '*') || pair == ('*', '/')) + 1;
                match pair {
                    ('/', '*') => depth += 1,
                    ('*', '/') => depth -= 1,
                    _ => {}
                }
                (i..i + step).for_each(|i| blank(&mut out, at(i)));
                i += step;
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(hashes) = raw_string(&chars, i) {
            let end = format!("\"{}", "#".repeat(hashes));
            out.push('r');
            out.extend(std::iter::repeat_n('#', hashes));
            out.push('"');
            i += hashes + 2;
            while i < chars.len() && !(0..end.len()).all(|n| at(i + n) == end.as_bytes()[n] as char)
            {
                blank(&mut out, chars[i]);
                i += 1;
            }
            out.push_str(&end);
            i += end.len();
        } else if c == '"' {
            out.push('"');
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                let step = if chars[i] == '\\' { 2 } else { 1 };
                (i..(i + step).min(chars.len())).for_each(|i| blank(&mut out, chars[i]));
                i += step;
            }
            out.push('"');
            i += 1;
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            // A character; everything else that begins so is a lifetime.
            let mut end = i + if at(i + 1) == '\\' { 3 } else { 2 };
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            out.push('\'');
            (i + 1..end).for_each(|i| blank(&mut out, at(i)));
            out.push('\'');
            i = end + 1;
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

/// Code without what is compiled for tests alone, its lines left empty.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        let mut depth = 0_usize;
        let end = item.char_indices().find_map(|(i, c)| {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && (c == '}' || c == ';')).then_some(i + 1)
        });
        let end = end.unwrap_or(item.len());
        out.extend(item[..end].chars().filter(|c| *c == '\n'));
        rest = &item[end..];
    }
    out + rest
}

/// Whether the file is compiled for tests alone: its module's parent says so.
fn is_test_file(path: &str, files: &[(String, String)]) -> bool {
    let path = Path::new(path);
    let (Some(stem), Some(folder)) = (path.file_stem(), path.parent()) else { return false };
    let (Some(stem), Some(folder)) = (stem.to_str(), folder.to_str()) else { return false };
    let parents = [format!("{folder}/mod.rs"), format!("{folder}.rs"), format!("{folder}/lib.rs")];
    files.iter().filter(|(path, _)| parents.contains(path)).any(|(_, text)| {
        let squeezed: String = code(text).split_whitespace().collect::<Vec<_>>().join(" ");
        squeezed.contains(&format!("#[cfg(test)] mod {stem};"))
    })
}

/// The module that a file of `harness/` is: `["fault", "stop"]`.
fn module(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix("harness/").unwrap_or(path).trim_end_matches(".rs");
    let mut parts: Vec<&str> = inner.split('/').collect();
    if parts.len() > 1 && parts.last() == Some(&"mod") {
        parts.pop();
    }
    parts
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The first names of what a path (`a::b`, `{a, b::c}`) goes on with.
fn heads(rest: &str) -> Vec<&str> {
    let name = |text: &'_ str| -> usize { text.find(|c| !is_name(c)).unwrap_or(text.len()) };
    let Some(group) = rest.strip_prefix('{') else { return vec![&rest[..name(rest)]] };
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && is_name(c) => {
                names.push(&group[i..i + name(&group[i..])]);
                start = false;
            }
            _ => {}
        }
    }
    names
}

/// Every path from the crate's root that a file names, with the place of its line: what follows
/// `crate::`, and what follows enough `super::` to get there.
fn from_root<'a>(path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let own = module(path).len();
    let mut found = Vec::new();
    let mut inner: Vec<usize> = Vec::new(); // depths at which `mod x {` was opened
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            '{' => {
                depth += 1;
                let head = code[..i].trim_end();
                let word = head.trim_end_matches(is_name);
                if word.len() < head.len() && word.trim_end().ends_with("mod") {
                    inner.push(depth);
                }
            }
            '}' => {
                if inner.last() == Some(&depth) {
                    inner.pop();
                }
                depth -= 1;
            }
            _ => {}
        }
        if code[..i].ends_with(|c| is_name(c) || c == ':') {
            continue;
        }
        if let Some(rest) = code[i..].strip_prefix("crate::") {
            found.push((i, rest));
        }
        let (mut rest, mut ups) = (&code[i..], 0);
        while let Some(up) = rest.strip_prefix("super::") {
            (rest, ups) = (up, ups + 1);
        }
        if ups > 0 && ups == own + inner.len() {
            found.push((i, rest));
        }
    }
    found
}

// ---------------------------------------------------------------------------------------------
// The checkers: what is wrong with one file

type Wrong = Vec<(usize, String)>;

fn directions(path: &str, text: &str) -> Wrong {
    let code = code(text);
    let room = module(path)[0];
    if ROOTS.contains(&room) {
        return vec![];
    }
    let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == room) else {
        return vec![(1, format!("the room `{room}` is not in the table of edges"))];
    };
    let mut wrong = Wrong::new();
    for (at, rest) in from_root(path, &code) {
        for head in heads(rest) {
            let is_room = EDGES.iter().any(|(room, _)| *room == head) || ROOTS.contains(&head);
            if is_room && head != room && !allowed.contains(&head) {
                wrong.push((line_of(&code, at), format!("`{room}` may not depend on `{head}`")));
            }
        }
    }
    wrong
}

fn providers(path: &str, text: &str) -> Wrong {
    if CHOOSES_PROVIDER.iter().any(|allowed| path.starts_with(allowed)) {
        return vec![];
    }
    let code = code(text);
    let named = from_root(path, &code).into_iter().filter(|(_, rest)| {
        let end = rest.find(';').unwrap_or(rest.len());
        let words: Vec<&str> = rest[..end].split(|c| !is_name(c)).collect();
        words.first() == Some(&"cluster") && words.iter().any(|w| ["lab", "kind"].contains(w))
    });
    named.map(|(at, _)| (line_of(&code, at), "a provider is named".into())).collect()
}

fn lines(text: &str) -> Wrong {
    let count = text.lines().count();
    (count > MOST_LINES)
        .then(|| (count, format!("more than {MOST_LINES} lines")))
        .into_iter()
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_name) && !after.starts_with(is_name)
    })
}

fn each_line(text: &str, wrong: impl Fn(&str) -> Option<String>) -> Wrong {
    text.lines().enumerate().filter_map(|(i, line)| Some((i + 1, wrong(line)?))).collect()
}

fn unsafety(path: &str, text: &str) -> Wrong {
    if path == UNSAFE {
        return vec![];
    }
    each_line(&code(text), |line| has_word(line, "unsafe").then(|| "unsafe".into()))
}

fn sleeps(text: &str) -> Wrong {
    each_line(&code(text), |line| line.contains("thread::sleep").then(|| "a thread sleeps".into()))
}

fn panics(text: &str) -> Wrong {
    each_line(&without_tests(&code(text)), |line| {
        let found = PANICS.iter().find(|panic| line.contains(**panic))?;
        Some(format!("`{found}` outside tests"))
    })
}

fn unfinished(text: &str) -> Wrong {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    each_line(text, |line| words.iter().find(|word| has_word(line, word)).map(|w| (*w).into()))
}

/// Paths below a home folder or the folder for temporary files: of one machine, never of all.
fn local_paths(text: &str) -> Wrong {
    each_line(text, |line| {
        ["/home/", "/Users/", "/root/", "/tmp/"].iter().find_map(|folder| {
            let mut places = line.match_indices(folder);
            places.find_map(|(at, _)| {
                let whole = !line[..at].ends_with(|c: char| is_name(c) || "}.~*-".contains(c));
                let rest = &line[at + folder.len()..];
                let goes_on = rest.starts_with(|c| is_name(c) || c == '.');
                (whole && goes_on).then(|| format!("a path below {folder}"))
            })
        })
    })
}

// ---------------------------------------------------------------------------------------------
// The checkers fail when their rule is broken

#[test]
fn code_is_told_from_comments_strings_and_characters() {
    for (text, expected) in [
        ("a // unsafe\nb", "a          \nb"),
        ("a /* x /* y */ z */ b", "a                   b"),
        ("\"a\\\"b\" c", "\"    \" c"),
        ("r#\"a\"b\"# c", "r#\"   \"# c"),
        ("'{' '\\'' &'a str", "' ' '  ' &'a str"),
        ("for 'x in b\"y\"", "for 'x in b\" \""),
        ("br\"y\\\" z", "br\"  \" z"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn what_is_for_tests_alone_is_left_out() {
    let text = "a\n#[cfg(test)]\nmod tests {\n b { }\n}\nc\n#[cfg(test)] mod d; e";
    assert_eq!(without_tests(text).split_whitespace().collect::<Vec<_>>(), ["a", "c", "e"]);
    assert_eq!(line_of(&without_tests(text), without_tests(text).find('c').unwrap_or(0)), 6);
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [file("harness/run/mod.rs", "#[cfg(test)]\nmod tests;\nmod plan;")];
    assert!(is_test_file("harness/run/tests.rs", &files));
    assert!(!is_test_file("harness/run/plan.rs", &files));
}

#[test]
fn a_dependency_against_the_direction_is_seen() {
    for (path, text, wrong) in [
        ("harness/fault/stop.rs", "use crate::cluster::Node;", false),
        ("harness/fault/stop.rs", "use super::process::running;", false),
        ("harness/fault/stop.rs", "// crate::run", false),
        ("harness/fault/stop.rs", "use crate::run::Plan;", true),
        ("harness/fault/stop.rs", "use super::super::run::Plan;", true),
        ("harness/fault/stop.rs", "fn f() { crate::probe::watch() }", true),
        ("harness/fault/mod.rs", "use super::run;", true),
        ("harness/fault/mod.rs", "mod tests { use super::run; }", false),
        ("harness/fault/mod.rs", "mod tests { use super::super::run; }", true),
        ("harness/scenario/mod.rs", "use crate::{event, scenario::{fault}};", true),
        ("harness/scenario/mod.rs", "use crate::{scenario::{fault, event}};", false),
        ("harness/report/text.rs", "use crate::event::Event;", false),
        ("harness/report/text.rs", "use crate::run::Plan;", true),
        ("harness/event.rs", "use super::scenario;", true),
        ("harness/run/plan.rs", "use crate::cli;", true),
        ("harness/cli/run.rs", "use crate::report;", false),
        ("harness/extra/mod.rs", "", true),
    ] {
        assert_eq!(!directions(path, text).is_empty(), wrong, "{path}: {text}");
    }
}

#[test]
fn a_provider_named_above_its_room_is_seen() {
    for (path, text, wrong) in [
        ("harness/fault/stop.rs", "use crate::cluster::client::Access;", false),
        ("harness/fault/stop.rs", "use crate::cluster::lab::Lab;", true),
        ("harness/probe/health.rs", "use crate::cluster::{Cluster, lab};", true),
        ("harness/run/session.rs", "use crate::cluster::lab::Lab;", true),
        ("harness/run/session.rs", "use crate::cluster::Provider;", false),
    ] {
        assert_eq!(!providers(path, text).is_empty(), wrong, "{path}: {text}");
    }
}

#[test]
fn every_other_rule_is_seen_to_be_broken() {
    assert!(lines(&"x\n".repeat(MOST_LINES)).is_empty());
    assert!(!lines(&"x\n".repeat(MOST_LINES + 1)).is_empty());

    assert!(unsafety("a.rs", "#![deny(unsafe_code)] // unsafe").is_empty());
    assert_eq!(unsafety("a.rs", "x\nunsafe { y }")[0].0, 2);
    assert!(unsafety(UNSAFE, "unsafe { y }").is_empty());

    assert!(sleeps("tokio::time::sleep(d); \"thread::sleep\"").is_empty());
    assert!(!sleeps("std::thread::sleep(d)").is_empty());

    assert!(
        panics("a.unwrap_or(1); self.expect(phase); #[cfg(test)] mod t { a.unwrap() }").is_empty()
    );
    for text in ["a.unwrap()", "a.expect(\"x\")", "panic!(\"x\")", "unreachable!()"] {
        assert!(!panics(text).is_empty(), "{text}");
    }

    assert!(unfinished("todos").is_empty());
    assert!(!unfinished(concat!("// TO", "DO: later")).is_empty());

    for text in ["a tmpfs on /tmp, 1777", "HOME=/root", "{target}/root/etc", "~/.cache"] {
        assert!(local_paths(text).is_empty(), "{text}");
    }
    for text in ["cd /home/me/x", "\"/tmp/lower\"", "/root/.cargo", "(/Users/me)"] {
        assert!(!local_paths(text).is_empty(), "{text}");
    }
}

// ---------------------------------------------------------------------------------------------
// The repository

/// Every file that git knows or would add, as text; others are left out.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(arguments).current_dir(root).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let text = |name: &str| Some((name.to_owned(), std::fs::read_to_string(root.join(name)).ok()?));
    let files: Vec<_> = names.split_terminator('\0').filter_map(text).collect();
    assert!(files.iter().any(|(path, _)| path == "harness/lib.rs"), "the files were not found");
    files
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

fn rust<'a>(files: &'a [(String, String)], under: &str) -> Vec<(&'a str, &'a str)> {
    let wanted = files.iter().filter(|(path, _)| path.starts_with(under) && is_rust(path));
    wanted.map(|(path, text)| (path.as_str(), text.as_str())).collect()
}

/// Fails with every place at once.
fn none<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
    check: impl Fn(&str, &str) -> Wrong,
) {
    let mut all = String::new();
    for (path, text) in files {
        for (line, what) in check(path, text) {
            // Writing to a String can't fail.
            let _ = write!(all, "\n  {path}:{line}: {what}");
        }
    }
    assert!(all.is_empty(), "{all}");
}

#[test]
fn rooms_depend_on_each_other_in_one_direction() {
    let files = files();
    none(rust(&files, "harness/"), directions);
    none(rust(&files, "harness/"), providers);
}

#[test]
fn files_are_short() {
    let files = files();
    none(rust(&files, "harness/").into_iter().chain(rust(&files, "tests/")), |_, text| lines(text));
}

#[test]
fn unsafe_stands_in_one_file() {
    none(rust(&files(), ""), unsafety);
}

#[test]
fn no_thread_sleeps() {
    none(rust(&files(), ""), |_, text| sleeps(text));
}

#[test]
fn nothing_panics_outside_tests() {
    let files = files();
    let mut harness = rust(&files, "harness/");
    harness.retain(|(path, _)| !is_test_file(path, &files));
    none(harness, |_, text| panics(text));
}

#[test]
fn nothing_is_unfinished() {
    let files = files();
    none(files.iter().map(|(path, text)| (path.as_str(), text.as_str())), |_, t| unfinished(t));
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let files = files();
    let allowed = |path: &str| PATHS_ALLOWED.iter().any(|(file, _)| *file == path);
    let files = files.iter().filter(|(path, _)| !allowed(path));
    none(files.map(|(path, text)| (path.as_str(), text.as_str())), |_, t| local_paths(t));
}

#[test]
fn every_scenario_is_built_in() {
    let files = files();
    let path = |path: &String| path.starts_with("scenarios/").then(|| path.clone());
    let on_disk: BTreeSet<String> = files.iter().filter_map(|(name, _)| path(name)).collect();
    let built_in: BTreeSet<String> =
        outage::scenario::BUILTIN.iter().map(|builtin| builtin.path.to_owned()).collect();
    assert_eq!(on_disk, built_in);
}

#[test]
fn the_scenarios_of_the_documentation_are_some() {
    for (name, text) in [
        ("README.md", include_str!("../README.md")),
        ("docs/guide.md", include_str!("../docs/guide.md")),
    ] {
        let block = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        let loaded = outage::scenario::load(name, block.unwrap().as_bytes());
        assert!(loaded.is_ok(), "{}", loaded.unwrap_err().plain());
    }
}
