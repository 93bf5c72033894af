//! What a running host answers to tools: its sockets, its counters, its settings.
//!
//! What does not live here: how a question gets here (`serve`).
//!
//! Invariant: no question holds the stack up: long lists are read in pages of [`LOOK_AT`] records, with turns in between.

mod census;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use engine::diagnosis::{GroupRow, QueueRow, SetRow, buffer_groups, sets};
use engine::{Inspector, Sockets};
use stack::{
    CongestionInfo, ListPlace, SocketFilter, SocketPage, SocketRow, State, TcpAccount, TcpInfo,
    TcpTunables, Transport,
};

use crate::words::census::{BufferGroup, Buffers, Census, Objects, Queue, Set, Tables};
use crate::words::socket::{Account, Filter, Page, PathModel, Socket, Summary, Tcp, TcpMemory};
use crate::words::{Answer, Question, Setting};

/// Records looked at in one go: some hundred microseconds of the stack's time.
const LOOK_AT: u32 = 512;

/// Who answers.
pub(crate) struct Desk<C> {
    host: Inspector<C>,
    /// Who has the host's completion queues.
    sockets: Option<Sockets>,
}

/// Wakes a thread that waits for an answer of the shard's.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for it in this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Bell(thread::current())));
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn stopped() -> String {
    "the host has stopped".to_owned()
}

