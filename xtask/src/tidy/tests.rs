//! Every law can be broken: small bad inputs, and the good ones next to them.

use super::manifests::{Dependency, Package};
use super::source::{Source, mark_test_files};
use super::{Report, conformance, examples, files, laws, manifests, rust};

/// What `tidy` says of one file.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let mut report = Report::default();
    files::check_text(path, text, &mut report);
    match Source::read(path, text) {
        Ok(source) => rust::check(&source, &mut report),
        Err(finding) => report.breaches.push(finding),
    }
    report
        .breaches
        .into_iter()
        .map(|finding| format!("{}: {}", finding.line, finding.what))
        .collect()
}

/// The file, with its module doc, breaks exactly one law, on line `line`, and the message contains `part`.
#[track_caller]
fn breaks(path: &str, body: &str, line: usize, part: &str) {
    let found = breaches(path, &format!("//! A file.\n{body}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with(&format!("{line}: ")) && found[0].contains(part),
        "{found:#?}"
    );
}

#[track_caller]
fn keeps(path: &str, body: &str) {
    assert_eq!(
        breaches(path, &format!("//! A file.\n{body}")),
        Vec::<String>::new()
    );
}

fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
    let mut text =
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n[dependencies]\n");
    for (name, ..) in dependencies {
        text.push_str(&format!("{name}.workspace = true\n"));
    }
    Package {
        name: name.to_owned(),
        path: format!("crates/{name}/Cargo.toml"),
        text,
        dependencies: dependencies
            .iter()
            .map(|(name, ours, dev)| Dependency {
                name: (*name).to_owned(),
                ours: *ours,
                dev: *dev,
            })
            .collect(),
    }
}

fn manifest_breaches(package: Package) -> Vec<String> {
    let mut report = Report::default();
    manifests::check(&[package], &mut report);
    report
        .breaches
        .into_iter()
        .map(|finding| format!("{}: {}", finding.line, finding.what))
        .collect()
}

#[test]
fn edges_point_down_only() {
    assert_eq!(
        manifest_breaches(package(
            "stack",
            &[("wire", true, false), ("base", true, false)]
        )),
        [""; 0]
    );
    assert_eq!(
        manifest_breaches(package(
            "stack",
            &[("wire", true, false), ("port", true, false)]
        )),
        ["7: stack may not use port"]
    );
    assert_eq!(
        manifest_breaches(package("wire", &[("base", true, false)])),
        ["6: wire may not use base"]
    );
    assert_eq!(
        manifest_breaches(package("xtask", &[("wire", true, true)])),
        ["6: tests of xtask may not use wire"]
    );
}

#[test]
fn tests_may_use_a_little_more() {
    assert_eq!(
        manifest_breaches(package("stack", &[("sim", true, true)])),
        [""; 0]
    );
    assert_eq!(
        manifest_breaches(package("stack", &[("sim", true, false)])),
        ["6: stack may not use sim"]
    );
    assert_eq!(
        manifest_breaches(package("wire", &[("proptest", false, true)])),
        [""; 0]
    );
}

#[test]
fn pure_rooms_borrow_from_their_list_only() {
    assert_eq!(
        manifest_breaches(package("base", &[("siphasher", false, false)])),
        [""; 0]
    );
    assert_eq!(
        manifest_breaches(package("stack", &[("tokio", false, false)])),
        ["6: stack may not borrow the package tokio"]
    );
    assert_eq!(
        manifest_breaches(package("cli", &[("clap", false, false)])),
        [""; 0]
    );
}

#[test]
fn a_new_package_needs_a_place_in_the_house() {
    assert_eq!(
        manifest_breaches(package("attic", &[])),
        ["1: 'attic' is not a room of the house"]
    );
}

#[test]
fn every_crate_lives_under_the_lints() {
    let mut bare = package("wire", &[]);
    bare.text = "[package]\nname = \"wire\"\n[dependencies]\nworkspace = true\n".to_owned();
    assert_eq!(
        manifest_breaches(bare),
        ["1: wire does not live under the workspace's lints"]
    );
    let mut short = package("wire", &[]);
    short.text = "[package]\nname = \"wire\"\nlints.workspace = true\n".to_owned();
    assert_eq!(manifest_breaches(short), [""; 0]);
}

