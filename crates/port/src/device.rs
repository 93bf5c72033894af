//! What an interface says of itself: number, MTU, hardware address, through the classic interface ioctls.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use wire::Mac;

use crate::PortError;

/// An `ifreq` with the name filled in.
pub(crate) fn request(name: &str) -> libc::ifreq {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    for (to, from) in ifr_name
        .iter_mut()
        .zip(name.bytes())
        .take(libc::IFNAMSIZ - 1)
    {
        *to = from as libc::c_char;
    }
    // The widest member, zeroed: every other one reads as zero.
    let ifr_ifru = libc::__c_anonymous_ifr_ifru {
        ifru_newname: [0; libc::IFNAMSIZ],
    };
    libc::ifreq { ifr_name, ifr_ifru }
}

/// The name in an `ifreq` the kernel filled in.
pub(crate) fn name_of(request: &libc::ifreq) -> String {
    request
        .ifr_name
        .iter()
        .take_while(|&&c| c != 0)
        .map(|&c| char::from(c as u8))
        .collect()
}

/// # Errors
/// When the kernel would refuse this as a name; one line.
pub(crate) fn check_name(name: &str) -> Result<(), PortError> {
    let fits = !name.is_empty() && name.len() < libc::IFNAMSIZ;
    if fits
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
        && name != "."
        && name != ".."
    {
        return Ok(());
    }
    Err(PortError::new(format!(
        "{name:?} cannot name an interface: use 1 to {} printable characters without '/', ':' and spaces",
        libc::IFNAMSIZ - 1
    )))
}

/// One interface, asked through a socket of the namespace the calling thread is in.
pub(crate) struct Interface {
    socket: OwnedFd,
    name: String,
}

impl Interface {
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        // Any family's socket will do; a kernel may lack one.
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
            .or_else(|_| {
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            })?;
        Ok(Self {
            socket,
            name: name.to_owned(),
        })
    }

    fn ioctl(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: the SIOCGIF* and SIOCSIF* requests read and write one ifreq, which `request` is; the descriptor is
        // open.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                number as _,
                std::ptr::from_mut(request),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    pub(crate) fn index(&self) -> io::Result<i32> {
        let mut r = request(&self.name);
        self.ioctl(libc::SIOCGIFINDEX as _, &mut r)?;
        // SAFETY: the kernel wrote ifru_ifindex; any bytes are a valid integer.
        Ok(unsafe { r.ifr_ifru.ifru_ifindex })
    }

    pub(crate) fn mtu(&self) -> io::Result<usize> {
        let mut r = request(&self.name);
        self.ioctl(libc::SIOCGIFMTU as _, &mut r)?;
        // SAFETY: the kernel wrote ifru_mtu; any bytes are a valid integer.
        Ok(unsafe { r.ifr_ifru.ifru_mtu }.max(0) as usize)
    }

    pub(crate) fn set_mtu(&self, mtu: usize) -> io::Result<()> {
        let mut r = request(&self.name);
        r.ifr_ifru.ifru_mtu = i32::try_from(mtu).unwrap_or(i32::MAX);
        self.ioctl(libc::SIOCSIFMTU as _, &mut r)
    }

    pub(crate) fn mac(&self) -> io::Result<Mac> {
        let mut r = request(&self.name);
        self.ioctl(libc::SIOCGIFHWADDR as _, &mut r)?;
        // SAFETY: the kernel wrote ifru_hwaddr; any bytes are a valid sockaddr.
        let address = unsafe { r.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        Ok(Mac(mac))
    }

    /// True if frames on it have Ethernet headers.
    pub(crate) fn is_ethernet(&self) -> io::Result<bool> {
        let mut r = request(&self.name);
        self.ioctl(libc::SIOCGIFHWADDR as _, &mut r)?;
        // SAFETY: the kernel wrote ifru_hwaddr; any bytes are a valid sockaddr.
        let kind = unsafe { r.ifr_ifru.ifru_hwaddr }.sa_family;
        Ok(kind == libc::ARPHRD_ETHER || kind == libc::ARPHRD_LOOPBACK)
    }
}
