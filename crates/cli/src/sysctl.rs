//! `millstream sysctl`: the settings of a running host's TCP, by Linux's names, read and changed.
//!
//! What does not live here: what they mean and allow (the stack's `TcpTunables`).

use std::io::{self, Write};
use std::process::ExitCode;

use control::words::{Answer, Question, Setting};

use crate::args;
use crate::ask::Asked;
use crate::failure::Failure;

/// Prints or changes what was asked for, in this order.
///
/// # Errors
/// No host runs; there is no such setting; the value is not allowed, which leaves what stands behind it undone.
pub(crate) fn run(args: &args::Sysctl) -> Result<ExitCode, Failure> {
    let mut asked = Asked::find(args.host.as_deref())?;
    let wanted = args.settings.iter().map(|text| parse(text));
    let mut out = io::stdout().lock();
    let mut lines = Vec::new();
    if args.settings.is_empty() {
        let all = settings(&mut asked)?;
        lines.extend(all.iter().map(line));
    }
    for (name, value) in wanted {
        if let Some(value) = value {
            let name = name.clone();
            asked.ask(&Question::Set { name, value })?;
        }
        let all = settings(&mut asked)?;
        let found = all.iter().find(|setting| setting.name == name);
        let setting = found.ok_or_else(|| unknown(&name, &all))?;
        lines.push(line(setting));
    }
    // Whoever reads may have seen enough.
    let _ = writeln!(out, "{}", lines.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn settings(asked: &mut Asked) -> Result<Vec<Setting>, Failure> {
    match asked.ask(&Question::Settings)? {
        Answer::Settings(settings) => Ok(settings),
        _ => Err(asked.astray()),
    }
}

/// The full name, as Linux has it.
fn full_name(name: &str) -> String {
    match name {
        "somaxconn" => format!("net.core.{name}"),
        _ => format!("net.ipv4.tcp_{name}"),
    }
}

fn line(setting: &Setting) -> String {
    format!("{} = {}", full_name(&setting.name), setting.value)
}

/// `NAME` or `NAME=VALUE`; the name with or without what Linux puts in front, with dots or slashes.
fn parse(text: &str) -> (String, Option<String>) {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
        None => (text.trim(), None),
    };
    let dotted = name.replace('/', ".");
    let bare = ["net.ipv4.", "net.core."]
        .iter()
        .find_map(|prefix| dotted.strip_prefix(prefix))
        .unwrap_or(&dotted);
    let bare = bare.strip_prefix("tcp_").unwrap_or(bare).to_owned();
    (bare, value)
}

fn unknown(name: &str, all: &[Setting]) -> Failure {
    let names: Vec<&str> = all.iter().map(|setting| setting.name.as_str()).collect();
    Failure::new(
        format_args!("there is no setting {name}"),
        format_args!("there are {}", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_as_on_linux() {
        for text in [
            "syncookies=2",
            "tcp_syncookies = 2",
            "net.ipv4.tcp_syncookies=2",
            "net/ipv4/tcp_syncookies=2",
        ] {
            let parsed = parse(text);
            assert_eq!(parsed, ("syncookies".into(), Some("2".into())), "{text}");
        }
        assert_eq!(parse("net.core.somaxconn"), ("somaxconn".into(), None));
        let setting = |name: &str| Setting {
            name: name.into(),
            value: "1".into(),
        };
        assert_eq!(line(&setting("sack")), "net.ipv4.tcp_sack = 1");
        assert_eq!(line(&setting("somaxconn")), "net.core.somaxconn = 1");
        let said = unknown("fly", &[setting("sack"), setting("retries2")]).to_string();
        assert_eq!(said, "there is no setting fly; there are sack, retries2");
    }
}
