//! `millstream lab link`: two devices joined by a bad link, in user space.
//!
//! What does not live here: what the link does to frames (`lab`, and `sim`'s model behind it).
//!
//! Invariant: a TAP this makes hands over frames as a wire carries them; from other devices super-frames may come, and are cut.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::wire::Cidr;
use lab::wire::{self, Watch};
use lab::{Counts, Joint};
use netns::{Namespace, link};
use port::Port;
use port::packet::{PacketOptions, PacketSocket};
use port::tap::{Tap, TapOptions};
use serde_json::json;
use sim::{Faults, LinkConfig, Loss};

use crate::args;
use crate::failure::Failure;
use crate::network;
use crate::stop::Stop;
use crate::units;

/// How often the line of a terminal is written, and whether to end is looked at.
const LOOK: Duration = Duration::from_millis(500);
const GLANCE: Duration = Duration::from_millis(50);
/// The least the queue of a link with a rate holds when nothing else is said.
const BUFFER_MIN: u64 = 64 * 1024;

/// Joins the two until Ctrl-C or the time is over, and says what went through.
///
/// # Errors
/// What the machine refuses.
pub(crate) fn run(args: &args::Link) -> Result<ExitCode, Failure> {
    if args.a == args.b {
        let what = format_args!("{} cannot be joined with itself", args.a);
        return Err(Failure::new(what, "give two devices"));
    }
    let seed = args.seed.unwrap_or_else(any_seed);
    let config = config(args);
    let joint = Joint::new(directions(args, config), args.limit, seed);
    let mut joint = joint.map_err(|error| {
        let remedy = "give a smaller --limit: each frame takes 2 KiB";
        Failure::new(format_args!("cannot get the memory: {error}"), remedy)
    })?;
    let (a, kind_a) = open(&args.a, args.mtu, &args.address_a)?;
    let (b, kind_b) = open(&args.b, args.mtu, &args.address_b)?;
    let a = match &args.pcap {
        Some(file) => network::capture(a, file)?,
        None => a,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::told(format_args!("cannot start threads: {error}")))?;
    let stop = runtime.block_on(async { Stop::listen() });
    let stop =
        stop.map_err(|error| Failure::told(format_args!("cannot listen for signals: {error}")))?;
    eprintln!(
        "{} ({kind_a}) and {} ({kind_b}) are joined until Ctrl-C: {}, seed {seed}",
        args.a,
        args.b,
        describe(args, &config),
    );
    let started = Instant::now();
    let mut live = Live::new(args);
    let mut look = |counts: [Counts; 2]| {
        live.show(counts);
        !stop.is_wanted() && args.time.is_none_or(|time| started.elapsed() < time)
    };
    let mut watch = Watch {
        every: GLANCE,
        look: &mut look,
        spin: args.spin,
    };
    let result = wire::run([a, b], &mut joint, &mut watch);
    live.clear();
    report(args, joint.counts(), started.elapsed(), seed);
    let again = "start the link again when the device is back";
    result.map_err(|error| Failure::new(error, again))?;
    Ok(ExitCode::SUCCESS)
}

/// A seed nobody chose.
fn any_seed() -> u64 {
    u64::from(RandomState::new().build_hasher().finish() as u32)
}

fn config(args: &args::Link) -> LinkConfig {
    let rate = args.rate.unwrap_or(0);
    let product = u128::from(rate) * args.delay.as_nanos() * 2 / 8_000_000_000;
    let product = u64::try_from(product).unwrap_or(u64::MAX);
    let loss = match args.loss_burst {
        _ if args.loss == 0.0 => Loss::None,
        Some(length) => Loss::bursts(args.loss, length),
        None => Loss::Random(args.loss),
    };
    LinkConfig {
        rate,
        delay: args.delay,
        queue: args.buffer.unwrap_or(product.max(BUFFER_MIN)),
        mtu: args.mtu.map_or(1500, usize::from),
        faults: Faults {
            loss,
            reorder: args.reorder,
            jitter: args.reorder_delay,
            duplicate: args.duplicate,
            corrupt: args.corrupt,
        },
        ..LinkConfig::default()
    }
}

