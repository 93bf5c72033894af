//! What is known of a connection, in the words of ss(8): `rtt:0.05/0.02 cwnd:10 bytes_acked:4711`.
//!
//! What does not live here: lines and colours (`table`).
//!
//! Invariant: what is nought and says nothing by it is left out, as ss(8) does.

use control::words::socket::{Account, PathModel, Socket, Tcp};

/// The words of a socket: `info` as `ss -i`, `memory` as `ss -m`.
pub(super) fn words(socket: &Socket, info: bool, memory: bool) -> Vec<String> {
    let mut words = Vec::new();
    if memory {
        words.push(format!(
            "skmem:(r{},rb{},t{},tb{},d{})",
            socket.recv_q, socket.receive_buffer, socket.send_q, socket.send_buffer, socket.drops
        ));
    }
    if let Some(queues) = socket.listener.as_ref().filter(|_| info) {
        // Besides Recv-Q and Send-Q, which are the accept queue and the backlog. ss(8) has no words for it.
        words.push(format!("syn_queue:{}", queues.syn_queue));
        some(&mut words, "overflows", queues.overflows);
        some(&mut words, "drops", queues.drops);
    }
    if let Some(tcp) = socket.tcp.as_ref().filter(|_| info) {
        begin(&mut words, tcp);
        if let Some(account) = &tcp.account {
            moved(&mut words, account);
        }
        pace(&mut words, tcp);
        if let Some(account) = &tcp.account {
            waited(&mut words, account);
        }
        missing(&mut words, tcp);
        ends(&mut words, tcp);
    }
    words
}

/// Adds `name:value` unless the value is nought.
fn some(words: &mut Vec<String>, name: &str, value: impl Into<u64>) {
    let value = value.into();
    if value > 0 {
        words.push(format!("{name}:{value}"));
    }
}