#[test]
fn rooms_are_listed_lowest_first_and_arrows_never_turn_back() {
    for (index, room) in laws::ROOMS.iter().enumerate() {
        for used in room
            .uses
            .iter()
            .filter(|_| !matches!(room.name, "interop" | "cli" | "bench" | "examples"))
        {
            assert!(
                laws::ROOMS[..index].iter().any(|lower| lower.name == *used),
                "{} -> {used}",
                room.name
            );
        }
    }
}

#[test]
fn a_file_begins_with_what_it_is() {
    assert_eq!(
        breaches("crates/stack/src/ip.rs", "fn f() {}\n"),
        ["1: no module doc"]
    );
    assert_eq!(
        breaches("crates/stack/src/ip.rs", "//!\nfn f() {}\n"),
        ["1: no module doc"]
    );
    assert_eq!(
        breaches("crates/stack/src/ip.rs", "// What.\n"),
        ["1: no module doc"]
    );
    keeps("crates/stack/src/ip.rs", "fn f() {}\n");
    assert_eq!(
        breaches("crates/stack/src/ip/tests.rs", "use super::*;\n"),
        [""; 0]
    );
}

#[test]
fn unsafe_has_its_rooms() {
    let proved = "// SAFETY: nothing is done.\nfn f() { unsafe {} }\n";
    breaks("crates/stack/src/ip.rs", proved, 3, "unsafe outside");
    breaks("crates/base/src/wheel.rs", proved, 3, "unsafe outside");
    breaks("crates/base/src/pools.rs", proved, 3, "unsafe outside");
    breaks("crates/stack/src/ip/tests.rs", proved, 3, "unsafe outside");
    breaks(
        "crates/packetdrill/src/stage.rs",
        proved,
        3,
        "unsafe outside",
    );
    breaks(
        "crates/packetdrill/tests/other.rs",
        proved,
        3,
        "unsafe outside",
    );
    keeps("crates/packetdrill/tests/script.rs", proved);
    keeps(
        "crates/stack/src/ip.rs",
        "// unsafe\nconst WORD: &str = \"unsafe { }\";\n",
    );
}

#[test]
fn unsafe_has_its_proof() {
    for path in [
        "crates/base/src/pool.rs",
        "crates/base/src/pool/mapping.rs",
        "crates/port/src/tap.rs",
    ] {
        keeps(
            path,
            "fn f() {\n    // SAFETY: nothing is done.\n    unsafe {}\n}\n",
        );
        breaks(path, "fn f() {\n    unsafe {}\n}\n", 3, "without a proof");
    }
    let path = "crates/netns/src/sys.rs";
    keeps(
        path,
        "fn f() {\n    // SAFETY: the pointer\n    // is fresh.\n    let _ =\n        unsafe { g() };\n}\n",
    );
    keeps(
        path,
        "/// Does.\n///\n/// # Safety\n/// `p` is valid.\n#[inline]\nunsafe fn f(p: *const u8) {}\n",
    );
    keeps(path, "type F = unsafe extern \"C\" fn(u8);\n");
    breaks(
        path,
        "// SAFETY: of another.\nfn g() {}\nunsafe impl Send for X {}\n",
        4,
        "without a proof",
    );
    breaks(
        path,
        "fn f() {\n    // SAFETY: of the first.\n    let a = unsafe { g() };\n    let b = unsafe { g() };\n}\n",
        5,
        "without",
    );
}

#[test]
fn a_crate_without_unsafe_says_so_to_the_compiler() {
    breaks("crates/stack/src/lib.rs", "mod ip;\n", 1, "does not forbid");
    keeps(
        "crates/stack/src/lib.rs",
        "#![forbid(unsafe_code)]\nmod ip;\n",
    );
    keeps("crates/port/src/lib.rs", "mod tap;\n");
    keeps("crates/stack/src/ip.rs", "mod route;\n");
}

