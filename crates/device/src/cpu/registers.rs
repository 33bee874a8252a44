//! Rows of lanes that belong to a thread.

use std::ops::{Deref, DerefMut};

use crate::raw::LINE;

/// A row of lanes that starts with a cache line: vectors that lie across two lines cost twice as much.
#[derive(Debug, Default)]
pub(super) struct Register {
    room: Vec<f32>,
    start: usize,
    lanes: usize,
}

impl Register {
    pub(super) fn new(lanes: usize) -> Register {
        let room = vec![0.0f32; lanes + LINE];
        let start = room.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Register { room, start, lanes }
    }
    /// Its first lanes, as many as it has.
    #[inline(always)]
    pub(super) fn first(&self, lanes: usize) -> &[f32] {
        &self.room[self.start..self.start + lanes.min(self.lanes)]
    }
}
impl Deref for Register {
    type Target = [f32];
    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &self.room[self.start..self.start + self.lanes]
    }
}
impl DerefMut for Register {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.room[self.start..self.start + self.lanes]
    }
}
