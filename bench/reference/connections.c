// Short TCP connections, as many as go through, for session set-up benches. The server listens on several ports and
// closes each connection as soon as it is there; the client keeps a number of them under way, waits for the server's
// end of each, closes it and begins the next. A connection counts when both ends have closed it.
//
//   connections server ADDRESS PORTS
//   connections client ADDRESS PORTS AT_ONCE MILLISECONDS       prints: connections failures seconds

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORT_FIRST = 7100, PORTS_MAX = 256, AT_ONCE_MAX = 1024, EVENTS = 256 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static struct sockaddr_in endpoint(const char *address, int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = inet_addr(address)};
}

static void watch(int epoll, int descriptor, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = descriptor};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) die("epoll_ctl");
}

static int serve(const char *address, int ports) {
  const int epoll = epoll_create1(0), yes = 1;
  for (int port = 0; port < ports; port++) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const struct sockaddr_in at = endpoint(address, PORT_FIRST + port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (const struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0) die("listen");
    watch(epoll, listener, EPOLLIN);
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[EVENTS];
    const int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      for (int connection; (connection = accept4(events[i].data.fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) close(connection);
    }
  }
}

static int begin(int epoll, const char *address, int port) {
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const struct sockaddr_in to = endpoint(address, port);
  if (descriptor < 0) return -1;
  if (connect(descriptor, (const struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
    close(descriptor);
    return -1;
  }
  watch(epoll, descriptor, EPOLLIN | EPOLLRDHUP);
  return descriptor;
}

static int call(const char *address, int ports, int at_once, double seconds) {
  const int epoll = epoll_create1(0);
  unsigned long done = 0, failed = 0, next = 0;
  const double start = now(), end = start + seconds;
  int under_way = 0;
  for (double time = start; time < end; time = now()) {
    for (; under_way < at_once; under_way++) {
      if (begin(epoll, address, PORT_FIRST + (int)(next++ % (unsigned long)ports)) < 0) {
        failed++;
        break;
      }
    }
    struct epoll_event events[EVENTS];
    const int count = epoll_wait(epoll, events, EVENTS, 10);
    for (int i = 0; i < count; i++) {
      char byte;
      if (read(events[i].data.fd, &byte, 1) == 0) done++;
      else failed++;
      close(events[i].data.fd);
      under_way--;
    }
  }
  printf("%lu %lu %f\n", done, failed, now() - start);
  return 0;
}

int main(int argc, char **argv) {
  const int ports = argc > 3 ? atoi(argv[3]) : 0;
  if (argc < 4 || ports < 1 || ports > PORTS_MAX) return fputs("connections server|client ADDRESS PORTS ...\n", stderr), 2;
  if (strcmp(argv[1], "server") == 0) return serve(argv[2], ports);
  if (argc != 6) return fputs("connections client ADDRESS PORTS AT_ONCE MILLISECONDS\n", stderr), 2;
  const int at_once = atoi(argv[4]);
  const double seconds = atof(argv[5]) / 1000;
  if (at_once < 1 || at_once > AT_ONCE_MAX || seconds > 60) return fputs("at once, or time\n", stderr), 2;
  return call(argv[2], ports, at_once, seconds);
}
