//! The command line: what can be asked for, and the help that explains it.
//!
//! What does not live here: doing it (`demo`, `up`).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wire::Cidr;

use crate::lab::quantity;

/// A TCP/IP stack in user space.
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    about = "A TCP/IP stack in user space",
    long_about = "A TCP/IP stack in user space, beside the kernel instead of inside it.\n\n\
        `demo` shows it at work on this machine, without root and without leaving anything behind.\n\
        `up` runs a host on a real network device, as a configuration file says.\n\
        `ss` lists the sockets of a running host, `sysctl` tunes its TCP.\n\
        `lab` makes networks bad: in the simulator, with plots, and between real devices.",
    after_help = "Examples:\n  \
        millstream demo                     then open http://127.0.0.1:8080 in a browser\n  \
        millstream demo --once              check everything once and say whether all is well\n  \
        millstream up -c host.toml --check  look whether a configuration file is right\n  \
        millstream ss -tin                  what TCP knows of each connection of a running host\n  \
        millstream lab run two-algorithms   see two algorithms share a link\n\n\
        `millstream help COMMAND` tells more about a command.",
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a host on this machine, serve its live page to your browser, and check it
    #[command(
        long_about = "Runs a Millstream host and the kernel's stack on the two ends of one cable, in a network \
            namespace of its own, so that nothing outside is touched and nothing is left behind. No root is needed.\n\n\
            The host (10.77.0.2, fd77::2) serves HTTP on port 80 and echo on port 7. Its page, a live view of the \
            host itself, is published on this machine's own loopback. Every byte your browser gets has crossed the \
            device and the user-space stack.\n\n\
            Then the host is checked with the kernel's sockets: ping, HTTP, transfers with digests, many \
            connections, throughput. It stays up until Ctrl-C.",
        after_help = "Examples:\n  \
            millstream demo                              http://127.0.0.1:8080 shows the live page\n  \
            curl http://127.0.0.1:8080/bytes/1000000000 | sha256sum\n                                               \
            the digest is the one the page announces\n  \
            millstream demo --publish 9000               http://127.0.0.1:9000 instead\n  \
            millstream demo --publish 0.0.0.0:8080       for other machines, too\n  \
            millstream demo --once --json > report.json  for scripts: exits with 0 only if all passed\n  \
            millstream demo --once --quick               smaller sizes: a few seconds\n  \
            millstream demo --pcap demo.pcapng           then open the file in Wireshark\n\n\
            Exit status: 0 when all is well, 1 when a check did not pass, 2 when the demo could not run,\n\
            130 when Ctrl-C ended the check of --once or --json."
    )]
    Demo(Demo),
    /// Run a host on a network device, as a configuration file says
    #[command(
        long_about = "Runs a host as a TOML file says: its ports (a TAP device it makes, or a network device there \
            is), addresses, routes and services. It runs until Ctrl-C or SIGTERM.\n\n\
            Making a TAP device needs CAP_NET_ADMIN, using a network device CAP_NET_RAW: usually root.",
        after_help = "A small file:\n\n  \
            [[port]]\n  \
            name = \"lan\"\n  \
            kind = \"tap\"                        # or \"packet\", with device = \"eth1\"\n  \
            device = \"ms0\"\n  \
            addresses = [\"10.78.0.2/24\"]\n  \
            kernel_addresses = [\"10.78.0.1/24\"] # what the kernel gets on its end of the TAP\n\n  \
            [[serve]]\n  \
            kind = \"http\"                       # or \"live\", \"echo\", \"discard\", \"chargen\"\n  \
            listen = \"10.78.0.2:80\"\n  \
            root = \"www\"                        # relative to the file\n\n\
            A port may also have: mac, mtu, pcap, gateway, routes = [{ to, via }], dhcp = \"off\".\n\
            A route may also have ip-route(8)'s mtu, mtu_lock, advmss, initcwnd, initrwnd and congctl.\n\
            shards = 4 at the top of the file runs the host in four threads, each with a queue of its TAP.\n\
            A table [tcp] tunes TCP by the names of Linux's net.ipv4.tcp_* settings, as in syncookies = 2\n  \
            or congestion_control = \"bbr\" or mem = [3000, 4000, 6000].\n\n\
            Examples:\n  \
            millstream up -c host.toml --check    reads the file and changes nothing\n  \
            sudo millstream up -c host.toml\n\n\
            Exit status: 0 when the file is right or the host ran and was ended, 2 otherwise."
    )]
    Up(Up),
    /// List the sockets of a running host, as ss(8) does those of the kernel
    #[command(
        long_about = "Lists the sockets of a host that runs now, as ss(8) lists those of the kernel. Any `millstream demo` \
            or `up` of the same user answers, and any program on the library that says so (`Builder::control`); it works on meanwhile, \
            however many sockets it has.\n\n\
            Without options all but what listens, half-open connections and TIME-WAIT. What -i tells has the names \
            of ss(8): times in milliseconds, cwnd in segments, windows and buffers in bytes. Of what listens Recv-Q are \
            the connections that wait to be accepted and Send-Q the backlog; -i adds the half-open ones (syn_queue), and what was \
            refused since the start.\n\n\
            --explain holds the host's numbers against its own limits, and says what is amiss.",
        after_help = "Examples:\n  \
            millstream ss -tin                   every TCP connection with what TCP knows of it\n  \
            millstream ss -ltu                   what listens\n  \
            millstream ss -ta --sport 80         whatever is on port 80, TIME-WAIT included\n  \
            millstream ss --state close-wait     connections their application forgot to close\n  \
            millstream ss -s                     how many of what, and what has happened\n  \
            millstream ss --explain              what is amiss, for whom, and what to do\n  \
            millstream ss -lti                   listeners with both their queues\n  \
            millstream ss --buffers --epoll      packet memory and who holds it; sets of sockets\n  \
            millstream ss -ti --json | jq '.sockets[].tcp.account.bytes_acked'\n\n\
            Exit status: 0, or 2 when no host answers."
    )]
    Ss(Ss),
    /// Read or change how a running host's TCP is tuned, by Linux's names
    #[command(
        long_about = "Reads or changes settings of TCP of a host that runs now, by the names of Linux's net.ipv4.tcp_* \
            settings, with or without that in front. A change holds from then on and until the host ends; the table \
            [tcp] of a configuration file makes it last, and Config::tcp of a program on the library.",
        after_help = "Examples:\n  \
            millstream sysctl                        every setting\n  \
            millstream sysctl syncookies             net.ipv4.tcp_syncookies = 1\n  \
            millstream sysctl tcp_syncookies=2       net.ipv4.tcp_syncookies = 2\n  \
            millstream sysctl mem='30 40 60'         net.ipv4.tcp_mem = 30 40 60\n\n\
            Exit status: 0, or 2 when no host answers, or a name or value is refused."
    )]
    Sysctl(Sysctl),
    /// Bad networks: scenarios in the simulator, and links between real devices
    #[command(arg_required_else_help = true)]
    Lab {
        /// What to do in the laboratory.
        #[command(subcommand)]
        command: Lab,
    },
}

