//! The program `millstream`.
#![forbid(unsafe_code)]
#![allow(dead_code)]

mod check;
mod config;
mod failure;
mod http;
mod publish;
mod services;
mod units;
mod view;

fn main() {}
