// A live libpcap port: open, bind, rx, tx, stats, watch, close. Called by lib/io/live-port.ts, all on the thread that
// opened the port (pcap_t is not thread-safe). The handle owns the pcap_t, the references to the bound columns and the
// watch; close() releases them at once, the finalizer does when JS forgets to.

#include "batch.h"

#include <pcap/pcap.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

namespace {

/**
 * Readiness in the environment's own loop. It lives from watch() until libuv has closed the poll handle, which may be
 * after the port is gone. The async cleanup hook lets a worker end: libuv aborts the process when an environment's
 * loop still has an open handle.
 */
struct Watch {
  uv_poll_t poll;
  napi_env env;
  napi_ref callback;
  napi_async_context context;
  napi_async_cleanup_hook_handle hook;
  /** Where the port keeps its pointer to this; cleared when this closes, for the hook may run before the port's end. */
  Watch** owner;

  static napi_status start(napi_env env, int descriptor, napi_value callback, Watch** owner) {
    uv_loop_t* loop;
    napi_value name;
    napi_status status = napi_get_uv_event_loop(env, &loop);
    if (status != napi_ok) return status;
    Watch* watch = new Watch{};
    watch->env = env;
    watch->owner = owner;
    if (uv_poll_init(loop, &watch->poll, descriptor) != 0) {
      delete watch;
      return napi_generic_failure;
    }
    napi_create_string_utf8(env, "waymark.port", NAPI_AUTO_LENGTH, &name);
    napi_create_reference(env, callback, 1, &watch->callback);
    napi_async_init(env, nullptr, name, &watch->context);
    napi_add_async_cleanup_hook(
        env, [](napi_async_cleanup_hook_handle, void* data) { static_cast<Watch*>(data)->close(); }, watch, &watch->hook);
    watch->poll.data = watch;
    uv_poll_start(&watch->poll, UV_READABLE, onReadable);
    *owner = watch;
    return napi_ok;
  }

  /** Stop now; the memory is freed from the loop. */
  void close() {
    if (owner == nullptr) return;
    *owner = nullptr;
    owner = nullptr;
    napi_delete_reference(env, callback);
    napi_async_destroy(env, context);
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), [](uv_handle_t* handle) {
      Watch* watch = static_cast<Watch*>(handle->data);
      napi_remove_async_cleanup_hook(watch->hook);
      delete watch;
    });
  }

 private:
  static void onReadable(uv_poll_t* handle, int status, int) {
    Watch* watch = static_cast<Watch*>(handle->data);
    // The interface went down or away, and libuv has stopped polling. rx takes the error off the socket; a device that
    // comes back goes on.
    if (status < 0) uv_poll_start(handle, UV_READABLE, onReadable);
    napi_env env = watch->env;
    napi_handle_scope scope;
    napi_value global, callback, error;
    napi_open_handle_scope(env, &scope);
    napi_get_global(env, &global);
    napi_get_reference_value(env, watch->callback, &callback);
    if (napi_make_callback(env, watch->context, global, callback, 0, nullptr, nullptr) == napi_pending_exception &&
        napi_get_and_clear_last_exception(env, &error) == napi_ok) {
      napi_fatal_exception(env, error);
    }
    napi_close_handle_scope(env, scope);
  }
};

struct Port {
  static constexpr uint32_t KIND = 0x77706f72;
  const uint32_t kind = KIND;
  napi_env env;
  pcap_t* pcap;
  size_t snaplen;
  BoundBatch batch;
  Watch* watch = nullptr;
  // Totals, in the order stats() gives them.
  struct {
    double rxFrames, rxBytes, txFrames, txBytes, kernelDrops, txFull, txErrors;
  } total = {};
  uint32_t kernelDropsSeen = 0;

  Port(napi_env env, pcap_t* pcap, size_t snaplen) : env(env), pcap(pcap), snaplen(snaplen) {}
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  ~Port() { close(); }

  void close() {
    if (pcap == nullptr) return;
    if (watch != nullptr) watch->close();
    batch.release(env);
    readKernelDrops();
    pcap_close(pcap);
    pcap = nullptr;
  }

  /** libpcap counts in 32 bits; the difference to the last reading is right across a wrap. */
  void readKernelDrops() {
    pcap_stat now;
    if (pcap_stats(pcap, &now) != 0) return;
    total.kernelDrops += static_cast<uint32_t>(now.ps_drop - kernelDropsSeen);
    kernelDropsSeen = now.ps_drop;
  }
};

constexpr int TX_CHUNK = 64;
/** Times a tx call waits a millisecond for the device before it gives up on the rest. */
constexpr int TX_PATIENCE = 4;
constexpr int TX_BUFFER_BYTES = 4 << 20;

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
  const int size = TX_BUFFER_BYTES;
  if (setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) {
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  }
  return giveHandle(env, new Port(env, pcap, static_cast<size_t>(snaplen)));
}

