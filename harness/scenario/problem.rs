//! Problems of a scenario file, and how they are shown.

use std::fmt::Write as _;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NamedSource, SourceSpan};

/// No more problems than this are shown; whoever has more has another problem.
const SHOWN: usize = 50;

/// Messages are cut to this many characters.
const LONGEST_MESSAGE: usize = 400;

/// With longer lines than this a file is not shown, only described.
const LONGEST_LINE: usize = 2000;

/// A problem as it is found: at a byte offset, with a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) span: (usize, usize),
    message: String,
    help: Option<String>,
}

impl Finding {
    pub(super) fn new(span: (usize, usize), message: impl Into<String>) -> Self {
        Self { span, message: one_line(&message.into()), help: None }
    }

    /// Says under which circumstances it is wrong.
    pub(super) fn when(self, circumstances: &str) -> Self {
        self.and(&format!("when {circumstances}"))
    }

    /// Says more of it.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.message = one_line(&format!("{}, {more}", self.message));
        self
    }

    /// Says what would be right, unless that was said.
    pub(super) fn or_help(self, help: impl Into<String>) -> Self {
        if self.help.is_some() { self } else { self.help(help) }
    }

    /// Says what would be right.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(one_line(&help.into()));
        self
    }
}

/// What is quoted from a file may be long, and may say anything to a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars().take(LONGEST_MESSAGE) {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    if text.chars().nth(LONGEST_MESSAGE).is_some() {
        line.push('…');
    }
    line
}

/// One thing in a scenario file that is not right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Problem {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its column in characters, counted from 1.
    pub column: usize,
    /// Its place in the file, in bytes.
    #[label]
    pub span: SourceSpan,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[help]
    pub help: Option<String>,
}

/// Everything that is not right in a scenario file, in the order of the file.
#[derive(Debug, Clone, thiserror::Error, Diagnostic)]
#[error("{} is not a valid scenario ({})", self.source_code.name(), self.count())]
pub struct LoadError {
    #[source_code]
    source_code: NamedSource<String>,
    #[related]
    problems: Vec<Problem>,
    omitted: usize,
}

impl LoadError {
    pub(super) fn new(file: &str, text: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span);
        // What stands at an alias's anchor is read once for every alias.
        findings.dedup();
        let omitted = findings.len().saturating_sub(SHOWN);
        findings.truncate(SHOWN);
        let problems = findings.into_iter().map(|finding| place(text, finding)).collect();
        Self { source_code: NamedSource::new(file, text.to_owned()), problems, omitted }
    }

    /// The problems, in the order of the file; at most 50.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn count(&self) -> String {
        match self.problems.len() + self.omitted {
            1 => "1 problem".to_owned(),
            count if self.omitted > 0 => {
                format!("{count} problems, of which the first {SHOWN} are shown")
            }
            count => format!("{count} problems"),
        }
    }

    /// For logs and editors: a line `file:line:column: message` for each problem, followed by an
    /// indented line with what would be right.
    pub fn plain(&self) -> String {
        let mut out = String::new();
        for Problem { line, column, message, help, .. } in &self.problems {
            let _ = writeln!(out, "{}:{line}:{column}: {message}", self.source_code.name());
            if let Some(help) = help {
                let _ = writeln!(out, "    help: {help}");
            }
        }
        if self.omitted > 0 {
            let _ =
                writeln!(out, "{}: and {} more problems", self.source_code.name(), self.omitted);
        }
        out
    }

    /// For people: each problem with the lines around it and a caret below.
    pub fn graphical(&self, colours: bool) -> String {
        if self.source_code.inner().lines().any(|line| line.len() > LONGEST_LINE) {
            return self.plain();
        }
        let theme =
            if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut out = String::new();
        match GraphicalReportHandler::new_themed(theme)
            .with_context_lines(1)
            .render_report(&mut out, self)
        {
            Ok(()) => out,
            Err(_) => self.plain(),
        }
    }
}

/// Finds the line and column of a byte offset, and keeps the span within its line.
fn place(text: &str, finding: Finding) -> Problem {
    let start = text.floor_char_boundary(finding.span.0.min(text.len()));
    let rest = &text[start..];
    let line_end = rest.find(['\r', '\n']).unwrap_or(rest.len());
    let length = rest.floor_char_boundary(finding.span.1.min(line_end));
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Problem {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        span: SourceSpan::new(start.into(), length),
        message: finding.message,
        help: finding.help,
    }
}