/// Both directions have rate, delay and queue; faults may be of one only.
fn directions(args: &args::Link, config: LinkConfig) -> [LinkConfig; 2] {
    let sound = LinkConfig {
        faults: Faults::NONE,
        ..config
    };
    match args.faults {
        args::Way::Both => [config; 2],
        args::Way::AToB => [config, sound],
        args::Way::BToA => [sound, config],
    }
}

/// Opens one end: `DEVICE` or `DEVICE@NAMESPACE`.
fn open(
    end: &str,
    mtu: Option<u16>,
    addresses: &[Cidr],
) -> Result<(Box<dyn Port + Send>, &'static str), Failure> {
    let told = |error: netns::Error| Failure::told(format_args!("{end}: {error}"));
    match end.split_once('@') {
        None => open_here(end, mtu, addresses),
        Some((device, namespace)) => {
            let namespace = Namespace::open(namespace).map_err(told)?;
            let inside = namespace.run(|| open_here(device, mtu, addresses));
            inside.map_err(told)?
        }
    }
}

fn open_here(
    device: &str,
    mtu: Option<u16>,
    addresses: &[Cidr],
) -> Result<(Box<dyn Port + Send>, &'static str), Failure> {
    /// What TUNSETIFF says of a device that is not a TAP.
    const NOT_A_TAP: i32 = 22;
    let there = link::facts(device).is_ok();
    let options = TapOptions {
        mtu: mtu.map(usize::from),
        offloads: false,
        ..TapOptions::default()
    };
    let tap = match Tap::new(device, &options) {
        Ok(tap) => tap,
        Err(error)
            if there && (error.is_unavailable() || error.raw_os_error() == Some(NOT_A_TAP)) =>
        {
            if !addresses.is_empty() || mtu.is_some() {
                let what =
                    format_args!("{device} is there already, with addresses and an MTU of its own");
                return Err(Failure::new(what, "leave --address and --mtu to `ip`"));
            }
            let options = PacketOptions {
                promiscuous: true,
                offloads: false,
                ..PacketOptions::default()
            };
            let socket = PacketSocket::new(device, &options).map_err(Failure::told)?;
            return Ok((Box::new(socket), "packet socket"));
        }
        Err(error) => return Err(Failure::told(error)),
    };
    for cidr in addresses {
        link::add_addr(device, cidr.addr().to_ip(), cidr.prefix()).map_err(Failure::told)?;
    }
    link::set_up(device).map_err(Failure::told)?;
    Ok((Box::new(tap), "TAP"))
}

/// The link in a line.
fn describe(args: &args::Link, config: &LinkConfig) -> String {
    let mut words = Vec::new();
    match args.rate {
        Some(rate) => words.push(format!(
            "{}, queue {}",
            units::bit_rate(rate, Duration::from_secs(8)),
            units::bytes(config.queue)
        )),
        None => words.push("no limit of rate".into()),
    }
    words.push(format!("{} each way", units::duration(args.delay)));
    let percent = |share: f64| {
        format!("{:.3}", share * 100.0)
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    };
    if args.loss > 0.0 {
        let kind = match args.loss_burst {
            Some(length) => format!(" in bursts of {length}"),
            None => String::new(),
        };
        words.push(format!("{} % lost{kind}", percent(args.loss)));
    }
    if args.reorder > 0.0 {
        let held = units::duration(args.reorder_delay);
        words.push(format!(
            "{} % held back for up to {held}",
            percent(args.reorder)
        ));
    }
    for (share, what) in [(args.duplicate, "duplicated"), (args.corrupt, "corrupted")] {
        if share > 0.0 {
            words.push(format!("{} % {what}", percent(share)));
        }
    }
    match args.faults {
        args::Way::Both => {}
        args::Way::AToB => words.push("faults from A to B only".into()),
        args::Way::BToA => words.push("faults from B to A only".into()),
    }
    words.join(", ")
}

/// The line of a terminal that says how it goes.
struct Live {
    shown: bool,
    wanted: bool,
    last: Instant,
    before: [Counts; 2],
}

impl Live {
    fn new(args: &args::Link) -> Self {
        Self {
            shown: false,
            wanted: std::io::stderr().is_terminal() && !args.quiet,
            last: Instant::now(),
            before: [Counts::default(); 2],
        }
    }

