// Runs one probe in a process of its own, as a program, as an HTTP server (an app in itself),
// or as a library inside another runtime.
//
//   probe run ID name=value…     prints the report, to descriptor $REPORT_TO when that is set
//   probe serve                  answers GET /ID?name=value&… on PORT
//   probe listen ADDRESS PORT    accepts connections, for control runs

#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

static char arguments[4096];
static int report_to = 1;

const char *argument(const char *name) {
  size_t length = strlen(name);
  for (const char *at = arguments; *at != 0; at += strlen(at) + 1)
    if (strncmp(at, name, length) == 0 && at[length] == '=') return at + length + 1;
  return "";
}

long number(const char *name, long otherwise) {
  const char *text = argument(name);
  return *text == 0 ? otherwise : atol(text);
}

static void report(const char *kind, const char *text) {
  char line[400];
  int length = snprintf(line, sizeof line, "%s %s\n", kind, text);
  if (length >= (int)sizeof line) length = sizeof line - 1;
  (void)!write(report_to, line, length);
}

void breach(const char *format, ...) {
  char text[300];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  report("breach", text);
}

void took(const char *format, ...) {
  char text[300];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  report("took", text);
}

void refused(const char *what) {
  char text[300];
  snprintf(text, sizeof text, "%s: %s", what, strerrorname_np(errno));
  report("refused", text);
}

long attempt(const char *what, long result) {
  if (result < 0) refused(what);
  else breach("%s", what);
  return result;
}

double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static void run_here(const char *id) {
  const struct probe *tables[] = {exhaustion_probes, escape_probes, peek_probes, network_probes};
  for (size_t table = 0; table < 4; table++)
    for (const struct probe *probe = tables[table]; probe->id != NULL; probe++)
      if (strcmp(probe->id, id) == 0) {
        probe->run();
        return;
      }
  report("unknown", id);
}

static void take_arguments(const char *line) {
  size_t used = 0;
  for (const char *at = line + strlen(line) + 1; *at != 0; at += strlen(at) + 1) {
    size_t length = strlen(at) + 1;
    if (used + length + 1 > sizeof arguments) break;
    memcpy(arguments + used, at, length);
    used += length;
  }
  arguments[used] = 0;
}

// `line` is "ID name=value…", each part ended by a zero, two at the end. Writes the report to
// `text`; returns its length.
int probe_run(const char *line, char *text, int capacity) {
  int ends[2];
  take_arguments(line);
  if (pipe(ends) != 0) return snprintf(text, capacity, "broken pipe: %s\n", strerror(errno));
  pid_t child = fork();
  if (child < 0) return snprintf(text, capacity, "broken fork: %s\n", strerror(errno));
  if (child == 0) {
    setpgid(0, 0);
    close(ends[0]);
    report_to = ends[1];
    run_here(line);
    report("end", line);
    _exit(0);
  }
  close(ends[1]);
  int length = 0;
  double deadline = now() + number("within", 25);
  while (length < capacity - 64) {
    struct pollfd waiting = {ends[0], POLLIN, 0};
    int left = (int)((deadline - now()) * 1000);
    if (left <= 0 || poll(&waiting, 1, left) <= 0) break;
    ssize_t count = read(ends[0], text + length, capacity - 64 - length);
    if (count <= 0) break;
    length += count;
  }
  close(ends[0]);
  int overdue = now() > deadline, status = 0;
  // It may have been killed already; its children may not.
  if (waitpid(child, &status, WNOHANG) == 0 && overdue) kill(child, SIGKILL);
  else if (status == 0) waitpid(child, &status, 0);
  kill(-child, SIGKILL);
  while (waitpid(-child, NULL, 0) > 0) {
  }
  // Its children are reaped by the first process of the namespace, not by us.
  for (double until = now() + 3; kill(-child, 0) == 0 && now() < until;) usleep(5000);
  if (overdue) length += snprintf(text + length, 64, "overdue\n");
  else if (WIFSIGNALED(status))
    length += snprintf(text + length, 64, "killed %s\n", sigabbrev_np(WTERMSIG(status)));
  text[length] = 0;
  return length;
}

static void answer(int connection) {
  char head[4096], line[4096] = {0}, text[65536];
  ssize_t count = read(connection, head, sizeof head - 1);
  if (count <= 0) return;
  head[count] = 0;
  char *end = strncmp(head, "GET /", 5) == 0 ? strchr(head + 5, ' ') : NULL;
  if (end == NULL) return;
  *end = 0;
  for (char *at = head + 5, *to = line; *at != 0; at++) *to++ = strchr("?&", *at) ? 0 : *at;
  int length = line[0] == 0 ? snprintf(text, sizeof text, "ready\n")
                            : probe_run(line, text, sizeof text);
  char answer_head[100];
  int head_length = snprintf(answer_head, sizeof answer_head,
                             "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
                             length);
  (void)!write(connection, answer_head, head_length);
  for (int sent = 0; sent < length;) {
    ssize_t wrote = write(connection, text + sent, length - sent);
    if (wrote <= 0) return;
    sent += wrote;
  }
}

static int listener(const char *address, int port) {
  int on = 1, six = strchr(address, ':') != NULL;
  int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct sockaddr_in6 long_one = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  inet_pton(AF_INET, address, &four.sin_addr);
  inet_pton(AF_INET6, address, &long_one.sin6_addr);
  const struct sockaddr *where = six ? (void *)&long_one : (void *)&four;
  if (bind(fd, where, six ? sizeof long_one : sizeof four) != 0 || listen(fd, 100) != 0) {
    perror("listen");
    exit(1);
  }
  return fd;
}

int main(int count, char **words) {
  if (count >= 3 && strcmp(words[1], "run") == 0) {
    static char line[4096], text[65536];
    size_t used = 0;
    for (int at = 2; at < count && used + strlen(words[at]) + 2 < sizeof line; at++)
      used += strlen(strcpy(line + used, words[at])) + 1;
    probe_run(line, text, sizeof text);
    dprintf(getenv("REPORT_TO") == NULL ? 1 : atoi(getenv("REPORT_TO")), "%s", text);
    return 0;
  }
  if (count == 2 && strcmp(words[1], "effective") == 0) {
    printf("%d\n", geteuid());
    return 0;
  }
  int serving = count == 2 && strcmp(words[1], "serve") == 0;
  if (!serving && !(count == 4 && strcmp(words[1], "listen") == 0)) return 2;
  signal(SIGCHLD, SIG_IGN);
  int fd = serving ? listener("0.0.0.0", atoi(getenv("PORT"))) : listener(words[2], atoi(words[3]));
  for (;;) {
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) continue;
    if (fork() == 0) {
      signal(SIGCHLD, SIG_DFL);
      close(fd);
      answer(connection);
      _exit(0);
    }
    close(connection);
  }
}
