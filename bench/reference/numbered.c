// The generator of the workers bench: numbered 60-byte UDP frames of many sessions out of one device, in batches of 64, at a rate
// or as fast as they go, for a bounded time. Prints how many were sent. The sink needs no program: an nftables counter
// in its namespace counts and drops what arrives (bench/macro/workers.ts). The first 4 payload bytes number the frames of
// a session, and the next 4 are their complement, so that the checksum made once stays right; sequence.c reads them.
//
//   numbered DEVICE SOURCE_MAC DESTINATION_MAC SOURCE_IP DESTINATION_IP SESSIONS FRAMES_PER_SECOND|0 MILLISECONDS

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "udp.h"

enum { BATCH = 64, FRAME = 60, SESSIONS_MAX = 65536, PORT_FIRST = 1024, PORT_TO = 9 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void number(unsigned char *frame, unsigned count);

static void make_frame(unsigned char *frame, char **argv, unsigned session) {
  const int udp_length = FRAME - ETH_HLEN - (int)sizeof(struct iphdr);
  memset(frame, 0, FRAME);
  parse_mac(argv[3], frame);
  parse_mac(argv[2], frame + 6);
  frame[12] = 8;
  struct iphdr *ip = (struct iphdr *)(frame + ETH_HLEN);
  struct udphdr *udp = (struct udphdr *)(ip + 1);
  *ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons(FRAME - ETH_HLEN), .ttl = 64, .protocol = IPPROTO_UDP};
  ip->saddr = inet_addr(argv[4]);
  ip->daddr = inet_addr(argv[5]);
  ip->check = checksum(sum(ip, sizeof *ip, 0));
  udp->source = htons((unsigned short)(PORT_FIRST + session));
  udp->dest = htons(PORT_TO);
  udp->len = htons((unsigned short)udp_length);
  number(frame, 0);
  udp->check = checksum(sum(udp, udp_length, sum(&ip->saddr, 8, (unsigned)(IPPROTO_UDP + udp_length))));
}

/** Write the number of a frame: four 16-bit words and, against them in the sum, their complements. */
static void number(unsigned char *frame, unsigned count) {
  unsigned char *payload = frame + ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr);
  const unsigned words[] = {count >> 16, count & 0xffff, ~count >> 16, ~count & 0xffff};
  for (int i = 0; i < 4; i++) {
    payload[2 * i] = (unsigned char)(words[i] >> 8);
    payload[2 * i + 1] = (unsigned char)words[i];
  }
}

int main(int argc, char **argv) {
  if (argc != 9) {
    fputs("numbered DEVICE SOURCE_MAC DESTINATION_MAC SOURCE_IP DESTINATION_IP SESSIONS FRAMES_PER_SECOND|0 MILLISECONDS\n", stderr);
    return 2;
  }
  const unsigned sessions = (unsigned)atoi(argv[6]);
  const double rate = atof(argv[7]), seconds = atof(argv[8]) / 1000;
  if (sessions < 1 || sessions > SESSIONS_MAX - PORT_FIRST || seconds > 60) die("sessions or time");
  const int descriptor = socket(AF_PACKET, SOCK_RAW, 0);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
  if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) die(argv[1]);

  unsigned char(*frames)[FRAME] = malloc((size_t)sessions * FRAME);
  if (frames == NULL) die("malloc");
  for (unsigned session = 0; session < sessions; session++) make_frame(frames[session], argv, session);
  struct mmsghdr messages[BATCH] = {0};
  struct iovec pieces[BATCH];
  for (int i = 0; i < BATCH; i++) {
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    pieces[i].iov_len = FRAME;
  }

  unsigned next = 0;
  unsigned *numbers = calloc(sessions, sizeof *numbers);
  if (numbers == NULL) die("calloc");
  /* One memory a frame of the batch: a session may be in it twice. */
  static unsigned char batch[BATCH][FRAME];
  unsigned long sent = 0;
  const double start = now(), end = start + seconds;
  for (double time = start; time < end; time = now()) {
    // Never more than two batches behind the clock: a generator that was not scheduled does not make up for it in a burst.
    static double due;
    if (rate > 0) {
      if (due < time - 2 * BATCH / rate) due = time - 2 * BATCH / rate;
      if (time < due) {
        if (due - time > 100e-6) usleep(50);
        continue;
      }
      due += BATCH / rate;
    }
    for (int i = 0; i < BATCH; i++) {
      memcpy(batch[i], frames[next], FRAME);
      number(batch[i], numbers[next]++);
      pieces[i].iov_base = batch[i];
      next = next + 1 == sessions ? 0 : next + 1;
    }
    const int done = sendmmsg(descriptor, messages, BATCH, 0);
    if (done > 0) sent += (unsigned long)done;
  }
  printf("%lu %f\n", sent, now() - start);
  return 0;
}
