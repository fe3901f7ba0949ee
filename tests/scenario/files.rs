//! What an author is told about faults of files, certificates and commands that can't be.

use std::fmt::Write;

use super::{injecting, said};

#[test]
fn faults_of_files_and_commands() {
    let cases = [
        "file: {path: etc/a, on: {master: 1}, make: gone}",
        "file: {path: /etc/../a, on: {every: nodes}, make: {content: 1}}",
        "file: {path: /etc/a/, on: {master: 1}, make: {absent: true}}",
        "file: {path: /etc/a, make: {copyOf: /etc/a}, on: {master: 1}}",
        "certificate: {path: /etc/a.crt, on: {master: 1}}",
        "certificate: {path: /etc/a.crt, on: {master: 1}, comonName: x}",
        "certificate: {path: /etc/a.crt, on: {master: 1}, issuer: kubernetes, key: none}",
        "certificate: {path: /etc/a.crt, on: {master: 1}, validity: 1h, usages: [client]}",
        "certificate: {path: /etc/a.crt, on: {master: 1}, validity: {expired: 1}, sans: a}",
        "command: {on: {master: 1}, inject: '', prove: x, limit: 1h}",
        "command: {on: {worker: 2}, inject: x, prove: y, revert: z, limit: 0s}",
    ];
    let mut out = String::new();
    for case in cases {
        let _ = writeln!(out, "# {case}\n{}", said(injecting(case)));
    }
    insta::assert_snapshot!(out);
}
