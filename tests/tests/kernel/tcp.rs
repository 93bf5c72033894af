//! TCP, the ordinary way.

use interop::{Cable, Family, Pattern, Plan, Setup, Streams, all_ended, kernel};
use netns::in_private;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_kernel_connects_and_is_echoed() {
    in_private!(LIMIT, || {
        for cable in Cable::all() {
            let machine = Setup::on(cable).start();
            let listener = machine.listen(7, 16);
            let (app, ended) = Streams::serve(listener, Plan::Echo);
            machine.run(app);
            for family in Family::BOTH {
                let large = if cable.offloads() { 64 << 20 } else { 8 << 20 };
                for total in [0, 1, 536, 1460, 1461, 100_000, large] {
                    let socket = kernel::connect(family.host_port(7));
                    kernel::echo(&socket, Pattern(total), total);
                    all_ended(&ended, 1);
                }
            }
            machine.drain();
            let host = machine.stop();
            assert_eq!(host.pool().in_use(), 0, "blocks are left over");
        }
    });
}
