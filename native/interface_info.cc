// Facts and switches of a network device, by ioctl. Called by lib/io/live-port.ts and the configuration check.

#include "values.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace {

/** One request about one device. The socket lives as long as the object. */
class DeviceRequest {
 public:
  ifreq request = {};

  explicit DeviceRequest(const std::string& device) : socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    // A name too long for the kernel is no device's name; left empty it gets the kernel's own "no such device".
    if (device.size() < IFNAMSIZ) memcpy(request.ifr_name, device.c_str(), device.size());
  }
  DeviceRequest(const DeviceRequest&) = delete;
  DeviceRequest& operator=(const DeviceRequest&) = delete;
  ~DeviceRequest() {
    if (socket_ >= 0) ::close(socket_);
  }
  /** Returns 0 or an errno value. */
  int ask(unsigned long what) {
    if (socket_ < 0) return errno;
    return ioctl(socket_, what, &request) == 0 ? 0 : errno;
  }
  int askEthtool(ethtool_value* value) {
    request.ifr_data = reinterpret_cast<char*>(value);
    return ask(SIOCETHTOOL);
  }

 private:
  int socket_;
};

napi_value failDevice(napi_env env, const std::string& device, int error) {
  switch (error) {
    case ENODEV:
      return fail(env, "ENODEV", "There is no network device \"%s\": `ip link` lists those there are.", device.c_str());
    case EPERM:
      return fail(env, "EPERM", "No permission to change \"%s\": run as root or with the capability CAP_NET_ADMIN.", device.c_str());
    default:
      return fail(env, errnoCode(error), "The network device \"%s\" does not answer: %s.", device.c_str(), errnoText(error));
  }
}

/** interfaceInfo(device, mac: Uint8Array(6)) → { mtu, up, running, ethernet }; fills `mac`. */
napi_value interfaceInfo(napi_env env, napi_callback_info info) {
  napi_value arguments[2], result;
  std::string device;
  uint8_t* mac;
  size_t length;
  if (!takeArguments(env, info, 2, arguments) || !takeText(env, arguments[0], &device) ||
      !takeArray(env, arguments[1], napi_uint8_array, &mac, &length)) {
    return nullptr;
  }
  DeviceRequest device_(device);
  ifreq& request = device_.request;
  int error = device_.ask(SIOCGIFHWADDR);
  if (error != 0) return failDevice(env, device, error);
  const bool ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
  memcpy(mac, request.ifr_hwaddr.sa_data, length < 6 ? length : 6);
  if ((error = device_.ask(SIOCGIFMTU)) != 0) return failDevice(env, device, error);
  const int mtu = request.ifr_mtu;
  if ((error = device_.ask(SIOCGIFFLAGS)) != 0) return failDevice(env, device, error);
  napi_create_object(env, &result);
  setProperty(env, result, "mtu", giveInt(env, mtu));
  setProperty(env, result, "up", giveBool(env, request.ifr_flags & IFF_UP));
  setProperty(env, result, "running", giveBool(env, request.ifr_flags & IFF_RUNNING));
  setProperty(env, result, "ethernet", giveBool(env, ethernet));
  return result;
}

struct Offload {
  const char* name;
  uint32_t get, set, mask;
};
// GRO has a value of its own; LRO is one bit among flags that must stay as they are.
constexpr Offload OFFLOADS[] = {
    {"gro", ETHTOOL_GGRO, ETHTOOL_SGRO, 1},
    {"lro", ETHTOOL_GFLAGS, ETHTOOL_SFLAGS, ETH_FLAG_LRO},
};

/**
 * offload(device, name, change: -1 leave | 0 off | 1 on) → what it was before: 1 on, 0 off, -1 not supported or not
 * changeable. The caller puts it back.
 */
napi_value offload(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  std::string device, name;
  int64_t change;
  if (!takeArguments(env, info, 3, arguments) || !takeText(env, arguments[0], &device) ||
      !takeText(env, arguments[1], &name) || !takeInt(env, arguments[2], -1, 1, &change)) {
    return nullptr;
  }
  for (const Offload& offload : OFFLOADS) {
    if (name != offload.name) continue;
    DeviceRequest request(device);
    ethtool_value value = {offload.get, 0};
    int error = request.askEthtool(&value);
    const bool before = value.data & offload.mask;
    if (error == 0 && change >= 0 && before != (change == 1)) {
      value.cmd = offload.set;
      value.data ^= offload.mask;
      error = request.askEthtool(&value);
    }
    if (error == EOPNOTSUPP || error == EINVAL) return giveInt(env, -1);
    if (error != 0) return failDevice(env, device, error);
    return giveInt(env, before);
  }
  return fail(env, CODE_ARGUMENT, "\"%s\" is no offload the addon knows: gro or lro.", name.c_str());
}

}  // namespace

void registerInterfaceInfo(napi_env env, napi_value exports) {
  setFunction(env, exports, "interfaceInfo", interfaceInfo);
  setFunction(env, exports, "offload", offload);
}
