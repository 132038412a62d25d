// Sockets that reach past the app's own network.

#include "probe.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static void one_socket(const char *what, int family, int type, int protocol) {
  int fd = attempt(what, socket(family, type, protocol));
  if (fd >= 0) close(fd);
}

static void kinds(void) {
  one_socket("packet", AF_PACKET, SOCK_RAW, htons(3));
  one_socket("raw", AF_INET, SOCK_RAW, IPPROTO_ICMP);
  one_socket("raw v6", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
  one_socket("AF_ALG", AF_ALG, SOCK_SEQPACKET, 0);
  one_socket("AF_VSOCK", AF_VSOCK, SOCK_STREAM, 0);
  one_socket("AF_KEY", AF_KEY, SOCK_RAW, 2);
  one_socket("AF_XDP", 44, SOCK_RAW, 0);
  one_socket("netfilter", AF_NETLINK, SOCK_RAW, 12);
  one_socket("kernel events", AF_NETLINK, SOCK_RAW, 15);
  one_socket("audit", AF_NETLINK, SOCK_RAW, 9);
}

static void abstract_socket(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  size_t length = strlen(argument("name"));
  memcpy(name.sun_path + 1, argument("name"), length);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
  attempt("abstract socket of the host", connect(fd, (void *)&name, size));
  char path[200];
  snprintf(path, sizeof path, "%s", argument("path"));
  struct sockaddr_un file = {.sun_family = AF_UNIX};
  strncpy(file.sun_path, path, sizeof file.sun_path - 1);
  int other = socket(AF_UNIX, SOCK_STREAM, 0);
  attempt("socket file of the host", connect(other, (void *)&file, sizeof file));
}

static void reach(const char *what, const struct sockaddr *where, socklen_t size) {
  int fd = socket(where->sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    refused(what);
    return;
  }
  int error = connect(fd, where, size) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    struct pollfd waiting = {fd, POLLOUT, 0};
    socklen_t length = sizeof error;
    if (poll(&waiting, 1, 800) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    else error = ETIMEDOUT;
  }
  close(fd);
  errno = error;
  attempt(what, error == 0 ? 0 : -1);
}

static void reach_four(const char *text, int port) {
  char what[100];
  snprintf(what, sizeof what, "%s port %d", text, port);
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_aton(text, &where.sin_addr) != 0) reach(what, (void *)&where, sizeof where);
}

static void reach_six(const char *text, int port) {
  char what[100];
  snprintf(what, sizeof what, "[%s] port %d", text, port);
  struct sockaddr_in6 where = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  inet_pton(AF_INET6, text, &where.sin6_addr);
  reach(what, (void *)&where, sizeof where);
}

static void targets(void) {
  char list[1000];
  snprintf(list, sizeof list, "%s", argument("targets"));
  for (char *target = strtok(list, ","); target != NULL; target = strtok(NULL, ",")) {
    char *port = strchr(target, ':');
    *port = 0;
    reach_four(target, atoi(port + 1));
  }
}

// A name server of the app's own: public at the first question, the metadata address at the
// second. What decides is the address that is connected to, not the name.
static uint32_t rebound(int question) {
  int server = socket(AF_INET, SOCK_DGRAM, 0), client = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof here;
  bind(server, (void *)&here, size);
  getsockname(server, (void *)&here, &size);
  uint32_t answers[] = {inet_addr("198.51.100.7"), inet_addr("169.254.169.254")}, got = 0;
  sendto(client, "rebind.test", 11, 0, (void *)&here, size);
  char asked[64];
  struct sockaddr_in from;
  size = sizeof from;
  (void)!recvfrom(server, asked, sizeof asked, 0, (void *)&from, &size);
  sendto(server, &answers[question], 4, 0, (void *)&from, size);
  (void)!recv(client, &got, 4, 0);
  close(server);
  close(client);
  return got;
}

static void metadata(void) {
  int port = number("port", 80);
  const char *forms[] = {"169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
                         "169.254.43518"};
  for (int each = 0; each < 5; each++) reach_four(forms[each], port);
  reach_six("::ffff:169.254.169.254", port);
  reach_six("fd00:ec2::254", port);
  (void)!rebound(0);
  struct sockaddr_in second = {.sin_family = AF_INET, .sin_port = htons(port)};
  second.sin_addr.s_addr = rebound(1);
  reach("a rebound name", (void *)&second, sizeof second);
}

// Packets with another's address, and ports of the host. The datagram goes to `target`.
static void spoofing(void) {
  int on = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in false_one = {.sin_family = AF_INET, .sin_port = htons(5353)};
  false_one.sin_addr.s_addr = inet_addr(argument("source"));
  struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(number("port", 9))};
  target.sin_addr.s_addr = inet_addr(argument("target"));
  attempt("IP_TRANSPARENT", setsockopt(fd, IPPROTO_IP, 19, &on, sizeof on));
  setsockopt(fd, IPPROTO_IP, 15, &on, sizeof on);
  if (bind(fd, (void *)&false_one, sizeof false_one) != 0)
    refused("bind to another's address");
  else if (sendto(fd, "spoof", 5, 0, (void *)&target, sizeof target) < 0)
    refused("sending as another");
  else
    took("a datagram as another");
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(number("listen", 0))};
  int server = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(server, (void *)&any, sizeof any) != 0 || listen(server, 1) != 0) refused("listening");
  else took("a port of its own network");
  sleep(number("hold", 0));
}

const struct probe network_probes[] = {
    {"sockets", kinds},     {"abstract", abstract_socket}, {"lode-ports", targets},
    {"metadata", metadata}, {"spoofing", spoofing},        {NULL, NULL},
};
