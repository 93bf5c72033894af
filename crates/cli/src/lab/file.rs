//! The file of `millstream lab run`: TOML in, a [`Scenario`] out.
//!
//! What does not live here: playing it (`run`), quantities as people write them (`quantity`).
//!
//! Invariant: an error names line and column, says what is wrong and what would be right, in one line.

use std::time::Duration;

use lab::Scenario;
use lab::scenario::Flow;
use serde::Deserialize;
use sim::{Faults, LinkConfig, Loss};
use toml::Spanned;

use super::quantity;
use crate::config::{Complaint, ConfigError, in_words, placed};

/// The most flows a scenario may have.
const FLOWS_MAX: usize = 64;
/// Longest scenario, and the least and the most time between two samples.
const DURATION_MAX: Duration = Duration::from_secs(3_600);
const SAMPLE: [Duration; 2] = [Duration::from_micros(100), Duration::from_secs(60)];
/// Samples of a flow when nothing is said.
const SAMPLES: u32 = 800;
/// Samples of all flows together at most.
const SAMPLES_MAX: u128 = 2_000_000;
/// What Linux's buffers grow to by themselves, and so what a flow has when nothing is said.
const SEND_BUFFER: u32 = 4 << 20;
const RECEIVE_BUFFER: u32 = 6 << 20;
/// The least the queue of a link holds when nothing is said.
const BUFFER_MIN: u64 = 64 * 1024;

type Text = Option<Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    name: Text,
    about: Option<String>,
    duration: Text,
    sample: Text,
    seed: Option<Spanned<i64>>,
    link: Spanned<LinkText>,
    #[serde(default)]
    flow: Vec<Spanned<FlowText>>,
    #[serde(default)]
    change: Vec<Spanned<ChangeText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkText {
    rate: Text,
    delay: Text,
    rtt: Text,
    buffer: Text,
    mtu: Option<Spanned<i64>>,
    loss: Text,
    loss_burst: Option<Spanned<f64>>,
    reorder: Text,
    reorder_delay: Text,
    duplicate: Text,
    corrupt: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowText {
    name: Text,
    algorithm: Text,
    start: Text,
    stop: Text,
    bytes: Text,
    send_buffer: Text,
    receive_buffer: Text,
}

/// What may change: rate, delay and loss.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeText {
    at: Spanned<String>,
    rate: Text,
    delay: Text,
    rtt: Text,
    loss: Text,
    reorder: Text,
}

/// Reads and checks a scenario's text.
///
/// # Errors
/// The first thing wrong with it.
pub(super) fn parse(text: &str) -> Result<Scenario, ConfigError> {
    read(text).map_err(|complaint| placed(text, complaint))
}

fn read(text: &str) -> Result<Scenario, Complaint> {
    let file: FileText = toml::from_str(text).map_err(|error| Complaint {
        span: error.span(),
        message: in_words(error.message()),
    })?;
    let name = file.name.map(check_name).transpose()?;
    let duration = get(file.duration.as_ref(), quantity::time)?;
    let duration = duration.unwrap_or(Duration::from_secs(20));
    if !(Duration::from_millis(1)..=DURATION_MAX).contains(&duration) {
        let message = "give a duration from 1ms to 60min";
        return Err(at(file.duration.as_ref(), message));
    }
    let sample = get(file.sample.as_ref(), quantity::time)?;
    let sample = sample.unwrap_or((duration / SAMPLES).max(Duration::from_millis(1)));
    if !(SAMPLE[0]..=SAMPLE[1]).contains(&sample) {
        return Err(at(file.sample.as_ref(), "give a time from 100us to 60s"));
    }
    let link_span = file.link.span();
    let link = check_link(file.link.into_inner())?;
    let mut flows = Vec::new();
    for flow in file.flow {
        if flows.len() == FLOWS_MAX {
            let message = format!("too many flows: at most {FLOWS_MAX}");
            return Err(Complaint::at(flow.span(), message));
        }
        flows.push(check_flow(flow, flows.len(), duration)?);
    }
    if flows.is_empty() {
        let message = "there is no [[flow]]: a scenario has at least one";
        return Err(Complaint::at(link_span, message));
    }
    if duration.as_nanos() / sample.as_nanos() * flows.len() as u128 > SAMPLES_MAX {
        let message = format!("more than {SAMPLES_MAX} samples: take them less often");
        return Err(at(file.sample.as_ref(), message));
    }
    let seed = match &file.seed {
        None => 1,
        Some(seed) => u64::try_from(*seed.as_ref())
            .map_err(|_| Complaint::at(seed.span(), "a seed is a number from 0 up"))?,
    };
    let changes = check_changes(file.change, link, duration)?;
    Ok(Scenario {
        name: name.unwrap_or_else(|| "scenario".into()),
        about: file.about.unwrap_or_default(),
        seed,
        duration,
        sample,
        link,
        flows,
        changes,
    })
}

