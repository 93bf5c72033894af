//! Echo requests of the kernel's, answered by the host.

use interop::kernel::Pinger;
use interop::{Cable, Family, Pattern, Setup};
use netns::in_private;

#[test]
fn echo_of_any_size_comes_back() {
    in_private!(|| {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            for family in Family::BOTH {
                let mut pinger = Pinger::new(family);
                for size in [0, 1, 56, 1472, 1473, 2000, 9000, 65_507] {
                    pinger.ping(family.host(), &Pattern(size as u64).bytes(size));
                }
            }
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}
