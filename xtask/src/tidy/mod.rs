//! `cargo xtask tidy`: holds the tree against the law book ([`laws`]).
//!
//! It reads the manifests through `cargo metadata`, the sources as tokens (a word in a comment or a string is not
//! code), and everything else as text. Formatting, function length and lints are left to rustfmt and clippy.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

mod conformance;
mod examples;
mod files;
mod laws;
mod manifests;
mod rust;
mod source;
#[cfg(test)]
mod tests;

use source::Source;

/// One breach of a law, where it is, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    what: String,
    remedy: &'static str,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, remedy: &'static str) -> Self {
        Finding {
            path: path.to_owned(),
            line,
            what: what.into(),
            remedy,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}\n    remedy: {}",
            self.path, self.line, self.what, self.remedy
        )
    }
}

/// What a check may add to: breaches fail the run, warnings are only shown.
#[derive(Debug, Default)]
struct Report {
    breaches: Vec<Finding>,
    warnings: Vec<Finding>,
}

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut report = Report::default();
    let paths = tracked(root)?;

    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        if root.join(manifest).exists() {
            let packages = manifests::packages(root, manifest)?;
            manifests::check(&packages, &mut report);
        }
    }
    let mut sources = Vec::new();
    let mut table = None;
    for path in &paths {
        let file = root.join(path);
        let Ok(size) = fs::metadata(&file).map(|facts| facts.len()) else {
            continue; // deleted, but not yet committed so
        };
        files::check_size(path, size, &mut report);
        if size > laws::BLOB_MAX {
            continue;
        }
        let bytes = fs::read(&file).map_err(|error| format!("{path}: {error}"))?;
        let Ok(text) = String::from_utf8(bytes) else {
            continue; // not text
        };
        files::check_text(path, &text, &mut report);
        if path.ends_with(".rs") {
            match Source::read(path, &text) {
                Ok(source) => sources.push(source),
                Err(finding) => report.breaches.push(finding),
            }
        } else if path == conformance::PATH {
            table = Some(text);
        }
    }
    source::mark_test_files(&mut sources);
    for source in &sources {
        rust::check(source, &mut report);
    }
    examples::check(&sources, &mut report);
    if let Some(table) = table {
        conformance::check(&table, &sources, &mut report);
    }
    show(report, paths.len())
}

fn show(mut report: Report, files: usize) -> Result<(), String> {
    report.breaches.sort();
    report.warnings.sort();
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for breach in &report.breaches {
        println!("{breach}");
    }
    match report.breaches.len() {
        0 => {
            println!(
                "tidy: {files} files, no breach, {} warnings",
                report.warnings.len()
            );
            Ok(())
        }
        1 => Err("tidy: one breach of the law book".to_owned()),
        many => Err(format!("tidy: {many} breaches of the law book")),
    }
}

/// Every file git knows or would take up, from the top folder, sorted.
fn tracked(root: &Path) -> Result<Vec<String>, String> {
    // The tree may belong to someone else than the caller (a container, a shared clone): reading names is harmless.
    let output = Command::new("git")
        .arg("-c")
        .arg(format!("safe.directory={}", root.display()))
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut paths: Vec<String> = text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}