#[test]
fn pure_rooms_have_no_clock() {
    let path = "crates/stack/src/ip.rs";
    breaks(path, "use std::time::Instant;\n", 2, "std::time::Instant");
    breaks(
        path,
        "use std::time::{\n    Duration,\n    SystemTime,\n};\n",
        4,
        "std::time::SystemTime",
    );
    breaks(path, "use std::{fmt, time::*};\n", 2, "std::time::*");
    breaks(path, "use std::time;\n", 2, "std::time");
    breaks(
        path,
        "use std::time::{self, Duration};\n",
        2,
        "std::time::self",
    );
    breaks(path, "use std as s;\n", 2, "all of `std`");
    breaks(path, "use std::*;\n", 2, "std::*");
    breaks(
        path,
        "fn f() { let _ = std::time::Instant::now(); }\n",
        2,
        "std::time::Instant",
    );
    keeps(
        path,
        "use std::time::Duration;\nuse base::Instant;\nuse std::{collections::BTreeMap, fmt};\n",
    );
    keeps("crates/engine/src/turn.rs", "use std::time::Instant;\n");
}

#[test]
fn pure_rooms_have_no_thread_socket_file_or_environment() {
    for room in ["wire", "base", "stack", "sim"] {
        let path = &format!("crates/{room}/src/x.rs");
        breaks(path, "use std::thread;\n", 2, "std::thread");
        breaks(
            path,
            "use std::net::{IpAddr, TcpStream};\n",
            2,
            "std::net::TcpStream",
        );
        breaks(
            path,
            "use std::net::UdpSocket as Socket;\n",
            2,
            "std::net::UdpSocket",
        );
        breaks(
            path,
            "fn f() { std::fs::read(\"x\"); }\n",
            2,
            "std::fs::read",
        );
        breaks(
            path,
            "fn f() { std::env::var(\"X\"); }\n",
            2,
            "std::env::var",
        );
        breaks(
            path,
            "fn f() -> ! { ::std::process::exit(1) }\n",
            2,
            "std::process::exit",
        );
        breaks(path, "fn f() { println!(\"x\"); }\n", 2, "println!");
        breaks(path, "fn f() { dbg!(1); }\n", 2, "dbg!");
        breaks(
            path,
            "use std::io;\nfn f() { io::stdout().lock(); }\n",
            3,
            "stdout()",
        );
        breaks(path, "fn f() { libc::getpid(); }\n", 2, "libc");
        breaks(path, "use rustix::mm::mmap_anonymous;\n", 2, "rustix");
        keeps(
            path,
            "use std::net::{IpAddr, Ipv4Addr};\nuse std::os::fd::BorrowedFd;\n// std::thread\n",
        );
    }
    keeps(
        "crates/base/src/pool/mapping.rs",
        "use rustix::mm::mmap_anonymous;\n",
    );
}

#[test]
fn tests_of_pure_rooms_are_free() {
    let body = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n    fn g() { println!(); }\n}\n";
    keeps("crates/stack/src/ip.rs", body);
    keeps(
        "crates/stack/src/ip.rs",
        "#[test]\nfn f() { println!(); }\n",
    );
    keeps("crates/stack/src/ip/tests.rs", "use std::time::Instant;\n");
    keeps("crates/stack/tests/trace.rs", "use std::time::Instant;\n");
    breaks(
        "crates/stack/src/ip.rs",
        "#[cfg(test)]\nuse std::{fs, time::{Instant}};\nfn f() { println!(); }\n",
        4,
        "println!",
    );
    breaks(
        "crates/stack/src/ip.rs",
        "#[cfg(not(test))]\nfn f() { println!(); }\n",
        3,
        "println!",
    );
}

#[test]
fn modules_declared_for_tests_are_test_files() {
    let read = |path: &str, text: &str| Source::read(path, text).expect("it is Rust");
    let mut sources = vec![
        read(
            "crates/stack/src/tcp/mod.rs",
            "//! T.\n#[cfg(test)]\nmod trace;\nmod recv;\n",
        ),
        read("crates/stack/src/tcp/trace.rs", "//! T.\nuse std::fs;\n"),
        read(
            "crates/stack/src/tcp/trace/deep.rs",
            "//! T.\nuse std::fs;\n",
        ),
        read("crates/stack/src/tcp/recv.rs", "//! T.\nuse std::fs;\n"),
    ];
    mark_test_files(&mut sources);
    let marks: Vec<bool> = sources.iter().map(|source| source.test_file).collect();
    assert_eq!(marks, [false, true, true, false]);
}

