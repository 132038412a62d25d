// Ways out of the sandbox, or up to more rights.

#include "probe.h"
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

static void old_mount(void) {
  mkdir("/tmp/m", 0700);
  attempt("mount tmpfs", mount("tmpfs", "/tmp/m", "tmpfs", 0, NULL));
  attempt("bind mount", mount("/tmp", "/tmp/m", NULL, MS_BIND, NULL));
  attempt("remount", mount(NULL, "/tmp/m", NULL, MS_REMOUNT | MS_BIND, NULL));
  attempt("mount proc", mount("proc", "/tmp/m", "proc", 0, NULL));
  attempt("unmount", umount2("/tmp/m", MNT_DETACH));
}

static void new_mount(void) {
  long context = attempt("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
  if (context >= 0) {
    attempt("fsconfig", syscall(SYS_fsconfig, context, 6, NULL, NULL, 0));
    attempt("fsmount", syscall(SYS_fsmount, context, 0, 0));
  }
  long tree = attempt("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/tmp", 1));
  mkdir("/tmp/m", 0700);
  attempt("move_mount", syscall(SYS_move_mount, tree, "", AT_FDCWD, "/tmp/m", 4));
  attempt("fspick", syscall(SYS_fspick, AT_FDCWD, "/tmp", 0));
  uint64_t change[4] = {0, 0, 0, 0};
  attempt("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/tmp/m", 0, change, 32));
}

static void in_child(const char *what, long (*try)(void)) {
  int ends[2];
  if (pipe(ends) != 0) return;
  pid_t child = fork();
  if (child == 0) {
    long result = try();
    int error = result < 0 ? errno : 0;
    (void)!write(ends[1], &error, sizeof error);
    _exit(0);
  }
  int error = EIO;
  close(ends[1]);
  (void)!read(ends[0], &error, sizeof error);
  close(ends[0]);
  waitpid(child, NULL, 0);
  errno = error;
  attempt(what, error == 0 ? 0 : -1);
}

static long unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long unshare_mounts(void) { return unshare(CLONE_NEWNS); }
static long unshare_network(void) { return unshare(CLONE_NEWNET); }
static long unshare_pids(void) { return unshare(CLONE_NEWPID); }
static long join_first(void) { return setns(open("/proc/1/ns/mnt", O_RDONLY), CLONE_NEWNS); }
static long clone_user(void) {
  long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  return child;
}

static void namespaces(void) {
  in_child("unshare user", unshare_user);
  in_child("unshare mounts", unshare_mounts);
  in_child("unshare network", unshare_network);
  in_child("unshare pids", unshare_pids);
  in_child("clone user", clone_user);
  in_child("setns", join_first);
}

static long clone3_user(void) {
  struct clone_args how = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
  long child = syscall(SYS_clone3, &how, sizeof how);
  if (child == 0) _exit(0);
  return child;
}

static long clone3_mounts(void) {
  struct clone_args how = {.flags = CLONE_NEWNS, .exit_signal = SIGCHLD};
  long child = syscall(SYS_clone3, &how, sizeof how);
  if (child == 0) _exit(0);
  return child;
}

static void new_clone(void) {
  in_child("clone3 user", clone3_user);
  in_child("clone3 mounts", clone3_mounts);
}

static long change_root(void) { return chroot("/tmp"); }

static void roots(void) {
  in_child("chroot", change_root);
  mkdir("/tmp/root", 0700);
  mkdir("/tmp/root/old", 0700);
  mount("tmpfs", "/tmp/root", "tmpfs", 0, NULL);
  mkdir("/tmp/root/old", 0700);
  attempt("pivot_root", syscall(SYS_pivot_root, "/tmp/root", "/tmp/root/old"));
}

// Opened for writing, nothing written: that it may be is the breach.
static void writable(const char *path) {
  int fd = open(path, O_WRONLY);
  if (fd < 0 && errno == ENOENT) return;
  if (fd < 0 && errno == ETXTBSY) fd = dup(0);
  attempt(path, fd);
  if (fd >= 0) close(fd);
}

static void core_pattern(void) {
  writable("/proc/sys/kernel/core_pattern");
  writable("/proc/sys/kernel/modprobe");
  writable("/proc/sys/kernel/domainname");
  writable("/proc/sys/kernel/randomize_va_space");
  writable("/proc/sys/vm/overcommit_memory");
  writable("/proc/sys/net/ipv4/ip_forward");
  writable("/proc/sys/fs/suid_dumpable");
}

