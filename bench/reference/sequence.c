// The judge of order for the workers bench: reads the numbered frames of blast.c from a device and counts those whose
// number is not above the last one of their session. Ends at SIGTERM and prints: received, out of order, repeated.
//
// It listens to every protocol, because those who do get frames before an nftables drop at the device.
//
//   sequence DEVICE      (in a namespace of its own; the ring is large, what it misses shows as received < sent)

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, FRAME = 64, PORTS = 65536, BUFFER = 64 << 20, PORT_AT = 34, NUMBER_AT = 42 };

static volatile sig_atomic_t over;

static void end(int signal) {
  (void)signal;
  over = 1;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fputs("sequence DEVICE\n", stderr);
    return 2;
  }
  const int descriptor = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(argv[1])};
  const int size = BUFFER;
  const struct timeval patience = {.tv_usec = 100000};
  if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) die(argv[1]);
  setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  signal(SIGTERM, end);

  static unsigned char frames[BATCH][FRAME];
  static long long last[PORTS];
  struct mmsghdr messages[BATCH] = {0};
  struct iovec pieces[BATCH];
  for (int i = 0; i < BATCH; i++) {
    pieces[i] = (struct iovec){frames[i], FRAME};
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  for (int port = 0; port < PORTS; port++) last[port] = -1;
  unsigned long received = 0, late = 0, repeated = 0;
  puts("ready");
  fflush(stdout);
  while (!over) {
    const int count = recvmmsg(descriptor, messages, BATCH, MSG_WAITFORONE, NULL);
    for (int i = 0; i < count; i++) {
      if (messages[i].msg_len < NUMBER_AT + 4 || frames[i][12] != 8 || frames[i][13] != 0 || frames[i][23] != 17) continue;
      unsigned short port;
      unsigned number;
      memcpy(&port, frames[i] + PORT_AT, sizeof port);
      memcpy(&number, frames[i] + NUMBER_AT, sizeof number);
      number = ntohl(number);
      received++;
      /* A generator that begins anew begins at 0. */
      if (number == 0) last[port] = -1;
      if (number == last[port]) repeated++;
      else if (number < last[port]) late++;
      if (number > last[port]) last[port] = number;
    }
  }
  printf("%lu %lu %lu\n", received, late, repeated);
  return 0;
}
