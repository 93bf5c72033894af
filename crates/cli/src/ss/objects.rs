//! What else than sockets there is: packet memory and who holds it, sets of sockets, completion queues.
//!
//! What does not live here: where it comes from (the crate `control`).

use std::io::{self, Write};

use control::words::census::{BufferGroup, Buffers, Objects, Queue, Set};

use crate::args;
use crate::check::report::Style;
use crate::units;

/// Writes what was asked for.
pub(super) fn write(
    out: &mut impl Write,
    objects: &Objects,
    args: &args::Ss,
    style: Style,
) -> io::Result<()> {
    let mut parts = Vec::new();
    if args.buffers {
        parts.push(buffers(objects));
    }
    if args.epoll {
        parts.push(sets(objects));
    }
    if args.completion {
        parts.push(queues(objects));
        parts.push(groups(objects));
    }
    for (at, (titles, rows, none)) in parts.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        match rows.is_empty() {
            true => writeln!(out, "{none}")?,
            false => table(out, titles, rows, args, style)?,
        }
    }
    Ok(())
}

/// Titles, rows, and what to say when there are none.
type Part = (Vec<&'static str>, Vec<Vec<String>>, &'static str);

fn count(n: impl Into<u64>) -> String {
    units::count(n.into())
}

/// Columns as wide as what is in them: numbers to the right, the first to the left.
fn table(
    out: &mut impl Write,
    titles: &[&str],
    rows: &[Vec<String>],
    args: &args::Ss,
    style: Style,
) -> io::Result<()> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or_default().max(titles[at].len())
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (at, cell) in cells.enumerate() {
            let width = widths[at];
            match at {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        text
    };
    if !args.no_header {
        let titles = line(&mut titles.iter().copied());
        writeln!(out, "{}", style.paint("1", &titles))?;
    }
    for row in rows {
        let text = line(&mut row.iter().map(String::as_str));
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// Blocks are counted where they are whole, bytes where that is what is known.
fn buffers(objects: &Objects) -> Part {
    let Buffers {
        block_bytes,
        blocks,
        in_use,
        high_water,
        lent_blocks,
        segments,
        tcp_segments,
        reassembly_blocks,
        frames,
        udp_bytes,
    } = objects.buffers;
    let bytes = |blocks: u32| units::bytes(u64::from(blocks) * u64::from(block_bytes));
    let blocks_of = |name: &str, n: u32| vec![name.to_owned(), count(n), bytes(n)];
    let memory = &objects.tcp_memory;
    let tcp = match memory.pressure {
        true => "  of TCP's queues, under pressure",
        false => "  of TCP's queues",
    };
    let rows = vec![
        blocks_of("blocks", blocks),
        blocks_of("in use", in_use),
        blocks_of("at most so far", high_water),
        blocks_of("lent to other threads", lent_blocks),
        vec!["segments".into(), count(segments), String::new()],
        vec![tcp.into(), count(tcp_segments), units::bytes(memory.bytes)],
        vec![
            "    which may have (tcp_mem)".into(),
            String::new(),
            units::bytes(memory.levels[2]),
        ],
        vec![
            "  of UDP's queues".into(),
            String::new(),
            units::bytes(udp_bytes),
        ],
        blocks_of("  of fragments", reassembly_blocks),
        vec![
            "  of frames for devices".into(),
            count(frames),
            String::new(),
        ],
    ];
    (vec!["Packet memory", "Number", "Bytes"], rows, "")
}

fn sets(objects: &Objects) -> Part {
    let row = |set: &Set| {
        vec![
            format!("{} {}", set.kind, set.number),
            count(set.watched),
            count(set.ready),
            count(set.waiters),
        ]
    };
    let rows = objects.sets.iter().map(row).collect();
    (
        vec!["Set", "Watched", "Ready", "Waiters"],
        rows,
        "No sets of sockets (Poll, epoll).",
    )
}

fn queues(objects: &Objects) -> Part {
    let row = |(at, queue): (usize, &Queue)| {
        vec![
            format!("queue {}", at + 1),
            count(queue.outstanding),
            count(queue.completions),
            count(queue.capacity),
            count(queue.waiters),
            format!("{}/{}", queue.working, queue.concurrency),
        ]
    };
    let rows = objects.queues.iter().enumerate().map(row).collect();
    (
        vec![
            "Completion queue",
            "Outstanding",
            "To take",
            "Capacity",
            "Waiters",
            "At work",
        ],
        rows,
        "No completion queues.",
    )
}

fn groups(objects: &Objects) -> Part {
    let row = |(at, group): (usize, &BufferGroup)| {
        vec![
            format!("group {}", at + 1),
            count(group.buffers),
            count(group.available),
            units::bytes(group.size_bytes),
        ]
    };
    let rows = objects.groups.iter().enumerate().map(row).collect();
    (
        vec!["Buffer group", "Buffers", "Available", "Size"],
        rows,
        "No groups of buffers.",
    )
}
