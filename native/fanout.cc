// Several ports on one device share its frames: PACKET_FANOUT (packet(7)) with a classic BPF program that says which
// member a frame goes to. Members are numbered in the order in which they joined.

#include "port.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cerrno>
#include <vector>

namespace {

// Since Linux 6.2; without it members are also given what the device sends, for libpcap to throw away.
#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

bool join(int descriptor, int group, int flags) {
  const int argument = group | (PACKET_FANOUT_CBPF | flags) << 16;
  return setsockopt(descriptor, SOL_PACKET, PACKET_FANOUT, &argument, sizeof argument) == 0;
}

/**
 * portFanout(handle, group, program) → group. The port becomes the next member of group `group` of its device; -1 makes
 * a group with an identifier that no other has, whose frames `program` (an array of struct sock_filter) hands out:
 * member number = its result modulo the number of members.
 */
napi_value fanout(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  int64_t group;
  uint8_t* program;
  size_t bytes;
  if (!takeArguments(env, info, 3, arguments) || !takeInt(env, arguments[1], -1, 0xffff, &group) ||
      !takeArray(env, arguments[2], napi_uint8_array, &program, &bytes)) {
    return nullptr;
  }
  if (bytes == 0 || bytes % sizeof(sock_filter) != 0 || bytes / sizeof(sock_filter) > BPF_MAXINSNS) {
    return fail(env, CODE_ARGUMENT, "A program of 1 to %d BPF instructions is needed here.", BPF_MAXINSNS);
  }
  const Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr) return nullptr;
  const int descriptor = port->descriptor();
  if (descriptor < 0) return fail(env, CODE_ARGUMENT, "The port is closed.");

  const int id = group < 0 ? 0 : static_cast<int>(group);
  const int unique = group < 0 ? PACKET_FANOUT_FLAG_UNIQUEID : 0;
  if (!join(descriptor, id, unique | PACKET_FANOUT_FLAG_IGNORE_OUTGOING) && !(errno == EINVAL && join(descriptor, id, unique))) {
    return fail(env, errnoCode(errno), "The port cannot share its device with others (PACKET_FANOUT: %s).", errnoText(errno));
  }
  if (group < 0) {
    int joined = 0;
    socklen_t size = sizeof joined;
    std::vector<sock_filter> instructions(bytes / sizeof(sock_filter));
    memcpy(instructions.data(), program, bytes);
    const sock_fprog filter = {static_cast<unsigned short>(instructions.size()), instructions.data()};
    if (getsockopt(descriptor, SOL_PACKET, PACKET_FANOUT, &joined, &size) != 0 ||
        setsockopt(descriptor, SOL_PACKET, PACKET_FANOUT_DATA, &filter, sizeof filter) != 0) {
      return fail(env, errnoCode(errno), "The kernel does not take the program that shares frames out (%s).", errnoText(errno));
    }
    group = joined & 0xffff;
  }
  return giveInt(env, group);
}

}  // namespace

void registerFanout(napi_env env, napi_value exports) { setFunction(env, exports, "portFanout", fanout); }
