//! Workgroups: invocations in lock step from barrier to barrier.

use cotangent_tensor::Code;
use naga::{AddressSpace, Barrier, Binding, BuiltIn, EntryPoint, Span, TypeInner};

use super::machine::{Machine, Stop, Thread, unsupported};
use super::memory::Grid;
use super::program::limit;
use super::shape::Cell;
use crate::diagnose::Problem;
use crate::text::name_or;

impl<'r> Machine<'r> {
    /// Runs all invocations of an entry point, one workgroup after another.
    pub(super) fn dispatch(&mut self, entry: usize, workgroups: [u32; 3]) -> Result<(), Problem> {
        let routine = &self.program.entries[entry];
        let point = &self.program.module().entry_points[entry];
        if point.workgroup_size_overrides.is_some() {
            return Err(unsupported("a workgroup whose size is an `override`"));
        }
        let size = point.workgroup_size;
        self.grid = Grid { size, workgroups };
        let invocations = size.iter().fold(1, |count: usize, &axis| count.saturating_mul(axis as usize));
        let each = routine.registers.len() + routine.variables.len() + self.program.private.len() + 1;
        limit(invocations.saturating_mul(each), "the values of a workgroup")?;
        let groups = workgroups.iter().fold(1, |count: u64, &axis| count.saturating_mul(axis.into()));
        let groups = u32::try_from(groups).map_err(|_| {
            Problem::new(Code::WgslLimit, format!("{groups} workgroups where {} are allowed", u32::MAX))
        })?;
        for group in 0..groups {
            self.clear_workgroup_memory();
            let mut threads = Vec::with_capacity(invocations);
            for invocation in 0..u32::try_from(invocations).unwrap_or(u32::MAX) {
                // an empty kernel takes time as well
                self.burn(each, || Span::UNDEFINED)?;
                let mut thread = Thread::new(self.program, routine, Some((group, invocation)));
                for number in 0..point.function.arguments.len() {
                    let value = self.argument(point, number, group, invocation)?;
                    thread.set_argument(number, &value);
                }
                threads.push(thread);
            }
            while self.run_to_barrier(group, &mut threads)? {}
        }
        Ok(())
    }

    /// WGSL gives every workgroup zeros.
    fn clear_workgroup_memory(&mut self) {
        for variable in &mut self.variables {
            if matches!(variable.space, AddressSpace::WorkGroup) {
                variable.cells.fill(0);
                variable.fresh();
            }
        }
    }

    /// A parameter of an entry point: builtin values, or a structure of them.
    fn argument(
        &self,
        point: &EntryPoint,
        number: usize,
        group: u32,
        invocation: u32,
    ) -> Result<Vec<Cell>, Problem> {
        let argument = &point.function.arguments[number];
        let builtin = |binding: Option<&Binding>| {
            let cells = |value: [u32; 3]| value.map(Cell::from).to_vec();
            Ok(match binding {
                Some(Binding::BuiltIn(BuiltIn::GlobalInvocationId)) => {
                    cells(self.grid.global(group, invocation))
                }
                Some(Binding::BuiltIn(BuiltIn::LocalInvocationId)) => cells(self.grid.local(invocation)),
                Some(Binding::BuiltIn(BuiltIn::LocalInvocationIndex)) => vec![invocation.into()],
                Some(Binding::BuiltIn(BuiltIn::WorkGroupId)) => cells(self.grid.workgroup(group)),
                Some(Binding::BuiltIn(BuiltIn::NumWorkGroups)) => cells(self.grid.workgroups),
                _ => {
                    return Err(unsupported(format!(
                        "where the parameter `{}` comes from",
                        name_or(&argument.name, "_")
                    )));
                }
            })
        };
        match &self.program.module().types[argument.ty].inner {
            TypeInner::Struct { members, .. } => {
                let parts: Result<Vec<Vec<Cell>>, Problem> =
                    members.iter().map(|member| builtin(member.binding.as_ref())).collect();
                Ok(parts?.concat())
            }
            _ => builtin(argument.binding.as_ref()),
        }
    }

    /// Runs every invocation up to its next barrier, which must be the same for all. False if all have ended.
    fn run_to_barrier(&mut self, group: u32, threads: &mut [Thread<'r>]) -> Result<bool, Problem> {
        let mut waiting: Vec<(usize, Barrier, Option<Cell>)> = Vec::new();
        for (number, thread) in threads.iter_mut().enumerate() {
            if let Stop::Barrier(barrier, reads) = self.run(thread)? {
                waiting.push((number, barrier, reads));
            }
        }
        let Some(&(first, barrier, reads)) = waiting.first() else { return Ok(false) };
        let place = threads[first].whereabouts();
        let stray = (0..threads.len())
            .find(|&number| threads[number].is_done() || threads[number].whereabouts() != place);
        if let Some(stray) = stray {
            let there = waiting.iter().filter(|&&(number, ..)| threads[number].whereabouts() == place);
            return Err(self.diverged(group, threads, first, stray, there.count()));
        }
        if let Some((number, ..)) = waiting.iter().find(|&&(.., other)| other != reads) {
            let who = self.name(&threads[*number]);
            let message = format!("{who} reads another place than the first invocation of its workgroup");
            return Err(Problem::new(Code::WgslUniformity, message).at(threads[*number].here(), "read here"));
        }
        self.epochs.0 += u32::from(barrier.contains(Barrier::STORAGE));
        self.epochs.1 += u32::from(barrier.contains(Barrier::WORK_GROUP));
        Ok(true)
    }

    fn diverged(
        &self,
        group: u32,
        threads: &[Thread<'r>],
        first: usize,
        stray: usize,
        there: usize,
    ) -> Problem {
        let [x, y, z] = self.grid.workgroup(group);
        let (one, other) = (self.name(&threads[first]), self.name(&threads[stray]));
        let does = if threads[stray].is_done() { "has ended" } else { "waits at another" };
        let message = format!(
            "a barrier is reached by {there} of {} invocations of workgroup ({x}, {y}, {z}): {one} waits, {other} {does}",
            threads.len()
        );
        let problem = Problem::new(Code::WgslUniformity, message).at(threads[first].here(), "waits here");
        match threads[stray].is_done() || threads[stray].here() == threads[first].here() {
            true => problem,
            false => problem.at(threads[stray].here(), "waits there"),
        }
    }
}