/// What a quantity says, if it is there.
fn get<T>(
    text: Option<&Spanned<String>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Complaint> {
    text.map(|text| parse(text.as_ref()).map_err(|message| Complaint::at(text.span(), message)))
        .transpose()
}

/// A complaint about a value that may not have been given.
fn at(text: Option<&Spanned<String>>, message: impl std::fmt::Display) -> Complaint {
    Complaint {
        span: text.map(Spanned::span),
        message: message.to_string(),
    }
}

/// A name, which is a folder's and a legend's, too.
fn check_name(name: Spanned<String>) -> Result<String, Complaint> {
    let text = name.as_ref().trim();
    let fits = (1..=60).contains(&text.chars().count());
    if !fits
        || text.starts_with('.')
        || text.contains(|c: char| c.is_control() || "/\\".contains(c))
    {
        let message =
            "a name has 1 to 60 characters, no `/` or `\\`, and does not begin with a dot";
        return Err(Complaint::at(name.span(), message));
    }
    Ok(text.to_owned())
}

/// One way: half of a round trip.
fn check_delay(delay: &Text, rtt: &Text) -> Result<Option<Duration>, Complaint> {
    if let (Some(_), Some(rtt)) = (delay, rtt) {
        let message = "both delay and rtt: a delay is one way, a round trip is two of them";
        return Err(Complaint::at(rtt.span(), message));
    }
    let delay = get(delay.as_ref(), quantity::time)?;
    Ok(delay.or(get(rtt.as_ref(), quantity::time)?.map(|rtt| rtt / 2)))
}

fn check_link(text: LinkText) -> Result<LinkConfig, Complaint> {
    let rate = get(text.rate.as_ref(), quantity::rate)?.unwrap_or(0);
    let delay = check_delay(&text.delay, &text.rtt)?.unwrap_or(Duration::from_millis(10));
    let product = u128::from(rate) * delay.as_nanos() * 2 / 8_000_000_000;
    let product = u64::try_from(product).unwrap_or(u64::MAX).max(BUFFER_MIN);
    let share = |text: &Text| get(text.as_ref(), quantity::share).map(|share| share.unwrap_or(0.0));
    let loss = loss(share(&text.loss)?, text.loss_burst.as_ref())?;
    let mtu = match &text.mtu {
        None => 1500,
        Some(mtu) => usize::try_from(*mtu.as_ref())
            .ok()
            .filter(|mtu| (1280..=9216).contains(mtu))
            .ok_or_else(|| Complaint::at(mtu.span(), "mtu must be from 1280 to 9216"))?,
    };
    let jitter = get(text.reorder_delay.as_ref(), quantity::time)?;
    Ok(LinkConfig {
        rate,
        delay,
        queue: get(text.buffer.as_ref(), quantity::size)?.unwrap_or(product),
        mtu,
        faults: Faults {
            loss,
            reorder: share(&text.reorder)?,
            jitter: jitter.unwrap_or(Duration::from_millis(5)),
            duplicate: share(&text.duplicate)?,
            corrupt: share(&text.corrupt)?,
        },
        ..LinkConfig::default()
    })
}

fn loss(share: f64, burst: Option<&Spanned<f64>>) -> Result<Loss, Complaint> {
    match burst {
        _ if share == 0.0 => Ok(Loss::None),
        None => Ok(Loss::Random(share)),
        Some(length) if (1.0..=1e6).contains(length.as_ref()) => {
            Ok(Loss::bursts(share, *length.as_ref()))
        }
        Some(length) => {
            let message = "a burst has from 1 to 1000000 frames on average";
            Err(Complaint::at(length.span(), message))
        }
    }
}

fn check_flow(
    flow: Spanned<FlowText>,
    number: usize,
    duration: Duration,
) -> Result<Flow, Complaint> {
    let text = flow.into_inner();
    let name = text.name.map(check_name).transpose()?;
    let congestion = match &text.algorithm {
        None => millstream::Congestion::default(),
        Some(name) => millstream::Congestion::from_name(name.as_ref()).ok_or_else(|| {
            let known = "give one that is there, such as cubic or reno";
            Complaint::at(
                name.span(),
                format!("no algorithm `{}`: {known}", name.as_ref()),
            )
        })?,
    };
    let start = get(text.start.as_ref(), quantity::time)?.unwrap_or(Duration::ZERO);
    if start >= duration {
        return Err(at(text.start.as_ref(), "the scenario is over by then"));
    }
    let stop = get(text.stop.as_ref(), quantity::time)?;
    if stop.is_some_and(|stop| stop <= start) {
        return Err(at(text.stop.as_ref(), "a flow stops after it started"));
    }
    let buffer = |text: &Text, usual: u32| match get(text.as_ref(), quantity::size)? {
        None => Ok(usual),
        Some(size) => u32::try_from(size)
            .ok()
            .filter(|size| (4096..=64 << 20).contains(size))
            .ok_or_else(|| at(text.as_ref(), "a buffer has from 4KiB to 64MiB")),
    };
    Ok(Flow {
        name: name.unwrap_or_else(|| format!("flow {}", number + 1)),
        congestion,
        start,
        stop,
        bytes: get(text.bytes.as_ref(), quantity::size)?,
        send_buffer: buffer(&text.send_buffer, SEND_BUFFER)?,
        receive_buffer: buffer(&text.receive_buffer, RECEIVE_BUFFER)?,
    })
}

/// Each change starts from what the link was before it.
fn check_changes(
    changes: Vec<Spanned<ChangeText>>,
    mut link: LinkConfig,
    duration: Duration,
) -> Result<Vec<(Duration, LinkConfig)>, Complaint> {
    let mut checked: Vec<(Duration, LinkConfig)> = Vec::new();
    for change in changes {
        let text = change.into_inner();
        let when = get(Some(&text.at), quantity::time)?.unwrap_or(Duration::ZERO);
        if when >= duration {
            return Err(at(Some(&text.at), "the scenario is over by then"));
        }
        if checked.last().is_some_and(|(before, _)| *before >= when) {
            return Err(at(
                Some(&text.at),
                "changes stand in the order of their time",
            ));
        }
        if let Some(rate) = get(text.rate.as_ref(), quantity::rate)? {
            link.rate = rate;
        }
        if let Some(delay) = check_delay(&text.delay, &text.rtt)? {
            link.delay = delay;
        }
        if let Some(share) = get(text.loss.as_ref(), quantity::share)? {
            link.faults.loss = loss(share, None)?;
        }
        if let Some(share) = get(text.reorder.as_ref(), quantity::share)? {
            link.faults.reorder = share;
        }
        checked.push((when, link));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_means_what_one_would_think() {
        let text = "[link]\nrate = \"8mbit\"\nrtt = \"100ms\"\n[[flow]]\n";
        let scenario = parse(text).unwrap();
        assert_eq!((scenario.seed, scenario.flows.len()), (1, 1));
        assert_eq!(scenario.duration, Duration::from_secs(20));
        assert_eq!(scenario.sample, Duration::from_millis(25));
        assert_eq!(scenario.link.delay, Duration::from_millis(50));
        assert_eq!(scenario.link.queue, 100_000, "a round trip's worth");
        let flow = &scenario.flows[0];
        assert_eq!(
            (flow.name.as_str(), flow.congestion.name()),
            ("flow 1", "cubic")
        );
    }

    #[test]
    fn changes_build_on_each_other() {
        let text = "[link]\nrate = \"8mbit\"\n[[flow]]\n\
            [[change]]\nat = \"1s\"\nloss = \"1%\"\n[[change]]\nat = \"2s\"\nrate = \"1mbit\"\n";
        let changes = parse(text).unwrap().changes;
        let (when, link) = changes[1];
        assert_eq!((when, link.rate), (Duration::from_secs(2), 1_000_000));
        assert_eq!(link.faults.loss, Loss::Random(0.01));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let flow = "[link]\n[[flow]]\n";
        for (text, expected) in [
            (
                "[link]\nrate = \"fast\"\n[[flow]]\n".into(),
                "2:8: give a rate",
            ),
            (
                "[link]\nrtt = 5\n[[flow]]\n".into(),
                "2:7: invalid type: integer",
            ),
            (
                "[link]\ndelay = \"1ms\"\nrtt = \"2ms\"\n[[flow]]\n".into(),
                "3:7: both delay",
            ),
            (
                "[link]\nloss = \"2\"\n[[flow]]\n".into(),
                "2:8: give a share",
            ),
            (
                "[link]\nlost = \"2%\"\n[[flow]]\n".into(),
                "2:1: unknown field `lost`",
            ),
            ("[link]\nmtu = 100\n[[flow]]\n".into(), "2:7: mtu must be"),
            (
                "[link]\nloss = \"1%\"\nloss_burst = 0.5\n[[flow]]\n".into(),
                "3:14: a burst",
            ),
            ("[link]\n".into(), "1:1: there is no [[flow]]"),
            ("[[flow]]\n".into(), "1:1: missing field `link`"),
            (
                format!("{flow}algorithm = \"vegas\"\n"),
                "3:13: no algorithm `vegas`",
            ),
            (
                format!("{flow}start = \"1min\"\n"),
                "3:9: the scenario is over",
            ),
            (
                format!("{flow}start = \"2s\"\nstop = \"1s\"\n"),
                "4:8: a flow stops",
            ),
            (
                format!("{flow}send_buffer = \"1GiB\"\n"),
                "3:15: a buffer has",
            ),
            (format!("{flow}name = \"../x\"\n"), "3:8: a name has"),
            (
                format!("duration = \"2 days\"\n{flow}"),
                "1:12: give a time",
            ),
            (format!("seed = -1\n{flow}"), "1:8: a seed is"),
            (
                format!("sample = \"1ns\"\n{flow}"),
                "1:10: give a time from",
            ),
            (
                format!("duration = \"60min\"\nsample = \"1ms\"\n{flow}"),
                "2:10: more than",
            ),
            (
                format!("{flow}[[change]]\nat = \"2s\"\n[[change]]\nat = \"1s\"\n"),
                "6:6: changes stand",
            ),
        ] {
            let said = parse(&text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{text}\nsaid: {said}");
        }
    }
}