static void kernel_code(void) {
  static const char nothing[16];
  errno = 0;
  // Beyond the permission: ENOEXEC, as that is no module.
  long loaded = syscall(SYS_init_module, nothing, sizeof nothing, "");
  attempt("init_module", loaded < 0 && errno == ENOEXEC ? 0 : loaded);
  writable("/proc/sysrq-trigger");
  writable("/sys/kernel/uevent_helper");
  writable("/sys/power/state");
  attempt("swapoff", swapoff("/tmp/none") < 0 && errno == ENOENT ? 0 : -1);
}

// A setuid-root file lies in `file`, as if put there through some hole.
static void setuid_file(void) {
  const char *file = argument("file");
  char said[16] = "";
  int ends[2];
  if (pipe(ends) != 0) return;
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    execl(file, file, "effective", NULL);
    _exit(1);
  }
  close(ends[1]);
  (void)!read(ends[0], said, sizeof said - 1);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (strcmp(said, "0\n") == 0) breach("root by a setuid file");
  else {
    errno = EPERM;
    refused(said[0] == 0 ? "running the setuid file" : "root by the setuid file");
  }
  attempt("setuid 0", geteuid() == 0 ? -1 : setuid(0));
  attempt("setgid 0", geteuid() == 0 ? -1 : setgid(0));
}

// CVE-2019-5736: the program that runs us is the next one's, too.
static void launcher(void) {
  writable("/proc/self/exe");
  writable("/proc/1/exe");
  char again[64];
  int fd = open("/proc/1/exe", O_PATH);
  if (fd < 0) fd = open("/proc/self/exe", O_PATH);
  snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
  writable(again);
  close(fd);
  const char *others[] = {"/opt/lode/bin/bun", "/usr/bin/bwrap", "/usr/bin/env", "/app", "/etc"};
  for (int each = 0; each < 5; each++) {
    if (access(others[each], F_OK) != 0) continue;
    attempt(others[each], access(others[each], W_OK));
  }
}

// Names that a careless launcher would write through at the next start.
static void planted_link(void) {
  const char *target = argument("target"), *directory = argument("directory");
  const char *names[] = {"app", "lode", "http.sock", "node_modules", ".npm", ".cache", "hosts"};
  if (*directory == 0) directory = "/data";
  char path[400];
  int made = 0;
  for (int each = 0; each < 7; each++) {
    snprintf(path, sizeof path, "%s/%s", directory, names[each]);
    made += symlink(target, path) == 0 || errno == EEXIST;
  }
  unlink("/run/lode-app/http.sock");
  made += symlink(target, "/run/lode-app/http.sock") == 0;
  took("%d links", made);
}

static void release_agent(void) {
  mkdir("/tmp/cgroup", 0700);
  const char *options = "none,name=lode-probe";
  if (attempt("mount cgroup", mount("cgroup", "/tmp/cgroup", "cgroup", 0, options)) >= 0)
    writable("/tmp/cgroup/release_agent");
  umount2("/tmp/cgroup", MNT_DETACH);
  if (attempt("mount cgroup2", mount("none", "/tmp/cgroup", "cgroup2", 0, NULL)) >= 0)
    umount2("/tmp/cgroup", MNT_DETACH);
  writable("/sys/fs/cgroup/memory/release_agent");
  writable("/sys/fs/cgroup/cgroup.procs");
}

static void device_nodes(void) {
  if (attempt("mknod mem", mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1))) >= 0)
    writable("/tmp/mem");
  attempt("mknod disk", mknod("/tmp/disk", S_IFBLK | 0600, makedev(254, 0)));
  union {
    struct file_handle handle;
    char room[sizeof(struct file_handle) + 128];
  } of;
  of.handle.handle_bytes = 128;
  int mount_id;
  int place = open(*argument("directory") == 0 ? "/data" : argument("directory"), O_RDONLY);
  if (name_to_handle_at(place, "", &of.handle, &mount_id, AT_EMPTY_PATH) < 0)
    refused("name_to_handle_at");
  else
    attempt("open_by_handle_at", open_by_handle_at(place, &of.handle, O_RDONLY));
}

// What an ordinary app does with a request, to compare with.
static void nothing(void) { took("nothing"); }

const struct probe escape_probes[] = {
    {"nothing", nothing},
    {"mount", old_mount},           {"new-mount", new_mount},         {"namespaces", namespaces},
    {"clone3", new_clone},          {"roots", roots},
    {"core-pattern", core_pattern},
    {"kernel-code", kernel_code},   {"setuid-file", setuid_file},     {"launcher", launcher},
    {"planted-link", planted_link}, {"release-agent", release_agent}, {"devices", device_nodes},
    {NULL, NULL},
};
