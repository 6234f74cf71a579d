// The yardstick for super-frames: the least a C forwarder on AF_PACKET with PACKET_VNET_HDR can do. Two devices; a frame
// that comes in on one leaves on the other with new MAC addresses, whole, however large, with the segment size and the
// partial checksum that its sender's kernel gave it. No lookup, no checksum, no TTL. recvmmsg and sendmmsg into and out
// of the same memory, so the virtio_net_hdr and the frame are one piece that only its first bytes change in. It asks
// both sockets in turn and sleeps only when both are empty.
//
//   forward-vnet DEVICE_A MAC_A NEXT_A  DEVICE_B MAC_B NEXT_B      (NEXT_A: who gets the frames that leave by DEVICE_A)

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum {
  BATCH = 64,
  HEAD = sizeof(struct virtio_net_hdr),
  FRAME_MAX = 65549,
  // No multiple of a page, so that the first bytes of the slots do not all fall into the same few cache sets.
  SLOT = 17 * 4096 + 64,
  RECEIVE_BYTES = 32 << 20,
  SEND_BYTES = 4 << 20
};

struct port {
  int descriptor;
  unsigned char head[12];
  struct port *other;
  struct mmsghdr in[BATCH], out[BATCH];
  struct iovec room[BATCH], piece[BATCH];
};

static struct port ports[2];

static void die(const char *what, const char *why) {
  fprintf(stderr, "forward-vnet: %s: %s\n", what, why);
  exit(1);
}

static void option(int descriptor, int level, int name, int value, const char *what) {
  if (setsockopt(descriptor, level, name, &value, sizeof value) != 0 && what != NULL) die(what, strerror(errno));
}

static void parse_mac(const char *text, unsigned char *mac) {
  if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) die(text, "not a MAC address");
}

static void filter(int descriptor, const char *mac) {
  char text[96];
  struct bpf_program program;
  snprintf(text, sizeof text, "(arp or ip) and (ether dst %s or ether broadcast)", mac);
  pcap_t *pcap = pcap_open_dead(DLT_EN10MB, FRAME_MAX);
  if (pcap == NULL || pcap_compile(pcap, &program, text, 1, PCAP_NETMASK_UNKNOWN) != 0) die(text, "not a filter");
  struct sock_fprog attached = {(unsigned short)program.bf_len, (struct sock_filter *)program.bf_insns};
  if (setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &attached, sizeof attached) != 0) die(text, strerror(errno));
  pcap_freecode(&program);
  pcap_close(pcap);
}

static void open_port(struct port *port, char **arguments, struct port *other) {
  port->other = other;
  parse_mac(arguments[2], port->head);
  parse_mac(arguments[1], port->head + 6);
  // Protocol 0: nothing arrives before the filter is there and the socket is bound to its device.
  const int descriptor = port->descriptor = socket(AF_PACKET, SOCK_RAW, 0);
  if (descriptor < 0) die(arguments[0], strerror(errno));
  option(descriptor, SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
  option(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
  option(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES, NULL);
  option(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES, NULL);
  filter(descriptor, arguments[1]);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(arguments[0])};
  if (address.sll_ifindex == 0 || bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0) die(arguments[0], strerror(errno));

  unsigned char *memory = mmap(NULL, (size_t)BATCH * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap", strerror(errno));
  for (int i = 0; i < BATCH; i++) {
    // The frame, not the header before it, begins at a multiple of 64.
    unsigned char *slot = memory + (size_t)i * SLOT + 64 - HEAD;
    port->room[i] = (struct iovec){slot, HEAD + FRAME_MAX};
    port->piece[i] = (struct iovec){slot, 0};
    port->in[i].msg_hdr.msg_iov = &port->room[i];
    port->out[i].msg_hdr.msg_iov = &port->piece[i];
    port->in[i].msg_hdr.msg_iovlen = port->out[i].msg_hdr.msg_iovlen = 1;
  }
}

/** One batch from `port` to the other. Returns whether there was anything. */
static int forward(struct port *port) {
  struct port *to = port->other;
  const int count = recvmmsg(port->descriptor, port->in, BATCH, MSG_DONTWAIT, NULL);
  if (count <= 0) return 0;
  for (int i = 0; i < count; i++) {
    port->piece[i].iov_len = port->in[i].msg_len;
    memcpy((unsigned char *)port->piece[i].iov_base + HEAD, to->head, sizeof to->head);
  }
  for (int sent = 0; sent < count;) {
    const int done = sendmmsg(to->descriptor, port->out + sent, (unsigned)(count - sent), 0);
    sent += done > 0 ? done : 1;
  }
  return 1;
}

static void stop(int signal) {
  (void)signal;
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc != 7) die("usage", "forward-vnet DEVICE_A MAC_A NEXT_A DEVICE_B MAC_B NEXT_B");
  signal(SIGTERM, stop);
  open_port(&ports[0], argv + 1, &ports[1]);
  open_port(&ports[1], argv + 4, &ports[0]);
  puts("ready");
  fflush(stdout);
  struct pollfd waiting[2] = {{ports[0].descriptor, POLLIN, 0}, {ports[1].descriptor, POLLIN, 0}};
  for (;;) {
    const int first = forward(&ports[0]), second = forward(&ports[1]);
    if (!first && !second) poll(waiting, 2, -1);
  }
}
