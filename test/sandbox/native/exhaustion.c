// Bombs. Each takes until it is refused or has `count` (or `bytes`), which only a machine
// without limits gives; then it keeps up the pressure for `hold` seconds.

#include "probe.h"
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>

static void judge(const char *what, long got, long wanted) {
  char text[200];
  snprintf(text, sizeof text, "%ld %s, then", got, what);
  if (got == 0) took("broken: no %s at all", what);
  else if (got >= wanted) breach("%ld %s", got, what);
  else refused(text);
}

static double hold_until(void) { return now() + number("hold", 0); }

static void fork_bomb(void) {
  long wanted = number("count", 3000), got = 0;
  for (; got < wanted; got++) {
    pid_t child = fork();
    if (child < 0) break;
    if (child == 0) {
      for (int fd = 0; fd < 64; fd++) close(fd);
      for (;;) pause();
    }
  }
  judge("processes", got, wanted);
  for (double until = hold_until(); now() < until;)
    if (fork() == 0) _exit(0);
}

static void *wait_forever(void *nothing) {
  for (;;) pause();
  return nothing;
}

static void thread_bomb(void) {
  long wanted = number("count", 3000), got = 0;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 1 << 18);
  pthread_t thread;
  for (; got < wanted; got++)
    if ((errno = pthread_create(&thread, &small, wait_forever, NULL)) != 0) break;
  judge("threads", got, wanted);
  for (double until = hold_until(); now() < until;)
    (void)!pthread_create(&thread, &small, wait_forever, NULL);
}

// One that is killed for it is followed by the next.
static void memory_bomb(void) {
  size_t wanted = number("bytes", 0), piece = 1 << 20;
  double until = hold_until();
  int killed = 0;
  do {
    pid_t child = fork();
    if (child == 0) {
      for (size_t got = 0; got < wanted; got += piece) {
        int how = MAP_PRIVATE | MAP_ANONYMOUS;
        char *memory = mmap(NULL, piece, PROT_READ | PROT_WRITE, how, -1, 0);
        if (memory == MAP_FAILED) _exit(1);
        memset(memory, 1, piece);
      }
      _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0) continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      breach("%zu bytes of memory", wanted);
      return;
    }
    killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  } while (now() < until);
  if (killed) took("memory until the kernel killed it");
  else refused("memory");
}

static void fill(const char *path, size_t wanted) {
  static char piece[1 << 20];
  memset(piece, 'x', sizeof piece);
  int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (fd < 0) {
    refused(path);
    return;
  }
  size_t got = 0;
  double until = hold_until();
  while (got < wanted) {
    ssize_t count = write(fd, piece, sizeof piece);
    if (count <= 0) break;
    got += count;
  }
  // A file system for sockets has no room at all.
  if (got == 0 && errno == ENOSPC) refused(path);
  else judge(path, got, wanted);
  while (now() < until)
    if (write(fd, piece, sizeof piece) > 0 || ftruncate(fd, got / 2) != 0) fsync(fd);
  close(fd);
  unlink(path);
}

static void memory_files(void) {
  fill("/tmp/bomb", number("bytes", 0));
  fill("/dev/shm/bomb", number("bytes", 0));
  fill("/run/lode-app/bomb", number("bytes", 0));
}

static void in_directory(char *path, size_t capacity, const char *name) {
  const char *directory = argument("directory");
  snprintf(path, capacity, "%s/%s", *directory == 0 ? "/data" : directory, name);
}

static void disk_fill(void) {
  char path[300];
  in_directory(path, sizeof path, "bomb");
  fill(path, number("bytes", 0));
}

// Names as long as they may be, so that records weigh more than on any real disk.
static void inode_fill(void) {
  long wanted = number("count", 100000), got = 0;
  char path[400], name[256], format[300];
  in_directory(path, sizeof path, "inodes");
  mkdir(path, 0700);
  int directory = open(path, O_RDONLY | O_DIRECTORY);
  if (directory < 0) {
    refused(path);
    return;
  }
  memset(format, 'n', sizeof format);
  double until = now() + 0.65 * number("within", 25);
  for (; got < wanted && now() < until; got++) {
    snprintf(name, sizeof name, "%06ld%.249s", got, format);
    int fd = openat(directory, name, O_CREAT | O_WRONLY, 0600);
    if (fd < 0) break;
    close(fd);
  }
  if (got < wanted && now() >= until) took("broken: %ld files in the time", got);
  else judge("files", got, wanted);
  for (long each = 0; each < got; each++) {
    snprintf(name, sizeof name, "%06ld%.249s", each, format);
    unlinkat(directory, name, 0);
  }
  close(directory);
  rmdir(path);
}

static void open_files(void) {
  long wanted = number("count", 200000), got = 0;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max = wanted + 100;
  setrlimit(RLIMIT_NOFILE, &limit);
  while (got < wanted && open("/dev/null", O_RDONLY) >= 0) got++;
  judge("open files", got, wanted);
  for (double until = hold_until(); now() < until;)
    if (fork() == 0) {
      for (int fd = 3; fd < 60000; fd++) dup(fd);
      _exit(0);
    } else {
      wait(NULL);
    }
}

static volatile int spinning;

static void *spin(void *nothing) {
  while (spinning) {
  }
  return nothing;
}

static void cpu_spin(void) {
  long threads = number("threads", 2 * sysconf(_SC_NPROCESSORS_ONLN));
  double most = atof(argument("cores"));
  pthread_t thread;
  spinning = 1;
  for (long each = 0; each < threads; each++) pthread_create(&thread, NULL, spin, NULL);
  double start = now();
  sleep(number("hold", 2));
  spinning = 0;
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu = used.ru_utime.tv_sec + used.ru_utime.tv_usec / 1e6;
  double got = cpu / (now() - start);
  errno = EDQUOT;
  char text[100];
  snprintf(text, sizeof text, "%.2f cores, more", got);
  if (got > most) breach("%.2f cores", got);
  else refused(text);
}

// What became of it is seen in the size of the log.
static void log_flood(void) {
  static char lines[1 << 16];
  memset(lines, 'l', sizeof lines);
  for (size_t at = 99; at < sizeof lines; at += 100) lines[at] = '\n';
  size_t wanted = number("bytes", 0), got = 0;
  double until = now() + number("hold", 2);
  while (got < wanted && now() < until) {
    ssize_t count = write(1, lines, sizeof lines);
    if (count <= 0) break;
    got += count;
  }
  if (got == 0) took("broken: no log at all");
  else took("%zu bytes of log", got);
}

static void kernel_objects(void) {
  long wanted = number("count", 3100), got = 0;
  while (got < wanted && open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0) got++;
  judge("terminals", got, wanted);
  for (got = 0; got < wanted && inotify_init1(0) >= 0;) got++;
  judge("inotify instances", got, wanted);
  struct sockaddr_in any = {.sin_family = AF_INET};
  for (got = 0; got < 20000; got++) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (void *)&any, sizeof any) != 0) break;
  }
  took("%ld ports", got);
  sleep(number("hold", 0));
}

const struct probe exhaustion_probes[] = {
    {"fork-bomb", fork_bomb},       {"thread-bomb", thread_bomb}, {"memory-bomb", memory_bomb},
    {"memory-files", memory_files}, {"disk-fill", disk_fill},     {"inode-fill", inode_fill},
    {"open-files", open_files},     {"cpu-spin", cpu_spin},       {"log-flood", log_flood},
    {"kernel-objects", kernel_objects}, {NULL, NULL},
};
