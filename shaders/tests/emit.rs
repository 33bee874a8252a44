//! What kernels become: valid WGSL on every backend, one text per structure, grids within the limits.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod emitter;

use cotangent_shaders::{Access, Code, Dispatch, Kernel, Level, Schedule, Target, Watch, Which, cost, lower};
use cotangent_tensor::{DType, Elementwise, Integer, Reduce};
use emitter::{Builder, accept, at, column_sum, cross_entropy, linear, map, scan, sigmoid_l1, targets};

/// Kernels of every body and schedule, aligned and not, short and long.
fn kernels() -> Vec<Kernel> {
    let mut all = Vec::new();
    for n in [1, 5, 1000, 1001, 1 << 20, (1 << 20) + 1] {
        all.push(sigmoid_l1(n, ["p", "y"]));
        all.push(map(Elementwise::Tanh, n));
    }
    for (rows, classes) in [(3, 10), (256, 10), (64, 16), (7, 1000), (7, 1001), (4096, 8192), (2, 100_000)] {
        all.push(cross_entropy(rows, classes));
    }
    for (rows, columns) in [(256, 512), (256, 10), (100_001, 7), (100_000, 8), (3, 3)] {
        all.push(column_sum(rows, columns));
    }
    for shape in
        [[1, 1, 1], [64, 64, 64], [33, 30, 20], [256, 10, 512], [2048, 2048, 64], [5, 7, 100_003], [3, 5, 0]]
    {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            all.push(linear(shape, transposed));
        }
    }
    all.extend([scan(100, 3), scan(100_000, 1)]);
    all
}

fn lowered(kernel: &Kernel, target: &Target, name: &str) -> Vec<Dispatch> {
    lower(kernel, target, 1, None).unwrap_or_else(|e| panic!("{name}: {e}\n{kernel}"))
}

/// As [`lowered`], but a kernel with more buffers than the target grants has to say so, and gives nothing.
fn lowered_if_it_fits(kernel: &Kernel, target: &Target, name: &str) -> Vec<Dispatch> {
    let checks = match &kernel.body {
        cotangent_shaders::Body::Loop(l) => l.code.iter().any(|i| matches!(i.code, Code::Pick { .. })),
        cotangent_shaders::Body::Matmul(_)
        | cotangent_shaders::Body::Scan(_)
        | cotangent_shaders::Body::User(_) => false,
    };
    let buffers = kernel.bindings.len() + usize::from(checks);
    if buffers <= target.max_storage_buffers as usize {
        return lowered(kernel, target, name);
    }
    let error = lower(kernel, target, 1, None).expect_err("too many buffers").to_string();
    assert!(error.contains(&format!("binds {buffers} storage buffers")), "{error}");
    Vec::new()
}

#[test]
fn every_kernel_is_accepted_by_every_backend() {
    let mut seen = std::collections::HashSet::new();
    for (name, target) in targets() {
        for kernel in kernels() {
            for dispatch in lowered_if_it_fits(&kernel, &target, name) {
                if seen.insert(dispatch.wgsl.clone()) {
                    accept(&dispatch);
                }
            }
        }
    }
    assert!(seen.len() > 60, "only {} distinct shaders", seen.len());
}

#[test]
fn kernels_that_look_at_what_they_write_are_accepted_by_every_backend() {
    let mut seen = std::collections::HashSet::new();
    for (_, target) in targets() {
        for kernel in kernels() {
            for watch in [Watch::NotFinite, Watch::Nan, Watch::Infinite] {
                // One buffer more than without may be too many.
                for dispatch in lower(&kernel, &target, 1, Some(watch)).unwrap_or_default() {
                    if dispatch.wgsl.contains("note_watched();") && seen.insert(dispatch.wgsl.clone()) {
                        assert_eq!(dispatch.parameters[4], 1, "the number of the kernel");
                        accept(&dispatch);
                    }
                }
            }
        }
    }
    assert!(seen.len() > 150, "only {} distinct shaders", seen.len());
}

