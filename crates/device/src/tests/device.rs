use crate::{Choice, Device, Fault, FaultPlan, Kind, Options};
use cotangent_shaders::Target;
use cotangent_tensor::Code;

#[test]
fn software_adapter_is_there_and_the_probe_has_asked_it() {
    let device = Device::software().expect("a software adapter is installed for tests");
    let info = device.info();
    println!("{info}\n{}", device.why());
    assert_eq!(info.kind, Kind::Software, "{info}");
    assert!(info.target.cpu, "{info}");
    assert!(info.probe.barrier_holds, "{info}");
    assert!(info.probe.nearest, "{info}");
    assert!(info.probe.third > 0.333 && info.probe.third < 0.334, "{info}");
    if device.name() == "vulkan llvmpipe" {
        assert_eq!(device.slug(), "vulkan_llvmpipe");
        assert_eq!(info.probe.loop_budget, Some(65_535), "{info}");
        assert_eq!(info.target.loop_budget, 65_535, "{info}");
        assert_eq!(info.probe.nan_passes, [false; 3], "{info}");
        assert!(info.probe.reassociates && !info.probe.fma_fused && info.probe.denormals, "{info}");
    }
}
