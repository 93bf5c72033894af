//! The devices of a running host, looked at now and then: what becomes of them is told, in a line each.
//!
//! What does not live here: the frames that are lost meanwhile, which the ports count.
//!
//! Invariant: a change is told once, not at every look.

use std::fmt;

use crate::config;
use crate::serve::Stack;

/// How one device was at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Frames pass.
    Running,
    /// It is there, but switched off or without its other end.
    Down { switched_off: bool },
    /// Its port is of no use any more.
    Gone,
}

/// A port's device.
struct Device {
    port: String,
    name: String,
    condition: Condition,
}

/// All devices of a host.
pub(crate) struct Watch(Vec<Device>);

impl Watch {
    /// The devices of these ports, all running as far as anybody knows.
    pub(crate) fn new(ports: &[config::Port]) -> Self {
        let device = |port: &config::Port| Device {
            port: port.name.clone(),
            name: port.device.clone(),
            condition: Condition::Running,
        };
        Self(ports.iter().map(device).collect())
    }

    /// What has changed since the last look.
    pub(crate) fn look(&mut self, stack: &Stack) -> Vec<String> {
        // A host that has ended says why itself.
        let Some(failures) = stack.failures() else {
            return Vec::new();
        };
        let look = |(device, failure): (&mut Device, Option<String>)| {
            let condition = match (&failure, netns::link::facts(&device.name)) {
                (Some(_), _) => Condition::Gone,
                (None, Ok(facts)) if facts.up && facts.carrier => Condition::Running,
                (None, Ok(facts)) => Condition::Down {
                    switched_off: !facts.up,
                },
                // Removed, and the port will notice; or the kernel would not tell.
                (None, Err(_)) => device.condition,
            };
            device.change(condition, failure.as_deref().unwrap_or_default())
        };
        self.0.iter_mut().zip(failures).filter_map(look).collect()
    }
}

impl Device {
    /// The new condition, in words if it is another.
    fn change(&mut self, condition: Condition, failure: &str) -> Option<String> {
        if self.condition == condition {
            return None;
        }
        self.condition = condition;
        let Self { port, name, .. } = self;
        let say = |what: fmt::Arguments<'_>| Some(format!("port {port:?}: {what}"));
        match condition {
            Condition::Running => say(format_args!("{name} is up again")),
            Condition::Down { switched_off: true } => say(format_args!(
                "{name} is switched off, so nothing passes; `ip link set {name} up` switches it on"
            )),
            Condition::Down { .. } => say(format_args!(
                "{name} has no carrier, so nothing passes; plug the cable in, or switch its other end on"
            )),
            Condition::Gone => say(format_args!(
                "{failure}; the host goes on with its other ports, start it again to have this one back"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let mut device = Device {
            port: "wan".into(),
            name: "eth1".into(),
            condition: Condition::Running,
        };
        let off = Condition::Down { switched_off: true };
        assert_eq!(device.change(Condition::Running, ""), None);
        let told = device.change(off, "").unwrap();
        assert!(
            told.starts_with("port \"wan\": eth1 is switched off")
                && told.contains("; `ip link set eth1 up`")
        );
        assert_eq!(device.change(off, ""), None);
        assert_eq!(
            device.change(Condition::Running, "").unwrap(),
            "port \"wan\": eth1 is up again"
        );
        let told = device
            .change(Condition::Gone, "interface eth1 is gone")
            .unwrap();
        assert!(
            told.contains("interface eth1 is gone; the host goes on"),
            "{told}"
        );
    }
}
