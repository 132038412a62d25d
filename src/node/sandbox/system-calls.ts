/**
 * What sandboxed programs may ask of the kernel: an allowlist after the default profile of
 * moby (profiles/seccomp/default.json, for a process without capabilities), less what DESIGN
 * takes away: io_uring, ptrace and process_vm_*, pidfd_getfd, modify_ldt, memfd_secret, fanotify.
 * Names the installed libseccomp does not know are skipped: refusing is the default.
 */
export const allowedCalls: readonly string[] = words(`
  accept accept4 access adjtimex alarm arch_prctl bind brk capget capset chdir chmod chown
  clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect
  copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait
  epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat
  faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchown fchownat fcntl fdatasync
  fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex
  futex_waitv futimesat get_robust_list getcpu getcwd getdents getdents64 getegid geteuid
  getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
  getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday
  getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
  io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill
  landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link
  linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier
  memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect
  mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl msgget
  msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open
  openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
  pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
  pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg
  remap_file_pages removexattr rename renameat renameat2 restart_syscall riscv_flush_icache
  rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
  rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
  sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
  sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
  sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto
  set_robust_list set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid
  setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid
  setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice
  stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time
  timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
  timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat utime
  utimensat utimes vfork vmsplice wait4 waitid write writev
`);

/**
 * Known and refused with EPERM, so that a program says "not permitted". Everything else gets
 * ENOSYS, which makes libraries fall back (clone3 → clone, io_uring → epoll).
 */
export const deniedCalls: readonly string[] = words(`
  acct add_key bpf chroot clock_settime delete_module fanotify_init finit_module fsconfig
  fsmount fsopen fspick init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl
  lookup_dcookie mount mount_setattr move_mount open_by_handle_at open_tree perf_event_open
  pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl
  reboot request_key setdomainname sethostname setns settimeofday swapoff swapon syslog umount2
  unshare userfaultfd vhangup
`);

/** Flags of clone(2) that make a namespace: NEWNS, NEWCGROUP, NEWUTS … NEWNET. */
export const namespaceFlags = 0x7e02_0000;

/** Domains of personality(2) that programs use: Linux, UNAME26, 32-bit limits, query. */
export const personalities: readonly bigint[] = [0x0n, 0x8n, 0x2_0000n, 0x2_0008n, 0xffff_ffffn];

/** Address families and the socket types each may have; a null type allows protocol 0 only. */
export const sockets: readonly { readonly family: number; readonly type: number | null }[] = [
  // unix, IPv4 and IPv6: stream, datagram, sequenced packets (never raw).
  ...[1, 2, 10].flatMap((family) => [1, 2, 5].map((type) => ({ family, type }))),
  // netlink: only NETLINK_ROUTE, for listing interfaces.
  { family: 16, type: null },
];

/**
 * ioctl requests that put input into a terminal (TIOCSTI, TIOCLINUX), and those by which any
 * user may make a btrfs subvolume (BTRFS_IOC_SUBVOL_CREATE, _SNAP_CREATE, their v2): inside its
 * volume an app would have one without the volume's limit.
 */
export const deniedRequests: readonly number[] = [
  0x5412, 0x541c, 0x5000_940e, 0x5000_9401, 0x5000_9418, 0x5000_9417,
];

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}
