//! Numbers as people read them: bytes, rates, durations, counts.

use std::time::Duration;

/// Bytes with a binary unit: `512 B`, `64 KiB`, `1.50 GiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.fract() == 0.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.digits$} {}", UNITS[unit], digits = digits(value))
    }
}

/// A rate of bytes as bits a second with a decimal unit: `9.41 Gbit/s`.
pub(crate) fn bit_rate(bytes: u64, took: Duration) -> String {
    const UNITS: [&str; 4] = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
    let mut value = bits_per_second(bytes, took);
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.digits$} {}", UNITS[unit], digits = digits(value))
}

/// The same as a number.
pub(crate) fn bits_per_second(bytes: u64, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64().max(1e-9)
}

/// A duration with the unit that suits it: `35 µs`, `1.20 ms`, `3.41 s`.
pub(crate) fn duration(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let (value, unit) = if seconds < 1e-3 {
        (seconds * 1e6, "µs")
    } else if seconds < 1.0 {
        (seconds * 1e3, "ms")
    } else {
        (seconds, "s")
    };
    format!("{value:.digits$} {unit}", digits = digits(value))
}

/// A count with thousands parted by commas.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Decimals that leave about three significant figures.
fn digits(value: f64) -> usize {
    if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(65_536), "64 KiB");
        assert_eq!(bytes(1_610_612_736), "1.50 GiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
        assert_eq!(
            bit_rate(1_250_000_000, Duration::from_secs(1)),
            "10.0 Gbit/s"
        );
        assert_eq!(bit_rate(0, Duration::ZERO), "0.00 bit/s");
        assert_eq!(duration(Duration::from_micros(35)), "35.0 µs");
        assert_eq!(duration(Duration::from_millis(1_200)), "1.20 s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
    }
}
