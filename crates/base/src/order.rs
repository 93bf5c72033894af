//! An order by sequence number over records of a slab, for lists that are too long to be walked: finding, putting in and taking
//! out look at some dozen of records at most, however many there are and in whichever order they come.
//!
//! It is a balanced tree (Adelson-Velsky and Landis) whose links are in the records.
//!
//! What does not live here: the records, and the lists through them. Who keeps an order only while it is worth it begins an
//! empty one and puts all records in; links of records that are in none mean nothing.
//!
//! Invariant: the numbers of an order differ, lie within 2^31 of each other, and do not change places while they are in it.
//! Invariant: of two branches of a record, one is at most one record deeper than the other.

#[cfg(test)]
mod tests;

use crate::{Seq, Slab};

const NIL: u32 = u32::MAX;

/// Where a record is in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    left: u32,
    right: u32,
    height: u8,
}

impl Links {
    /// Those of a record that is in no order.
    pub const APART: Self = Self {
        left: NIL,
        right: NIL,
        height: 1,
    };
}

/// A record that can be in an order.
pub trait Ordered {
    /// By what it is found.
    fn number(&self) -> Seq;
    /// Its links.
    fn links(&self) -> &Links;
    /// The same, to be changed.
    fn links_mut(&mut self) -> &mut Links;
}

/// An order over some records of one slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    root: u32,
}

impl Order {
    /// Of no records.
    pub const EMPTY: Self = Self { root: NIL };

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.root == NIL
    }

    /// Puts the record at `index` in, which is in no order.
    pub fn insert<T: Ordered>(&mut self, slab: &mut Slab<T>, index: u32) {
        let Some(record) = slab.at_mut(index) else {
            return;
        };
        *record.links_mut() = Links::APART;
        let number = record.number();
        self.root = Tree(slab).insert(self.root, index, number);
    }

    /// Takes the record at `index` out, if it is in.
    pub fn remove<T: Ordered>(&mut self, slab: &mut Slab<T>, index: u32) {
        if let Some(number) = slab.at(index).map(Ordered::number) {
            self.root = Tree(slab).remove(self.root, index, number);
        }
    }

    /// The last record whose number is not behind `at`.
    pub fn find<T: Ordered>(&self, slab: &Slab<T>, at: Seq) -> Option<u32> {
        let (mut found, mut index) = (None, self.root);
        while let Some(record) = slab.at(index) {
            if record.number().le(at) {
                found = Some(index);
                index = record.links().right;
            } else {
                index = record.links().left;
            }
        }
        found
    }

    /// How many records there are, if they are in order and in balance: for audits.
    pub fn check<T: Ordered>(&self, slab: &Slab<T>) -> Option<u32> {
        let mut last = None;
        check(slab, self.root, &mut last).map(|(count, _)| count)
    }
}

/// Records and height below `index`, if all is right; `last`: the number before.
fn check<T: Ordered>(slab: &Slab<T>, index: u32, last: &mut Option<Seq>) -> Option<(u32, u8)> {
    if index == NIL {
        return Some((0, 0));
    }
    let record = slab.at(index)?;
    let links = *record.links();
    let (left, left_height) = check(slab, links.left, last)?;
    if last.is_some_and(|last| last.ge(record.number())) {
        return None;
    }
    *last = Some(record.number());
    let (right, right_height) = check(slab, links.right, last)?;
    let height = left_height.max(right_height) + 1;
    let right_so = left_height.abs_diff(right_height) <= 1 && links.height == height;
    right_so.then_some((left + right + 1, height))
}

/// The records as a tree. Each call goes down one branch, which is at most 1.44 times as deep as the logarithm says.
struct Tree<'a, T>(&'a mut Slab<T>);

impl<T: Ordered> Tree<'_, T> {
    fn links(&self, index: u32) -> Links {
        match self.0.at(index) {
            Some(record) => *record.links(),
            None => Links {
                height: 0,
                ..Links::APART
            },
        }
    }

    fn change(&mut self, index: u32, change: impl FnOnce(&mut Links)) {
        if let Some(record) = self.0.at_mut(index) {
            change(record.links_mut());
        }
    }

    /// Whether `number` belongs to the left of the record at `index`; none: there is no record.
    fn is_left(&self, index: u32, number: Seq) -> Option<bool> {
        self.0.at(index).map(|record| number.lt(record.number()))
    }

    fn insert(&mut self, root: u32, index: u32, number: Seq) -> u32 {
        let links = self.links(root);
        match self.is_left(root, number) {
            None => return index,
            Some(true) => {
                let left = self.insert(links.left, index, number);
                self.change(root, |l| l.left = left);
            }
            Some(false) => {
                let right = self.insert(links.right, index, number);
                self.change(root, |l| l.right = right);
            }
        }
        self.balance(root)
    }

    fn remove(&mut self, root: u32, index: u32, number: Seq) -> u32 {
        let links = self.links(root);
        if root == index {
            if links.right == NIL {
                return links.left;
            }
            let (rest, least) = self.take_least(links.right);
            self.change(least, |l| (l.left, l.right) = (links.left, rest));
            return self.balance(least);
        }
        match self.is_left(root, number) {
            None => return NIL,
            Some(true) => {
                let left = self.remove(links.left, index, number);
                self.change(root, |l| l.left = left);
            }
            Some(false) => {
                let right = self.remove(links.right, index, number);
                self.change(root, |l| l.right = right);
            }
        }
        self.balance(root)
    }

    /// What is left below `root` without the least of it, and that.
    fn take_least(&mut self, root: u32) -> (u32, u32) {
        let links = self.links(root);
        if links.left == NIL {
            return (links.right, root);
        }
        let (rest, least) = self.take_least(links.left);
        self.change(root, |l| l.left = rest);
        (self.balance(root), least)
    }

    fn weigh(&mut self, index: u32) {
        let links = self.links(index);
        let deeper = self.links(links.left).height;
        let height = deeper.max(self.links(links.right).height) + 1;
        self.change(index, |l| l.height = height);
    }

    /// By how many records the left branch is deeper.
    fn lean(&self, index: u32) -> i16 {
        let links = self.links(index);
        i16::from(self.links(links.left).height) - i16::from(self.links(links.right).height)
    }

    /// Puts the branches of `root` in balance, which differ by two at most. Returns what stands in its place.
    fn balance(&mut self, root: u32) -> u32 {
        self.weigh(root);
        let links = self.links(root);
        match self.lean(root) {
            2.. => {
                if self.lean(links.left) < 0 {
                    let left = self.rotate_left(links.left);
                    self.change(root, |l| l.left = left);
                }
                self.rotate_right(root)
            }
            ..=-2 => {
                if self.lean(links.right) > 0 {
                    let right = self.rotate_right(links.right);
                    self.change(root, |l| l.right = right);
                }
                self.rotate_left(root)
            }
            _ => root,
        }
    }

    fn rotate_right(&mut self, root: u32) -> u32 {
        let top = self.links(root).left;
        let between = self.links(top).right;
        self.change(root, |l| l.left = between);
        self.change(top, |l| l.right = root);
        self.weigh(root);
        self.weigh(top);
        top
    }

    fn rotate_left(&mut self, root: u32) -> u32 {
        let top = self.links(root).right;
        let between = self.links(top).left;
        self.change(root, |l| l.right = between);
        self.change(top, |l| l.left = root);
        self.weigh(root);
        self.weigh(top);
        top
    }
}
