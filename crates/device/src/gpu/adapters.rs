//! Which adapters there are, and what is asked of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cotangent_shaders::Target;

/// An adapter that wgpu has found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) adapter: wgpu::Adapter,
    pub(crate) info: wgpu::AdapterInfo,
}

/// Every adapter, hardware before software, discrete before integrated.
pub(crate) fn enumerate() -> Vec<Found> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.backends = backends;
    descriptor.flags = wgpu::InstanceFlags::empty();
    // A broken driver can panic here; then there is no adapter.
    let adapters = catch_unwind(AssertUnwindSafe(|| {
        pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends))
    }));
    let mut found: Vec<Found> = adapters
        .unwrap_or_default()
        .into_iter()
        .map(|adapter| Found { info: adapter.get_info(), adapter })
        .collect();
    found.sort_by_key(|found| match found.info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

impl Found {
    /// Such as `vulkan llvmpipe`.
    pub(crate) fn name(&self) -> String {
        let name = self.info.name.split(" (").next().unwrap_or_default().trim();
        format!("{} {name}", self.backend())
    }
    pub(crate) fn backend(&self) -> String {
        self.info.backend.to_str().to_lowercase()
    }
    /// Runs on CPU cores.
    pub(crate) fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }
    /// Why it cannot be used at all.
    pub(crate) fn refusal(&self) -> Option<String> {
        let limits = self.adapter.limits();
        let downlevel = self.adapter.get_downlevel_capabilities();
        if !downlevel.flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
            return Some("no compute shaders".to_owned());
        }
        if limits.max_storage_buffers_per_shader_stage < 4 {
            return Some(format!("{} storage buffers", limits.max_storage_buffers_per_shader_stage));
        }
        if limits.max_compute_invocations_per_workgroup < 64 {
            return Some(format!(
                "{} invocations per workgroup",
                limits.max_compute_invocations_per_workgroup
            ));
        }
        None
    }
    /// What the adapter offers, or what is left of it within `wish`; the loop budget is not known yet.
    pub(crate) fn terms(&self, wish: Option<&Target>) -> (wgpu::Features, wgpu::Limits, Target) {
        let offered = self.adapter.features();
        let subgroup = wgpu::Features::SUBGROUP | wgpu::Features::SUBGROUP_BARRIER;
        let mut features = offered & (wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY);
        let mut limits = self.adapter.limits();
        let has_subgroups = offered.contains(subgroup) && wish.is_none_or(|w| w.subgroups.is_some());
        if has_subgroups {
            features |= subgroup;
        }
        if wish.is_some_and(|w| !w.f16) {
            features.remove(wgpu::Features::SHADER_F16);
        }
        if let Some(wish) = wish {
            let least = |limit: &mut u32, wish: u32| *limit = wish.min(*limit);
            least(&mut limits.max_compute_workgroups_per_dimension, wish.max_workgroups);
            least(&mut limits.max_compute_invocations_per_workgroup, wish.max_invocations);
            least(&mut limits.max_compute_workgroup_size_x, wish.max_invocations);
            least(&mut limits.max_compute_workgroup_size_y, wish.max_invocations);
            least(&mut limits.max_compute_workgroup_storage_size, wish.max_workgroup_memory);
            least(&mut limits.max_storage_buffers_per_shader_stage, wish.max_storage_buffers);
            limits.max_storage_buffer_binding_size =
                limits.max_storage_buffer_binding_size.min(wish.max_binding);
        }
        let target = Target {
            // A wish can ask a software adapter for the kernels of a GPU, which is how tests run them.
            cpu: wish.map_or_else(|| self.is_software(), |w| w.cpu),
            subgroups: has_subgroups.then_some((self.info.subgroup_min_size, self.info.subgroup_max_size)),
            f16: features.contains(wgpu::Features::SHADER_F16),
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            max_invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            loop_budget: wish.map_or(u32::MAX, |w| w.loop_budget),
        };
        (features, limits, target)
    }
}
