//! The words of the protocol: what may be asked, and what may be answered. Numbers have Linux's names, each with its unit last.
//!
//! What does not live here: where the answers come from (`desk`), and what is made of them (the program `millstream`).

pub mod census;
pub mod socket;

use serde::{Deserialize, Serialize};

use census::{Census, Objects};
use socket::{Filter, Page, Summary};

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// A part of the list of sockets.
    Sockets {
        /// Which of them.
        filter: Filter,
        /// Where the last part said that it goes on.
        place: Option<u64>,
    },
    /// How many sockets there are, and what has happened.
    Summary,
    /// How the host is: what an explanation is made of.
    Census,
    /// What else there is: buffers, sets, completion queues.
    Objects,
    /// How TCP is tuned.
    Settings,
    /// Tune TCP.
    Set {
        /// Of the setting, as of [`Setting::name`].
        name: String,
        /// As text.
        value: String,
    },
}

/// What may be answered; in its place a refusal, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Question::Sockets`].
    Sockets(Page),
    /// To [`Question::Summary`].
    Summary(Summary),
    /// To [`Question::Census`].
    Census(Box<Census>),
    /// To [`Question::Objects`].
    Objects(Objects),
    /// To [`Question::Settings`].
    Settings(Vec<Setting>),
    /// To [`Question::Set`].
    Done,
}

/// One setting of TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Without `tcp_`.
    pub name: String,
    /// As text.
    pub value: String,
}