impl<C: Send + 'static> Desk<C> {
    pub(crate) fn new(host: Inspector<C>, sockets: Option<Sockets>) -> Self {
        Self { host, sockets }
    }

    /// The answer to a question. Waits for the host's next turns.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) fn answer(&self, question: Question) -> Result<Answer, String> {
        block_on(self.find_out(question))
    }

    async fn find_out(&self, question: Question) -> Result<Answer, String> {
        match question {
            Question::Sockets { filter, place } => {
                let place = place.map_or(ListPlace::default(), ListPlace::of);
                let page = self.page(&filter_of(&filter), place).await?;
                let sockets = page.rows.iter().map(socket).collect();
                Ok(Answer::Sockets(Page {
                    sockets,
                    next: page.next.map(ListPlace::number),
                    total: page.total,
                }))
            }
            Question::Summary => self.summary().await.map(Answer::Summary),
            Question::Census => self.census().await.map(|c| Answer::Census(Box::new(c))),
            Question::Objects => self.objects().await.map(Answer::Objects),
            Question::Settings => self.settings().await.map(Answer::Settings),
            Question::Set { name, value } => {
                let tuned = self.host.tune_tcp(&name, &value).await;
                let tuned = tuned.ok_or_else(stopped)?;
                tuned.map_err(|why| format!("{name} = {value}: {why}"))?;
                Ok(Answer::Done)
            }
        }
    }

    async fn settings(&self) -> Result<Vec<Setting>, String> {
        let tunables = self.host.tcp_tunables().await.ok_or_else(stopped)?;
        Ok(settings(&tunables))
    }

    /// Every socket, counted.
    async fn count(&self, filter: SocketFilter) -> Result<census::Fold, String> {
        let mut fold = census::Fold::default();
        let mut place = Some(ListPlace::default());
        while let Some(at) = place {
            let page = self.page(&filter, at).await?;
            page.rows.iter().for_each(|row| fold.take(row));
            place = page.next;
        }
        Ok(fold)
    }

    async fn tcp_memory(&self) -> Result<TcpMemory, String> {
        let memory = self.host.tcp_memory().await.ok_or_else(stopped)?;
        Ok(TcpMemory {
            bytes: memory.bytes,
            pressure: memory.pressure,
            levels: memory.levels,
        })
    }

    async fn buffers(&self, udp_bytes: u64) -> Result<Buffers, String> {
        let info = self.host.buffers().await.ok_or_else(stopped)?;
        Ok(Buffers {
            block_bytes: base::BLOCK as u32,
            blocks: info.blocks,
            in_use: info.in_use,
            high_water: info.high_water,
            lent_blocks: info.lent,
            segments: info.segments,
            tcp_segments: info.tcp_segments,
            reassembly_blocks: info.reassembly_blocks,
            frames: info.frames,
            udp_bytes,
        })
    }

    async fn census(&self) -> Result<Census, String> {
        let fold = self.count(SocketFilter::ALL).await?;
        let tables = self.host.tcp_tables().await.ok_or_else(stopped)?;
        let (uptime, drops, counts) = self.host.counters().await.ok_or_else(stopped)?;
        let buffers = self.buffers(fold.udp_bytes).await?;
        let (sockets, orphans) = (fold.sockets, fold.orphans);
        let (groups, listeners) = fold.finish();
        let happened = |row: &(String, u64)| row.1 > 0;
        let counts = counts.iter().map(|(what, n)| (what.name().to_owned(), n));
        let drops = drops.iter().map(|(why, n)| (why.name().to_owned(), n));
        Ok(Census {
            uptime_ms: ms(uptime),
            tables: Tables {
                connections: tables.connections,
                half_open: tables.half_open,
                time_wait: tables.time_wait,
                ephemeral_ports: tables.ephemeral_ports,
            },
            tcp_memory: self.tcp_memory().await?,
            buffers,
            sockets,
            orphans,
            groups,
            listeners,
            events: counts.filter(happened).collect(),
            drops: drops.filter(happened).collect(),
            settings: self.settings().await?,
        })
    }

    async fn objects(&self) -> Result<Objects, String> {
        let udp = SocketFilter {
            tcp: false,
            ..SocketFilter::ALL
        };
        let fold = self.count(udp).await?;
        let set = |row: SetRow| Set {
            kind: row.kind.into(),
            number: row.number,
            watched: row.watched,
            ready: row.ready,
            waiters: row.waiters,
        };
        let queue = |row: QueueRow| Queue {
            capacity: row.capacity,
            outstanding: row.outstanding,
            completions: row.completions,
            waiters: row.waiters,
            working: row.working,
            concurrency: row.concurrency,
        };
        let group = |row: GroupRow| BufferGroup {
            buffers: row.buffers,
            available: row.available,
            size_bytes: row.size,
        };
        let queues = self.sockets.as_ref();
        let queues = queues.map_or(Vec::new(), Sockets::completion_queues);
        Ok(Objects {
            buffers: self.buffers(fold.udp_bytes).await?,
            tcp_memory: self.tcp_memory().await?,
            sets: sets().into_iter().map(set).collect(),
            queues: queues.into_iter().map(queue).collect(),
            groups: buffer_groups().into_iter().map(group).collect(),
        })
    }

    async fn page(&self, filter: &SocketFilter, place: ListPlace) -> Result<SocketPage, String> {
        let page = self.host.list(*filter, place, LOOK_AT).await;
        page.ok_or_else(stopped)
    }

    async fn summary(&self) -> Result<Summary, String> {
        let mut summary = Summary::default();
        let mut states: Vec<(State, u64)> = Vec::new();
        let mut place = Some(ListPlace::default());
        while let Some(at) = place {
            let page = self.page(&SocketFilter::ALL, at).await?;
            place = page.next;
            for row in &page.rows {
                let v4 = row.socket.local.is_ipv4();
                let count = match (row.transport, v4) {
                    (Transport::Tcp, true) => &mut summary.tcp_v4,
                    (Transport::Tcp, false) => &mut summary.tcp_v6,
                    (Transport::Udp, true) => &mut summary.udp_v4,
                    (Transport::Udp, false) => &mut summary.udp_v6,
                };
                *count += 1;
                if row.transport == Transport::Udp {
                    continue;
                }
                let state = row.socket.state;
                match states.iter_mut().find(|(of, _)| *of == state) {
                    Some((_, count)) => *count += 1,
                    None => states.push((state, 1)),
                }
            }
        }
        states.sort_by_key(|(state, _)| *state);
        let named = |(state, count)| (name(state).to_owned(), count);
        summary.states = states.into_iter().map(named).collect();
        summary.tcp_memory = self.tcp_memory().await?;
        let (uptime, drops, counts) = self.host.counters().await.ok_or_else(stopped)?;
        summary.uptime_ms = uptime.as_millis() as u64;
        let happened = |row: &(String, String, u64)| row.2 > 0;
        let events = counts
            .iter()
            .map(|(what, n)| (what.name().to_owned(), what.describe().to_owned(), n));
        summary.events = events.filter(happened).collect();
        let drops = drops
            .iter()
            .map(|(why, n)| (why.name().to_owned(), why.describe().to_owned(), n));
        summary.drops = drops.filter(happened).collect();
        Ok(summary)
    }
}

