//! What tools ask of a running host, however many shards it has and whatever runs on them.
//!
//! What does not live here: what a process has besides its hosts (`diagnosis`), and who asks.
//!
//! Invariant: between two turns a shard is asked for something short; who reads a long list reads it in pages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Tally;
use stack::{
    BufferInfo, Count, Drop, Host, ListPlace, SocketFilter, SocketPage, TcpMemory, TcpTables,
    TcpTunables,
};

use crate::app::App;
use crate::shard::Shard;
use crate::shards::Shards;
use crate::thread::ShardHandle;

/// Asks all shards of a host. Does not keep it running: answers are `None` once it has stopped.
#[derive(Debug)]
pub struct Inspector<C> {
    /// The leading one first.
    shards: Arc<[ShardHandle<C>]>,
    since: Instant,
}

impl<C> Clone for Inspector<C> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            since: self.since,
        }
    }
}

impl<C: Send + 'static> Inspector<C> {
    /// Of the host that these are all shards of, the leading one first.
    pub fn new(shards: Vec<ShardHandle<C>>) -> Self {
        Self {
            shards: shards.into(),
            since: Instant::now(),
        }
    }

    /// Of a host of one shard.
    pub fn of<A: App<Command = C>>(shard: &Shard<A>) -> Self {
        Self::new(vec![shard.handle()])
    }

    /// Of a host of any number of shards.
    pub fn of_all<A: App<Command = C>>(shards: &Shards<A>) -> Self {
        Self::new(shards.handles())
    }

    /// The shards, the leading one first.
    pub fn shards(&self) -> &[ShardHandle<C>] {
        &self.shards
    }

    /// Does something with the stack of every shard; what came of it, the leading one's first.
    async fn each<T: Send + 'static>(
        &self,
        call: impl Fn(&mut Host, base::Instant) -> T + Clone + Send + 'static,
    ) -> Option<Vec<T>> {
        let shards = self.shards.iter();
        let replies: Vec<_> = shards.map(|shard| shard.call(call.clone())).collect();
        let mut all = Vec::with_capacity(replies.len());
        for reply in replies {
            all.push(reply.await?);
        }
        Some(all)
    }

    /// A part of the list of all sockets: looks at `look_at` records from `place` on. The list goes on at the page's `next`.
    pub async fn list(
        &self,
        filter: SocketFilter,
        place: ListPlace,
        look_at: u32,
    ) -> Option<SocketPage> {
        let shards = &self.shards;
        let Some(shard) = shards.get(place.shard()) else {
            return Some(SocketPage::default()); // no place of this list
        };
        let page = move |host: &mut Host, now| host.list(now, &filter, place, look_at);
        let mut page = shard.call(page).await?;
        if shards.len() > 1 {
            page.total = self.each(|host, _| host.sockets()).await?.iter().sum();
            let next = place.shard() + 1;
            let more = (next < shards.len()).then(|| ListPlace::beginning(next));
            page.next = page.next.or(more);
        }
        Some(page)
    }

    /// For how long the host has run, what it dropped and what else happened.
    pub async fn counters(&self) -> Option<(Duration, Tally<Drop>, Tally<Count>)> {
        let counters = |host: &mut Host, _| {
            let stats = host.stats();
            (stats.drops.clone(), stats.counts.clone())
        };
        let (mut drops, mut counts) = (Tally::new(), Tally::new());
        for (some, others) in self.each(counters).await? {
            drops.merge(&some);
            counts.merge(&others);
        }
        Some((self.since.elapsed(), drops, counts))
    }

    /// The packet memory that TCP holds, and may, in bytes.
    pub async fn tcp_memory(&self) -> Option<TcpMemory> {
        let all = self.each(|host, _| host.tcp_memory()).await?;
        all.into_iter().reduce(|sum, more| sum.plus(&more))
    }

    /// Packet memory, and who holds it.
    pub async fn buffers(&self) -> Option<BufferInfo> {
        let all = self.each(|host, _| host.buffers()).await?;
        all.into_iter().reduce(|sum, more| sum.plus(&more))
    }

    /// How full TCP's tables are.
    pub async fn tcp_tables(&self) -> Option<TcpTables> {
        let all = self.each(|host, _| host.tcp_tables()).await?;
        all.into_iter().reduce(|sum, more| sum.plus(&more))
    }

    /// How TCP is tuned.
    pub async fn tcp_tunables(&self) -> Option<TcpTunables> {
        let lead = self.shards.first()?;
        lead.call(|host, _| host.tcp_tunables()).await
    }

    /// Tunes TCP for what begins from now on, by the names of Linux's `net.ipv4.tcp_*`.
    ///
    /// # Errors
    /// The reason, and nothing has changed.
    pub async fn tune_tcp(&self, name: &str, value: &str) -> Option<Result<(), String>> {
        let (name, value) = (name.to_owned(), value.to_owned());
        let tune = move |host: &mut Host, _| {
            let mut tunables = host.tcp_tunables();
            let set = tunables.set_text(&name, &value);
            let set = set.map_err(|error| error.to_string());
            set.and_then(|()| {
                let taken = host.set_tcp_tunables(tunables);
                taken.map_err(|error| error.to_string())
            })
        };
        // They are tuned alike, so one says what all do.
        Some(self.each(tune).await?.into_iter().collect())
    }
}
