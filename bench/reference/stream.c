// The stream of the failover bench: numbered datagrams at an even pace from one host to another, which sends each of them
// back. Both ends print a line for each that arrives: when it left the sender and when it was here, nanoseconds of
// CLOCK_MONOTONIC, which every process of the machine shares. Ends at SIGTERM.
//
//   stream send ADDRESS PORT INTERVAL_US
//   stream echo ADDRESS PORT              (its own)

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const uint64_t SECOND = 1000000000;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/** Take what has arrived and, at the far end, send it back. A refused datagram (ICMP) is one that is lost. */
static void receive(int descriptor, int echoes) {
  struct sockaddr_in from;
  uint64_t departed;
  for (;;) {
    socklen_t length = sizeof from;
    const ssize_t count = recvfrom(descriptor, &departed, sizeof departed, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (count != sizeof departed) continue;
    printf("%llu %llu\n", (unsigned long long)departed, (unsigned long long)now());
    if (echoes) sendto(descriptor, &departed, sizeof departed, MSG_DONTWAIT, (struct sockaddr *)&from, length);
  }
  fflush(stdout);
}

int main(int argc, char **argv) {
  const int sends = argc == 5 && strcmp(argv[1], "send") == 0;
  if (!sends && (argc != 4 || strcmp(argv[1], "echo") != 0)) {
    fputs("stream send ADDRESS PORT INTERVAL_US | stream echo ADDRESS PORT\n", stderr);
    return 2;
  }
  const int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[3])), .sin_addr.s_addr = inet_addr(argv[2])};
  if (descriptor < 0) die("socket");
  if (!sends && bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) die(argv[2]);
  puts("ready");
  fflush(stdout);

  const uint64_t interval = sends ? (uint64_t)atoi(argv[4]) * 1000 : 0;
  for (uint64_t next = now();;) {
    struct pollfd waits = {descriptor, POLLIN, 0};
    const uint64_t time = now();
    if (sends && time >= next) {
      sendto(descriptor, &time, sizeof time, MSG_DONTWAIT, (struct sockaddr *)&address, sizeof address);
      // What could not be sent in time is left out.
      next = time - next > interval ? time + interval : next + interval;
    }
    const uint64_t left = sends && next > time ? next - time : 0;
    const struct timespec patience = {(time_t)(left / SECOND), (long)(left % SECOND)};
    if (ppoll(&waits, 1, sends ? &patience : NULL, NULL) > 0) receive(descriptor, !sends);
  }
}