fn settings(tunables: &TcpTunables) -> Vec<Setting> {
    let setting = |name: &&str| Setting {
        name: (*name).to_owned(),
        value: tunables.text(name).unwrap_or_default(),
    };
    TcpTunables::NAMES.iter().map(setting).collect()
}

/// The names `ss` has for states, and for sets of them.
const NAMES: [(&str, State); 11] = [
    ("ESTAB", State::Established),
    ("SYN-SENT", State::SynSent),
    ("SYN-RECV", State::SynReceived),
    ("FIN-WAIT-1", State::FinWait1),
    ("FIN-WAIT-2", State::FinWait2),
    ("TIME-WAIT", State::TimeWait),
    ("UNCONN", State::Closed),
    ("CLOSE-WAIT", State::CloseWait),
    ("LAST-ACK", State::LastAck),
    ("LISTEN", State::Listen),
    ("CLOSING", State::Closing),
];

fn name(state: State) -> &'static str {
    let found = NAMES.iter().find(|(_, of)| *of == state);
    found.map_or("?", |(name, _)| name)
}

/// The set of states of this name, as `ss` understands it: of [`Filter::states`].
pub fn states(name: &str) -> Option<u16> {
    let bit = SocketFilter::bit;
    let all = NAMES.iter().fold(0, |set, (_, state)| set | bit(*state));
    let connected = all & !(bit(State::Listen) | bit(State::Closed));
    let bucket = bit(State::SynReceived) | bit(State::TimeWait);
    let name = name.to_ascii_lowercase().replace('_', "-");
    Some(match name.as_str() {
        "all" => all,
        "connected" => connected,
        "synchronized" => connected & !bit(State::SynSent),
        "bucket" => bucket,
        "big" => all & !bucket,
        // What `ss` shows when nothing is said, and with -l: UDP sockets without a peer are among the latter.
        "default" => connected & !bucket,
        "listening" | "listen" => bit(State::Listen) | bit(State::Closed),
        "established" => bit(State::Established),
        "closed" => bit(State::Closed),
        "syn-received" => bit(State::SynReceived),
        own => {
            let found = NAMES.iter().find(|(of, _)| of.eq_ignore_ascii_case(own));
            bit(found?.1)
        }
    })
}

fn filter_of(filter: &Filter) -> SocketFilter {
    SocketFilter {
        tcp: filter.tcp,
        udp: filter.udp,
        v4: filter.v4,
        v6: filter.v6,
        states: filter.states,
        local_port: filter.sport,
        remote_port: filter.dport,
    }
}

fn socket(row: &SocketRow) -> Socket {
    let plain = |addr: SocketAddr| SocketAddr::new(addr.ip(), addr.port());
    Socket {
        netid: match row.transport {
            Transport::Tcp => "tcp".into(),
            Transport::Udp => "udp".into(),
        },
        state: name(row.socket.state).into(),
        recv_q: row.socket.receive_queue,
        send_q: row.socket.send_queue,
        local: plain(row.socket.local),
        device: row.device.clone(),
        peer: plain(row.socket.remote),
        receive_buffer: row.buffers.0,
        send_buffer: row.buffers.1,
        drops: row.dropped,
        tcp: row.tcp.as_ref().map(|info| Box::new(tcp(info))),
        listener: row.listener.as_ref().map(census::queues),
    }
}

