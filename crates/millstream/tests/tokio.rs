//! The sockets with tokio's face, between two hosts joined by memory.
