//! How a graph becomes kernels: fusion, planning and WGSL emission.
