//! Whether a host is to be asked, and by which socket. Without the feature `control` there is none.
//!
//! What does not live here: how a program says so (`control`), and who answers (the crate of that name).

#[cfg(feature = "control")]
use control::Control;
use engine::{App, Shard, Shards, Sockets};

use crate::error::Error;

/// Without the feature there are none.
#[cfg(not(feature = "control"))]
#[derive(Debug)]
enum Control {}

/// By what a host is to be asked, if it is.
#[derive(Debug, Default)]
pub(crate) struct Asked(Option<Control>);

impl Asked {
    #[cfg(feature = "control")]
    pub(crate) fn by(control: Control) -> Self {
        Self(Some(control))
    }

    /// Lets the host be asked.
    pub(crate) fn answer_all<A: App>(
        self,
        shards: &mut Shards<A>,
        sockets: Option<&Sockets>,
    ) -> Result<(), Error> {
        match self.0 {
            #[cfg(feature = "control")]
            Some(control) => Ok(control.answer_all(shards, sockets)?),
            #[cfg(not(feature = "control"))]
            Some(never) => match (never, shards, sockets).0 {},
            None => Ok(()),
        }
    }

    /// As [`Asked::answer_all`], of a host of one shard with an application on it.
    pub(crate) fn answer<A: App>(self, shard: &mut Shard<A>) -> Result<(), Error> {
        match self.0 {
            #[cfg(feature = "control")]
            Some(control) => Ok(control.answer(shard)?),
            #[cfg(not(feature = "control"))]
            Some(never) => match (never, shard).0 {},
            None => Ok(()),
        }
    }
}
