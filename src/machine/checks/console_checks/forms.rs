//! The patterns of lines that show trouble, as data. Each form has the lines it was written for, the source file that
//! prints them, and the first kernel (or systemd) that is known to print them in this form. The tests match each form
//! against its lines, so a form without a line fails the tests.
//!
//! The kernels are 5.15 to 6.19. To add a form, find the `printk` in the kernel's sources, write down its line as a
//! console shows it, and make the pattern no wider than that line needs.

/// The form of the lines that a check looks for.
#[derive(Debug)]
pub(super) struct Form {
    /// The check's name.
    pub(super) check: &'static str,
    /// The position on the line.
    pub(super) place: Anchor,
    /// A regular expression for the text at that position.
    pub(super) pattern: &'static str,
    /// Examples of the form: their source, and the line without its time.
    #[cfg(test)]
    pub(super) samples: &'static [(&'static str, &'static str)],
}

/// The position of a form on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// After the time stamp of a kernel record, which may be in the middle of a line.
    Kernel,
    /// At the start of the line.
    Line,
}

macro_rules! forms {
    ($($check:literal: $($place:ident $pattern:literal { $($from:literal $line:literal)+ })+)+) => {
        &[$($(Form {
            check: $check,
            place: Anchor::$place,
            pattern: $pattern,
            #[cfg(test)]
            samples: &[$(($from, $line)),+],
        }),+),+]
    };
}

