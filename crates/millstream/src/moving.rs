//! Moving connections between the shards of a host, with std's face.
//!
//! What does not live here: the same for tasks (`tasks`), and how it is done (`engine`).

use std::io;

use engine::answered;

use crate::TcpStream;

impl TcpStream {
    /// The number of the shard that has the connection, from 0; 0 on a host of one. A connection begins where the hash of its flow
    /// says.
    pub fn shard(&self) -> usize {
        self.socket().shard()
    }

    /// Moves the connection to another shard of its host ([`Host::shards`](crate::Host::shards)) and waits until it is there: with all that
    /// is queued and in flight, its timers, its options and what is known of its path. This handle and its clones go on as before,
    /// and so does whoever reads, writes or watches it meanwhile; the peer notices nothing. What comes for it is steered to its new
    /// shard from then on.
    ///
    /// ```no_run
    /// # fn example(host: &millstream::Host, stream: &millstream::TcpStream) -> std::io::Result<()> {
    /// // To its neighbour.
    /// stream.move_to((stream.shard() + 1) % host.shards())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` when there is no such shard. `InProgress` while it is being connected, `NotConnected` when it is over. EBUSY while it is
    /// spliced or moved; EOPNOTSUPP when its peer is this host itself. ENOBUFS when the
    /// other shard has no room for it, or 16,384 connections have been moved and live: then it stays where it is. The host has
    /// stopped.
    pub fn move_to(&self, shard: usize) -> io::Result<()> {
        answered(self.socket().move_to(shard).wait())
    }
}