/// `millstream lab`.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Play a scenario in the simulator, and draw what its flows do
    #[command(
        long_about = "Plays a scenario in the simulator: bulk flows over one link with rate, round trip, queue, loss and \
            disorder. Prints a table, and writes plots (SVG) of congestion window, bytes in flight, round-trip time, \
            goodput and queue over time into a folder, with the samples they are made of (CSV).\n\n\
            Time is virtual: a minute of a network takes seconds, and one seed is one run, to the last byte.",
        after_help = "A small file:\n\n  \
            duration = \"30s\"\n  \
            [link]\n  \
            rate = \"50mbit\"                 # without it there is no limit\n  \
            rtt = \"40ms\"                    # or delay, one way\n  \
            buffer = \"250kB\"                # a round trip's worth, if it is not said\n  \
            loss = \"0.5%\"                   # also loss_burst, reorder, reorder_delay, duplicate, corrupt\n  \
            [[flow]]\n  \
            algorithm = \"cubic\"\n  \
            [[flow]]\n  \
            algorithm = \"reno\"\n  \
            start = \"5s\"                    # also name, stop, bytes, send_buffer, receive_buffer\n  \
            [[change]]\n  \
            at = \"15s\"\n  \
            rate = \"10mbit\"                 # also rtt, delay, loss, reorder\n\n\
            Examples:\n  \
            millstream lab run --list\n  \
            millstream lab run two-algorithms\n  \
            millstream lab run mine.toml --seed 7 --output plots --json\n\n\
            Exit status: 0 when it was played, 2 when it could not be."
    )]
    Run(Run),
    /// Join two devices by a link with rate, delay, loss and disorder
    #[command(
        long_about = "Joins two devices by a link as bad as you say, in user space: what netem does, also where the kernel \
            has none. Frames are delayed, lost, put out of order, duplicated and corrupted as one seed decides, both ways \
            alike; rate and queue are each direction's own.\n\n\
            A and B are devices: DEVICE, or DEVICE@NAMESPACE for one in another network namespace, by its name in \
            /run/netns, the number of a process in it, or a path. A device that is not there is made, as a TAP whose \
            other end is the kernel's; one that is there is used through a packet socket and should have no address of \
            its own. Frames longer than the MTU are cut before the link sees them.\n\n\
            Needs CAP_NET_ADMIN where a TAP is made and CAP_NET_RAW where a device is used: root, or the root of a user \
            namespace (`unshare -rn`).",
        after_help = "Examples:\n  \
            millstream lab link ms0@red ms0@blue --address-a 10.9.0.1/24 --address-b 10.9.0.2/24 \\\n          \
            --rate 100mbit --delay 25ms --loss 1%\n  \
            millstream lab link veth1 veth3 --delay 10ms --reorder 5% --reorder-delay 2ms\n  \
            millstream lab link ms0@1234 ms0@5678 --loss 2% --loss-burst=10 --time 30s --json\n\n\
            Exit status: 0 when it was ended, 2 when it could not run."
    )]
    Link(Box<Link>),
}

