//! Quantities as people write them: `100mbit`, `25ms`, `1%`, `256KiB`.
//!
//! What does not live here: writing them (`units`).

use std::time::Duration;

/// A number and what follows it.
fn parts(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// A number times its unit, as a whole number.
fn whole(text: &str, unit: impl Fn(&str) -> Option<f64>) -> Option<u64> {
    let (number, name) = parts(text)?;
    let value = number * unit(&name)?;
    (value < 1e18).then_some(value.round() as u64)
}

/// Bits per second.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let unit = |name: &str| match name.trim_end_matches("/s").trim_end_matches("ps") {
        "bit" => Some(1.0),
        "kbit" => Some(1e3),
        "mbit" => Some(1e6),
        "gbit" => Some(1e9),
        _ => None,
    };
    let rate = whole(text, unit).filter(|rate| (1_000..=1_000_000_000_000).contains(rate));
    rate.ok_or_else(|| "give a rate from 1kbit to 1000gbit, such as 100mbit or 1.5gbit".into())
}

/// A time.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let unit = |name: &str| match name {
        "ns" => Some(1.0),
        "us" | "µs" => Some(1e3),
        "ms" => Some(1e6),
        "s" => Some(1e9),
        "min" => Some(60e9),
        _ => (text.trim() == "0").then_some(1.0),
    };
    whole(text, unit)
        .map(Duration::from_nanos)
        .filter(|time| *time <= Duration::from_secs(86_400))
        .ok_or_else(|| "give a time such as 25ms, 500us or 1.5s, one day at most".into())
}

/// A size in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let unit = |name: &str| match name {
        "" | "b" => Some(1.0),
        "k" | "kb" => Some(1e3),
        "m" | "mb" => Some(1e6),
        "g" | "gb" => Some(1e9),
        "kib" => Some(1024.0),
        "mib" => Some(1_048_576.0),
        "gib" => Some(1_073_741_824.0),
        _ => None,
    };
    whole(text, unit)
        .filter(|size| *size > 0)
        .ok_or_else(|| "give a size such as 256KiB, 1.5MB or 1500 (bytes)".into())
}

/// A share of all, 0 to 1, written in percent.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let read = parts(text).filter(|(number, unit)| unit == "%" || *number == 0.0);
    read.map(|(number, _)| number / 100.0)
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "give a share from 0% to 100%, such as 1% or 0.1%".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!(rate("100mbit"), Ok(100_000_000));
        assert_eq!(rate("1.5 Gbit/s"), Ok(1_500_000_000));
        assert_eq!(rate("64kbps"), Err(rate("").unwrap_err()));
        assert_eq!(time("25ms"), Ok(Duration::from_millis(25)));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(size("256KiB"), Ok(262_144));
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(share("0.1%"), Ok(0.001));
        assert_eq!(share("0"), Ok(0.0));
        for wrong in ["", "ms", "-1ms", "1 parsec", "1e9s", "2min.", "5"] {
            assert!(time(wrong).unwrap_err().contains("25ms"), "{wrong}");
        }
        for wrong in ["1", "0.5", "101%", "%"] {
            assert!(share(wrong).unwrap_err().contains("1%"), "{wrong}");
        }
        for wrong in ["0mbit", "100", "100mbyte", "nan", "9999999gbit"] {
            assert!(rate(wrong).unwrap_err().contains("100mbit"), "{wrong}");
        }
    }
}
