// The probe of the latency bench: numbered 60-byte UDP frames out of one device at a precise pace, and how long each
// took until it stood at another device. One thread does both without waiting or sleeping, so it wants a processor of
// its own. Frames go out one by one; only when the pace is faster than that, up to BURST_MAX at once, and what it could
// not send in time (it was not scheduled) it leaves out. The arrival is stamped by the kernel, in the ring, so that it
// does not matter when the probe reads it; the departure is read just before the system call.
//
//   probe NETNS DEVICE  NETNS DEVICE  SOURCE_MAC DESTINATION_MAC SOURCE_IP DESTINATION_IP SESSIONS FRAMES_PER_SECOND MILLISECONDS
//
// The first NETNS and DEVICE send, the second receive. Prints one JSON object; latencies in microseconds.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "udp.h"

enum {
  FRAME = 60,
  HEADERS = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr),
  SESSIONS_MAX = 1024,
  PORT_FIRST = 1024,
  PORT_TO = 9,
  BURST_MAX = 16,
  RING_SLOT = 256,
  RING_SLOTS = 1 << 16,
  RING_BLOCK = 1 << 20,
  RECEIVED_PER_ROUND = 16,
  FRAMES_MAX = 20000000,
};
static const uint32_t MAGIC = 0x70726f62;
static const uint64_t SECOND = 1000000000, PATIENCE = 200000000;

/** What a frame carries. The number's complement keeps the UDP checksum the same for every number. */
struct mark {
  uint32_t magic, number, complement;
};

static uint64_t clock_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/** The clock of the kernel's stamps. */
static uint64_t now(void) {
  return clock_ns(CLOCK_REALTIME);
}

static void make_frame(unsigned char *frame, char **addresses, unsigned session) {
  const int udp_length = FRAME - ETH_HLEN - (int)sizeof(struct iphdr);
  const struct mark mark = {MAGIC, 0, ~0u};
  memset(frame, 0, FRAME);
  parse_mac(addresses[1], frame);
  parse_mac(addresses[0], frame + 6);
  frame[12] = 8;
  struct iphdr *ip = (struct iphdr *)(frame + ETH_HLEN);
  struct udphdr *udp = (struct udphdr *)(ip + 1);
  *ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons(FRAME - ETH_HLEN), .ttl = 64, .protocol = IPPROTO_UDP};
  ip->saddr = inet_addr(addresses[2]);
  ip->daddr = inet_addr(addresses[3]);
  ip->check = checksum(sum(ip, sizeof *ip, 0));
  udp->source = htons((unsigned short)(PORT_FIRST + session));
  udp->dest = htons(PORT_TO);
  udp->len = htons((unsigned short)udp_length);
  memcpy(frame + HEADERS, &mark, sizeof mark);
  udp->check = checksum(sum(udp, udp_length, sum(&ip->saddr, 8, (unsigned)(IPPROTO_UDP + udp_length))));
}

/** A packet socket on a device of a network namespace that `ip netns` has named. */
static int open_socket(const char *name, const char *device, int protocol) {
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", name);
  const int namespace = open(path, O_RDONLY | O_CLOEXEC);
  if (namespace < 0 || setns(namespace, CLONE_NEWNET) != 0) die(path);
  close(namespace);
  const int descriptor = socket(AF_PACKET, SOCK_RAW, 0);
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons((unsigned short)protocol), .sll_ifindex = (int)if_nametoindex(device)};
  if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) die(device);
  return descriptor;
}

