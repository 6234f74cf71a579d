// A packet socket that the fuzzer is the kernel of. build.sh has the linker turn every system call of the addon that
// such a socket knows into one of these (--wrap), so that native/afpacket_port.cc and port.cc run as they are, without
// root and without a device. What is no such socket goes to the real call.

#include "batch.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <fcntl.h>

#include <cstdarg>
#include <cstring>
#include <vector>

namespace {

constexpr size_t VNET_HEADER = 10;
/** In front of each frame in both directions: virtio_net_hdr; going in, flags of what comes with it; the frame's length. */
struct Record {
  uint8_t vnet[VNET_HEADER];
  uint8_t isTruncated, auxiliary;
  uint16_t tag, tagProtocol;
  uint32_t length;
};
static_assert(sizeof(Record) == 20, "test/fuzz/targets/vnet.ts writes and reads these");

int packetSocket = -1;
std::vector<uint8_t> arriving, left;
size_t nextArriving = 0;

bool ours(int descriptor) { return descriptor >= 0 && descriptor == packetSocket; }

void copyOut(iovec* pieces, size_t count, const uint8_t* bytes, size_t length) {
  for (size_t i = 0; i < count && length > 0; i++) {
    const size_t part = std::min(length, pieces[i].iov_len);
    memcpy(pieces[i].iov_base, bytes, part);
    bytes += part;
    length -= part;
  }
}

size_t lengthOf(const msghdr& message) {
  size_t length = 0;
  for (size_t i = 0; i < message.msg_iovlen; i++) length += message.msg_iov[i].iov_len;
  return length;
}

void putAuxiliary(msghdr* message, const Record& record) {
  if (record.auxiliary == 0 || message->msg_controllen < CMSG_SPACE(sizeof(tpacket_auxdata))) {
    message->msg_controllen = 0;
    return;
  }
  tpacket_auxdata data = {};
  data.tp_status = (record.auxiliary & 1 ? TP_STATUS_VLAN_VALID : 0) | (record.auxiliary & 2 ? TP_STATUS_VLAN_TPID_VALID : 0);
  data.tp_vlan_tci = record.tag;
  data.tp_vlan_tpid = record.tagProtocol;
  cmsghdr* control = CMSG_FIRSTHDR(message);
  control->cmsg_level = SOL_PACKET;
  control->cmsg_type = PACKET_AUXDATA;
  control->cmsg_len = CMSG_LEN(sizeof data);
  memcpy(CMSG_DATA(control), &data, sizeof data);
  message->msg_controllen = CMSG_SPACE(sizeof data);
}

void keep(const msghdr& message) {
  Record record = {};
  const size_t whole = lengthOf(message);
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < message.msg_iovlen; i++) {
    const uint8_t* start = static_cast<const uint8_t*>(message.msg_iov[i].iov_base);
    bytes.insert(bytes.end(), start, start + message.msg_iov[i].iov_len);
  }
  memcpy(record.vnet, bytes.data(), std::min(whole, VNET_HEADER));
  record.length = static_cast<uint32_t>(whole - std::min(whole, VNET_HEADER));
  const uint8_t* start = reinterpret_cast<const uint8_t*>(&record);
  left.insert(left.end(), start, start + sizeof record);
  left.insert(left.end(), bytes.begin() + static_cast<ptrdiff_t>(std::min(whole, VNET_HEADER)), bytes.end());
}

/** kernelGive(records: Uint8Array): what the packet socket will receive. Forgets what is still waiting. */
napi_value give(napi_env env, napi_callback_info info) {
  napi_value argument;
  uint8_t* bytes;
  size_t length;
  if (!takeArguments(env, info, 1, &argument) || !takeArray(env, argument, napi_uint8_array, &bytes, &length)) return nullptr;
  arriving.assign(bytes, bytes + length);
  nextArriving = 0;
  return nullptr;
}

/** kernelTake(records: Uint8Array) → bytes: what was sent on it since the last call. */
napi_value take(napi_env env, napi_callback_info info) {
  napi_value argument;
  uint8_t* bytes;
  size_t length;
  if (!takeArguments(env, info, 1, &argument) || !takeArray(env, argument, napi_uint8_array, &bytes, &length)) return nullptr;
  const size_t all = left.size();
  if (all > length) return fail(env, CODE_ARGUMENT, "More was sent than there is room for here.");
  if (all > 0) memcpy(bytes, left.data(), all);
  left.clear();
  return giveInt(env, static_cast<int64_t>(all));
}

}  // namespace

