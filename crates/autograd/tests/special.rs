//! Derivatives of the normal law and of Bessel functions where their textbook forms cancel, against mpmath at 40 digits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::excessive_precision, reason = "the digits of mpmath are kept as printed")]

use cotangent_autograd::grad;
use cotangent_tensor::{Elementwise, Evaluate, Real, Reference, Tensor};

/// An argument and the first three derivatives there.
type Known = (f64, [f64; 3]);

const LOG_NDTR: [Known; 6] = [
    (-10_000.0, [10_000.000_099_999_998, -0.999_999_990_000_000_6, 1.999_999_759_998_942_8e-12]),
    (-40.0, [40.024_968_847_207_264, -0.999_377_331_621_408_6, 3.101_744_039_648_624_8e-5]),
    (-16.5, [16.560_168_798_984_088, -0.996_405_467_608_647_3, 0.000_426_457_132_974_031_57]),
    (-15.5, [15.563_989_900_265_256, -0.995_938_161_447_425_7, 0.000_511_569_412_608_73]),
    (-3.0, [3.283_098_654_930_436_5, -0.929_440_813_214_731_9, 0.031_470_672_830_842_49]),
    (2.0, [0.055_247_862_678_989_96, -0.113_548_051_688_576_45, 0.184_394_815_032_477_6]),
];
const I0E: [Known; 7] = [
    (-1e6, [1.994_712_150_024_640_4e-10, 2.992_068_973_055_138_9e-16, 7.480_174_302_684_695_5e-22]),
    (-51.0, [0.000_551_780_651_013_288_4, 1.631_083_857_889_521e-5, 8.036_325_326_516_972e-7]),
    (49.0, [-0.000_586_086_933_974_313_9, 1.803_590_550_748_699_7e-5, -9.250_969_148_113_92e-7]),
    (0.11, [-0.849_200_646_380_780_1, 1.249_806_408_902_270_2, -2.063_348_078_369_998]),
    (-0.09, [0.874_614_274_671_463_3, 1.291_800_122_864_704_2, 2.136_460_487_007_392]),
    (1e-3, [-0.998_501_249_271_161_3, 1.497_502_186_188_101_3, -2.495_628_935_094_867]),
    (5.0, [-0.019_568_545_664_785_996, 0.006_342_637_940_663_521, -0.003_481_203_658_720_852_6]),
];
const I1E: [Known; 7] = [
    (-1e6, [-1.994_709_157_955_667_4e-10, -2.992_061_492_880_836e-16, -7.480_148_122_068_091e-22]),
    (-51.0, [-0.000_535_469_812_434_393_2, -1.550_720_604_624_351_3e-5, -7.481_967_868_879_295e-7]),
    (49.0, [-0.000_568_051_028_466_826_9, 1.711_080_859_267_560_6e-5, -8.586_630_197_396_45e-7]),
    (0.11, [0.400_605_762_521_490_2, -0.813_541_669_467_727_8, 1.527_095_265_630_389]),
    (-0.09, [0.417_185_848_193_240_9, 0.844_660_364_142_687_7, 1.585_136_561_436_888_8]),
    (1e-3, [0.499_000_936_916_94, -0.998_126_748_906_765_4, 1.871_503_279_188_477_2]),
    (5.0, [-0.013_225_907_724_122_475, 0.002_861_434_281_942_668_4, -0.000_772_712_086_710_156_9]),
];

/// Digits that an order may lose: every derivative of these functions is about `1/x` of the one before, and is formed of
/// terms that are not, where no series takes over; 64 is more than any of the factors `x` there, and the meanings are right
/// to 256 units of f64.
fn allowed(order: usize) -> f64 {
    256.0 * f64::EPSILON * 64f64.powi(order as i32)
}

#[test]
fn three_orders_are_right_where_textbook_forms_cancel() {
    let mut compared = 0;
    let tables: [(Elementwise, &[Known]); 3] =
        [(Elementwise::LogNdtr, &LOG_NDTR), (Elementwise::I0e, &I0E), (Elementwise::I1e, &I1E)];
    for (row, known) in tables {
        let x = Tensor::new(known.iter().map(|(at, _)| *at).collect::<Vec<f64>>());
        let mut y = Tensor::apply(row, &[&x]);
        for order in 0..3 {
            y = grad(&y.sum(..), &x).unwrap().or_error().unwrap();
            let values = Reference::new().evaluate(&[&y]).unwrap()[0].to_f64();
            for (value, (at, exact)) in values.into_iter().zip(known) {
                let error = ((value - exact[order]) / exact[order]).abs();
                assert!(error <= allowed(order), "{} order {} at {at}: {error:e}", row.name(), order + 1);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * 20);
}
