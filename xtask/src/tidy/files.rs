//! Laws about any file: its size, words that tie it to one machine, where a lockfile says packages come from.

use super::laws::{BLOB_MAX, LAW_BOOK, LOCKED_SOURCE, MACHINE_PATHS, PACKAGE_HOSTS};
use super::{Finding, Report};

pub(super) fn check_size(path: &str, size: u64, report: &mut Report) {
    if size > BLOB_MAX {
        report.breaches.push(Finding::new(
            path,
            1,
            format!(
                "{} KiB, more than {} KiB",
                size.div_ceil(1024),
                BLOB_MAX / 1024
            ),
            "generate it, shrink it, or fetch it when it is used",
        ));
    }
}

pub(super) fn check_text(path: &str, text: &str, report: &mut Report) {
    if path.ends_with("Cargo.lock") {
        check_lock(path, text, report);
    }
    if path == LAW_BOOK {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        if let Some(word) = machine_path(line) {
            report.breaches.push(Finding::new(
                path,
                index + 1,
                format!("'{word}' is a path of one machine"),
                "use a path from the repository's top, an argument, or the temporary folder",
            ));
        }
        if let Some(host) = PACKAGE_HOSTS.iter().find(|host| line.contains(**host)) {
            report.breaches.push(Finding::new(
                path,
                index + 1,
                format!("'{host}' is where one machine gets its packages"),
                "name the package; leave the host to the machine's own configuration",
            ));
        }
    }
}

fn check_lock(path: &str, text: &str, report: &mut Report) {
    for (index, line) in text.lines().enumerate() {
        let Some(source) = line
            .strip_prefix("source = \"")
            .and_then(|rest| rest.strip_suffix('"'))
        else {
            continue;
        };
        if source != LOCKED_SOURCE {
            report.breaches.push(Finding::new(
                path,
                index + 1,
                format!("a package is locked to '{source}'"),
                "depend on published releases, and lock them without a mirror configured",
            ));
        }
    }
}

/// The first machine path in `line` that stands where a path can begin: `crates/home/` is none.
fn machine_path(line: &str) -> Option<&'static str> {
    MACHINE_PATHS.iter().copied().find(|word| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_-./~}*".contains(c))
        })
    })
}
