"""The seccomp filter of a session: an allow list, for x86-64 and arm64. Stdlib only.

A call that is not on the list fails with EPERM (clone3 with ENOSYS, so that glibc falls back to clone, whose flags
can be looked at: a new namespace is refused). A program for another architecture (int 0x80, x32) is killed.
"""

import ctypes
import os
import struct

from .linux import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

_NAMESPACES = 0x7E020080  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} | CLONE_NEWTIME
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LOAD, _EQUAL, _GREATER, _MASKED, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_FIRST, _SECOND, _THIRD, _THIRD_HIGH = 16, 24, 32, 36
"""Where the arguments of the call lie (struct seccomp_data)."""
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE3 = 435

# Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
_BOTH = {
    "pidfd_send_signal": 424, "pidfd_open": 434, "close_range": 436, "openat2": 437, "faccessat2": 439,
    "epoll_pwait2": 441, "futex_waitv": 449, "fchmodat2": 452,
}  # fmt: skip
_X86_64 = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "sched_yield": 24,
    "mremap": 25, "msync": 26, "mincore": 27, "madvise": 28, "dup": 32, "dup2": 33, "pause": 34, "nanosleep": 35,
    "getitimer": 36, "alarm": 37, "setitimer": 38, "getpid": 39, "sendfile": 40, "socket": 41, "connect": 42,
    "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "bind": 49, "listen": 50,
    "getsockname": 51, "getpeername": 52, "socketpair": 53, "setsockopt": 54, "getsockopt": 55, "fork": 57, "vfork": 58,
    "execve": 59, "exit": 60, "wait4": 61, "kill": 62, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74,
    "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getdents": 78, "getcwd": 79, "chdir": 80, "fchdir": 81,
    "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "readlink": 89,
    "chmod": 90, "fchmod": 91, "umask": 95, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
    "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "setpgid": 109, "getppid": 110,
    "getpgrp": 111, "setsid": 112, "getgroups": 115, "getresuid": 118, "getresgid": 120, "getpgid": 121, "getsid": 124,
    "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "sigaltstack": 131, "utime": 132, "mknod": 133,
    "statfs": 137, "fstatfs": 138, "getpriority": 140, "setpriority": 141, "sched_setparam": 142, "sched_getparam": 143,
    "sched_getscheduler": 145, "sched_get_priority_max": 146, "sched_get_priority_min": 147, "prctl": 157,
    "arch_prctl": 158, "setrlimit": 160, "gettid": 186, "readahead": 187, "getxattr": 191, "lgetxattr": 192,
    "fgetxattr": 193, "listxattr": 194, "tkill": 200, "time": 201, "futex": 202, "sched_setaffinity": 203,
    "sched_getaffinity": 204, "epoll_create": 213, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219,
    "fadvise64": 221, "timer_create": 222, "timer_settime": 223, "timer_gettime": 224, "timer_getoverrun": 225,
    "timer_delete": 226, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234, "utimes": 235, "waitid": 247, "inotify_init": 253,
    "inotify_add_watch": 254, "inotify_rm_watch": 255, "openat": 257, "mkdirat": 258, "mknodat": 259, "newfstatat": 262,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "readlinkat": 267, "fchmodat": 268,
    "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "get_robust_list": 274, "splice": 275,
    "tee": 276, "utimensat": 280, "epoll_pwait": 281, "timerfd_create": 283, "eventfd": 284, "fallocate": 285,
    "timerfd_settime": 286, "timerfd_gettime": 287, "accept4": 288, "signalfd4": 289, "eventfd2": 290,
    "epoll_create1": 291, "dup3": 292, "pipe2": 293, "inotify_init1": 294, "preadv": 295, "pwritev": 296,
    "recvmmsg": 299, "prlimit64": 302, "syncfs": 306, "sendmmsg": 307, "getcpu": 309, "sched_setattr": 314,
    "sched_getattr": 315, "renameat2": 316, "getrandom": 318, "memfd_create": 319, "membarrier": 324, "mlock2": 325,
    "copy_file_range": 326, "preadv2": 327, "pwritev2": 328, "statx": 332, "rseq": 334,
}  # fmt: skip
_AARCH64 = {
    "getxattr": 8, "lgetxattr": 9, "fgetxattr": 10, "listxattr": 11, "getcwd": 17, "eventfd2": 19, "epoll_create1": 20,
    "epoll_ctl": 21, "epoll_pwait": 22, "dup": 23, "dup3": 24, "fcntl": 25, "inotify_init1": 26,
    "inotify_add_watch": 27, "inotify_rm_watch": 28, "ioctl": 29, "flock": 32, "mknodat": 33, "mkdirat": 34,
    "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "statfs": 43, "fstatfs": 44, "truncate": 45,
    "ftruncate": 46, "fallocate": 47, "faccessat": 48, "chdir": 49, "fchdir": 50, "fchmod": 52, "fchmodat": 53,
    "openat": 56, "close": 57, "pipe2": 59, "getdents64": 61, "lseek": 62, "read": 63, "write": 64, "readv": 65,
    "writev": 66, "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev": 70, "sendfile": 71, "pselect6": 72,
    "ppoll": 73, "signalfd4": 74, "splice": 76, "tee": 77, "readlinkat": 78, "newfstatat": 79, "fstat": 80,
    "fsync": 82, "fdatasync": 83, "timerfd_create": 85, "timerfd_settime": 86, "timerfd_gettime": 87, "utimensat": 88,
    "exit": 93, "exit_group": 94, "waitid": 95, "set_tid_address": 96, "futex": 98, "set_robust_list": 99,
    "get_robust_list": 100, "nanosleep": 101, "getitimer": 102, "setitimer": 103, "timer_create": 107,
    "timer_gettime": 108, "timer_getoverrun": 109, "timer_settime": 110, "timer_delete": 111, "clock_gettime": 113,
    "clock_getres": 114, "clock_nanosleep": 115, "restart_syscall": 128, "kill": 129, "tkill": 130, "tgkill": 131,
    "sigaltstack": 132, "rt_sigsuspend": 133, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigpending": 136,
    "rt_sigtimedwait": 137, "rt_sigreturn": 139, "setpriority": 140, "getpriority": 141, "getresuid": 148,
    "getresgid": 150, "times": 153, "setpgid": 154, "getpgid": 155, "getsid": 156, "setsid": 157, "getgroups": 158,
    "uname": 160, "getrlimit": 163, "setrlimit": 164, "getrusage": 165, "umask": 166, "prctl": 167, "getcpu": 168,
    "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
    "gettid": 178, "sysinfo": 179, "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202,
    "connect": 203, "getsockname": 204, "getpeername": 205, "sendto": 206, "recvfrom": 207, "setsockopt": 208,
    "getsockopt": 209, "shutdown": 210, "sendmsg": 211, "recvmsg": 212, "readahead": 213, "brk": 214, "munmap": 215,
    "mremap": 216, "execve": 221, "mmap": 222, "fadvise64": 223, "mprotect": 226, "msync": 227, "mincore": 232,
    "madvise": 233, "accept4": 242, "recvmmsg": 243, "wait4": 260, "prlimit64": 261, "syncfs": 267, "sendmmsg": 269,
    "sched_setattr": 274, "sched_getattr": 275, "renameat2": 276, "getrandom": 278, "memfd_create": 279,
    "membarrier": 283, "mlock2": 284, "copy_file_range": 285, "preadv2": 286, "pwritev2": 287, "statx": 291,
    "rseq": 293, "sched_setparam": 118, "sched_getscheduler": 120, "sched_getparam": 121, "sched_setaffinity": 122,
    "sched_getaffinity": 123, "sched_yield": 124, "sched_get_priority_max": 125, "sched_get_priority_min": 126,
}  # fmt: skip
_TABLES = {"x86_64": _X86_64, "aarch64": _AARCH64}
_CLONE = {"x86_64": 56, "aarch64": 220}
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: all within the session's own empty network
# Stream, datagram, sequential packets; none, TCP, UDP. Others have the kernel load modules that nobody here needs.
_TYPES, _PROTOCOLS = (1, 2, 5), (0, 6, 17)
_RLIMIT_CORE = 4