    fn show(&mut self, counts: [Counts; 2]) {
        let took = self.last.elapsed();
        if !self.wanted || took < LOOK {
            return;
        }
        let way = |name: &str, now: &Counts, before: &Counts| {
            let gone = now.delivered_bytes - before.delivered_bytes;
            let dropped = now.lost + now.queue_full + now.over_limit;
            format!(
                "{name} {:>12}, {dropped} dropped",
                units::bit_rate(gone, took)
            )
        };
        let [a, b] = [
            way("A to B", &counts[0], &self.before[0]),
            way("B to A", &counts[1], &self.before[1]),
        ];
        eprint!("\r\x1b[K{a}   {b}");
        let _ = std::io::stderr().flush();
        (self.shown, self.last, self.before) = (true, Instant::now(), counts);
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

/// What a count is called in the table and in JSON, and which it is.
type Row = (&'static str, &'static str, fn(&Counts) -> u64);
const ROWS: [Row; 12] = [
    ("frames in", "frames", |c| c.frames),
    ("bytes in", "bytes", |c| c.bytes),
    ("frames out", "delivered", |c| c.delivered),
    ("bytes out", "delivered_bytes", |c| c.delivered_bytes),
    ("lost", "lost", |c| c.lost),
    ("no room in the queue", "queue_full", |c| c.queue_full),
    ("held back", "held_back", |c| c.held_back),
    ("duplicated", "duplicated", |c| c.duplicated),
    ("corrupted", "corrupted", |c| c.corrupted),
    ("beyond the limit", "over_limit", |c| c.over_limit),
    ("longest queue, bytes", "queue_high_water", |c| {
        c.queue_high_water
    }),
    ("latest, microseconds", "latest_us", |c| c.latest / 1000),
];

fn report(args: &args::Link, counts: [Counts; 2], took: Duration, seed: u64) {
    if args.json {
        let way = |counts: &Counts| {
            let pairs = ROWS
                .iter()
                .map(|(_, key, get)| ((*key).to_owned(), json!(get(counts))));
            serde_json::Value::Object(pairs.collect())
        };
        let report = json!({
            "seconds": took.as_secs_f64(),
            "seed": seed,
            "a_to_b": way(&counts[0]),
            "b_to_a": way(&counts[1]),
        });
        return println!("{report}");
    }
    println!("{:<22}{:>16}{:>16}", "", "A to B", "B to A");
    for (name, _, get) in ROWS {
        let [there, back] = counts.map(|counts| units::count(get(&counts)));
        println!("{name:<22}{there:>16}{back:>16}");
    }
    let rate = |counts: &Counts| units::bit_rate(counts.delivered_bytes, took);
    println!(
        "{:<22}{:>16}{:>16}",
        "rate",
        rate(&counts[0]),
        rate(&counts[1])
    );
    println!("in {}", units::duration(took));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn link(line: &str) -> args::Link {
        let words = ["millstream", "lab", "link", "a", "b"];
        let cli = args::Cli::try_parse_from(words.into_iter().chain(line.split_whitespace()));
        match cli.unwrap().command {
            args::Command::Lab { command } => match command {
                args::Lab::Link(link) => *link,
                args::Lab::Run(_) => panic!("not a link"),
            },
            _ => panic!("not a link"),
        }
    }

    #[test]
    fn the_line_is_understood() {
        let args = link("--rate 100mbit --delay 25ms --loss 1% --faults a-to-b");
        let made = config(&args);
        assert_eq!(
            (made.rate, made.delay),
            (100_000_000, Duration::from_millis(25))
        );
        assert_eq!(
            made.queue, 625_000,
            "the product of bandwidth and round trip"
        );
        assert_eq!(made.faults.loss, Loss::Random(0.01));
        let [there, back] = directions(&args, made);
        assert_eq!((there, back.faults), (made, Faults::NONE));
        assert_eq!(
            describe(&args, &made),
            "100 Mbit/s, queue 610 KiB, 25.0 ms each way, 1 % lost, faults from A to B only"
        );
        let args = link("--rate 1mbit --loss 5% --loss-burst --buffer 30000");
        let made = config(&args);
        assert_eq!(
            (made.queue, made.faults.loss),
            (30_000, Loss::bursts(0.05, 8.0))
        );
    }
}