#[test]
fn every_row_of_the_table_is_accepted() {
    for &row in Elementwise::ALL {
        lowered(&map(row, 64), &Target::web(), row.name()).iter().for_each(accept);
    }
}

#[test]
fn every_row_of_the_integer_table_is_accepted() {
    for dtype in [DType::I32, DType::U32] {
        for &row in Integer::ALL {
            let mut b = Builder::new("integer", Schedule::Map, &[64], &[]);
            let mut operands = Vec::new();
            for index in 0..row.arity() {
                let condition = row == Integer::Select && index == 0;
                operands.push(b.load(if condition { DType::Bool } else { dtype }, at(0, &[1]), ""));
            }
            let result = if row.is_test() { DType::Bool } else { dtype };
            let y = b.push(Code::Integer(row, dtype, operands), result, Level::Kept, "");
            b.store(result, at(0, &[1]), y);
            lowered(&b.kernel(), &Target::web(), row.name()).iter().for_each(accept);
        }
    }
}

#[test]
fn every_cast_and_reduction_is_accepted() {
    for &from in DType::ALL {
        for &to in DType::ALL {
            let mut b = Builder::new("cast", Schedule::Map, &[63], &[]);
            let x = b.load(from, at(1, &[1]), "");
            let y = b.push(Code::Cast(x), to, Level::Kept, "");
            b.store(to, at(1, &[1]), y);
            lowered(&b.kernel(), &Target::web(), "cast").iter().for_each(accept);
        }
        for (schedule, kept) in [(Schedule::Row, 1000), (Schedule::Total, 1), (Schedule::Column, 1)] {
            let mut b = Builder::new("reduce", schedule, &[12], &[40_000]);
            let x = b.load(from, at(0, &[kept, 12]), "");
            for &kind in Reduce::ALL {
                let y = b.reduce(kind, x, "");
                b.store(from, at(0, &[1, 0]), y);
            }
            let position = b.push(Code::ArgReduce { maximum: true, value: x }, DType::I32, Level::Kept, "");
            b.store(DType::I32, at(0, &[1, 0]), position);
            lowered(&b.kernel(), &Target::web(), "reduce").iter().for_each(accept);
        }
    }
}

#[test]
fn the_same_structure_at_another_size_is_the_same_text() {
    let target = Target { cpu: true, subgroups: Some((8, 8)), ..Target::web() };
    let pairs = [
        (sigmoid_l1(1 << 20, ["p", "y"]), sigmoid_l1(3 << 20, ["p", "y"])),
        (sigmoid_l1(100_001, ["p", "y"]), sigmoid_l1(100_003, ["p", "y"])),
        (cross_entropy(10, 1000), cross_entropy(77, 2000)),
        (column_sum(256, 512), column_sum(300, 1024)),
        (linear([64, 128, 64], [false, true]), linear([512, 256, 64], [false, true])),
        (linear([512, 256, 128], [false, true]), linear([1024, 512, 512], [false, true])),
        (map(Elementwise::Exp, 4096), map(Elementwise::Exp, 1 << 20)),
        (scan(1000, 3), scan(2000, 5)),
    ];
    for (small, large) in &pairs {
        let texts =
            |k: &Kernel| lowered(k, &target, "cpu").iter().map(|d| d.wgsl.clone()).collect::<Vec<_>>();
        assert_eq!(texts(small), texts(large), "\n{small}\n{large}");
        let words =
            |k: &Kernel| lowered(k, &target, "cpu").iter().map(|d| d.parameters.clone()).collect::<Vec<_>>();
        assert_ne!(words(small), words(large), "sizes travel in the parameters");
    }
}

#[test]
fn numbered_labels_share_a_pipeline() {
    let target = Target::web();
    let texts = |labels| lowered(&sigmoid_l1(4096, labels), &target, "web")[0].wgsl.clone();
    assert_eq!(texts(["p1", "y1"]), texts(["p2", "y2"]));
    assert_ne!(texts(["p", "y"]), texts(["prediction", "y"]), "names come from labels");
}