/// All forms, ordered by severity of their check, the worst first.
pub(super) static FORMS: &[Form] = forms! {
    "kernel panic":
    Kernel r"Kernel panic - not syncing" {
        "kernel/panic.c, 5.15" "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
        "kernel/panic.c, 6.12" "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
        "kernel/panic.c, 6.12" "Kernel panic - not syncing: Hard LOCKUP"
    }

    "kernel oops":
    Kernel r"BUG: (?:kernel|unable|KASAN|KFENCE|KCSAN|KMSAN|scheduling|Bad|sleeping|workqueue|spinlock|rwlock|atomic|using|stack guard|TASK stack guard|IRQ stack guard|non-zero|Dentry|pagefault|held lock|key|assuming|memory leak)" {
        "arch/x86/mm/fault.c, 5.15" "BUG: kernel NULL pointer dereference, address: 0000000000000000"
        "arch/x86/mm/fault.c, 5.15" "BUG: unable to handle page fault for address: ffffffffc0000000"
        "arch/x86/kernel/traps.c, 5.15" "BUG: stack guard page was hit at 00000000e7ab1ccb (stack is 0000000059a21a3d..00000000a2f9ac22)"
        "arch/x86/kernel/traps.c, 6.6" "BUG: TASK stack guard page was hit at ffffc90000e07ff8 (stack is ffffc90000e08000..ffffc90000e0c000)"
        "mm/kasan/report.c, 5.15" "BUG: KASAN: slab-out-of-bounds in foo+0x1/0x2"
        "mm/kfence/report.c, 5.15" "BUG: KFENCE: use-after-free read in test_use_after_free_read+0x9a/0x143"
        "kernel/kcsan/report.c, 5.15" "BUG: KCSAN: data-race in test_kernel_read / test_kernel_write"
        "mm/kmsan/report.c, 6.1" "BUG: KMSAN: uninit-value in test_uninit_kmsan_check_memory+0x1be/0x380"
        "kernel/sched/core.c, 5.15" "BUG: scheduling while atomic: insmod/812/0x00000002"
        "kernel/sched/core.c, 5.15" "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:280"
        "lib/smp_processor_id.c, 5.15" "BUG: using smp_processor_id() in preemptible [00000000] code: insmod/812"
        "mm/page_alloc.c, 5.15" "BUG: Bad page state in process insmod  pfn:12345"
        "mm/memory.c, 5.15" "BUG: Bad page map in process cat  pte:80000000 pmd:12345067"
        "kernel/fork.c, 5.15" "BUG: Bad rss-counter state mm:00000000c5cdd1ad type:MM_ANONPAGES val:1"
        "kernel/fork.c, 5.15" "BUG: non-zero pgtables_bytes on freeing mm: 4096"
        "kernel/locking/spinlock_debug.c, 5.15" "BUG: spinlock bad magic on CPU#0, insmod/812"
        "kernel/workqueue.c, 5.15" "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 30s!"
        "kernel/workqueue.c, 5.15" "BUG: workqueue leaked lock or atomic: kworker/0:1/0x00000001/812"
        "fs/dcache.c, 5.15" "BUG: Dentry 00000000e7ab1ccb{i=2,n=a}  still in use (1) [unmount of ext4 vda]"
    }
    Kernel r"BUG [^ ]+ \([^)]*\): " {
        "mm/slub.c, 5.15" "BUG kmalloc-64 (Not tainted): Right Redzone overwritten"
    }
    Kernel r"=*\[ BUG: |\[ BUG: " {
        "kernel/locking/lockdep.c, 5.15" "[ BUG: Invalid wait context ]"
    }
    Kernel r"kernel BUG at " {
        "lib/bug.c, 5.15" "kernel BUG at mm/slub.c:4023!"
    }
    Kernel r"(?:Internal error: )?Oops(?: - [^:]+)?(?::| \[#)" {
        "arch/x86/kernel/dumpstack.c, 5.15" "Oops: 0002 [#1] PREEMPT SMP NOPTI"
        "arch/x86/kernel/traps.c, 6.10" "Oops: general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1] PREEMPT SMP"
        "arch/x86/kernel/traps.c, 6.10" "Oops: divide error: 0000 [#1] SMP NOPTI"
        "arch/riscv/kernel/traps.c, 5.15" "Oops [#1]"
        "arch/arm64/kernel/traps.c, 5.15" "Internal error: Oops: 96000004 [#1] PREEMPT SMP"
        "arch/arm64/kernel/traps.c, 6.6" "Internal error: Oops - BUG: 00000000f2000800 [#1] PREEMPT SMP"
    }
    Kernel r"(?:general protection fault[,:]|[a-z0-9 ]+:|[a-z0-9 ]+, [^\[]*:) [0-9a-f]{4,16} \[#[0-9]+\]" {
        "arch/x86/kernel/traps.c, 5.15" "general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1] SMP"
        "arch/x86/kernel/traps.c, 5.15" "invalid opcode: 0000 [#1] SMP NOPTI"
        "arch/x86/kernel/traps.c, 5.15" "divide error: 0000 [#1] PREEMPT SMP"
        "arch/x86/kernel/traps.c, 5.15" "int3: 0000 [#1] SMP"
        "arch/x86/kernel/traps.c, 5.15" "stack segment: 0000 [#1] SMP"
    }
    Kernel r"(?:stack segment|double fault|alignment check|invalid TSS|segment not present): |invalid opcode: [0-9]+ \[#|(?:traps: )?PANIC: double fault" {
        "arch/x86/kernel/traps.c, 5.15" "traps: PANIC: double fault, error_code: 0x0"
        "arch/x86/kernel/traps.c, 5.15" "double fault: 0000 [#1] SMP"
    }
    Kernel r"Unable to handle kernel " {
        "arch/arm64/mm/fault.c, 5.15" "Unable to handle kernel paging request at virtual address ffff800012345678"
        "arch/arm64/mm/fault.c, 5.15" "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000"
    }
    Kernel r"kernel tried to execute (?:NX-protected page|user page) " {
        "arch/x86/mm/fault.c, 5.15" "kernel tried to execute NX-protected page - exploit attempt? (uid: 0)"
    }
    Kernel r"list_(?:add|del) corruption[.,]" {
        "lib/list_debug.c, 5.15" "list_add corruption. next->prev should be prev (ffffffff02f65320), but was ffffffd8eef15848. (next=ffffffd8eef15840)."
        "lib/list_debug.c, 5.15" "list_del corruption, ffff888012345678->next is LIST_POISON1 (dead000000000100)"
    }
    Kernel r"(?:usercopy: )?Kernel memory (?:exposure|overwrite) attempt detected " {
        "mm/usercopy.c, 5.15" "usercopy: Kernel memory exposure attempt detected from SLUB object 'kmalloc-64' (offset 0, size 65)!"
    }
    Kernel r"UBSAN: " {
        "lib/ubsan.c, 5.15" "UBSAN: array-index-out-of-bounds in drivers/x.c:338:12"
        "lib/ubsan.c, 6.12" "UBSAN: shift-out-of-bounds in fs/x.c:12:5"
    }
    Kernel r"Fixing recursive fault but reboot is needed" {
        "kernel/exit.c, 5.15" "Fixing recursive fault but reboot is needed!"
    }
    Kernel r"(?:CFI failure|kernel CFI failure|CFI failure at) " {
        "kernel/cfi.c, 6.1" "CFI failure at foo+0x1/0x2 (target: bar+0x0/0x4; expected type: 0x1234abcd)"
    }

    "kernel warning":
    Kernel r"WARNING: CPU: [0-9]+ PID: " {
        "kernel/panic.c, 5.15" "WARNING: CPU: 1 PID: 77 at kernel/foo.c:12 foo+0x1/0x2"
        "kernel/panic.c, 6.18" "WARNING: CPU: 0 PID: 1 at drivers/x.c:338 f+0x1/0x2 [x]"
        "kernel/panic.c, 5.15 (without a file)" "WARNING: CPU: 0 PID: 1 at f+0x1/0x2"
    }
    Kernel r"WARNING: (?:.* )?at .*,? CPU#[0-9]+: .+/[0-9]+" {
        "kernel/panic.c, 6.19" "WARNING: drivers/x.c:338 at f+0x1/0x2, CPU#0: demod/812"
        "kernel/panic.c, 6.19 (of a module)" "WARNING: drivers/x.c:338 at f+0x1/0x2 [x], CPU#3: kworker/3:1/812"
        "kernel/panic.c, 6.19 (without a file)" "WARNING: at f+0x1/0x2, CPU#0: demod/812"
        "kernel/panic.c, 6.19 (CONFIG_DEBUG_BUGVERBOSE_DETAILED)" "WARNING: [ptr == 0 && 1] kernel/sched/core.c:8511 at sched_init+0x20/0x410, CPU#0: swapper/0/0"
        "kernel/panic.c, 6.19 (without symbols)" "WARNING: mm/x.c:1 at 0xffffffff81234567, CPU#0: a b/812"
    }
    Kernel r"WARNING: (?:possible (?:circular locking dependency|recursive locking|irq lock inversion dependency)|(?:HARDIRQ|SOFTIRQ|[A-Z_]+)-safe -> |inconsistent lock state|bad unlock balance|bad contention|held lock freed|lock held when returning to user space|suspicious RCU usage|Nested lock was not taken|stack recursion|kernel stack |can't dereference |stack going in the wrong direction|[^ ]+/[0-9]+ still has locks held|[^ ]+/[0-9]+ is trying to |locking bug in )" {
        "kernel/locking/lockdep.c, 5.15" "WARNING: possible circular locking dependency detected"
        "kernel/locking/lockdep.c, 5.15" "WARNING: possible recursive locking detected"
        "kernel/locking/lockdep.c, 5.15" "WARNING: inconsistent lock state"
        "kernel/locking/lockdep.c, 5.15" "WARNING: bad unlock balance detected!"
        "kernel/locking/lockdep.c, 5.15" "WARNING: held lock freed!"
        "kernel/locking/lockdep.c, 5.15" "WARNING: suspicious RCU usage"
        "kernel/locking/lockdep.c, 5.15" "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"
    }
    Kernel r".{1,64}: page allocation failure: order:[0-9]" {
        "mm/page_alloc.c, 5.15" "kworker/u2:1: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), nodemask=(null)"
    }
    Kernel r"refcount_t: " {
        "lib/refcount.c, 5.15" "refcount_t: underflow; use-after-free."
    }

    "segfault":
    Kernel r".{0,64}\[[0-9]+\]: segfault (?:at|\([0-9]+\) at) " {
        "arch/x86/mm/fault.c, 5.15" "crash[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4 in crash[401000+1000]"
        "arch/x86/mm/fault.c, 6.1" "crash[77]: segfault at 1 ip 000000000055a4e1 sp 00007ffc12345678 error 4 in perl[454000+17a000] likely on CPU 0 (core 0, socket 0)"
        "arch/x86/mm/fault.c, 5.15 (a name with colon and brackets)" "a:[b] c[77]: segfault at 0 ip 0000000000401136 sp 00007ffe error 4"
        "arch/powerpc/kernel/traps.c, 5.15" "crash[77]: segfault (11) at 0 nip 10000620 lr 10000608 code 1 in crash[10000000+10000]"
    }
    Kernel r"traps: .*\[[0-9]+\] (?:trap |general protection|bad frame in )" {
        "arch/x86/kernel/traps.c, 5.15" "traps: crash[77] trap invalid opcode ip:401136 sp:7ffe12345678 error:0 in crash[401000+1000]"
        "arch/x86/kernel/traps.c, 5.15" "traps: crash[77] trap divide error ip:401136 sp:7ffe12345678 error:0 in crash[401000+1000]"
        "arch/x86/kernel/traps.c, 5.15" "traps: crash[77] trap int3 ip:401136 sp:7ffe12345678 error:0"
        "arch/x86/kernel/traps.c, 5.15" "traps: a b[77] general protection fault ip:401136 sp:7ffe12345678 error:0"
        "arch/x86/kernel/traps.c, 6.12" "traps: [a][77] trap stack segment ip:401136 sp:7ffe12345678 error:0 in crash[401136,401000+1000]"
    }
    Kernel r".{0,80}\[[0-9]+\] bad frame in [a-z_ ]+ frame:" {
        "arch/x86/kernel/signal.c, 5.15" "crash[77] bad frame in rt_sigreturn frame:00000000e7ab1ccb ip:401136 sp:7ffe12345678 orax:ffffffffffffffff"
        "arch/x86/kernel/signal.c, 6.12" "signal: crash[77] bad frame in rt_sigreturn frame:00000000e7ab1ccb ip:401136 sp:7ffe12345678 orax:0"
    }
    Kernel r".{0,64}\[[0-9]+\]: unhandled (?:exception: |signal [0-9]+ code )" {
        "arch/arm64/kernel/traps.c, 5.15" "crash[77]: unhandled exception: DABT (lower EL), ESR 0x92000006, level 2 translation fault in crash[aaaab000+1000]"
        "arch/riscv/kernel/traps.c, 5.15" "crash[77]: unhandled signal 11 code 0x1 at 0x0000000000000000 in crash[10000+1000]"
    }
    Kernel r"(?:.+: )?potentially unexpected fatal signal [0-9]+" {
        "kernel/signal.c, 5.15" "potentially unexpected fatal signal 11."
        "kernel/signal.c, 6.16" "/bin/crash: crash: potentially unexpected fatal signal 6."
    }

    "OOM kill":
    Kernel r"Out of memory(?: \(oom_kill_allocating_task\))?: Kill" {
        "mm/oom_kill.c, 5.15" "Out of memory: Killed process 812 (tail) total-vm:2097152kB, anon-rss:812kB, file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:52kB oom_score_adj:0"
        "mm/oom_kill.c, 5.15" "Out of memory (oom_kill_allocating_task): Killed process 812 (tail) total-vm:2097152kB"
    }
    Kernel r"Memory cgroup out of memory(?: \(oom_kill_allocating_task\))?: Kill" {
        "mm/oom_kill.c, 5.15" "Memory cgroup out of memory: Killed process 812 (tail) total-vm:2097152kB, anon-rss:812kB"
    }
    Kernel r"oom-kill:" {
        "mm/oom_kill.c, 5.15" "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=tail,pid=812,uid=0"
    }
    Kernel r".+ invoked oom-killer" {
        "mm/oom_kill.c, 5.15" "tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
        "mm/oom_kill.c, 5.15" "Web Content invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0"
    }
    Kernel r"oom_reaper: reaped process " {
        "mm/oom_kill.c, 5.15" "oom_reaper: reaped process 812 (tail), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"
    }
    Kernel r"Out of memory and no killable processes" {
        "mm/oom_kill.c, 5.15" "Out of memory and no killable processes..."
    }

    "hung task":
    Kernel r"INFO: task .+:[0-9]+ (?:.* )?blocked (?:for|in|on) " {
        "kernel/hung_task.c, 5.15" "INFO: task sync:812 blocked for more than 120 seconds."
        "kernel/hung_task.c, 5.15 (a name with blanks)" "INFO: task a b:1 blocked for more than 122 seconds."
        "kernel/hung_task.c, 7.0" "INFO: task virtme-ng-init:1 blocked in I/O wait for more than 122 seconds."
        "kernel/hung_task.c, 6.16" "INFO: task cat:815 is blocked on a mutex likely owned by task cat:814."
        "kernel/hung_task.c, 6.16" "INFO: task cat:815 is blocked on a mutex, but the owner is not found."
        "kernel/hung_task.c, 6.16" "INFO: task cat:815 blocked on a semaphore likely last held by task cat:814"
        "kernel/hung_task.c, 6.17" "INFO: task cat:815 <writer> blocked on an rw-semaphore likely owned by task cat:814 <reader>"
    }
    Kernel r"(?:watchdog: )?BUG: soft lockup" {
        "kernel/watchdog.c, 5.15" "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [sh:9]"
    }
    Kernel r"(?:NMI )?(?:watchdog: )?(?:CPU[0-9]+: )?Watchdog detected hard LOCKUP on cpu" {
        "kernel/watchdog_hld.c, 5.15" "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"
        "kernel/watchdog.c, 6.5" "watchdog: Watchdog detected hard LOCKUP on cpu 3"
        "kernel/watchdog.c, 6.15" "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"
    }
    Kernel r"(?:rcu: )?INFO: [^ ]+ (?:self-)?detected (?:expedited )?stalls? " {
        "kernel/rcu/tree_stall.h, 5.15" "rcu: INFO: rcu_preempt self-detected stall on CPU"
        "kernel/rcu/tree_stall.h, 5.15" "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"
        "kernel/rcu/tree_exp.h, 5.15" "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-... } 22 jiffies s: 277 root: 0x1/."
        "kernel/rcu/tasks.h, 5.15" "rcu: INFO: rcu_tasks detected stalls on tasks:"
    }
    Kernel r"(?:rcu: )?[^ ]+ (?:grace-period )?kthread (?:starved for [0-9]+ jiffies|timer wakeup didn't happen for [0-9]+ jiffies)" {
        "kernel/rcu/tree_stall.h, 5.15" "rcu: rcu_preempt kthread starved for 60002 jiffies! g12345 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0"
        "kernel/rcu/tree_stall.h, 5.15" "rcu: rcu_preempt kthread timer wakeup didn't happen for 60002 jiffies! g12345 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x402"
    }

    "file system":
    Kernel r"EXT4-fs error[ :]" {
        "fs/ext4/super.c, 5.15" "EXT4-fs error (device vda): ext4_lookup:1785: inode #2: comm ls: bad extra_isize 8193"
    }
    Kernel r"EXT4-fs \([^)]*\): (?:Remounting filesystem read-only|I/O error while writing superblock|Delayed block allocation failed|failed to convert unwritten extents|This should not happen|shut down requested)" {
        "fs/ext4/super.c, 5.15" "EXT4-fs (vda): Remounting filesystem read-only"
        "fs/ext4/super.c, 5.15" "EXT4-fs (vda1): I/O error while writing superblock"
        "fs/ext4/inode.c, 5.15" "EXT4-fs (vda): Delayed block allocation failed for inode 12 at logical offset 0 with max blocks 1 with error 5"
    }
    Kernel r"(?:Aborting journal on device |JBD2: (?:Error |Detected IO errors while |Spotted dirty |recovery failed))" {
        "fs/jbd2/journal.c, 5.15" "Aborting journal on device vda-8."
        "fs/jbd2/journal.c, 5.15" "JBD2: Error -5 detected when updating journal superblock for vda-8."
        "fs/jbd2/commit.c, 5.15" "JBD2: Detected IO errors while flushing file data on vda-8"
    }
    Kernel r"XFS \([^)]*\): (?:Corruption|Metadata corruption|Metadata CRC error|Internal error|log I/O error|metadata I/O error|Filesystem has been shut down|I/O Error Detected|Failed to recover)" {
        "fs/xfs/xfs_error.c, 5.15" "XFS (vda): Corruption detected. Unmount and run xfs_repair"
        "fs/xfs/xfs_error.c, 5.15" "XFS (vda): Metadata corruption detected at xfs_agf_read_verify+0xd3/0x130 [xfs], xfs_agf block 0x1"
        "fs/xfs/xfs_error.c, 5.15" "XFS (vda): Metadata CRC error detected at xfs_agi_read_verify+0x12b/0x160 [xfs], xfs_agi block 0x2"
        "fs/xfs/xfs_error.c, 5.15" "XFS (vda): Internal error XFS_WANT_CORRUPTED_GOTO at line 1 of file fs/xfs/x.c"
        "fs/xfs/xfs_log.c, 5.15" "XFS (vda): log I/O error -5"
        "fs/xfs/xfs_fsops.c, 5.19" "XFS (vda): Filesystem has been shut down due to log error (0x2)."
    }
    Kernel r"BTRFS:? (?:error|critical)[ :]|BTRFS: Transaction aborted" {
        "fs/btrfs/super.c, 5.15" "BTRFS error (device vda): bdev /dev/vda errs: wr 1, rd 0, flush 0, corrupt 0, gen 0"
        "fs/btrfs/super.c, 5.15" "BTRFS critical (device vda): corrupt leaf: root=1 block=30408704 slot=0, unexpected item end"
        "fs/btrfs/super.c, 5.15" "BTRFS: error (device vda) in btrfs_commit_transaction:2418: errno=-5 IO failure (Error while writing out transaction)"
        "fs/btrfs/messages.c, 6.6" "BTRFS: error (device vda state A) in btrfs_run_delayed_refs:2160: errno=-28 No space left"
    }
    Kernel r"FAT-fs \([^)]*\): (?:error, |Filesystem has been set read-only)" {
        "fs/fat/misc.c, 5.15" "FAT-fs (vda1): error, fat_get_cluster: invalid cluster chain (i_pos 0)"
        "fs/fat/misc.c, 5.15" "FAT-fs (vda1): Filesystem has been set read-only"
    }
    Kernel r"SQUASHFS error: " {
        "fs/squashfs/squashfs.h, 5.15" "SQUASHFS error: Unable to read metadata cache entry [1d5a9]"
    }

    "I/O error":
    Kernel r"Buffer I/O error on dev" {
        "fs/buffer.c, 5.15" "Buffer I/O error on dev vda1, logical block 0, lost async page write"
    }
    Kernel r"(?:blk_update_request: |end_request: )?(?:I/O|critical medium|critical space allocation|critical nexus|reservation conflict|timeout|recoverable transport) error, dev " {
        "block/blk-core.c, 5.15" "blk_update_request: I/O error, dev vda, sector 1 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 0"
        "block/blk-mq.c, 5.16" "I/O error, dev vda, sector 1 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 2"
        "block/blk-mq.c, 5.16" "critical medium error, dev sda, sector 1 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2"
    }
    Kernel r"(?:blk_update_request: )?critical target error, dev [^ ]+, sector [0-9]+ op 0x[012]:" {
        "block/blk-mq.c, 5.16" "critical target error, dev sda, sector 1 op 0x1:(WRITE) flags 0x20800 phys_seg 1 prio class 0"
    }
    Kernel r"md/raid[0-9]*:[^ ]+: Disk failure on " {
        "drivers/md/raid1.c, 5.15" "md/raid1:md0: Disk failure on vdb, disabling device."
    }

    "failed unit":
    Line r"\[FAILED\] Failed to (?:start|mount|listen|activate) " {
        "systemd's src/core/job.c, 254" "[FAILED] Failed to start nginx.service - Nginx Web Server."
        "systemd's src/core/mount.c, 254" "[FAILED] Failed to mount /data."
    }

    "emergency mode":
    Line r"(?:.* )?You are in (?:emergency|rescue) mode" {
        "systemd's units/emergency.service.in, 254" "You are in emergency mode. After logging in, type \"journalctl -xb\" to view"
    }
};
