//! The host: all protocols of one shard behind one sans-I/O face.

/// One host: its interfaces, addresses, routes, sockets and packet memory.
pub struct Host {}