fn us(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn tcp(info: &TcpInfo) -> Tcp {
    let mss = info.mss.max(1);
    let segments = |bytes: u32| bytes.div_ceil(mss);
    Tcp {
        congestion: info.congestion.into(),
        timestamps: info.timestamps,
        sack: info.sack,
        ecn: info.ecn && info.accurate_ecn.is_none(),
        accecn: info.accurate_ecn.is_some(),
        ecnseen: info.ecn_seen,
        fastopen: info.syn_data,
        wscale: info.scaled.then_some(info.window_scales),
        ca_state: format!("{:?}", info.recovery).to_ascii_lowercase(),
        retransmits: info.timeouts,
        probes: info.probes,
        backoff: info.backoff,
        rto_us: us(info.rto),
        ato_us: us(info.ack_delay),
        rtt_us: us(info.rtt),
        rttvar_us: us(info.rtt_variation),
        min_rtt_us: us(info.min_rtt),
        mss: info.mss,
        rcvmss: info.receive_mss,
        advmss: info.advertised_mss,
        pmtu: info.path_mtu,
        cwnd: (info.cwnd / mss).max(1),
        ssthresh: (info.ssthresh < u32::MAX / 2).then_some(info.ssthresh / mss),
        unacked: segments(info.unacknowledged),
        sacked: segments(info.sacked),
        lost: segments(info.lost.saturating_add(info.retransmitted)),
        retrans: segments(info.retransmitted),
        reordering: info.reordering,
        notsent_bytes: info.unsent,
        snd_wnd: info.send_window,
        rcv_wnd: info.receive_window,
        rcv_rtt_us: us(info.receive_rtt),
        rcv_space: info.receive_space,
        rcv_ssthresh: info.receive_ssthresh,
        model: info.congestion_info.and_then(model),
        pacing_rate: (info.pacing_rate < u64::MAX).then_some(info.pacing_rate),
        last_data_sent_ms: ms(info.since_data_sent),
        last_ack_recv_ms: ms(info.since_received),
        account: info.account.as_ref().map(account),
    }
}

fn model(info: CongestionInfo) -> Option<PathModel> {
    match info {
        CongestionInfo::Dctcp(dctcp) => dctcp.enabled.then_some(PathModel::Dctcp {
            ce_state: dctcp.ce_state,
            alpha: dctcp.alpha,
            ab_ecn: dctcp.marked,
            ab_tot: dctcp.acked,
        }),
        CongestionInfo::Bbr(bbr) => Some(PathModel::Bbr {
            bw: bbr.bandwidth,
            mrtt_us: us(bbr.min_rtt),
            pacing_gain_percent: bbr.pacing_gain,
            cwnd_gain_percent: bbr.window_gain,
        }),
        _ => None,
    }
}

fn account(account: &TcpAccount) -> Account {
    Account {
        bytes_sent: account.bytes_sent,
        bytes_retrans: account.bytes_retransmitted,
        bytes_acked: account.bytes_acked,
        bytes_received: account.bytes_received,
        segs_out: account.segments_out,
        segs_in: account.segments_in,
        data_segs_out: account.data_segments_out,
        data_segs_in: account.data_segments_in,
        total_retrans: account.retransmits,
        delivery_rate: account.delivery_rate,
        app_limited: account.delivery_rate_app_limited,
        delivered: account.delivered,
        delivered_ce: account.delivered_ce,
        dsack_dups: account.duplicates,
        reord_seen: account.reorderings,
        rcv_ooopack: account.out_of_order,
        last_data_recv_ms: ms(account.since_data_received),
        busy_us: us(account.busy),
        rwnd_limited_us: us(account.window_limited),
        sndbuf_limited_us: us(account.buffer_limited),
        total_rto: account.timeouts,
        total_rto_recoveries: account.timeout_recoveries,
        total_rto_time_ms: ms(account.timeout_time),
    }
}

#[cfg(test)]
mod tests;
