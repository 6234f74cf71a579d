// A live port through libpcap: how one is opened, and how it receives. What JS calls is in port.cc.

#include "port.h"

#include <pcap/pcap.h>

#include <cerrno>

namespace {

class PcapPort : public Port {
 public:
  PcapPort(napi_env env, pcap_t* pcap, size_t snaplen) : Port(env, false), pcap_(pcap), snaplen_(snaplen) {}
  ~PcapPort() override { close(); }

  int descriptor() const override { return pcap_ == nullptr ? -1 : pcap_fileno(pcap_); }

  /** Only as many frames are fetched as certainly fit, so none is fetched and lost. */
  bool receive() override {
    while (size_t room = batch.room(snaplen_)) {
      const int got = pcap_dispatch(pcap_, static_cast<int>(room), onFrame, reinterpret_cast<u_char*>(this));
      if (got < 0 && batch.count == 0) {
        fail(env(), "ENXIO", "Frames can no longer be received: %s. Reopen the port when the device is back.", pcap_geterr(pcap_));
        return false;
      }
      if (got < static_cast<int>(room)) break;
    }
    return true;
  }

  /** libpcap counts in 32 bits; the difference to the last reading is right across a wrap. */
  void readKernelDrops() override {
    pcap_stat now;
    if (pcap_stats(pcap_, &now) != 0) return;
    total.kernelDrops += static_cast<uint32_t>(now.ps_drop - kernelDropsSeen_);
    kernelDropsSeen_ = now.ps_drop;
  }

 protected:
  void release() override {
    pcap_close(pcap_);
    pcap_ = nullptr;
  }

 private:
  static void onFrame(u_char* user, const pcap_pkthdr* header, const u_char* frame) {
    PcapPort* port = reinterpret_cast<PcapPort*>(user);
    const size_t captured = std::min<size_t>(header->caplen, port->snaplen_);
    port->batch.append(frame, captured, header->len);
    port->total.rxBytes += static_cast<double>(captured);
  }

  pcap_t* pcap_;
  const size_t snaplen_;
  uint32_t kernelDropsSeen_ = 0;
};

napi_value failOpen(napi_env env, pcap_t* pcap, const char* device, int status) {
  char detail[PCAP_ERRBUF_SIZE];
  snprintf(detail, sizeof detail, "%s", pcap_geterr(pcap));
  pcap_close(pcap);
  switch (status) {
    case PCAP_ERROR_NO_SUCH_DEVICE:
      return fail(env, "ENODEV", "There is no network device \"%s\": `ip link` lists those there are.", device);
    case PCAP_ERROR_PERM_DENIED:
    case PCAP_ERROR_PROMISC_PERM_DENIED:
      return fail(env, "EPERM", "No permission to capture on \"%s\": run as root or with the capability CAP_NET_RAW.", device);
    case PCAP_ERROR_IFACE_NOT_UP:
      return fail(env, "ENETDOWN", "The network device \"%s\" is down: `ip link set %s up` brings it up.", device, device);
    default:
      return fail(env, "EIO", "The network device \"%s\" could not be opened: %s.", device, detail[0] ? detail : pcap_statustostr(status));
  }
}

/** open(device, filter, snaplen, bufferBytes, timeoutMs, immediate, promiscuous) → handle */
napi_value open(napi_env env, napi_callback_info info) {
  napi_value arguments[7];
  std::string device, filter;
  int64_t snaplen, bufferBytes, timeoutMs;
  bool immediate, promiscuous;
  if (!takeArguments(env, info, 7, arguments) || !takeText(env, arguments[0], &device) ||
      !takeText(env, arguments[1], &filter) || !takeInt(env, arguments[2], 64, 262144, &snaplen) ||
      !takeInt(env, arguments[3], 65536, 1 << 30, &bufferBytes) || !takeInt(env, arguments[4], 1, 1000, &timeoutMs) ||
      !takeBool(env, arguments[5], &immediate) || !takeBool(env, arguments[6], &promiscuous)) {
    return nullptr;
  }
  char text[PCAP_ERRBUF_SIZE] = "";
  pcap_t* pcap = pcap_create(device.c_str(), text);
  if (pcap == nullptr) return fail(env, "EIO", "The network device \"%s\" could not be opened: %s.", device.c_str(), text);
  pcap_set_snaplen(pcap, static_cast<int>(snaplen));
  pcap_set_promisc(pcap, promiscuous);
  pcap_set_immediate_mode(pcap, immediate);
  pcap_set_timeout(pcap, static_cast<int>(timeoutMs));
  pcap_set_buffer_size(pcap, static_cast<int>(bufferBytes));
  const int status = pcap_activate(pcap);
  if (status < 0) return failOpen(env, pcap, device.c_str(), status);

  if (pcap_datalink(pcap) != DLT_EN10MB) {
    const char* name = pcap_datalink_val_to_name(pcap_datalink(pcap));
    pcap_close(pcap);
    return fail(env, CODE_LINK_TYPE, "The network device \"%s\" carries %s frames, not Ethernet: choose an Ethernet device.",
                device.c_str(), name != nullptr ? name : "other");
  }
  bpf_program program;
  if (pcap_compile(pcap, &program, filter.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) {
    snprintf(text, sizeof text, "%s", pcap_geterr(pcap));
    pcap_close(pcap);
    return fail(env, CODE_FILTER, "The capture filter \"%s\" is not valid (%s): pcap-filter(7) has the syntax.", filter.c_str(), text);
  }
  const bool set = pcap_setfilter(pcap, &program) == 0 && pcap_setdirection(pcap, PCAP_D_IN) == 0 &&
                   pcap_setnonblock(pcap, 1, text) == 0;
  pcap_freecode(&program);
  if (!set) return failOpen(env, pcap, device.c_str(), PCAP_ERROR);

  const int descriptor = pcap_fileno(pcap);
  const int size = SEND_BYTES;
  if (setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) {
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  }
  return giveHandle(env, new PcapPort(env, pcap, static_cast<size_t>(snaplen)));
}

}  // namespace

void registerPcapPort(napi_env env, napi_value exports) {
  setFunction(env, exports, "portOpen", open);
}
