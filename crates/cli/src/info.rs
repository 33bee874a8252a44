//! `cotangent info`: what there is, what it can do, and what `best` would take.

use cotangent::{Device, Error, Info, Kind};
use serde_json::{Value, json};

use crate::report;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Error> {
    let best = Device::best();
    let devices = Device::all();
    if arguments.json {
        let document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "best": best.name(),
            "why": best.why(),
            "devices": devices.iter().map(|device| describe(device.info())).collect::<Vec<_>>(),
        });
        return report::line(&document.to_string());
    }
    for device in &devices {
        report::line(&format!("{}\n", device.info()))?;
    }
    report::line(&format!("best: {} ({})", best.name(), best.why()))
}

fn describe(info: &Info) -> Value {
    let target = &info.target;
    let probe = &info.probe;
    let kind = match info.kind {
        Kind::Cpu => "cpu",
        Kind::Gpu => "gpu",
        Kind::Software => "software",
    };
    json!({
        "name": info.name,
        "kind": kind,
        "backend": info.backend,
        "adapter": info.adapter,
        "driver": info.driver,
        "features": info.features,
        "threads": info.threads,
        "limits": {
            "workgroups": target.max_workgroups,
            "invocations": target.max_invocations,
            "workgroup_memory": target.max_workgroup_memory,
            "storage_buffers": target.max_storage_buffers,
            "binding": target.max_binding,
            "buffer": info.max_buffer,
            "loop_budget": target.loop_budget,
            "subgroups": target.subgroups,
        },
        "probe": {
            "loop_budget": probe.loop_budget,
            "denormals": probe.denormals,
            "fma_fused": probe.fma_fused,
            "nan_passes": probe.nan_passes,
            "nan_differs": probe.nan_differs,
            "reassociates": probe.reassociates,
            "barrier_holds": probe.barrier_holds,
            "nearest": probe.nearest,
            "pow_0_0": report::number(f64::from(probe.pow_0_0)),
            "tanh_100": report::number(f64::from(probe.tanh_100)),
            "atan2_0_0": report::number(f64::from(probe.atan2_0_0)),
            "subgroup": probe.subgroup,
        },
    })
}