/// Milliseconds with what of them is there: `200`, `0.05`.
fn ms(us: u64) -> String {
    let text = format!("{:.3}", us as f64 / 1e3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What was agreed on, and the times and sizes in force.
fn begin(words: &mut Vec<String>, tcp: &Tcp) {
    let flags = [
        (tcp.timestamps, "ts"),
        (tcp.sack, "sack"),
        (tcp.ecn, "ecn"),
        (tcp.accecn, "accecn"),
        (tcp.ecnseen, "ecnseen"),
        (tcp.fastopen, "fastopen"),
    ];
    words.extend(flags.iter().filter(|f| f.0).map(|f| f.1.to_owned()));
    words.push(tcp.congestion.clone());
    if let Some((theirs, ours)) = tcp.wscale {
        words.push(format!("wscale:{theirs},{ours}"));
    }
    words.push(format!("rto:{}", ms(tcp.rto_us)));
    some(words, "backoff", tcp.backoff);
    if tcp.rtt_us > 0 {
        words.push(format!("rtt:{}/{}", ms(tcp.rtt_us), ms(tcp.rttvar_us)));
    }
    words.push(format!("ato:{}", ms(tcp.ato_us)));
    some(words, "mss", tcp.mss);
    some(words, "pmtu", tcp.pmtu);
    some(words, "rcvmss", tcp.rcvmss);
    some(words, "advmss", tcp.advmss);
    some(words, "cwnd", tcp.cwnd);
    if let Some(ssthresh) = tcp.ssthresh {
        words.push(format!("ssthresh:{ssthresh}"));
    }
}

/// What has been sent and received.
fn moved(words: &mut Vec<String>, account: &Account) {
    some(words, "bytes_sent", account.bytes_sent);
    some(words, "bytes_retrans", account.bytes_retrans);
    some(words, "bytes_acked", account.bytes_acked);
    some(words, "bytes_received", account.bytes_received);
    some(words, "segs_out", account.segs_out);
    some(words, "segs_in", account.segs_in);
    some(words, "data_segs_out", account.data_segs_out);
    some(words, "data_segs_in", account.data_segs_in);
}

/// What the congestion control keeps of the path.
fn kept(model: &PathModel) -> String {
    match *model {
        PathModel::Dctcp {
            ce_state,
            alpha,
            ab_ecn,
            ab_tot,
        } => format!(
            "dctcp:(ce_state:{},alpha:{alpha},ab_ecn:{ab_ecn},ab_tot:{ab_tot})",
            u8::from(ce_state)
        ),
        PathModel::Bbr {
            bw,
            mrtt_us,
            pacing_gain_percent,
            cwnd_gain_percent,
        } => format!(
            "bbr:(bw:{},mrtt:{},pacing_gain:{},cwnd_gain:{})",
            rate(bw as f64 * 8.0),
            ms(mrtt_us),
            f64::from(pacing_gain_percent) / 100.0,
            f64::from(cwnd_gain_percent) / 100.0
        ),
    }
}

/// How fast it may go, and when it last did.
fn pace(words: &mut Vec<String>, tcp: &Tcp) {
    words.extend(tcp.model.as_ref().map(kept));
    if tcp.rtt_us > 0 && tcp.mss > 0 {
        let bits = f64::from(tcp.mss) * f64::from(tcp.cwnd) * 8.0;
        words.push(format!("send {}", rate(bits * 1e6 / tcp.rtt_us as f64)));
    }
    some(words, "lastsnd", tcp.last_data_sent_ms);
    if let Some(account) = &tcp.account {
        some(words, "lastrcv", account.last_data_recv_ms);
    }
    some(words, "lastack", tcp.last_ack_recv_ms);
    if let Some(bytes) = tcp.pacing_rate {
        words.push(format!("pacing_rate {}", rate(bytes as f64 * 8.0)));
    }
    if let Some(account) = tcp.account.as_ref().filter(|a| a.delivery_rate > 0) {
        let bits = account.delivery_rate as f64 * 8.0;
        words.push(format!("delivery_rate {}", rate(bits)));
    }
}

/// Bits a second as ss(8) writes them: `2.32Gbps`.
fn rate(bits: f64) -> String {
    let (value, unit) = match bits {
        b if b >= 1e9 => (b / 1e9, "Gbps"),
        b if b >= 1e6 => (b / 1e6, "Mbps"),
        b if b >= 1e3 => (b / 1e3, "kbps"),
        b => (b, "bps"),
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What was delivered, and what data waited for.
fn waited(words: &mut Vec<String>, account: &Account) {
    some(words, "delivered", account.delivered);
    some(words, "delivered_ce", account.delivered_ce);
    if account.app_limited {
        words.push("app_limited".into());
    }
    let busy = account.busy_us;
    if busy == 0 {
        return;
    }
    words.push(format!("busy:{}ms", busy / 1000));
    for (name, time) in [
        ("rwnd_limited", account.rwnd_limited_us),
        ("sndbuf_limited", account.sndbuf_limited_us),
    ] {
        if time > 0 {
            let share = time as f64 * 100.0 / busy as f64;
            words.push(format!("{name}:{}ms({share:.1}%)", time / 1000));
        }
    }
}

/// What is in flight, lost and out of order.
fn missing(words: &mut Vec<String>, tcp: &Tcp) {
    if tcp.ca_state != "open" {
        words.push(format!("ca_state:{}", tcp.ca_state));
    }
    some(words, "unacked", tcp.unacked);
    let total = tcp.account.as_ref().map_or(0, |a| a.total_retrans);
    if tcp.retrans > 0 || total > 0 {
        words.push(format!("retrans:{}/{total}", tcp.retrans));
    }
    some(words, "lost", tcp.lost);
    some(words, "sacked", tcp.sacked);
    if let Some(account) = &tcp.account {
        some(words, "dsack_dups", account.dsack_dups);
    }
    if tcp.reordering != 3 {
        some(words, "reordering", tcp.reordering);
    }
    if let Some(account) = &tcp.account {
        some(words, "reord_seen", account.reord_seen);
        some(words, "total_rto", account.total_rto);
        some(words, "total_rto_time", account.total_rto_time_ms);
    }
}

/// What waits, and both windows.
fn ends(words: &mut Vec<String>, tcp: &Tcp) {
    some(words, "notsent", tcp.notsent_bytes);
    if tcp.rcv_rtt_us > 0 {
        words.push(format!("rcv_rtt:{}", ms(tcp.rcv_rtt_us)));
    }
    some(words, "rcv_space", tcp.rcv_space);
    some(words, "rcv_ssthresh", tcp.rcv_ssthresh);
    if tcp.min_rtt_us > 0 {
        words.push(format!("minrtt:{}", ms(tcp.min_rtt_us)));
    }
    if let Some(account) = &tcp.account {
        some(words, "rcv_ooopack", account.rcv_ooopack);
    }
    some(words, "snd_wnd", tcp.snd_wnd);
    some(words, "rcv_wnd", tcp.rcv_wnd);
}
