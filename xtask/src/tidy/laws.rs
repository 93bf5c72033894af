//! The law book: every list `tidy` holds the tree against. To change a law, change it here, in a commit that says why.

/// One room of the house: a package, where it lives, and what it may use.
pub(super) struct Room {
    /// The package's name.
    pub(super) name: &'static str,
    /// Its folder, from the repository's top.
    pub(super) folder: &'static str,
    /// Rooms it may depend on.
    pub(super) uses: &'static [&'static str],
    /// Rooms only its tests may depend on besides.
    pub(super) tests_use: &'static [&'static str],
    /// Other people's packages it may depend on; `None` leaves the choice free.
    pub(super) borrows: Option<&'static [&'static str]>,
    /// No clock, thread, socket, environment, file or terminal: time, randomness and packets are arguments.
    pub(super) pure: bool,
    /// Modules that may contain `unsafe`, from `src/`, without ending; `tests/name` is a test, `"*"` the whole room.
    pub(super) unsafe_in: &'static [&'static str],
}

const EVERY_ROOM: &[&str] = &[
    "base",
    "control",
    "engine",
    "interop",
    "lab",
    "millstream",
    "netns",
    "port",
    "posix",
    "sim",
    "stack",
    "wire",
];

/// The rooms, lowest first. Arrows point down only.
pub(super) const ROOMS: &[Room] = &[
    Room {
        name: "wire",
        folder: "crates/wire",
        uses: &[],
        tests_use: &[],
        borrows: Some(&[]),
        pure: true,
        unsafe_in: &[],
    },
    Room {
        name: "base",
        folder: "crates/base",
        uses: &[],
        tests_use: &[],
        // loom in builds of its models alone, here and in the engine.
        borrows: Some(&["loom", "rustix", "siphasher"]),
        pure: true,
        unsafe_in: &["pool", "ring", "prefetch"],
    },
    Room {
        name: "stack",
        folder: "crates/stack",
        uses: &["base", "wire"],
        tests_use: &["port", "sim"],
        borrows: Some(&["siphasher"]),
        pure: true,
        unsafe_in: &[],
    },
    Room {
        name: "port",
        folder: "crates/port",
        uses: &["base", "wire"],
        tests_use: &["netns"],
        borrows: Some(&["libc", "rustix"]),
        pure: false,
        unsafe_in: &["*"],
    },
    Room {
        name: "netns",
        folder: "crates/netns",
        uses: &[],
        tests_use: &[],
        borrows: Some(&["libc", "rustix"]),
        pure: false,
        unsafe_in: &["*"],
    },
    Room {
        name: "sim",
        folder: "crates/sim",
        uses: &["base", "port", "stack", "wire"],
        tests_use: &[],
        borrows: Some(&[]),
        pure: true,
        unsafe_in: &[],
    },
    // The simulator's link on the machine's clock, and scenarios sampled and drawn: for the program and the benchmarks.
    Room {
        name: "lab",
        folder: "crates/lab",
        uses: &["base", "port", "sim", "stack"],
        tests_use: &["netns"],
        borrows: Some(&["rustix"]),
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "engine",
        folder: "crates/engine",
        uses: &["base", "port", "stack", "wire"],
        tests_use: &["netns", "sim"],
        borrows: Some(&["getrandom", "loom", "rustix"]),
        pure: false,
        unsafe_in: &[],
    },
    // What tools ask a host, and who answers: for those who run one. JSON is what crosses.
    Room {
        name: "control",
        folder: "crates/control",
        uses: &["base", "engine", "stack"],
        tests_use: &[],
        borrows: Some(&["rustix", "serde", "serde_json"]),
        pure: false,
        unsafe_in: &[],
    },
    // What the shared objects are made of. Descriptors are real ones of the kernel's, so that numbers cannot collide.
    Room {
        name: "posix",
        folder: "crates/posix",
        // The engine for the world of a host that runs. Descriptors of the program's are numbers, which the kernel is given as such.
        uses: &["base", "engine", "stack"],
        tests_use: &["control", "interop", "wire"],
        borrows: Some(&["libc", "rustix"]),
        pure: false,
        unsafe_in: &["foreign", "tests/signals"],
    },
    // C symbols over posix: nothing but an edge, and the clock behind it. Its test calls it as C would.
    Room {
        name: "packetdrill",
        folder: "crates/packetdrill",
        uses: &["base", "posix", "stack", "wire"],
        tests_use: &[],
        borrows: Some(&["libc"]),
        pure: false,
        unsafe_in: &[
            "device",
            "edge",
            "pointer",
            "preload",
            "queue",
            "sets",
            "tests/script",
        ],
    },
    Room {
        name: "millstream",
        folder: "crates/millstream",
        uses: &["base", "control", "engine", "stack", "wire"],
        tests_use: &["netns", "port", "sim"],
        borrows: Some(&["axum", "bytes", "futures-core", "futures-io", "tokio"]),
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "cli",
        folder: "crates/cli",
        uses: EVERY_ROOM,
        tests_use: &[],
        borrows: None,
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "bench",
        folder: "bench",
        uses: EVERY_ROOM,
        tests_use: &[],
        borrows: None,
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "examples",
        folder: "examples",
        uses: &["millstream", "netns"],
        // Programs everybody knows, and bytes to send by them.
        tests_use: &["interop"],
        borrows: None,
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "interop",
        folder: "tests",
        uses: EVERY_ROOM,
        tests_use: EVERY_ROOM,
        borrows: None,
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "xtask",
        folder: "xtask",
        uses: &[],
        tests_use: &[],
        borrows: Some(&["proc-macro2", "serde_json"]),
        pure: false,
        unsafe_in: &[],
    },
    Room {
        name: "fuzz",
        folder: "fuzz",
        uses: &["base", "sim", "stack", "wire"],
        tests_use: &[],
        borrows: Some(&["arbitrary", "libfuzzer-sys"]),
        pure: false,
        unsafe_in: &[],
    },
];

