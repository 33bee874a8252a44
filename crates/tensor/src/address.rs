//! Maps by address: passes over graphs of a million nodes spend their time looking nodes up.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map from addresses.
pub type AddressMap<T, V> = HashMap<*const T, V, BuildHasherDefault<AddressHasher>>;
/// A set of addresses.
pub type AddressSet<T> = HashSet<*const T, BuildHasherDefault<AddressHasher>>;

/// One multiplication (Fibonacci hashing): addresses of nodes are distinct already, and nobody chooses them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The upper bits are the well mixed ones; tables look at both ends.
        self.0.rotate_left(32)
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(usize::from(byte)));
    }
    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0.rotate_left(5) ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