static int by_value(const void *left, const void *right) {
  const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static unsigned char *ring;
static unsigned slot;
static uint64_t *departed;
static uint32_t *latencies;
static unsigned sent, received, wrong;

/** Take what has arrived, a few at most. Returns how many. */
static int receive(void) {
  int count = 0;
  for (; count < RECEIVED_PER_ROUND; count++) {
    struct tpacket2_hdr *header = (struct tpacket2_hdr *)(ring + (size_t)slot * RING_SLOT);
    if ((__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0) break;
    struct mark mark;
    memcpy(&mark, (unsigned char *)header + header->tp_mac + HEADERS, sizeof mark);
    if (header->tp_snaplen >= HEADERS + sizeof mark && mark.magic == MAGIC) {
      const uint64_t arrived = header->tp_sec * SECOND + header->tp_nsec;
      // Twice the same frame, one of an earlier probe, or one that arrived before it left: none of them happens.
      if (mark.number >= sent || received == sent || arrived < departed[mark.number]) wrong++;
      else latencies[received++] = (uint32_t)(arrived - departed[mark.number]);
    }
    __atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    slot = slot + 1 == RING_SLOTS ? 0 : slot + 1;
  }
  return count;
}

static double percentile(double share) {
  return received == 0 ? 0 : latencies[(size_t)((received - 1) * share)] / 1000.0;
}

int main(int argc, char **argv) {
  if (argc != 12) {
    fputs("probe NETNS DEVICE NETNS DEVICE SOURCE_MAC DESTINATION_MAC SOURCE_IP DESTINATION_IP SESSIONS FRAMES_PER_SECOND MILLISECONDS\n", stderr);
    return 2;
  }
  const unsigned sessions = (unsigned)atoi(argv[9]);
  const double rate = atof(argv[10]), seconds = atof(argv[11]) / 1000;
  if (sessions < 1 || sessions > SESSIONS_MAX || rate <= 0 || seconds > 60 || rate * seconds > FRAMES_MAX) die("sessions, rate or time");
  const size_t frames_max = (size_t)(rate * seconds) + BURST_MAX;

  const int sender = open_socket(argv[1], argv[2], 0), receiver = open_socket(argv[3], argv[4], 0);
  const int version = TPACKET_V2;
  struct tpacket_req request = {RING_BLOCK, RING_SLOTS / (RING_BLOCK / RING_SLOT), RING_SLOT, RING_SLOTS};
  if (setsockopt(receiver, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
      setsockopt(receiver, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
    die("ring");
  ring = mmap(NULL, (size_t)RING_SLOTS * RING_SLOT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, receiver, 0);
  if (ring == MAP_FAILED) die("ring");
  // Every protocol: such sockets see a frame before the device's own filters do.
  struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(argv[4])};
  if (bind(receiver, (struct sockaddr *)&all, sizeof all) != 0) die(argv[4]);

  unsigned char(*frames)[FRAME] = malloc((size_t)sessions * FRAME);
  // Touched now: a page fault later would count as latency.
  departed = malloc(frames_max * sizeof *departed);
  latencies = malloc(frames_max * sizeof *latencies);
  if (frames == NULL || departed == NULL || latencies == NULL) die("malloc");
  memset(departed, 1, frames_max * sizeof *departed);
  memset(latencies, 1, frames_max * sizeof *latencies);
  for (unsigned session = 0; session < sessions; session++) make_frame(frames[session], argv + 5, session);
  struct mmsghdr messages[BURST_MAX] = {0};
  struct iovec pieces[BURST_MAX];
  unsigned char bursts[BURST_MAX][FRAME];
  for (int i = 0; i < BURST_MAX; i++) {
    pieces[i] = (struct iovec){bursts[i], FRAME};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
  }

  const double interval = (double)SECOND / rate;
  const uint64_t apart = now() - clock_ns(CLOCK_MONOTONIC);
  unsigned session = 0, left_out = 0, in_bursts = 0, failed = 0;
  const uint64_t start = now(), end = start + (uint64_t)(seconds * (double)SECOND);
  double due = (double)start;
  uint64_t time;
  while ((time = now()) < end) {
    const double behind = (double)time - due;
    if (behind < 0) {
      receive();
      continue;
    }
    unsigned count = 1 + (unsigned)(behind / interval);
    if (count > BURST_MAX) {
      left_out += count - BURST_MAX;
      due += (count - BURST_MAX) * interval;
      count = BURST_MAX;
    }
    if (sent + count > frames_max) break;
    for (unsigned i = 0; i < count; i++) {
      const struct mark mark = {MAGIC, sent + i, ~(sent + i)};
      memcpy(bursts[i], frames[session], FRAME);
      memcpy(bursts[i] + HEADERS, &mark, sizeof mark);
      session = session + 1 == sessions ? 0 : session + 1;
    }
    time = now();
    for (unsigned i = 0; i < count; i++) departed[sent + i] = time;
    // Before the call: frames may be back before it returns.
    sent += count;
    in_bursts += count > 1 ? count : 0;
    due += count * interval;
    const int done = count == 1 ? (int)(send(sender, bursts[0], FRAME, 0) == FRAME) : sendmmsg(sender, messages, count, 0);
    failed += count - (unsigned)(done > 0 ? done : 0);
    receive();
  }
  const double lasted = (double)(now() - start) / (double)SECOND;
  for (uint64_t last = now(); received < sent && now() < last + PATIENCE;) {
    if (receive() > 0) last = now();
  }
  const int64_t moved = (int64_t)(now() - clock_ns(CLOCK_MONOTONIC) - apart);

  struct tpacket_stats missed = {0};
  socklen_t length = sizeof missed;
  getsockopt(receiver, SOL_PACKET, PACKET_STATISTICS, &missed, &length);
  qsort(latencies, received, sizeof *latencies, by_value);
  printf("{\"sent\":%u,\"received\":%u,\"seconds\":%f,\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f,"
         "\"leftOut\":%u,\"inBursts\":%u,\"failed\":%u,\"wrong\":%u,\"missedByProbe\":%u,\"clockMovedNs\":%lld}\n",
         sent, received, lasted, percentile(0.5), percentile(0.99), percentile(0.999), percentile(1), left_out, in_bursts, failed, wrong,
         missed.tp_drops, (long long)moved);
  return 0;
}