/// `millstream demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the page is published on this machine's own network: ADDRESS:PORT, or only a port of
    /// 127.0.0.1; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) publish: SocketAddr,
    /// What the frames go through: a TAP device, or a packet socket on a cable of two virtual devices
    #[arg(long, value_enum, default_value_t = PortChoice::Auto)]
    pub(crate) port: PortChoice,
    /// Exit after the check, with 0 only if all passed
    #[arg(long)]
    pub(crate) once: bool,
    /// Smaller sizes: everything once, in a few seconds
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print the report as JSON when the check has ended, and nothing else on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Write every frame to a pcapng file, for Wireshark or tcpdump
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}

/// An address and a port, or only a port of this machine's loopback.
fn address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let bare = text.strip_prefix("localhost:").unwrap_or(text);
    let port = bare.parse().map(loopback).ok();
    port.or_else(|| text.parse().ok()).ok_or_else(|| {
        "give an address and a port such as 127.0.0.1:8080 or [::1]:8080, or only a port".into()
    })
}

/// What the demo's frames go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PortChoice {
    /// A TAP device where there is one, else a packet socket
    Auto,
    /// A TAP device
    Tap,
    /// A packet socket (AF_PACKET) on one end of a veth pair
    Packet,
}

/// `millstream up`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Read and check the file, say what it means, and change nothing
    #[arg(long)]
    pub(crate) check: bool,
}

/// `millstream lab run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// A TOML file, or the name of a scenario that comes with the program
    #[arg(value_name = "SCENARIO", default_value = "two-algorithms")]
    pub(crate) scenario: String,
    /// Tell the scenarios that come with the program
    #[arg(long)]
    pub(crate) list: bool,
    /// Where the plots go [a folder called lab-NAME]
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
    /// Another seed than the scenario's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Print what came of it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `millstream lab link`.
#[derive(Debug, Args)]
pub(crate) struct Link {
    /// One end: DEVICE or DEVICE@NAMESPACE
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The other end
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// Bits per second in each direction, such as 100mbit; without it there is no limit
    #[arg(long, value_parser = quantity::rate)]
    pub(crate) rate: Option<u64>,
    /// One way, such as 25ms
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = quantity::time)]
    pub(crate) delay: Duration,
    /// Share of frames that are lost, such as 1%
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = quantity::share)]
    pub(crate) loss: f64,
    /// Lose them in bursts of so many on average, instead of each on its own [8 if no number is given]
    #[arg(long, value_name = "FRAMES", num_args = 0..=1, require_equals = true, default_missing_value = "8")]
    pub(crate) loss_burst: Option<f64>,
    /// Share of frames that are held back, so that others overtake them
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = quantity::share)]
    pub(crate) reorder: f64,
    /// The longest one is held back; each for a random part of it
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = quantity::time)]
    pub(crate) reorder_delay: Duration,
    /// Share of frames that arrive twice
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = quantity::share)]
    pub(crate) duplicate: f64,
    /// Share of frames in which a bit is turned
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = quantity::share)]
    pub(crate) corrupt: f64,
    /// Bytes that may wait for their turn at --rate [what the link carries in a round trip, 64 KiB at least]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) buffer: Option<u64>,
    /// Where loss, disorder, duplication and corruption happen
    #[arg(long, value_enum, default_value_t = Way::Both)]
    pub(crate) faults: Way,
    /// Frames that may be under way in all; each takes 2 KiB once it was needed
    #[arg(long, value_name = "FRAMES", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub(crate) limit: u32,
    /// The same seed and the same frames give the same faults [random, and told]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// MTU of a TAP that is made
    #[arg(long, value_parser = clap::value_parser!(u16).range(68..))]
    pub(crate) mtu: Option<u16>,
    /// Address of the kernel's end of A, if A is made
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) address_a: Vec<Cidr>,
    /// Address of the kernel's end of B, if B is made
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) address_b: Vec<Cidr>,
    /// End after this time
    #[arg(long, value_parser = quantity::time)]
    pub(crate) time: Option<Duration>,
    /// Do not sleep when a frame is due so soon: more precise, and costs that much of a core
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = quantity::time)]
    pub(crate) spin: Duration,
    /// Write every frame of A's to a pcapng file
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
    /// Do not show how it goes while it runs
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Say what went through as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// One direction of a link, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// In both directions
    Both,
    /// For frames that A sends
    AToB,
    /// For frames that B sends
    BToA,
}

