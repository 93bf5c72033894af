//! Laws about manifests: who may depend on whom, and that every crate lives under the workspace's lints.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::laws::{ROOMS, Room};
use super::{Finding, Report};

/// What the laws ask about one package.
#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its manifest's path, from the top folder.
    pub(super) path: String,
    /// Its manifest's text.
    pub(super) text: String,
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// Another package of this repository, by path.
    pub(super) ours: bool,
    /// Of tests, examples and benchmarks only.
    pub(super) dev: bool,
}

/// The packages of the workspace at `manifest`, as cargo sees them. Works without network.
pub(super) fn packages(root: &Path, manifest: &str) -> Result<Vec<Package>, String> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--no-deps",
            "--format-version=1",
            "--manifest-path",
            manifest,
        ])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let mut packages = Vec::new();
    for value in list(&metadata["packages"]) {
        let absolute = Path::new(text(&value["manifest_path"]));
        let path = absolute
            .strip_prefix(root)
            .unwrap_or(absolute)
            .display()
            .to_string();
        packages.push(Package {
            name: text(&value["name"]).to_owned(),
            text: fs::read_to_string(absolute).map_err(|error| format!("{path}: {error}"))?,
            path,
            dependencies: list(&value["dependencies"])
                .iter()
                .map(dependency)
                .collect(),
        });
    }
    Ok(packages)
}

fn dependency(value: &Value) -> Dependency {
    Dependency {
        name: text(&value["name"]).to_owned(),
        ours: value["path"].is_string(),
        dev: value["kind"] == "dev",
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn check(packages: &[Package], report: &mut Report) {
    for package in packages {
        let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
            report.breaches.push(Finding::new(
                &package.path,
                1,
                format!("'{}' is not a room of the house", package.name),
                "give it an entry in the law book, with what it may use and touch",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            check_dependency(package, room, dependency, report);
        }
        check_lints(package, report);
    }
}

fn check_dependency(package: &Package, room: &Room, dependency: &Dependency, report: &mut Report) {
    let name = dependency.name.as_str();
    let line = line_of(&package.text, name);
    if dependency.ours {
        let allowed =
            room.uses.contains(&name) || (dependency.dev && room.tests_use.contains(&name));
        if !allowed {
            let kind = if dependency.dev { "tests of " } else { "" };
            report.breaches.push(Finding::new(
                &package.path,
                line,
                format!("{kind}{} may not use {name}", room.name),
                "arrows point down only: move the code to the room that may, or argue for the edge in the law book",
            ));
        }
    } else if !dependency.dev && room.borrows.is_some_and(|borrows| !borrows.contains(&name)) {
        report.breaches.push(Finding::new(
            &package.path,
            line,
            format!("{} may not borrow the package {name}", room.name),
            "write the little that is needed, move it to a test, or argue for the package in the law book",
        ));
    }
}

fn check_lints(package: &Package, report: &mut Report) {
    let mut section = "";
    let inherits = package.text.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let stripped: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        (section == "[lints]" && stripped == "workspace=true") || stripped == "lints.workspace=true"
    });
    if !inherits {
        report.breaches.push(Finding::new(
            &package.path,
            1,
            format!("{} does not live under the workspace's lints", package.name),
            "add `[lints]` with `workspace = true`",
        ));
    }
}

/// The line that first names `word` at its start, else the first.
fn line_of(text: &str, word: &str) -> usize {
    let names = |line: &str| {
        line.trim_start()
            .strip_prefix(word)
            .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    text.lines().position(names).map_or(1, |index| index + 1)
}
