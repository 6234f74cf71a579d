// The yardstick of the live bench: the least a libpcap forwarder can do. Two devices, immediate mode, direction IN; a
// frame that comes in on one leaves on the other with new MAC addresses. No lookup, no checksum, no TTL. The ring, the
// snaplen, the filter and the two ways to send (pcap_inject for each frame, or sendmmsg on the same socket with -m) are
// those of native/pcap_port.cc, so that what differs is what the router does with a frame.
//
//   forward [-m] DEVICE_A MAC_A NEXT_A  DEVICE_B MAC_B NEXT_B      (NEXT_A: who gets the frames that leave by DEVICE_A)

#define _GNU_SOURCE
#include <net/ethernet.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 128, SNAPLEN = 65549, RING_BYTES = 64 << 20, SLOT = 2048 };

struct port {
  pcap_t *pcap;
  unsigned char head[12];
  struct port *other;
  unsigned count;
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  unsigned char frames[BATCH][SLOT];
};

static struct port ports[2];
static int use_sendmmsg;

static void die(const char *what, const char *why) {
  fprintf(stderr, "forward: %s: %s\n", what, why);
  exit(1);
}

static void parse_mac(const char *text, unsigned char *mac) {
  if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) die(text, "not a MAC address");
}

static void open_port(struct port *port, char **arguments, struct port *other) {
  char error[PCAP_ERRBUF_SIZE] = "", filter[96];
  struct bpf_program program;
  port->other = other;
  parse_mac(arguments[2], port->head);
  parse_mac(arguments[1], port->head + 6);
  port->pcap = pcap_create(arguments[0], error);
  if (port->pcap == NULL) die(arguments[0], error);
  pcap_set_snaplen(port->pcap, SNAPLEN);
  pcap_set_immediate_mode(port->pcap, 1);
  pcap_set_timeout(port->pcap, 1);
  pcap_set_buffer_size(port->pcap, RING_BYTES);
  if (pcap_activate(port->pcap) < 0) die(arguments[0], pcap_geterr(port->pcap));
  snprintf(filter, sizeof filter, "(arp or ip) and (ether dst %s or ether broadcast)", arguments[1]);
  if (pcap_compile(port->pcap, &program, filter, 1, PCAP_NETMASK_UNKNOWN) != 0 || pcap_setfilter(port->pcap, &program) != 0 ||
      pcap_setdirection(port->pcap, PCAP_D_IN) != 0 || pcap_setnonblock(port->pcap, 1, error) != 0) {
    die(arguments[0], pcap_geterr(port->pcap));
  }
  const int size = 4 << 20;
  setsockopt(pcap_fileno(port->pcap), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  for (int i = 0; i < BATCH; i++) {
    port->messages[i].msg_hdr.msg_iov = &port->pieces[i];
    port->messages[i].msg_hdr.msg_iovlen = 1;
    port->pieces[i].iov_base = port->frames[i];
  }
}

static void on_frame(u_char *user, const struct pcap_pkthdr *header, const u_char *frame) {
  struct port *out = ((struct port *)user)->other;
  if (header->caplen > SLOT) return;
  unsigned char *copy = out->frames[out->count];
  memcpy(copy, frame, header->caplen);
  memcpy(copy, out->head, sizeof out->head);
  if (!use_sendmmsg) {
    pcap_inject(out->pcap, copy, header->caplen);
    return;
  }
  out->pieces[out->count++].iov_len = header->caplen;
}

static void flush(struct port *out) {
  for (unsigned sent = 0; sent < out->count;) {
    const int done = sendmmsg(pcap_fileno(out->pcap), out->messages + sent, out->count - sent, 0);
    sent += done > 0 ? (unsigned)done : 1;
  }
  out->count = 0;
}

static void stop(int signal) {
  (void)signal;
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "-m") == 0) {
    use_sendmmsg = 1;
    argc--;
    argv++;
  }
  if (argc != 7) die("usage", "forward [-m] DEVICE_A MAC_A NEXT_A DEVICE_B MAC_B NEXT_B");
  signal(SIGTERM, stop);
  open_port(&ports[0], argv + 1, &ports[1]);
  open_port(&ports[1], argv + 4, &ports[0]);
  puts("ready");
  fflush(stdout);
  struct pollfd waiting[2] = {{pcap_get_selectable_fd(ports[0].pcap), POLLIN, 0}, {pcap_get_selectable_fd(ports[1].pcap), POLLIN, 0}};
  for (;;) {
    poll(waiting, 2, -1);
    for (int i = 0; i < 2; i++) {
      if (waiting[i].revents == 0) continue;
      pcap_dispatch(ports[i].pcap, BATCH, on_frame, (u_char *)&ports[i]);
      if (use_sendmmsg) flush(ports[i].other);
    }
  }
}
