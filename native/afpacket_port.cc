// A live port on a packet socket with PACKET_VNET_HDR: how one is opened, how it receives, and what it tells the kernel
// of a frame it sends. A super-frame comes in and leaves whole, with its segment size and its partial checksum in the
// virtio_net_hdr in front of it, which this file turns into the batch's columns and back. What JS calls is in port.cc.
//
// recvmmsg puts every frame into a slot of the bound memory where it stays until it has left again. A slot takes the
// longest frame; slots begin an odd number of cache lines apart, so that short frames do not share a few cache sets.

#include "port.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pcap/pcap.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

namespace {

constexpr uint8_t PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_SCTP = 132;
constexpr uint8_t HOP_BY_HOP = 0, ROUTING = 43, DESTINATION_OPTIONS = 60;
constexpr int EXTENSIONS_MAX = 8;
constexpr size_t IPV4_HEADER = 20, IPV6_HEADER = 40;
/** Where in a frame the protocol of IPv4, and IPv6's next header, is. */
constexpr size_t AT_PROTOCOL_IPV4 = ETHERNET_HEADER + 9, AT_PROTOCOL_IPV6 = ETHERNET_HEADER + 6;
constexpr uint8_t TCP_CWR = 0x80;
constexpr size_t VLAN_TAG = 4;
/** The two MAC addresses that the EtherType, or a VLAN tag, stands behind. */
constexpr size_t ADDRESSES = 12;
/** Where in its slot a frame begins: room for a VLAN tag that is put back, and HEADROOM still free in front of that. */
constexpr size_t SLOT_HEAD = HEADROOM + ALIGNMENT;
constexpr size_t SLOT_LINES = (SLOT_HEAD + FRAME_LENGTH_MAX + TAILROOM + ALIGNMENT - 1) / ALIGNMENT;
constexpr size_t SLOT = (SLOT_LINES | 1) * ALIGNMENT;

uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
void set16(uint8_t* at, uint16_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

/** Where the headers of a TCP or UDP frame lie, from its first byte. */
struct Headers {
  size_t l4, payload;
  uint16_t checksum;
  bool tcp, ipv6;

  /** False when the frame is no TCP or UDP over IPv4 or IPv6, is a fragment of IPv6, or ends inside its headers. */
  bool find(const uint8_t* frame, size_t length) {
    if (length < ETHERNET_HEADER + IPV4_HEADER) return false;
    const uint16_t type = get16(frame + ADDRESSES);
    const int version = frame[ETHERNET_HEADER] >> 4;
    uint8_t protocol;
    ipv6 = type == ETH_P_IPV6 && version == 6;
    if (ipv6) {
      if (!walk(frame, length, &protocol)) return false;
    } else {
      if (type != ETH_P_IP || version != 4) return false;
      const size_t ipLength = (frame[ETHERNET_HEADER] & 15) * 4u;
      if (ipLength < IPV4_HEADER) return false;
      l4 = ETHERNET_HEADER + ipLength;
      protocol = frame[AT_PROTOCOL_IPV4];
    }
    tcp = protocol == PROTOCOL_TCP;
    const size_t shortest = tcp ? 20 : 8;
    if ((!tcp && protocol != PROTOCOL_UDP) || l4 + shortest > length) return false;
    payload = l4 + (tcp ? (frame[l4 + 12] >> 4) * 4u : 8);
    checksum = tcp ? 16 : 6;
    return payload >= l4 + shortest && payload <= length;
  }

  uint8_t gsoType() const {
    if (!tcp) return VnetHeader::GSO_UDP_L4;
    return ipv6 ? VnetHeader::GSO_TCPV6 : VnetHeader::GSO_TCPV4;
  }

 private:
  /** Past the extension headers that lib/wire/ipv6.ts goes past, up to as many. */
  bool walk(const uint8_t* frame, size_t length, uint8_t* protocol) {
    if (length < ETHERNET_HEADER + IPV6_HEADER) return false;
    l4 = ETHERNET_HEADER + IPV6_HEADER;
    *protocol = frame[AT_PROTOCOL_IPV6];
    for (int n = 0; *protocol == HOP_BY_HOP || *protocol == ROUTING || *protocol == DESTINATION_OPTIONS; n++) {
      if (n == EXTENSIONS_MAX || l4 + 8 > length) return false;
      *protocol = frame[l4];
      l4 += (frame[l4 + 1] + 1) * 8u;
    }
    return true;
  }
};

/** Whether the packet in a frame of either family is SCTP right behind its IP header. */
bool isSctp(const uint8_t* frame) {
  return frame[get16(frame + ADDRESSES) == ETH_P_IPV6 ? AT_PROTOCOL_IPV6 : AT_PROTOCOL_IPV4] == PROTOCOL_SCTP;
}

/** Complete a partial checksum that is not the packet's own TCP or UDP one: inside a tunnel, or SCTP's. */
void completeChecksum(uint8_t* frame, size_t length, size_t start, size_t offset) {
  if (start + offset + 4 > length) return;
  uint8_t* field = frame + start + offset;
  if (offset == 8 && isSctp(frame)) {
    uint32_t crc = ~0u;
    memset(field, 0, 4);
    for (size_t i = start; i < length; i++) {
      crc ^= frame[i];
      for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    crc = ~crc;
    for (int i = 0; i < 4; i++) field[i] = static_cast<uint8_t>(crc >> 8 * i);
    return;
  }
  uint32_t sum = 0;
  for (size_t i = start; i + 1 < length; i += 2) sum += get16(frame + i);
  if ((length - start) % 2 != 0) sum += static_cast<uint32_t>(frame[length - 1] << 8);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  // 0 means "none" to UDP, and 0xFFFF is the same number.
  set16(field, sum == 0xffff ? 0xffff : static_cast<uint16_t>(~sum));
}

class AfPacketPort : public Port {
 public:
  AfPacketPort(napi_env env, int descriptor, int index, size_t deviceMtu, size_t mtu)
      : Port(env, true),
        descriptor_(descriptor),
        index_(static_cast<unsigned>(index)),
        rxFrameMax_(ETHERNET_HEADER + deviceMtu),
        txFrameMax_(ETHERNET_HEADER + mtu) {}
  ~AfPacketPort() override { close(); }

  int descriptor() const override { return descriptor_; }

  void bound() override {
    const size_t slots = std::min(batch.capacity(), batch.bytes() / SLOT);
    messages_.assign(slots, mmsghdr{});
    pieces_.resize(slots * 2);
    heads_.resize(slots);
    controls_.resize(slots);
    for (size_t i = 0; i < slots; i++) {
      pieces_[2 * i] = {&heads_[i], sizeof heads_[i]};
      pieces_[2 * i + 1] = {batch.memory() + i * SLOT + SLOT_HEAD, FRAME_LENGTH_MAX};
      messages_[i].msg_hdr.msg_iov = &pieces_[2 * i];
      messages_[i].msg_hdr.msg_iovlen = 2;
      messages_[i].msg_hdr.msg_control = controls_[i].bytes;
      messages_[i].msg_hdr.msg_controllen = sizeof controls_[i].bytes;
    }
  }

  bool receive() override {
    int got = -1;
    while (!gone_) {
      got = recvmmsg(descriptor_, messages_.data(), static_cast<unsigned>(messages_.size()), MSG_DONTWAIT, nullptr);
      if (got >= 0 || errno == EAGAIN) break;
      // A frame that the header cannot describe: the kernel has thrown it away.
      if (errno == EINVAL) total.kernelDrops++;
      else if (errno != EINTR) noticeError(errno);
      if (errno != EINVAL && errno != EINTR && !gone_) break;
    }
    if (gone_) {
      // The error that the socket has to tell yet would wake who waits on it, again and again.
      int pending = 0;
      socklen_t length = sizeof pending;
      getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &pending, &length);
      fail(env(), "ENXIO", "Frames can no longer be received: the device has disappeared. Reopen the port when it is back.");
      return false;
    }
    for (int i = 0; i < got; i++) take(static_cast<size_t>(i));
    return true;
  }

  void readKernelDrops() override {
    tpacket_stats now = {};
    socklen_t length = sizeof now;
    // The kernel counts from the last reading.
    if (getsockopt(descriptor_, SOL_PACKET, PACKET_STATISTICS, &now, &length) == 0) total.kernelDrops += now.tp_drops;
  }

  Fit describe(const FrameRows& rows, int64_t row, VnetHeader* header) override {
    const size_t length = static_cast<size_t>(rows.length[row]);
    if (length < ETHERNET_HEADER) return Fit::REFUSE;
    const bool fits = length <= txFrameMax_;
    if (rows.flags == nullptr) return fits ? Fit::SEND : Fit::REFUSE;
    const bool partial = rows.flags[row] & FRAME_CHECKSUM_PARTIAL;
    size_t size = rows.segmentSize[row] > 0 ? static_cast<size_t>(rows.segmentSize[row]) : 0;
    if (!partial && size == 0) return fits ? Fit::SEND : Fit::REFUSE;

    const uint8_t* frame = rows.bytes + rows.offset[row];
    Headers at;
    if (!at.find(frame, length)) return fits ? Fit::SEND : Fit::REFUSE;
    if (partial) {
      header->flags = VnetHeader::NEEDS_CSUM;
      header->csumStart = static_cast<uint16_t>(at.l4);
      header->csumOffset = at.checksum;
    }
    const size_t room = txFrameMax_ > at.payload ? txFrameMax_ - at.payload : 0;
    // A stream may be cut anywhere; a datagram may not.
    if (at.tcp) size = std::min(size, room);
    if (size == 0 || length - at.payload <= size) return fits ? Fit::SEND : Fit::REFUSE;
    if (size > room) return Fit::REFUSE;
    // The kernel cuts only what has a partial checksum.
    if (!partial) return Fit::CUT;
    header->gsoType = at.gsoType();
    if (at.tcp && frame[at.l4 + 13] & TCP_CWR) header->gsoType |= VnetHeader::GSO_ECN;
    header->gsoSize = static_cast<uint16_t>(size);
    header->headerLength = static_cast<uint16_t>(at.payload);
    return Fit::SEND;
  }

  void noticeError(int error) override {
    char name[IF_NAMESIZE];
    if ((error == ENETDOWN || error == ENXIO) && if_indextoname(index_, name) == nullptr) gone_ = true;
  }

 protected:
  void release() override {
    ::close(descriptor_);
    descriptor_ = -1;
  }

 private:
  union Control {
    cmsghdr align;
    uint8_t bytes[CMSG_SPACE(sizeof(tpacket_auxdata))];
  };

  /** Make message `i` the next row of the batch. */
  void take(size_t i) {
    msghdr& message = messages_[i].msg_hdr;
    const size_t whole = messages_[i].msg_len;
    size_t length = whole > sizeof heads_[i] ? whole - sizeof heads_[i] : 0;
    size_t offset = i * SLOT + SLOT_HEAD;
    uint8_t* frame = batch.memory() + offset;
    int32_t flags = FRAME_CHECKSUM_KNOWN | (message.msg_flags & MSG_TRUNC ? FRAME_TRUNCATED : 0);
    int32_t size = 0;
    const VnetHeader& head = heads_[i];
    if ((head.flags & VnetHeader::NEEDS_CSUM) != 0 || head.gsoType != VnetHeader::GSO_NONE || length > rxFrameMax_) {
      read(head, frame, length, &flags, &size);
    }
    if (message.msg_controllen != 0) {
      // A frame without both addresses has no place for it, and is dropped as it is.
      if (length >= ADDRESSES && putTagBack(message, frame)) {
        offset -= VLAN_TAG;
        length += VLAN_TAG;
      }
      message.msg_controllen = sizeof controls_[i].bytes;
    }
    total.rxBytes += static_cast<double>(length);
    batch.add(offset, length, flags, size);
  }

  /** What the kernel says of a frame that its sender left unfinished. Nothing of it is believed unless the frame agrees. */
  void read(const VnetHeader& head, uint8_t* frame, size_t length, int32_t* flags, int32_t* size) {
    Headers at;
    const bool known = at.find(frame, length);
    if (head.flags & VnetHeader::NEEDS_CSUM) {
      if (known && head.csumStart == at.l4 && head.csumOffset == at.checksum) *flags |= FRAME_CHECKSUM_PARTIAL;
      else if (head.gsoType == VnetHeader::GSO_NONE) completeChecksum(frame, length, head.csumStart, head.csumOffset);
    }
    const bool super = head.gsoType != VnetHeader::GSO_NONE;
    if (!super && length <= rxFrameMax_) return;
    const int type = head.gsoType & ~VnetHeader::GSO_ECN;
    const bool right = known && type == at.gsoType();
    *size = right && head.gsoSize > 0 && at.payload + head.gsoSize <= rxFrameMax_ ? head.gsoSize : SEGMENT_SIZE_UNKNOWN;
    total.superFrames++;
  }

  /** The kernel takes a VLAN tag off before a packet socket sees the frame. With it back, nobody takes the frame for untagged. */
  static bool putTagBack(msghdr& message, uint8_t* frame) {
    const cmsghdr* control = CMSG_FIRSTHDR(&message);
    if (control == nullptr || control->cmsg_level != SOL_PACKET || control->cmsg_type != PACKET_AUXDATA) return false;
    tpacket_auxdata data;
    memcpy(&data, CMSG_DATA(control), sizeof data);
    if (!(data.tp_status & TP_STATUS_VLAN_VALID)) return false;
    memmove(frame - VLAN_TAG, frame, ADDRESSES);
    set16(frame + 8, data.tp_status & TP_STATUS_VLAN_TPID_VALID ? data.tp_vlan_tpid : ETH_P_8021Q);
    set16(frame + 10, data.tp_vlan_tci);
    return true;
  }

  int descriptor_;
  const unsigned index_;
  const size_t rxFrameMax_, txFrameMax_;
  bool gone_ = false;
  std::vector<mmsghdr> messages_;
  std::vector<iovec> pieces_;
  std::vector<VnetHeader> heads_;
  std::vector<Control> controls_;
};

/** Attach `filter` to frames that come in. Returns false after a JS error was thrown. */
bool attachFilter(napi_env env, int descriptor, const std::string& filter) {
  pcap_t* pcap = pcap_open_dead(DLT_EN10MB, 262144);
  bpf_program program;
  const std::string whole = filter.empty() ? "inbound" : "inbound and (" + filter + ")";
  if (pcap == nullptr || pcap_compile(pcap, &program, whole.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) {
    fail(env, CODE_FILTER, "The capture filter \"%s\" is not valid (%s): pcap-filter(7) has the syntax.", filter.c_str(),
         pcap == nullptr ? "out of memory" : pcap_geterr(pcap));
    if (pcap != nullptr) pcap_close(pcap);
    return false;
  }
  const sock_fprog attached = {static_cast<uint16_t>(program.bf_len), reinterpret_cast<sock_filter*>(program.bf_insns)};
  const bool done = setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &attached, sizeof attached) == 0;
  const int error = errno;
  pcap_freecode(&program);
  pcap_close(pcap);
  if (!done) fail(env, errnoCode(error), "The capture filter cannot be attached: %s.", errnoText(error));
  return done;
}

bool setOption(int descriptor, int level, int name, int value) {
  return setsockopt(descriptor, level, name, &value, sizeof value) == 0;
}

/** The index of `device`, when a packet socket can be bound to it. Returns false after a JS error was thrown. */
bool findDevice(napi_env env, int descriptor, const std::string& device, int* index) {
  ifreq request = {};
  if (device.size() < IFNAMSIZ) memcpy(request.ifr_name, device.c_str(), device.size());
  if (ioctl(descriptor, SIOCGIFINDEX, &request) != 0) {
    fail(env, "ENODEV", "There is no network device \"%s\": `ip link` lists those there are.", device.c_str());
    return false;
  }
  *index = request.ifr_ifindex;
  if (ioctl(descriptor, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
    fail(env, "ENETDOWN", "The network device \"%s\" is down: `ip link set %s up` brings it up.", device.c_str(), device.c_str());
    return false;
  }
  if (ioctl(descriptor, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family != ARPHRD_ETHER &&
      request.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK) {
    fail(env, CODE_LINK_TYPE, "The network device \"%s\" carries no Ethernet frames: choose an Ethernet device.", device.c_str());
    return false;
  }
  return true;
}

/** Everything before the port is made. Returns false after a JS error was thrown. */
bool prepare(napi_env env, int descriptor, const std::string& device, const std::string& filter, int bufferBytes,
             bool promiscuous, int* index) {
  if (!findDevice(env, descriptor, device, index)) return false;
  if (!setOption(descriptor, SOL_PACKET, PACKET_VNET_HDR, 1) || !setOption(descriptor, SOL_PACKET, PACKET_AUXDATA, 1)) {
    fail(env, CODE_OFFLOAD, "The kernel gives no super-frames through a packet socket on \"%s\" (PACKET_VNET_HDR: %s).",
         device.c_str(), errnoText(errno));
    return false;
  }
  // The filter refuses outgoing frames too; this spares the kernel the copy. Linux before 4.20 does not know it.
  setOption(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
  if (!setOption(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, bufferBytes)) setOption(descriptor, SOL_SOCKET, SO_RCVBUF, bufferBytes);
  if (!setOption(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES)) setOption(descriptor, SOL_SOCKET, SO_SNDBUF, SEND_BYTES);
  if (!attachFilter(env, descriptor, filter)) return false;
  if (promiscuous) {
    packet_mreq request = {};
    request.mr_ifindex = *index;
    request.mr_type = PACKET_MR_PROMISC;
    setsockopt(descriptor, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request);
  }
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = *index;
  if (::bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return true;
  fail(env, errnoCode(errno), "The network device \"%s\" could not be opened: %s.", device.c_str(), errnoText(errno));
  return false;
}

/** packetOpen(device, filter, deviceMtu, mtu, bufferBytes, promiscuous) → handle */
napi_value open(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  std::string device, filter;
  int64_t deviceMtu, mtu, bufferBytes;
  bool promiscuous;
  if (!takeArguments(env, info, 6, arguments) || !takeText(env, arguments[0], &device) ||
      !takeText(env, arguments[1], &filter) || !takeInt(env, arguments[2], 1, 65536, &deviceMtu) ||
      !takeInt(env, arguments[3], 1, 65536, &mtu) || !takeInt(env, arguments[4], 65536, 1 << 29, &bufferBytes) ||
      !takeBool(env, arguments[5], &promiscuous)) {
    return nullptr;
  }
  // Protocol 0: nothing arrives, from whatever device, before the filter is there and the socket is bound to its own.
  const int descriptor = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0 && errno == EPERM) {
    return fail(env, "EPERM", "No permission to capture on \"%s\": run as root or with the capability CAP_NET_RAW.", device.c_str());
  }
  if (descriptor < 0) {
    return fail(env, CODE_OFFLOAD, "The kernel has no packet sockets for \"%s\": %s.", device.c_str(), errnoText(errno));
  }
  int index;
  if (!prepare(env, descriptor, device, filter, static_cast<int>(bufferBytes), promiscuous, &index)) {
    ::close(descriptor);
    return nullptr;
  }
  return giveHandle(env, new AfPacketPort(env, descriptor, index, static_cast<size_t>(deviceMtu), static_cast<size_t>(mtu)));
}

}  // namespace

void registerAfPacketPort(napi_env env, napi_value exports) {
  setFunction(env, exports, "packetOpen", open);
  setProperty(env, exports, "packetSlotBytes", giveInt(env, SLOT));
}