#[test]
fn constants_are_no_part_of_the_structure() {
    let scaled = |factor: f32| {
        let mut b = Builder::new("scale", Schedule::Map, &[64], &[]);
        let x = b.load(DType::F32, at(0, &[1]), "x");
        let c = b.constant(factor);
        let y = b.apply(Elementwise::Mul, &[x, c], "y");
        b.store(DType::F32, at(0, &[1]), y);
        lowered(&b.kernel(), &Target::web(), "web").remove(0)
    };
    let plain = scaled(0.3);
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 4.0, 1e30] {
        let other = scaled(special);
        assert_eq!(plain.wgsl, other.wgsl);
        assert!(other.parameters.contains(&special.to_bits()), "{special} travels in the parameters");
    }
}

/// Labels that mean something to WGSL, to the library, or that generated text uses for itself: every identifier of every
/// shader of this file, and some that are none.
#[test]
fn no_label_clashes_with_anything() {
    let mut labels: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    for (_, target) in targets() {
        let samples = [
            sigmoid_l1(1 << 20, ["p", "y"]),
            cross_entropy(64, 1000),
            column_sum(100_000, 8),
            linear([64, 64, 64], [false, true]),
            linear([2048, 2048, 64], [true, false]),
            linear([33, 30, 20], [false, false]),
        ];
        for dispatch in samples.iter().flat_map(|k| lower(k, &target, 0, None).unwrap_or_default()) {
            let words = dispatch.wgsl.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            labels.extend(words.filter(|w| !w.is_empty()).map(str::to_owned));
        }
    }
    labels.extend(["", "größe", "a b", "__x", "_", "1st", "active", "kept0_rest", "x_0"].map(str::to_owned));
    assert!(labels.len() > 300, "only {} labels", labels.len());
    let cpu = Target { cpu: true, subgroups: Some((8, 8)), ..Target::web() };
    for label in &labels {
        for target in [&cpu, &Target::web()] {
            for kernel in [emitter::labeled_row(label), emitter::labeled_product(label)] {
                for dispatch in lowered(&kernel, target, label) {
                    let text = &*dispatch.wgsl;
                    let parsed = naga::front::wgsl::parse_str(text);
                    let module =
                        parsed.unwrap_or_else(|e| panic!("label {label:?}: {}", e.emit_to_string(text)));
                    let all = naga::valid::ValidationFlags::all();
                    let capabilities =
                        naga::valid::Capabilities::default() | naga::valid::Capabilities::SUBGROUP;
                    let mut validator = naga::valid::Validator::new(all, capabilities);
                    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
                    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
                    validator
                        .validate(&module)
                        .unwrap_or_else(|e| panic!("label {label:?}: {}", e.emit_to_string(text)));
                }
            }
        }
    }
}

#[test]
fn grids_stay_within_the_limits_and_cover_everything() {
    let mut split = 0;
    for (name, target) in targets() {
        for kernel in kernels() {
            let dispatches = lowered_if_it_fits(&kernel, &target, name);
            for dispatch in &dispatches {
                let [x, y, z] = dispatch.workgroups;
                assert!(
                    [x, y, z].iter().all(|&w| w >= 1 && w <= target.max_workgroups),
                    "{name}: {x} {y} {z}"
                );
                assert!(dispatch.buffers.len() <= target.max_storage_buffers as usize);
                let [zero, first, width, end] = dispatch.parameters[..4] else { panic!("a parameter block") };
                assert_eq!((zero, width), (0, x), "the zero of the float barrier, and the row of the grid");
                assert!(first + x * y >= end, "{name}: groups {first}..{end} in a grid of {x} × {y}");
                assert_eq!(dispatch.parameters.len() % 4, 0);
            }
            // Parts of one grid follow each other without a gap.
            for pair in dispatches.windows(2).filter(|p| p[0].wgsl == p[1].wgsl && p[1].parameters[1] > 0) {
                assert_eq!(pair[0].parameters[3], pair[1].parameters[1]);
                split += 1;
            }
        }
    }
    assert!(split > 0, "no grid had to be split");
}

