//! The link's features where scripts change them: of `tun0` in the namespace, which stands for the host's link.
//!
//! What does not live here: what becomes of a change (`stage`), sysctls (`sysctl`).

use libc::{c_char, c_int, c_ulong, c_void};

const NAME: &[u8] = b"tun0";
/// `ETHTOOL_GFEATURES`, which libc does not name.
const ETHTOOL_GFEATURES: u32 = 0x3a;
/// Where the kernel keeps "tx-tcp-segmentation" among the features.
const TSO: u32 = 1 << 16;
const SIOCETHTOOL: c_ulong = 0x8946;

/// What `ip link` and `ethtool` can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) mtu: usize,
    /// Segmentation is asked of the device; a TUN nobody has opened never has it.
    pub(crate) tso: bool,
}

/// `struct ethtool_gfeatures` with two blocks, of what is available, wanted, active and never changed.
#[repr(C)]
struct Features {
    command: u32,
    blocks: u32,
    sets: [[u32; 4]; 2],
}

/// `struct ifreq`, with what is asked here.
#[repr(C)]
struct Request {
    name: [c_char; libc::IFNAMSIZ],
    answer: Answer,
}

#[repr(C)]
union Answer {
    number: c_int,
    at: *mut c_void,
    /// As long as the kernel's.
    _room: [u64; 3],
}

fn request(answer: Answer) -> Request {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(NAME) {
        *to = *from as c_char;
    }
    Request { name, answer }
}

/// The link as it is now; `None` when there is none.
pub(crate) fn link() -> Option<Link> {
    // SAFETY: a socket that is closed below.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return None;
    }
    let found = ask(fd);
    // SAFETY: our own descriptor; by its number in the kernel, for `close` may be this object's own.
    unsafe { libc::syscall(libc::SYS_close, fd) };
    found
}

fn ask(fd: c_int) -> Option<Link> {
    let mut mtu = request(Answer { number: 0 });
    // SAFETY: a request of the kernel's layout.
    if unsafe { libc::ioctl(fd, libc::SIOCGIFMTU, &raw mut mtu) } < 0 {
        return None;
    }
    let mut features = Features {
        command: ETHTOOL_GFEATURES,
        blocks: 2,
        sets: [[0, TSO, 0, 0], [0; 4]],
    };
    let at = (&raw mut features).cast();
    let mut ask = request(Answer { at });
    // SAFETY: as above; it points at features that outlive the call. One that fails leaves them as they are.
    unsafe { libc::ioctl(fd, SIOCETHTOOL, &raw mut ask) };
    let [[_, wanted, ..], _] = features.sets;
    // SAFETY: the kernel has filled it.
    let mtu = unsafe { mtu.answer.number };
    Some(Link {
        mtu: usize::try_from(mtu).ok()?,
        tso: wanted & TSO != 0,
    })
}
