//! Traces through the whole of the net.