#[test]
fn too_many_buffers_are_an_error() {
    let target = Target { max_storage_buffers: 3, ..Target::web() };
    let error = lower(&sigmoid_l1(100_000, ["p", "y"]), &target, 0, None).unwrap_err().to_string();
    let first = error.lines().next().unwrap();
    assert_eq!(first, "error[E_LIMIT]: sigmoid_l1: the kernel binds 4 storage buffers, the adapter grants 3");
}

#[test]
fn partial_results_beyond_a_binding_are_an_error() {
    let target = Target { max_binding: 64, ..Target::web() };
    let error = lower(&sigmoid_l1(1 << 24, ["p", "y"]), &target, 0, None).unwrap_err().to_string();
    assert!(error.starts_with("error[E_LIMIT]: sigmoid_l1: partial results need"), "{error}");
}

#[test]
fn several_sweeps_over_a_row_beyond_the_loop_budget_are_an_error() {
    let target = Target { loop_budget: 100, ..Target::web() };
    let error = lower(&cross_entropy(2, 1 << 20), &target, 0, None).unwrap_err().to_string();
    assert!(error.starts_with("error[E_LOOP_BUDGET]: cross_entropy: one invocation would need"), "{error}");
}

#[test]
fn the_status_is_bound_only_where_an_index_is_checked() {
    let has_status = |k: &Kernel| {
        lowered(k, &Target::web(), "").iter().any(|d| d.buffers.iter().any(|b| b.which == Which::Status))
    };
    assert!(has_status(&cross_entropy(4, 1000)));
    assert!(!has_status(&sigmoid_l1(1000, ["p", "y"])));
}

#[test]
fn what_is_only_read_is_declared_so() {
    for kernel in kernels() {
        for dispatch in lowered(&kernel, &Target::web(), "") {
            for buffer in &dispatch.buffers {
                if let Which::Kernel(binding) = buffer.which {
                    let may_write = kernel.bindings[binding].access != Access::Read;
                    assert!(may_write || !buffer.writable, "{}: binding {binding}", kernel.name);
                }
            }
        }
    }
}

#[test]
fn cost_counts_each_element_once() {
    let n = 1 << 20;
    let c = cost(&sigmoid_l1(n, ["p", "y"]));
    assert_eq!(c.bytes, 12.0 * n as f64 + 4.0);
    assert_eq!(
        cost(&linear([64, 32, 16], [false, true])).bytes,
        4.0 * (64 * 16 + 16 * 32 + 32 + 64 * 32) as f64
    );
}

#[test]
fn emitted_text_reads_well() {
    let cpu = Target { cpu: true, subgroups: Some((8, 8)), ..Target::web() };
    let text = |kernel: Kernel, target: &Target| {
        let all: Vec<String> = lowered(&kernel, target, "").iter().map(|d| d.wgsl.to_string()).collect();
        all.join("\n// ---- next dispatch\n\n")
    };
    insta::assert_snapshot!("sigmoid_l1", text(sigmoid_l1(1 << 20, ["prediction", "target"]), &cpu));
    insta::assert_snapshot!("cross_entropy_cpu", text(cross_entropy(64, 1000), &cpu));
    insta::assert_snapshot!("cross_entropy_web", text(cross_entropy(64, 1000), &Target::web()));
    insta::assert_snapshot!("column_sum", text(column_sum(256, 512), &Target::web()));
    insta::assert_snapshot!("linear_small", text(linear([2, 8, 16], [false, false]), &cpu));
    insta::assert_snapshot!("linear_tile", text(linear([64, 64, 64], [false, true]), &Target::web()));
    insta::assert_snapshot!("unaligned_map", text(map(Elementwise::Sigmoid, 1001), &cpu));
}