/// `millstream ss`.
#[derive(Debug, Args)]
pub(crate) struct Ss {
    /// TCP sockets
    #[arg(short, long)]
    pub(crate) tcp: bool,
    /// UDP sockets
    #[arg(short, long)]
    pub(crate) udp: bool,
    /// Sockets that listen, and UDP sockets without a peer
    #[arg(short, long)]
    pub(crate) listening: bool,
    /// Sockets in any state
    #[arg(short, long)]
    pub(crate) all: bool,
    /// What TCP knows of each connection
    #[arg(short, long)]
    pub(crate) info: bool,
    /// What each socket holds and may hold
    #[arg(short, long)]
    pub(crate) memory: bool,
    /// Numbers instead of names: always so
    #[arg(short, long)]
    #[allow(dead_code)]
    pub(crate) numeric: bool,
    /// IPv4 sockets only
    #[arg(short = '4', long)]
    pub(crate) ipv4: bool,
    /// IPv6 sockets only
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,
    /// How many sockets there are, and what has happened
    #[arg(short, long)]
    pub(crate) summary: bool,
    /// What is amiss, for which application, and what to do about it
    #[arg(long, conflicts_with_all = ["summary", "buffers", "epoll", "completion"])]
    pub(crate) explain: bool,
    /// Packet memory, and who holds it
    #[arg(long, conflicts_with = "summary")]
    pub(crate) buffers: bool,
    /// Sets of sockets (Poll, epoll): how many each watches, how many are ready, who waits
    #[arg(long, conflicts_with = "summary")]
    pub(crate) epoll: bool,
    /// Completion queues, and groups of buffers
    #[arg(long, conflicts_with = "summary")]
    pub(crate) completion: bool,
    /// Sockets in this state, or these: established, listening, time-wait, close-wait, .., connected,
    /// synchronized, bucket, big, all
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Vec<u16>,
    /// Sockets with this local port
    #[arg(long, value_name = "PORT")]
    pub(crate) sport: Option<u16>,
    /// Sockets with this remote port
    #[arg(long, value_name = "PORT")]
    pub(crate) dport: Option<u16>,
    /// So many sockets at most; 0: all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) limit: usize,
    /// No titles
    #[arg(short = 'H', long)]
    pub(crate) no_header: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which host, when several run: its name, the number of its process, or both: NAME.PROCESS
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
}

/// `millstream sysctl`.
#[derive(Debug, Args)]
pub(crate) struct Sysctl {
    /// NAME to read a setting, NAME=VALUE to change it; all are read when none is named
    #[arg(value_name = "NAME[=VALUE]")]
    pub(crate) settings: Vec<String>,
    /// Which host, when several run: its name, the number of its process, or both: NAME.PROCESS
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
}

/// A set of states by the names of ss(8).
fn state(text: &str) -> Result<u16, String> {
    control::states(text).ok_or_else(|| {
        "give a state such as established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, close-wait, \
            last-ack, closing, listening or closed, or a set: connected, synchronized, bucket, big, all"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_may_be_short() {
        for text in ["9000", "localhost:9000", "127.0.0.1:9000"] {
            assert_eq!(address(text).unwrap(), "127.0.0.1:9000".parse().unwrap());
        }
        assert_eq!(address("[::]:0").unwrap(), "[::]:0".parse().unwrap());
        for text in [
            "",
            "localhost",
            "127.0.0.1",
            "::1",
            "99999",
            "example.org:80",
        ] {
            assert!(
                address(text).unwrap_err().contains("127.0.0.1:8080"),
                "{text}"
            );
        }
    }

    #[test]
    fn demo_has_sensible_defaults() {
        let Command::Demo(demo) = Cli::try_parse_from(["millstream", "demo"]).unwrap().command
        else {
            panic!("not the demo");
        };
        assert_eq!(demo.publish, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(demo.port, PortChoice::Auto);
        assert!(!demo.once && !demo.json && !demo.quick && demo.pcap.is_none());
    }
}