#[test]
fn files_stay_short() {
    let line = "fn f() {}\n";
    let path = "crates/stack/src/tcp.rs";
    keeps(path, &line.repeat(laws::LINES_MAX - 1));
    breaks(path, &line.repeat(laws::LINES_MAX), 1, "801 lines");
    keeps(
        "crates/stack/src/tcp/tests.rs",
        &line.repeat(2 * laws::LINES_MAX),
    );

    let long = format!("//! A file.\n{}", line.repeat(laws::LINES_WARNED));
    let mut report = Report::default();
    rust::check(&Source::read(path, &long).expect("it is Rust"), &mut report);
    assert_eq!((report.breaches.len(), report.warnings.len()), (0, 1));
}

#[test]
fn inline_tests_do_not_outweigh_their_code() {
    let tests = |lines| {
        format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    fn f() {}\n".repeat(lines)
        )
    };
    let path = "crates/stack/src/tcp.rs";
    keeps(path, &format!("{}{}", "fn g() {}\n".repeat(100), tests(90)));
    keeps(path, &tests(40));
    breaks(
        path,
        &format!("{}{}", "fn g() {}\n".repeat(100), tests(110)),
        1,
        "outweigh",
    );
}

#[test]
fn what_is_not_rust_is_said_so() {
    assert_eq!(
        breaches("crates/stack/src/ip.rs", "//! A file.\nfn f( {}\n").len(),
        1
    );
}

#[test]
fn no_words_of_one_machine() {
    // Put together here, so that this file keeps the law itself.
    let paths = ["home", "root", "work"].map(|folder| format!("/{folder}/"));
    for word in &paths {
        breaks(
            "crates/cli/src/demo.rs",
            &format!("// see {word}me\n"),
            2,
            "path of one machine",
        );
        breaks(
            "crates/cli/src/demo.rs",
            &format!("const X: &str = \"{word}me\";\n"),
            2,
            "path of one machine",
        );
        keeps(
            "crates/cli/src/demo.rs",
            &format!("// see crates{word}me\n"),
        );
    }
    breaks(
        "crates/cli/src/demo.rs",
        concat!("// from static.", "crates.io\n"),
        2,
        "gets its packages",
    );
}

#[test]
fn locked_packages_come_from_the_public_index() {
    let lock = |source: &str| {
        let mut report = Report::default();
        files::check_text(
            "Cargo.lock",
            &format!("[[package]]\nsource = \"{source}\"\n"),
            &mut report,
        );
        report.breaches.len()
    };
    assert_eq!(lock(laws::LOCKED_SOURCE), 0);
    assert_eq!(lock("registry+https://mirror.example/index"), 1);
    assert_eq!(lock("git+https://example.org/x#0123"), 1);
}

#[test]
fn blobs_stay_small() {
    let size = |bytes| {
        let mut report = Report::default();
        files::check_size("assets/x", bytes, &mut report);
        report.breaches.len()
    };
    assert_eq!((size(laws::BLOB_MAX), size(laws::BLOB_MAX + 1)), (0, 1));
}

/// A row for each numbered requirement of RFC 9293 but MUST-1.
fn numbered_rows() -> String {
    let mut table = String::from("| Section | Requirement | State | Test |\n|---|---|---|---|\n");
    let numbered = [
        ("MUST", 2, 69),
        ("SHLD", 1, 31),
        ("MAY", 1, 18),
        ("REC", 1, 1),
    ];
    for (kind, from, to) in numbered {
        for number in from..=to {
            table.push_str(&format!("| 3.1 | {kind}-{number}: x | planned | |\n"));
        }
    }
    table
}