/** bind(handle, memory, offset, length, flags): where rx puts frames from now on. */
napi_value bind(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  if (!takeArguments(env, info, 5, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port != nullptr && port->pcap != nullptr) port->batch.bind(env, arguments + 1);
  return nullptr;
}

void onFrame(u_char* user, const pcap_pkthdr* header, const u_char* frame) {
  Port* port = reinterpret_cast<Port*>(user);
  const size_t captured = std::min<size_t>(header->caplen, port->snaplen);
  port->batch.append(frame, captured, header->len);
  port->total.rxBytes += static_cast<double>(captured);
}

/**
 * rx(handle) → count. Only as many frames are fetched as certainly fit, so none is fetched and lost. A device that
 * went down has no frames; it is an Error only when it is gone.
 */
napi_value rx(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  Port* port = takeHandle<Port>(env, argument);
  if (port == nullptr) return nullptr;
  BoundBatch& batch = port->batch;
  batch.begin();
  if (port->pcap == nullptr) return giveInt(env, 0);
  while (size_t room = batch.room(port->snaplen)) {
    const int got = pcap_dispatch(port->pcap, static_cast<int>(room), onFrame, reinterpret_cast<u_char*>(port));
    if (got < 0 && batch.count == 0) {
      return fail(env, "ENXIO", "Frames can no longer be received: %s. Reopen the port when the device is back.", pcap_geterr(port->pcap));
    }
    if (got < static_cast<int>(room)) break;
  }
  port->total.rxFrames += static_cast<double>(batch.count);
  return giveInt(env, static_cast<int64_t>(batch.count));
}

/** tx(handle, bytes, offset, length, from, to) → frames sent. The rest are counted as txFull or txErrors. */
napi_value tx(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  FrameRows rows;
  if (!takeArguments(env, info, 6, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || !rows.take(env, arguments + 1)) return nullptr;
  if (port->pcap == nullptr) return giveInt(env, 0);

  const int descriptor = pcap_fileno(port->pcap);
  mmsghdr messages[TX_CHUNK] = {};
  iovec pieces[TX_CHUNK];
  int patience = TX_PATIENCE;
  int64_t sent = 0;
  for (int64_t row = rows.from; row < rows.to;) {
    int chunk = 0;
    while (chunk < TX_CHUNK && row + chunk < rows.to && rows.inside(row + chunk)) {
      pieces[chunk] = {rows.bytes + rows.offset[row + chunk], static_cast<size_t>(rows.length[row + chunk])};
      messages[chunk].msg_hdr.msg_iov = &pieces[chunk];
      messages[chunk].msg_hdr.msg_iovlen = 1;
      chunk++;
    }
    const int done = chunk == 0 ? -1 : sendmmsg(descriptor, messages, static_cast<unsigned>(chunk), MSG_DONTWAIT);
    if (done > 0) {
      for (int i = 0; i < done; i++) port->total.txBytes += static_cast<double>(pieces[i].iov_len);
      sent += done;
      row += done;
    } else if (chunk > 0 && (errno == EAGAIN || errno == ENOBUFS)) {
      if (patience-- == 0) {
        port->total.txFull += static_cast<double>(rows.to - row);
        break;
      }
      // EAGAIN: the socket's buffer is full, so wait for room. ENOBUFS: the queue behind it is, which poll cannot see.
      pollfd room = {descriptor, POLLOUT, 0};
      poll(&room, errno == EAGAIN ? 1 : 0, 1);
    } else if (chunk == 0 || errno != EINTR) {
      port->total.txErrors++;
      row++;
    }
  }
  port->total.txFrames += static_cast<double>(sent);
  return giveInt(env, sent);
}

/** stats(handle, Float64Array(7)): rxFrames, rxBytes, txFrames, txBytes, kernelDrops, txFull, txErrors since open. */
napi_value stats(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  double* out;
  size_t length;
  if (!takeArguments(env, info, 2, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || !takeArray(env, arguments[1], napi_float64_array, &out, &length)) return nullptr;
  if (port->pcap != nullptr) port->readKernelDrops();
  memcpy(out, &port->total, std::min(length * sizeof(double), sizeof port->total));
  return nullptr;
}

/** watch(handle, callback): call back from the event loop, once a wakeup, while frames wait. Keeps the loop alive. */
napi_value watch(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  napi_valuetype type;
  if (!takeArguments(env, info, 2, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || port->pcap == nullptr) return nullptr;
  if (napi_typeof(env, arguments[1], &type) != napi_ok || type != napi_function) {
    return fail(env, CODE_ARGUMENT, "A function is needed here.");
  }
  if (port->watch != nullptr) {
    return fail(env, CODE_ARGUMENT, "The port is watched already: one callback a port.");
  }
  if (Watch::start(env, pcap_get_selectable_fd(port->pcap), arguments[1], &port->watch) != napi_ok) {
    return fail(env, "EIO", "The port's descriptor cannot be watched by the event loop.");
  }
  return nullptr;
}

/** close(handle): release everything now. Safe to call twice; rx and tx do nothing afterwards. */
napi_value close(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  if (Port* port = takeHandle<Port>(env, argument)) port->close();
  return nullptr;
}

}  // namespace

int portDescriptor(napi_env env, napi_value handle) {
  Port* port = takeHandle<Port>(env, handle);
  if (port != nullptr && port->pcap != nullptr) return pcap_fileno(port->pcap);
  if (port != nullptr) fail(env, CODE_ARGUMENT, "The port is closed.");
  return -1;
}

void registerPcapPort(napi_env env, napi_value exports) {
  setFunction(env, exports, "portOpen", open);
  setFunction(env, exports, "portBind", bind);
  setFunction(env, exports, "portRx", rx);
  setFunction(env, exports, "portTx", tx);
  setFunction(env, exports, "portStats", stats);
  setFunction(env, exports, "portWatch", watch);
  setFunction(env, exports, "portClose", close);
}
