// Looking at, and reaching into, what is not the app's: processes, files, the kernel.

#include "probe.h"
#include <dirent.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

static pid_t victim(void) {
  pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  return child;
}

static void tracing(void) {
  pid_t child = victim();
  static char secret[8] = "victim", read_back[8];
  struct iovec here = {read_back, 8}, there = {secret, 8};
  attempt("process_vm_readv", syscall(SYS_process_vm_readv, child, &here, 1, &there, 1, 0));
  attempt("process_vm_writev", syscall(SYS_process_vm_writev, child, &here, 1, &there, 1, 0));
  attempt("pidfd_getfd", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, child, 0), 0, 0));
  attempt("ptrace seize", ptrace(PTRACE_SEIZE, child, NULL, NULL));
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
}

// The canary is a process of the host, in a control run one of the same namespace.
static void killing(void) {
  pid_t target = number("pid", 0);
  long pidfd = attempt("pidfd_open", syscall(SYS_pidfd_open, target, 0));
  if (pidfd >= 0) attempt("pidfd_send_signal", syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
  attempt("kill", kill(target, SIGTERM));
  attempt("tgkill", syscall(SYS_tgkill, target, target, SIGKILL));
}

static void read_path(const char *path) {
  char text[64];
  int fd = open(path, O_RDONLY);
  if (fd < 0) {
    if (errno != ENOENT) refused(path);
    return;
  }
  errno = ENODATA;
  if (read(fd, text, sizeof text) > 0) breach("read %s", path);
  else if (errno == EISDIR) breach("opened %s", path);
  else refused(path);
  close(fd);
}

static void others(void) {
  char list[2000];
  snprintf(list, sizeof list, "%s", argument("paths"));
  for (char *path = strtok(list, ","); path != NULL; path = strtok(NULL, ",")) {
    int fd = open(path, O_RDONLY);
    attempt(path, fd);
    if (fd >= 0) close(fd);
  }
  DIR *all = opendir("/proc");
  int seen = 0;
  for (struct dirent *each; (each = readdir(all)) != NULL;) {
    static char environment[1 << 16];
    char path[300];
    if (atoi(each->d_name) <= 0) continue;
    snprintf(path, sizeof path, "/proc/%s/environ", each->d_name);
    int fd = open(path, O_RDONLY);
    if (fd < 0) continue;
    ssize_t length = read(fd, environment, sizeof environment);
    close(fd);
    seen++;
    if (length > 0 && memmem(environment, length, "CANARY_SECRET=", 14) != NULL)
      breach("the secret of process %s", each->d_name);
  }
  closedir(all);
  took("the environment of %d processes", seen);
}

static void kernel_files(void) {
  const char *paths[] = {"/proc/kcore", "/proc/kallsyms",     "/proc/keys", "/proc/timer_list",
                         "/dev/mem",    "/proc/kpagecount",   "/dev/kmsg",  "/proc/sched_debug",
                         "/proc/vmallocinfo", "/sys/kernel/notes", "/dev/vda", "/dev/loop0"};
  for (size_t each = 0; each < sizeof paths / sizeof *paths; each++) read_path(paths[each]);
  attempt("syslog", syscall(SYS_syslog, 10, NULL, 0));
}

// Paths of the app's own view; a folder of the host, or a file outside this, is a way out.
static int is_own(const char *path, int is_folder) {
  const char *own[] = {"/dev/", "/app/", "/data/", "/tmp/", "/proc/", "/opt/lode/", "/usr/",
                       "/memfd:"};
  for (size_t each = 0; each < sizeof own / sizeof *own; each++)
    if (strncmp(path, own[each], strlen(own[each])) == 0) return !is_folder || each == 4;
  return 0;
}

static void descriptors_of(pid_t pid) {
  char folder[64], link[400], target[400];
  snprintf(folder, sizeof folder, "/proc/%d/fd", pid);
  DIR *all = opendir(folder);
  if (all == NULL) {
    refused(folder);
    return;
  }
  for (struct dirent *each; (each = readdir(all)) != NULL;) {
    struct stat found;
    snprintf(link, sizeof link, "%s/%s", folder, each->d_name);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length <= 0 || stat(link, &found) != 0) continue;
    target[length] = 0;
    if (target[0] != '/' || is_own(target, S_ISDIR(found.st_mode))) continue;
    // Its own output lies outside: it may write there, and no more.
    int output = strcmp(each->d_name, "1") == 0 || strcmp(each->d_name, "2") == 0;
    if (output && !S_ISDIR(found.st_mode)) attempt("reading its log back", open(link, O_RDWR));
    else breach("descriptor %s of %s", each->d_name, target);
  }
  closedir(all);
}

static void inherited(void) {
  descriptors_of(getpid());
  descriptors_of(getppid());
  took("a look at its descriptors");
}

static void terminal_input(void) {
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
  if (master < 0) {
    refused("/dev/ptmx");
    return;
  }
  grantpt(master);
  unlockpt(master);
  char name[64];
  ptsname_r(master, name, sizeof name);
  pid_t child = fork();
  if (child == 0) {
    setsid();
    int slave = open(name, O_RDWR);
    ioctl(slave, TIOCSCTTY, 0);
    unsigned long high = 1UL << 32;
    attempt("TIOCSTI", syscall(SYS_ioctl, slave, 0x5412UL, "x"));
    attempt("TIOCSTI with high bits", syscall(SYS_ioctl, slave, high | 0x5412UL, "x"));
    attempt("TIOCLINUX", syscall(SYS_ioctl, slave, 0x541cUL, "\3"));
    attempt("TIOCLINUX with high bits", syscall(SYS_ioctl, slave, high | 0x541cUL, "\3"));
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

static void keys(void) {
  attempt("keyctl get keyring", syscall(SYS_keyctl, 0, -3, 1));
  attempt("keyctl join session", syscall(SYS_keyctl, 1, NULL));
  attempt("add_key", syscall(SYS_add_key, "user", "lode-probe", "x", 1, -2));
  errno = 0;
  attempt("request_key", syscall(SYS_request_key, "user", "lode-probe", NULL, -2));
}

static void programs_in_kernel(void) {
  union bpf_attr map = {
      .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  attempt("bpf map", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
}

static void fault_handling(void) { attempt("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC)); }

static void io_rings(void) {
  char parameters[256] = {0};
  attempt("io_uring_setup", syscall(SYS_io_uring_setup, 1, parameters));
}

static void counters(void) {
  struct perf_event_attr clock = {
      .type = PERF_TYPE_SOFTWARE, .size = sizeof clock, .config = PERF_COUNT_SW_CPU_CLOCK};
  attempt("perf of itself", syscall(SYS_perf_event_open, &clock, 0, -1, -1, 0));
  attempt("perf of a core", syscall(SYS_perf_event_open, &clock, -1, 0, -1, 0));
}

const struct probe peek_probes[] = {
    {"tracing", tracing},         {"killing", killing},       {"others", others},
    {"kernel-files", kernel_files}, {"descriptors", inherited}, {"terminal", terminal_input},
    {"keys", keys},               {"bpf", programs_in_kernel}, {"userfaultfd", fault_handling},
    {"io-uring", io_rings},       {"perf", counters},         {NULL, NULL},
};