extern "C" {

int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol) {
  if (family != AF_PACKET) return __real_socket(family, type, protocol);
  return packetSocket = open("/dev/null", O_RDWR | O_CLOEXEC);
}

int __real_close(int descriptor);
int __wrap_close(int descriptor) {
  if (ours(descriptor)) packetSocket = -1;
  return __real_close(descriptor);
}

int __real_ioctl(int descriptor, unsigned long request, ...);
int __wrap_ioctl(int descriptor, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (!ours(descriptor)) return __real_ioctl(descriptor, request, argument);
  ifreq* asked = static_cast<ifreq*>(argument);
  if (request == SIOCGIFINDEX) asked->ifr_ifindex = 1;
  if (request == SIOCGIFFLAGS) asked->ifr_flags = IFF_UP;
  if (request == SIOCGIFHWADDR) asked->ifr_hwaddr.sa_family = ARPHRD_ETHER;
  return 0;
}

int __real_setsockopt(int descriptor, int level, int name, const void* value, socklen_t length);
int __wrap_setsockopt(int descriptor, int level, int name, const void* value, socklen_t length) {
  return ours(descriptor) ? 0 : __real_setsockopt(descriptor, level, name, value, length);
}

int __real_getsockopt(int descriptor, int level, int name, void* value, socklen_t* length);
int __wrap_getsockopt(int descriptor, int level, int name, void* value, socklen_t* length) {
  return ours(descriptor) ? 0 : __real_getsockopt(descriptor, level, name, value, length);
}

int __real_bind(int descriptor, const sockaddr* address, socklen_t length);
int __wrap_bind(int descriptor, const sockaddr* address, socklen_t length) {
  return ours(descriptor) ? 0 : __real_bind(descriptor, address, length);
}

int __real_recvmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags, timespec* timeout);
int __wrap_recvmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!ours(descriptor)) return __real_recvmmsg(descriptor, messages, count, flags, timeout);
  unsigned done = 0;
  for (; done < count && nextArriving + sizeof(Record) <= arriving.size(); done++) {
    Record record;
    memcpy(&record, arriving.data() + nextArriving, sizeof record);
    nextArriving += sizeof record;
    const size_t length = std::min<size_t>(record.length, arriving.size() - nextArriving);
    std::vector<uint8_t> whole(record.vnet, record.vnet + VNET_HEADER);
    whole.insert(whole.end(), arriving.begin() + static_cast<ptrdiff_t>(nextArriving),
                 arriving.begin() + static_cast<ptrdiff_t>(nextArriving + length));
    nextArriving += length;
    msghdr& message = messages[done].msg_hdr;
    const size_t fits = std::min(whole.size(), lengthOf(message));
    copyOut(message.msg_iov, message.msg_iovlen, whole.data(), fits);
    messages[done].msg_len = static_cast<unsigned>(fits);
    message.msg_flags = fits < whole.size() || record.isTruncated ? MSG_TRUNC : 0;
    putAuxiliary(&message, record);
  }
  if (done > 0) return static_cast<int>(done);
  errno = EAGAIN;
  return -1;
}

int __real_sendmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags);
int __wrap_sendmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags) {
  if (!ours(descriptor)) return __real_sendmmsg(descriptor, messages, count, flags);
  for (unsigned i = 0; i < count; i++) keep(messages[i].msg_hdr);
  return static_cast<int>(count);
}

ssize_t __real_sendmsg(int descriptor, const msghdr* message, int flags);
ssize_t __wrap_sendmsg(int descriptor, const msghdr* message, int flags) {
  if (!ours(descriptor)) return __real_sendmsg(descriptor, message, flags);
  keep(*message);
  return static_cast<ssize_t>(lengthOf(*message));
}

}  // extern "C"

void registerKernel(napi_env env, napi_value exports) {
  setFunction(env, exports, "kernelGive", give);
  setFunction(env, exports, "kernelTake", take);
}
