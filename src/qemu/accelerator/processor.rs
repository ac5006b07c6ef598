//! The processors that a guest is offered under KVM, one after the other until one runs.
//!
//! On a host that is itself a virtual machine, a feature that KVM reports may be missing. QEMU then aborts
//! when it sets one of its registers (0x10a of `arch-capabilities`, 0x345 and 0x38d of `pmu`, 0x480 to 0x491
//! of `vmx`).

/// Values of QEMU's option `-cpu`, each with fewer of the host's features than the previous one.
const LESS: [&str; 2] = ["max,arch-capabilities=off", "max,arch-capabilities=off,pmu=off,vmx=off,svm=off"];

/// Returns the processor to try after `cpu`. The first one, `None`, is the run script's own.
pub(super) fn after(cpu: Option<&str>) -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let next = match cpu {
        None => 0,
        Some(cpu) => LESS.iter().position(|less| *less == cpu)? + 1,
    };
    LESS.get(next).copied()
}

/// Returns all processors after the run script's own, in order.
pub(crate) fn processors() -> impl Iterator<Item = &'static str> {
    std::iter::successors(after(None), |cpu| after(Some(cpu)))
}

/// Returns the processor of this name, if it is one of these.
pub(super) fn named(cpu: &str) -> Option<&'static str> {
    LESS.into_iter().find(|less| *less == cpu)
}

/// Returns the processor in QEMU's arguments, if it is one of these. The last of several options counts.
pub(crate) fn in_command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let mut arguments = arguments.into_iter();
    let mut last = None;
    while let Some(argument) = arguments.next() {
        if matches!(argument, "-cpu" | "--cpu") {
            last = arguments.next();
        }
    }
    named(last?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn there_is_an_end_to_them() {
        let first = after(None).unwrap();
        assert_eq!(first, "max,arch-capabilities=off");
        let second = after(Some(first)).unwrap();
        assert!(second.starts_with(first) && second.contains("pmu=off"), "{second}");
        assert_eq!(after(Some(second)), None);
        assert_eq!(after(Some("EPYC")), None);
    }

    #[test]
    fn the_last_processor_of_a_command_counts() {
        let command = ["qemu", "-cpu", "max", "-name", "x", "-cpu", LESS[0]];
        assert_eq!(in_command(command), Some(LESS[0]));
        assert_eq!(in_command(["-cpu", LESS[0], "-cpu", "host"]), None);
        assert_eq!(in_command(["-cpu"]), None);
    }
}
