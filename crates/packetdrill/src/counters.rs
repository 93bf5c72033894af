//! What `nstat` shows within a script: the host's counters, in place of the kernel's. It reads the file that PROC_NET_NETSTAT names
//! instead of `/proc/net/netstat`, if there is such a variable, which the commands of a script inherit.
//!
//! What does not live here: the counters (`stack`).
//!
//! Invariant: nothing is left behind: the file has no name, and is read by way of this process.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process;

use stack::{Count, Drop, Stats};

/// What Linux counts by a name, here.
enum Source {
    Drop(Drop),
    Count(Count),
}

use Source::{Count as C, Drop as D};

const SOURCES: [(&str, Source); 30] = [
    ("SyncookiesSent", C(Count::TcpSynCookiesSent)),
    ("SyncookiesRecv", C(Count::TcpSynCookiesReceived)),
    ("SyncookiesFailed", C(Count::TcpSynCookiesFailed)),
    ("OutOfWindowIcmps", D(Drop::TcpReportIgnored)),
    ("PAWSEstab", D(Drop::TcpPaws)),
    ("BeyondWindow", D(Drop::TcpBeyondWindow)),
    ("TCPRcvQDrop", D(Drop::TcpReceiveQueueFull)),
    ("TCPZeroWindowDrop", D(Drop::TcpZeroWindow)),
    ("ListenOverflows", C(Count::TcpListenOverflows)),
    ("TCPMigrateReqSuccess", C(Count::TcpMigrateReqSuccess)),
    ("TCPMigrateReqFailure", C(Count::TcpMigrateReqFailure)),
    ("ListenDrops", C(Count::TcpListenDrops)),
    ("TCPTimeouts", C(Count::TcpTimeouts)),
    ("TCPLossProbes", C(Count::TcpLossProbes)),
    ("TCPDSACKRecv", C(Count::TcpDuplicatesReported)),
    ("TCPChallengeACK", C(Count::TcpChallengeAcks)),
    ("TCPDeferAcceptDrop", D(Drop::TcpDeferAccept)),
    ("TCPFastOpenActive", C(Count::TcpFastOpenActive)),
    ("TCPFastOpenActiveFail", C(Count::TcpFastOpenActiveFail)),
    ("TCPFastOpenPassive", C(Count::TcpFastOpenPassive)),
    ("TCPFastOpenPassiveFail", C(Count::TcpFastOpenPassiveFail)),
    (
        "TCPFastOpenListenOverflow",
        C(Count::TcpFastOpenListenOverflows),
    ),
    ("TCPFastOpenCookieReqd", C(Count::TcpFastOpenCookieRequests)),
    ("TCPFastOpenBlackhole", C(Count::TcpFastOpenBlackHoles)),
    ("TCPMemoryPressures", C(Count::TcpMemoryPressures)),
    (
        "TCPMemoryPressuresChrono",
        C(Count::TcpMemoryPressuresChrono),
    ),
    ("PruneCalled", C(Count::TcpPruneCalled)),
    ("OfoPruned", C(Count::TcpOfoPruned)),
    ("TCPAbortOnMemory", C(Count::TcpAbortOnMemory)),
    ("TCPOFODrop", D(Drop::TcpOutOfOrderMemory)),
];

/// The file, and what it says.
pub(crate) struct Counters {
    file: Option<File>,
    said: [u64; SOURCES.len()],
}

impl Counters {
    /// Without a file, if there can be none, nothing is said.
    pub(crate) fn new() -> Self {
        let counters = Self {
            file: nameless().ok(),
            said: [0; SOURCES.len()],
        };
        counters.write();
        counters
    }

    /// By what name other processes read the file.
    pub(crate) fn path(&self) -> Option<String> {
        let fd = self.file.as_ref()?.as_raw_fd();
        Some(format!("/proc/{}/fd/{fd}", process::id()))
    }

    /// Brings the file up to date.
    pub(crate) fn follow(&mut self, stats: &Stats) {
        let now = SOURCES.each_ref().map(|(_, source)| match source {
            D(drop) => stats.drops.get(*drop),
            C(count) => stats.counts.get(*count),
        });
        if now != self.said {
            self.said = now;
            self.write();
        }
    }

    /// The form of `/proc/net/netstat`. Numbers only grow, so nothing of what it said before sticks out.
    fn write(&self) {
        let Some(file) = &self.file else {
            return;
        };
        let mut text = String::from("TcpExt:");
        for (name, _) in &SOURCES {
            text.push(' ');
            text.push_str(name);
        }
        text.push_str("\nTcpExt:");
        for number in self.said {
            text.push_str(&format!(" {number}"));
        }
        text.push('\n');
        let _ = file.write_all_at(text.as_bytes(), 0);
    }
}

fn nameless() -> std::io::Result<File> {
    let path = std::env::temp_dir().join(format!("millstream-netstat.{}", process::id()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}
