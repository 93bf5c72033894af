//! Packet memory, tables, timers, rings, time and counters shared by every room.
