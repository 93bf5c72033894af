use super::*;
use crate::rng::Rng;
use std::collections::HashMap;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Open,
    Closed,
}

/// Two cache lines, as a connection.
#[repr(align(64))]
struct Record {
    _bytes: [u8; 120],
    _state: State,
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Key>(), 8);
    assert_eq!(size_of::<Option<Record>>(), size_of::<Record>());
    assert_eq!(size_of::<Record>(), 128);
}

#[test]
fn agrees_with_a_map() {
    for seed in 0..20 {
        let mut rng = Rng::from_seed(seed);
        let capacity = 1 + rng.below(60);
        let mut slab = Slab::with_capacity(capacity);
        let mut model: HashMap<Key, (u64, State)> = HashMap::new();
        let mut live: Vec<Key> = Vec::new();
        let mut dead: Vec<Key> = Vec::new();
        for n in 0..5_000 {
            let some = (!live.is_empty()).then(|| rng.below(live.len() as u32) as usize);
            match (rng.below(6), some) {
                (0..3, _) => {
                    match slab.insert_with(|key| (n + u64::from(key.index), State::Open)) {
                        Some(key) => {
                            model.insert(key, (n + u64::from(key.index), State::Open));
                            live.push(key);
                            assert!(key.index < slab.high_water());
                        }
                        None => assert!(slab.is_full() && model.len() == capacity as usize),
                    }
                }
                (3..5, Some(place)) => {
                    let key = live.swap_remove(place);
                    let expected = model.remove(&key);
                    let removed = if n % 2 == 0 {
                        slab.remove(key)
                    } else {
                        slab.remove_at(key.index)
                    };
                    assert_eq!(removed, expected);
                    assert_eq!((slab.remove(key), slab.at(key.index)), (None, None));
                    dead.push(key);
                }
                (_, Some(place)) => {
                    let key = live[place];
                    slab.get_mut(key).unwrap().1 = State::Closed;
                    model.get_mut(&key).unwrap().1 = State::Closed;
                    slab.prefetch(key.index);
                    slab.at_mut(key.index).unwrap().0 += 1;
                    model.get_mut(&key).unwrap().0 += 1;
                    assert_eq!(slab.get(key), model.get(&key));
                    assert_eq!(slab.at(key.index), model.get(&key));
                    assert_eq!(slab.key_of(key.index), Some(key));
                }
                _ => assert!(slab.is_empty()),
            }
            assert_eq!(slab.len() as usize, model.len());
            if n % 100 == 0 {
                assert!(
                    dead.iter()
                        .all(|&key| slab.get(key).is_none() && slab.get_mut(key).is_none())
                );
                let all: HashMap<Key, (u64, State)> =
                    slab.iter().map(|(key, &record)| (key, record)).collect();
                assert_eq!(all, model);
            }
        }
        assert!(slab.high_water() <= capacity);
    }
}

#[test]
fn takes_the_slot_freed_last() {
    let mut slab = Slab::with_capacity(8);
    let keys: Vec<Key> = (0..8u32).map(|n| slab.insert(n).unwrap()).collect();
    assert_eq!(slab.insert(8), None);
    slab.remove(keys[2]);
    slab.remove(keys[5]);
    assert_eq!(slab.insert(9).map(|key| key.index), Some(5));
    assert_eq!(slab.insert(9).map(|key| key.index), Some(2));
}

#[test]
fn drops_what_it_holds() {
    let counted = Rc::new(());
    let mut slab = Slab::with_capacity(4);
    let keys: Vec<Key> = (0..4)
        .map(|_| slab.insert(Rc::clone(&counted)).unwrap())
        .collect();
    assert!(slab.insert(Rc::clone(&counted)).is_none());
    assert_eq!(Rc::strong_count(&counted), 5);
    drop(slab.remove(keys[0]));
    assert_eq!(Rc::strong_count(&counted), 4);
    drop(slab);
    assert_eq!(Rc::strong_count(&counted), 1);
}

#[test]
fn a_slab_of_nothing_is_full() {
    let mut slab = Slab::with_capacity(0);
    assert!(slab.is_full() && slab.insert(1).is_none());
    assert!(
        slab.get(Key {
            index: 0,
            generation: 0
        })
        .is_none()
            && slab.key_of(3).is_none()
    );
}
