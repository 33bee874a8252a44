// Random words and numbers by counter: Threefry4x32-20 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1,
// 2, 3", SC'11, written from the paper). No bindings; the words are the same on every device and for every workgroup size.

// x rotated left by 0 < n < 32 bits.
fn rotate_left(x: u32, n: u32) -> u32 { return (x << n) | (x >> (32u - n)); }

// Two rounds of Threefry4x32: mix (0,1) and (2,3), then (0,3) and (2,1).
fn threefry_rounds(v: vec4u, r: vec4u) -> vec4u {
  var x = v;
  x.x += x.y;
  x.y = rotate_left(x.y, r.x) ^ x.x;
  x.z += x.w;
  x.w = rotate_left(x.w, r.y) ^ x.z;
  x.x += x.w;
  x.w = rotate_left(x.w, r.z) ^ x.x;
  x.z += x.y;
  x.y = rotate_left(x.y, r.w) ^ x.z;
  return x;
}

// Threefry4x32-20. Counter: (block low, block high, step, draw); key: (seed low, seed high, stream low, stream high).
fn threefry(counter: vec4u, key: vec4u) -> vec4u {
  let parity = 0x1bd11bdau ^ key.x ^ key.y ^ key.z ^ key.w;
  var x = counter + key;
  x = threefry_rounds(x, vec4u(10u, 26u, 11u, 21u));
  x = threefry_rounds(x, vec4u(13u, 27u, 23u, 5u));
  x += vec4u(key.y, key.z, key.w, parity + 1u);
  x = threefry_rounds(x, vec4u(6u, 20u, 17u, 11u));
  x = threefry_rounds(x, vec4u(25u, 10u, 18u, 20u));
  x += vec4u(key.z, key.w, parity, key.x + 2u);
  x = threefry_rounds(x, vec4u(10u, 26u, 11u, 21u));
  x = threefry_rounds(x, vec4u(13u, 27u, 23u, 5u));
  x += vec4u(key.w, parity, key.x, key.y + 3u);
  x = threefry_rounds(x, vec4u(6u, 20u, 17u, 11u));
  x = threefry_rounds(x, vec4u(25u, 10u, 18u, 20u));
  x += vec4u(parity, key.x, key.y, key.z + 4u);
  x = threefry_rounds(x, vec4u(10u, 26u, 11u, 21u));
  x = threefry_rounds(x, vec4u(13u, 27u, 23u, 5u));
  x += vec4u(key.x, key.y, key.z, key.w + 5u);
  return x;
}

// Uniform number in [0, 1) from the upper 24 bits of a random word; exact.
fn unit_open_right(w: u32) -> f32 { return f32(i32(w >> 8u)) * 5.9604644775390625e-8; }

// Uniform number in (0, 1] from the upper 24 bits of a random word; exact.
fn unit_open_left(w: u32) -> f32 { return f32(i32(w >> 8u) + 1) * 5.9604644775390625e-8; }
