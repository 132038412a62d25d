// Asks a site again and again, a new connection each time, and prints for every answer when it
// was asked for, how long it took (microseconds of the steady clock) and its status.
//
//   visitor PORT HOST PAUSE_MICROSECONDS
//
// It stands for somebody on another machine, whom load on this one does not hinder: no collector
// or compiler of its own, where the kernel permits it before everything else on the cores, and
// what it still waits for a core (a system call of another ends first) is no part of the answer.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

// Microseconds that this process has waited for a core so far; 0 where the kernel does not count.
static long long waited(int schedstat) {
  char text[100] = {0};
  long long ran = 0, nanoseconds = 0;
  if (pread(schedstat, text, sizeof text - 1, 0) > 0) sscanf(text, "%lld %lld", &ran, &nanoseconds);
  return nanoseconds / 1000;
}

static int visit(int port, const char *request) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, status = 0;
  struct timeval patience = {10, 0};
  struct sockaddr_in to = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
  char answer[4096];
  size_t got = 0;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
      write(fd, request, strlen(request)) > 0) {
    ssize_t count;
    while ((count = read(fd, answer + got, sizeof answer - 1 - got)) > 0) got += count;
    answer[got] = 0;
    // Its end as well: an answer that is cut off counts as none.
    if (count == 0 && strstr(answer, "\r\n\r\n") != NULL) sscanf(answer, "HTTP/1.1 %d", &status);
  }
  close(fd);
  return status;
}

int main(int count, char **arguments) {
  if (count != 4) return 2;
  struct sched_param first = {.sched_priority = 1};
  (void)!sched_setscheduler(0, SCHED_FIFO, &first);
  int port = atoi(arguments[1]);
  char request[300];
  snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
           arguments[2]);
  setvbuf(stdout, NULL, _IOLBF, 0);
  int schedstat = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
  for (;;) {
    long long at = now(CLOCK_REALTIME), before = waited(schedstat), from = now(CLOCK_MONOTONIC);
    int status = visit(port, request);
    long long took = now(CLOCK_MONOTONIC) - from - (waited(schedstat) - before);
    if (printf("%lld %lld %d\n", at, took, status) < 0) return 0;
    usleep(atoi(arguments[3]));
  }
}