def _instruction(code: int, constant: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, constant)


def _only(number: int, body: list[bytes]) -> list[bytes]:
    """`body`, which returns on each way, for one call; the number stays loaded for what follows."""
    return [_instruction(_EQUAL, number, 0, len(body)), *body]


def _among(place: int, values: tuple[int, ...], mask: int = 0) -> list[bytes]:
    """Go on where the argument at `place` is one of `values`, else refuse."""
    return [
        _instruction(_LOAD, place),
        *([_instruction(_AND, mask)] if mask else []),
        *(_instruction(_EQUAL, value, len(values) - number, 0) for number, value in enumerate(values)),
        _instruction(_RETURN, _ERRNO | _EPERM),
    ]


def numbers(machine: str) -> dict[str, int]:
    """The calls on the list and their numbers, for a machine of `os.uname`. Raises KeyError for an unknown one."""
    return _TABLES[machine] | _BOTH


def build(machine: str, memory_files: bool = True) -> bytes:
    """The filter's program (struct sock_filter[]) for a machine of `os.uname`. Raises KeyError for an unknown one.

    Without `memory_files`, memfd_create is refused: no watcher of processes sees the memory that it holds.
    """
    table = numbers(machine)
    looked_at = {"socket", "socketpair", "setrlimit", "prlimit64"}
    absent = looked_at if memory_files else looked_at | {"memfd_create"}
    allowed = sorted({number for name, number in table.items() if name not in absent})
    sockets = [
        *_among(_SECOND, _TYPES, 0xF),
        *_among(_THIRD, _PROTOCOLS),
        *_among(_FIRST, _FAMILIES),
        _instruction(_RETURN, _ALLOW),
    ]
    program = [
        _instruction(_LOAD, 4),
        _instruction(_EQUAL, _ARCH[machine], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, 0),
        _instruction(_GREATER, 0x40000000, 0, 1),
        _instruction(_RETURN, _KILL),
        _instruction(_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _ERRNO | _ENOSYS),
        _instruction(_EQUAL, _CLONE[machine], 0, 4),
        _instruction(_LOAD, _FIRST),
        _instruction(_MASKED, _NAMESPACES, 0, 1),
        _instruction(_RETURN, _ERRNO | _EPERM),
        _instruction(_RETURN, _ALLOW),
        *_only(table["socket"], sockets),
        *_only(table["socketpair"], sockets),
        # A core limit of 1 keeps a crash away from the host's crash handler, one of 0 does not (core(5)): it stays.
        *_only(
            table["prlimit64"],
            [
                _instruction(_LOAD, _SECOND),
                _instruction(_EQUAL, _RLIMIT_CORE, 0, 5),
                _instruction(_LOAD, _THIRD),
                _instruction(_EQUAL, 0, 0, 2),
                _instruction(_LOAD, _THIRD_HIGH),
                _instruction(_EQUAL, 0, 1, 0),
                _instruction(_RETURN, _ERRNO | _EPERM),
                _instruction(_RETURN, _ALLOW),
            ],
        ),
        *_only(
            table["setrlimit"],
            [
                _instruction(_LOAD, _FIRST),
                _instruction(_EQUAL, _RLIMIT_CORE, 0, 1),
                _instruction(_RETURN, _ERRNO | _EPERM),
                _instruction(_RETURN, _ALLOW),
            ],
        ),
    ]
    for number in allowed:
        program += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    program.append(_instruction(_RETURN, _ERRNO | _EPERM))
    return b"".join(program)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(program: bytes) -> None:
    """Install the filter on this process and all it will start. Raises OSError."""
    buffer = ctypes.create_string_buffer(program, len(program))
    wrapped = _Program(len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, ctypes.byref(wrapped))


def supported() -> bool:
    return os.uname().machine in _TABLES
