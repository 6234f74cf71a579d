// The groups on a device's link that its network card is to take frames for: PACKET_MR_MULTICAST (packet(7)), on a socket
// of the port's own that receives nothing. The kernel lets go of them when that is closed, however the process ends.

#include "port.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>

namespace {

/** portJoin(handle, device, groups: Uint8Array of 6 bytes each): until the port is closed. */
napi_value join(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::string device;
  uint8_t* groups;
  size_t bytes;
  if (!takeArguments(env, info, 3, arguments) || !takeText(env, arguments[1], &device) ||
      !takeArray(env, arguments[2], napi_uint8_array, &groups, &bytes)) {
    return nullptr;
  }
  if (bytes % ETH_ALEN != 0) return fail(env, CODE_ARGUMENT, "Whole MAC addresses are needed here, 6 bytes each.");
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr) return nullptr;
  if (port->descriptor() < 0 || port->groups >= 0) return fail(env, CODE_ARGUMENT, "The port is closed, or has joined already.");
  packet_mreq request = {};
  request.mr_ifindex = static_cast<int>(if_nametoindex(device.c_str()));
  request.mr_type = PACKET_MR_MULTICAST;
  request.mr_alen = ETH_ALEN;
  if (request.mr_ifindex == 0) {
    return fail(env, "ENODEV", "There is no network device \"%s\": `ip link` lists those there are.", device.c_str());
  }
  // Protocol 0: nothing arrives.
  port->groups = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  for (size_t at = 0; port->groups >= 0 && at < bytes; at += ETH_ALEN) {
    memcpy(request.mr_address, groups + at, ETH_ALEN);
    if (setsockopt(port->groups, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request) == 0) continue;
    const int error = errno;
    ::close(port->groups);
    port->groups = -1;
    errno = error;
  }
  if (port->groups >= 0) return nullptr;
  return fail(env, errnoCode(errno), "The groups of IPv6 cannot be joined on \"%s\": %s.", device.c_str(), errnoText(errno));
}

}  // namespace

void registerGroups(napi_env env, napi_value exports) { setFunction(env, exports, "portJoin", join); }
