use super::*;

#[test]
fn smoke() {
    let mut pool = Pool::new(16).unwrap();
    let mut chain = Chain::EMPTY;
    let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    assert_eq!(pool.append_bytes(&mut chain, &data), 5000);
    let front = pool.split_front(&mut chain, 1000).unwrap();
    let again = pool.share(&chain, 1000, 3000).unwrap();
    let mut out = vec![0; 3000];
    assert_eq!(pool.copy_out(&again, 0, &mut out), 3000);
    assert_eq!(out, data[2000..5000]);
    for chain in [chain, front, again] {
        pool.free(chain);
    }
    assert_eq!(
        (pool.in_use(), pool.segments_in_use(), pool.high_water()),
        (0, 0, 3)
    );
}
