"""Files of a container that tell of the engine's machine, hidden by empty ones: the embedded level has none of them.

The kernel's settings, devices and counters, its load and that of the neighbours, the command line it was started with,
and the name servers and domains of the network that the machine is in.
"""

_PROC = """
acpi asound buddyinfo bus cgroups cmdline config.gz consoles cpuinfo crypto devices diskstats dma driver execdomains fb
filesystems fs interrupts iomem ioports irq kallsyms kcore key-users keys kmsg kpagecgroup kpagecount kpageflags
latency_stats loadavg locks mdstat meminfo misc modules mtrr pagetypeinfo partitions pressure sched_debug schedstat scsi
slabinfo softirqs stat swaps sys sysrq-trigger sysvipc timer_list timer_stats tty uptime version vmallocinfo vmstat
zoneinfo
"""
MASKED = (*(f"/proc/{name}" for name in _PROC.split()), "/sys", "/etc/hostname", "/etc/resolv.conf")
