//! Many datagrams in one call, with what is said and known of each: ECN, the address it was sent to, when it came, and trains of
//! datagrams that cross as one (Linux's UDP_SEGMENT and UDP_GRO).
//!
//! `send_batch` and `recv_batch` are methods of all faces' `UdpSocket`. What they spare is crossings: a lock and a wake-up for many
//! datagrams, and for a train one frame to the device, if that cuts it ([`Transmit::segment`]).
//!
//! ```
//! use std::io::IoSliceMut;
//!
//! use millstream::datagram::{Ecn, RecvMeta, Transmit};
//!
//! # let host = millstream::Host::builder().start()?;
//! # let socket = host.udp_bind("127.0.0.1:7")?;
//! let client = host.udp_bind("127.0.0.1:0")?;
//! // Three datagrams as one train: of 100, 100 and 50 bytes.
//! let train = Transmit { segment: Some(100), ..Transmit::to(&[7; 250], socket.local_addr()?) };
//! client.send_batch(&[train])?;
//!
//! let mut memory = vec![[0; 64 * 1024]; 8];
//! let mut meta = [RecvMeta::default(); 8];
//! # let mut seen = 0;
//! # while seen < 250 {
//! let mut bufs: Vec<_> = memory.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
//! let n = socket.recv_batch(&mut bufs, &mut meta)?;
//! for (meta, buf) in meta[..n].iter().zip(&bufs) {
//!     for datagram in meta.datagrams(buf) {
//!         println!("{} bytes from {}", datagram.len(), meta.from);
//! #       seen += datagram.len();
//!     }
//!     // Back as it came: a train as a train, from the address it was sent to.
//!     let answer = Transmit {
//!         from: Some(meta.to),
//!         ecn: Some(Ecn::Ect0),
//!         segment: (meta.len > meta.stride).then_some(meta.stride as u16),
//!         ..Transmit::to(&buf[..meta.len], meta.from)
//!     };
//!     socket.send_batch(&[answer])?;
//! }
//! # }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! `examples/src/bin/quic.rs` puts quinn on them.
//!
//! # Without a copy
//!
//! `receive_packet` gives a datagram as it lies in packet memory, a [`Packet`], which any thread reads and gives back by dropping it.
//!
//! ```
//! use millstream::datagram::Packet;
//!
//! # let host = millstream::Host::builder().start()?;
//! # let socket = host.udp_bind("127.0.0.1:7")?;
//! # host.udp_bind("127.0.0.1:0")?.send_to(&[1, 2, 3], "127.0.0.1:7")?;
//! let packet: Packet = socket.receive_packet()?;
//! let sum: u64 = packet.slices().flatten().map(|byte| u64::from(*byte)).sum();
//! assert_eq!((sum, packet.len(), packet.meta().ttl), (6, 3, 64));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! An application on the shard itself asks its host: `Host::udp_recv_chain`.

#[doc(inline)]
pub use engine::{Ecn, Packet, RecvMeta, Transmit};
