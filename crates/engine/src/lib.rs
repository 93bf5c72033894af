//! Shards: the turn of receive, process, timers, transmit and sleep.