#[test]
fn conformance_rows_name_tests_that_exist() {
    let source = Source::read(
        "crates/stack/src/tcp/tests.rs",
        "//! T.\nfn helper() {}\n#[test]\n#[should_panic]\nfn resets() {}\n#[cfg(test)]\nfn other() {}\n",
    )
    .expect("it is Rust");
    let sources = [source];
    let table = numbered_rows();
    let found = |last: &str| {
        let mut report = Report::default();
        conformance::check(&format!("{table}{last}\n"), &sources, &mut report);
        report
            .breaches
            .into_iter()
            .map(|finding| finding.what)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found("| 3.1 | MUST-1: x | met | `stack::resets` |"),
        [""; 0]
    );
    assert_eq!(found("| 3.1 | MUST-1: x | planned | |"), [""; 0]);
    assert_eq!(
        found("| 3.1 | MUST-1: x | met | |"),
        ["'met' without a test"]
    );
    assert_eq!(
        found("| 3.1 | MUST-1: x | met | `stack::reset` |"),
        ["there is no test `stack::reset`"]
    );
    for helper in ["helper", "other"] {
        assert_eq!(
            found(&format!("| 3.1 | MUST-1: x | met | `stack::{helper}` |")),
            [format!("there is no test `stack::{helper}`")]
        );
    }
    assert_eq!(
        found("| 3.1 | MUST-1: x | done | |"),
        ["'done' is not a state"]
    );
    for state in ["partial", "unmet", "waived"] {
        assert_eq!(
            found(&format!("| 3.1 | MUST-1: x | {state} | `stack::resets` |")),
            [format!("'{state}' without a reason")]
        );
        let row = format!("| 3.1 | MUST-1: x | {state} | `stack::resets`: but not to groups |");
        assert_eq!(found(&row), [""; 0]);
    }
    assert_eq!(
        found("| 3.1 | MUST-2: x | planned | |"),
        [
            "MUST-1 of RFC 9293 has 0 rows",
            "MUST-2 of RFC 9293 has 2 rows"
        ]
    );
    assert_eq!(
        found("| 3.1 | MUST-1: x | planned | |\n| 3.1 | MAY-19: x | planned | |"),
        ["RFC 9293 has no MAY-19"]
    );
    assert_eq!(
        found("| MUST-1: x | planned | |"),
        ["a row without four cells", "MUST-1 of RFC 9293 has 0 rows"]
    );
}

#[test]
fn what_users_import_is_shown_in_use() {
    let found = |body: &str| {
        let text = format!("//! A file.\n{body}");
        let source = Source::read("crates/millstream/src/tcp.rs", &text).expect("it is Rust");
        let mut report = Report::default();
        examples::check(&[source], &mut report);
        report.breaches.len()
    };
    let missing = "/// Sends.\n///\n/// # Errors\n/// As [`Other::send`].\n#[inline]\npub async fn send(&self) -> u8 { 0 }\n";
    assert_eq!(found(missing), 1);
    assert_eq!(found("/// A stream.\npub struct Stream;\n"), 1);
    assert_eq!(found("/// Sends.\npub fn send(&self) {}\n"), 1);
    assert_eq!(
        found("/// Sends.\npub fn send(self, n: u8) -> u8 { n }\n"),
        1
    );
    for good in [
        "/// Sends.\n///\n/// ```\n/// send();\n/// ```\npub async fn send() {}\n",
        "/// A stream.\n///\n/// ```\n/// Stream.send();\n/// ```\npub struct Stream;\n/// Sends.\npub fn send(&self) {}\n",
        "/// As [`Other::send`].\npub async fn send() {}\n",
        "/// A half: see [`Stream::split`].\npub struct Half;\n",
        "/// How many.\npub const fn len(&self) -> usize { 0 }\n",
        "/// The rest.\npub fn into_rest(self) -> u8 { 0 }\n",
        "/// Sends.\n#[deprecated(note = \"old\")]\npub fn send(n: u8) {}\n",
        "pub trait Sealed {}\n",
        "/// Sends.\npub(crate) fn send(n: u8) {}\n",
        "/// Stands here.\n#[cfg(test)]\npub fn send(n: u8) {}\n",
    ] {
        assert_eq!(found(good), 0, "{good}");
    }
}