/// Paths under `std` a pure room may not name, nor import the module of, nor a glob over it.
pub(super) const IMPURE_PATHS: &[&[&str]] = &[
    &["env"],
    &["fs"],
    &["net", "TcpListener"],
    &["net", "TcpStream"],
    &["net", "ToSocketAddrs"],
    &["net", "UdpSocket"],
    &["os", "linux"],
    &["os", "unix"],
    &["process"],
    &["thread"],
    &["time", "Instant"],
    &["time", "SystemTime"],
    &["time", "UNIX_EPOCH"],
];

/// Macros a pure room may not use: they write to the terminal, or hide a global.
pub(super) const IMPURE_MACROS: &[&str] = &[
    "dbg",
    "eprint",
    "eprintln",
    "print",
    "println",
    "thread_local",
];

/// Functions a pure room may not call, wherever they were imported from.
pub(super) const IMPURE_CALLS: &[&str] = &["stderr", "stdin", "stdout"];

/// Crates that are doors to the kernel, and the only modules of pure rooms that may open them.
pub(super) const KERNEL_CRATES: &[&str] = &["getrandom", "libc", "linux_raw_sys", "rustix"];
pub(super) const KERNEL_MODULES: &[(&str, &str)] = &[("base", "pool")];

/// Lines of a file outside its tests: past the first it is worth a warning, past the second it wants a wall.
pub(super) const LINES_WARNED: usize = 700;
pub(super) const LINES_MAX: usize = 800;

/// An inline `mod tests` shorter than this may outweigh its code: a small file with its tests reads best whole.
pub(super) const INLINE_TESTS_FREE: usize = 60;

/// Largest file in the repository, bytes.
pub(super) const BLOB_MAX: u64 = 512 * 1024;

/// Where a lockfile may say a package comes from. Anything else is one machine's mirror or an unreviewed branch.
pub(super) const LOCKED_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Words that tie the tree to one machine. They stand here in two pieces each, so that even this file names none.
pub(super) const LAW_BOOK: &str = "xtask/src/tidy/laws.rs";
/// Beginnings of absolute paths; matched only where a path can begin.
pub(super) const MACHINE_PATHS: &[&str] = &[
    "/home/",
    concat!("/", "root/"),
    "/Users/",
    concat!("/", "work/"),
];
/// Package hosts: a manifest names packages, and each machine knows where it gets them.
pub(super) const PACKAGE_HOSTS: &[&str] = &[
    "artifactory",
    concat!("deb.", "debian.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("index.", "crates.io"),
    concat!("proxy.", "golang.org"),
    concat!("registry.", "npmjs.org"),
    concat!("static.", "crates.io"),
];

/// States a row of docs/conformance.md may be in; the first two must name a test that exists.
pub(super) const CONFORMANCE_STATES: &[&str] = &["met", "partial", "planned", "unmet", "waived"];

/// Folders of what users import: each public type and function there is shown in an example.
pub(super) const FACES: &[&str] = &[
    "crates/control/src/open",
    "crates/engine/src/completion",
    "crates/millstream/src/",
    "crates/posix/src/",
];
