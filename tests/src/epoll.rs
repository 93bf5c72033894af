//! The words of epoll, in the types that its calls take.

/// EPOLL_CTL_ADD.
pub const ADD: i32 = libc::EPOLL_CTL_ADD;
/// EPOLL_CTL_MOD.
pub const MOD: i32 = libc::EPOLL_CTL_MOD;
/// EPOLL_CTL_DEL.
pub const DEL: i32 = libc::EPOLL_CTL_DEL;
/// EPOLLIN.
pub const IN: u32 = libc::EPOLLIN as u32;
/// EPOLLOUT.
pub const OUT: u32 = libc::EPOLLOUT as u32;
/// EPOLLPRI.
pub const PRI: u32 = libc::EPOLLPRI as u32;
/// EPOLLERR.
pub const ERR: u32 = libc::EPOLLERR as u32;
/// EPOLLHUP.
pub const HUP: u32 = libc::EPOLLHUP as u32;
/// EPOLLRDHUP.
pub const RDHUP: u32 = libc::EPOLLRDHUP as u32;
/// EPOLLET.
pub const ET: u32 = libc::EPOLLET as u32;
/// EPOLLONESHOT.
pub const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
/// EPOLLEXCLUSIVE.
pub const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
