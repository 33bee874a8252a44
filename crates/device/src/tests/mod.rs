//! Tests with plans and shaders written by hand: what the device does, apart from what planner and emitter do.

mod device;
mod fixture;
mod run;
