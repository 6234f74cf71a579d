// The generator of the live benches: UDP frames of many sessions out of one device, in batches of 64, at a rate or as
// fast as they go, for a bounded time. Prints how many were offered, and in how many seconds. The sink needs no program:
// an nftables counter in its namespace counts and drops what arrives (bench/live/topology.ts).
//
//   blast DEVICE SOURCE_MAC DESTINATION_MAC SOURCE_IP DESTINATION_IP SESSIONS FRAMES_PER_SECOND|0 MILLISECONDS
//         [LENGTHS [BURST]]
//
// LENGTHS are frame lengths without FCS, taken in turn, one a session: 60 when nothing is said; 64,64,570 makes every
// third session one of 570-byte frames. The source port tells the session. With a BURST of more than 1, frames are handed
// to the kernel that many at a time, all of one session, as one piece that it segments (UDP_L4 GSO), which costs half of
// what single frames cost. It does so before they leave when the device's tx-udp-segmentation is off.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "udp.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

enum { BATCH = 64, LENGTH_MIN = 60, LENGTH_MAX = 1514, LENGTHS_MAX = 64, SESSIONS_MAX = 65536, PORT_FIRST = 1024, PORT_TO = 9 };
enum { HEAD = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr), PIECE_MAX = 65535 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned parse_lengths(const char *text, int *lengths) {
  unsigned count = 0;
  for (char *end; count < LENGTHS_MAX; text = end + 1) {
    const long length = strtol(text, &end, 10);
    if (length < LENGTH_MIN || length > LENGTH_MAX) die("frame length");
    lengths[count++] = (int)length;
    if (*end != ',') break;
  }
  return count;
}

/// One frame of a session, or as many as `burst` says as one piece behind a virtio_net_hdr.
static struct iovec make_piece(int length, int burst, char **argv, unsigned session) {
  const int lead = burst > 1 ? (int)sizeof(struct virtio_net_hdr) : 0, payload = (length - HEAD) * burst;
  const int udp_length = (int)sizeof(struct udphdr) + payload, ip_length = (int)sizeof(struct iphdr) + udp_length;
  unsigned char *piece = calloc(1, (size_t)(lead + ETH_HLEN + ip_length)), *frame = piece + lead;
  if (piece == NULL) die("calloc");
  parse_mac(argv[3], frame);
  parse_mac(argv[2], frame + 6);
  frame[12] = 8;
  struct iphdr *ip = (struct iphdr *)(frame + ETH_HLEN);
  struct udphdr *udp = (struct udphdr *)(ip + 1);
  *ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons((unsigned short)ip_length), .ttl = 64, .protocol = IPPROTO_UDP};
  ip->saddr = inet_addr(argv[4]);
  ip->daddr = inet_addr(argv[5]);
  ip->check = checksum(sum(ip, sizeof *ip, 0));
  udp->source = htons((unsigned short)(PORT_FIRST + session));
  udp->dest = htons(PORT_TO);
  udp->len = htons((unsigned short)udp_length);
  const unsigned pseudo_header = sum(&ip->saddr, 8, (unsigned)(IPPROTO_UDP + udp_length));
  if (burst == 1) {
    udp->check = checksum(sum(udp, udp_length, pseudo_header));
  } else {
    // The kernel wants the checksum of the pseudo header only, not inverted, and completes it in every segment.
    udp->check = (unsigned short)~checksum(pseudo_header);
    *(struct virtio_net_hdr *)piece = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                                             .gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
                                                             .hdr_len = HEAD,
                                                             .gso_size = (unsigned short)(length - HEAD),
                                                             .csum_start = ETH_HLEN + sizeof *ip,
                                                             .csum_offset = offsetof(struct udphdr, check)};
  }
  return (struct iovec){piece, (size_t)(lead + ETH_HLEN + ip_length)};
}

int main(int argc, char **argv) {
  if (argc < 9 || argc > 11) {
    fputs("blast DEVICE SOURCE_MAC DESTINATION_MAC SOURCE_IP DESTINATION_IP SESSIONS FRAMES_PER_SECOND|0 MILLISECONDS [LENGTHS [BURST]]\n",
          stderr);
    return 2;
  }
  const unsigned sessions = (unsigned)atoi(argv[6]);
  const double rate = atof(argv[7]), seconds = atof(argv[8]) / 1000;
  if (sessions < 1 || sessions > SESSIONS_MAX - PORT_FIRST || seconds > 60) die("sessions or time");
  int lengths[LENGTHS_MAX];
  const unsigned lengths_count = parse_lengths(argc > 9 ? argv[9] : "60", lengths);
  const int burst = argc > 10 ? atoi(argv[10]) : 1, yes = 1;
  if (burst < 1 || burst > 64) die("burst");
  const int descriptor = socket(AF_PACKET, SOCK_RAW, 0);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
  if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) die(argv[1]);

  // More than the kernel queues at the other end: frames that are too many are lost there, nobody waits for room.
  const int send_bytes = 32 << 20;
  if (setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof send_bytes) != 0) die("SO_SNDBUFFORCE");
  if (burst > 1 && setsockopt(descriptor, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0) die("PACKET_VNET_HDR");

  struct iovec *pieces = calloc(sessions, sizeof *pieces);
  if (pieces == NULL) die("calloc");
  for (unsigned session = 0; session < sessions; session++) {
    const int length = lengths[session % lengths_count];
    if (length * burst > PIECE_MAX) die("burst of this length");
    pieces[session] = make_piece(length, burst, argv, session);
  }
  struct mmsghdr messages[BATCH] = {0};
  for (int i = 0; i < BATCH; i++) messages[i].msg_hdr.msg_iovlen = 1;

  unsigned next = 0;
  unsigned long offered = 0;
  const double interval = rate > 0 ? BATCH * burst / rate : 0;
  double due = 0;
  const double start = now(), end = start + seconds;
  for (double time = start; time < end; time = now()) {
    // Never more than two batches behind the clock: a generator that was not scheduled does not make up for it in a burst.
    if (rate > 0) {
      if (due < time - 2 * interval) due = time - 2 * interval;
      if (time < due) {
        if (due - time > 100e-6) usleep(50);
        continue;
      }
      due += interval;
    }
    for (int i = 0; i < BATCH; i++) {
      messages[i].msg_hdr.msg_iov = &pieces[next];
      next = next + 1 == sessions ? 0 : next + 1;
    }
    // It stops at one that the kernel of the other end has no room for: lost, but offered.
    const int done = sendmmsg(descriptor, messages, BATCH, 0), left = done < 0 ? 0 : done;
    offered += (unsigned long)((left < BATCH ? left + 1 : left) * burst);
  }
  printf("%lu %f\n", offered, now() - start);
  return 0;
}
