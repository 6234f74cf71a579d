// What JS does with a live port of either kind: bind, rx, tx, stats, watch, close. Called by lib/io/device-port.ts. The
// handle owns the descriptor, the references to the bound columns and the watch; close() releases them at once, the
// finalizer does when JS forgets to.

#include "port.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

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

  /** Let the event loop wait on the descriptor, or not: a socket that somebody waits on wakes him for every frame sent, too. */
  void wait(bool waits) {
    if (waits) uv_poll_start(&poll, UV_READABLE, onReadable);
    else uv_poll_stop(&poll);
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

Port::Port(napi_env env, bool withHeaders) : Tagged{KIND}, env_(env), withHeaders_(withHeaders) {
  for (int i = 0; i < TX_CHUNK; i++) {
    pieces_[i][0] = {&headers_[i], sizeof headers_[i]};
    messages_[i].msg_hdr.msg_iov = withHeaders ? pieces_[i] : pieces_[i] + 1;
    messages_[i].msg_hdr.msg_iovlen = withHeaders ? 2 : 1;
  }
}

void Port::close() {
  if (descriptor() < 0) return;
  if (watch != nullptr) watch->close();
  if (groups >= 0) ::close(groups);
  groups = -1;
  batch.release(env_);
  readKernelDrops();
  release();
}

/** Send the first `chunk` messages. Returns how many went, or -1 with errno. One alone costs a tenth less by itself. */
int Port::give(int chunk) {
  if (chunk > 1) return sendmmsg(descriptor(), messages_, static_cast<unsigned>(chunk), MSG_DONTWAIT);
  if (withHeaders_) return sendmsg(descriptor(), &messages_[0].msg_hdr, MSG_DONTWAIT) < 0 ? -1 : 1;
  return ::send(descriptor(), pieces_[0][1].iov_base, pieces_[0][1].iov_len, MSG_DONTWAIT) < 0 ? -1 : 1;
}

int64_t Port::send(const FrameRows& rows, int64_t* next, bool* refused) {
  /** Times a call waits a millisecond for the device before it gives up on the rest. */
  int patience = 4;
  int64_t sent = 0;
  int64_t row = rows.from;
  *refused = false;
  while (row < rows.to) {
    int chunk = 0;
    Fit fit = Fit::SEND;
    for (; chunk < TX_CHUNK && row + chunk < rows.to; chunk++) {
      const int64_t at = row + chunk;
      headers_[chunk] = {};
      fit = rows.inside(at) ? describe(rows, at, &headers_[chunk]) : Fit::REFUSE;
      if (fit != Fit::SEND) break;
      pieces_[chunk][1] = {rows.bytes + rows.offset[at], static_cast<size_t>(rows.length[at])};
    }
    if (chunk == 0 && fit == Fit::CUT) break;
    const int done = chunk == 0 ? -1 : give(chunk);
    if (done > 0) {
      for (int i = 0; i < done; i++) {
        total.txBytes += static_cast<double>(pieces_[i][1].iov_len);
        total.partialChecksums += headers_[i].flags & VnetHeader::NEEDS_CSUM;
      }
      sent += done;
      row += done;
    } else if (chunk > 0 && (errno == EAGAIN || errno == ENOBUFS)) {
      if (patience-- == 0) {
        total.txFull += static_cast<double>(rows.to - row);
        row = rows.to;
        break;
      }
      // EAGAIN: the socket's buffer is full, so wait for room. ENOBUFS: the queue behind it is, which poll cannot see.
      pollfd room = {descriptor(), POLLOUT, 0};
      poll(&room, errno == EAGAIN ? 1 : 0, 1);
    } else if (chunk == 0 || errno != EINTR) {
      if (chunk > 0) noticeError(errno);
      // What the kernel does not take with work left to do, it may take with the work done.
      if (chunk > 0 && errno == EINVAL && (headers_[0].flags | headers_[0].gsoType) != 0) {
        *refused = true;
        break;
      }
      total.txErrors++;
      row++;
    }
  }
  total.txFrames += static_cast<double>(sent);
  *next = row;
  return sent;
}

namespace {

/** bind(handle, memory, offset, length, flags, segmentSize): where rx puts frames from now on. */
napi_value bind(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  if (!takeArguments(env, info, 6, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port != nullptr && port->descriptor() >= 0 && port->batch.bind(env, arguments + 1, true)) port->bound();
  return nullptr;
}

/** rx(handle) → count. A device that went down has no frames; it is an Error only when it is gone. */
napi_value rx(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!takeArguments(env, info, 1, &argument)) return nullptr;
  Port* port = takeHandle<Port>(env, argument);
  if (port == nullptr) return nullptr;
  port->batch.begin();
  if (port->descriptor() < 0) return giveInt(env, 0);
  if (!port->receive()) return nullptr;
  port->total.rxFrames += static_cast<double>(port->batch.count);
  return giveInt(env, static_cast<int64_t>(port->batch.count));
}

/** tx(handle, bytes, offset, length, from, to) → frames sent. The rest are counted as txFull or txErrors. */
napi_value tx(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  FrameRows rows;
  int64_t next;
  bool refused;
  if (!takeArguments(env, info, 6, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || !rows.take(env, arguments + 1)) return nullptr;
  return giveInt(env, port->descriptor() < 0 ? 0 : port->send(rows, &next, &refused));
}

/**
 * txOffload(handle, bytes, offset, length, flags, segmentSize, from, to, stopped: Int32Array(2)) → frames sent.
 * stopped[0] is `to`, or the row that must be cut (or completed) in software before it can leave; stopped[1] is 1 when
 * the kernel had refused it.
 */
napi_value txOffload(napi_env env, napi_callback_info info) {
  napi_value arguments[9];
  FrameRows rows;
  int32_t* stopped;
  size_t length;
  bool refused = false;
  if (!takeArguments(env, info, 9, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || !rows.takeOffload(env, arguments + 1) ||
      !takeArray(env, arguments[8], napi_int32_array, &stopped, &length)) {
    return nullptr;
  }
  if (length < 2) return fail(env, CODE_ARGUMENT, "An Int32Array of two elements is needed here.");
  int64_t next = rows.to, sent = 0;
  if (port->descriptor() >= 0) sent = port->send(rows, &next, &refused);
  stopped[0] = static_cast<int32_t>(next);
  stopped[1] = refused;
  return giveInt(env, sent);
}

/** stats(handle, Float64Array(9)): the totals since open, in the order of Port::Totals. */
napi_value stats(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  double* out;
  size_t length;
  if (!takeArguments(env, info, 2, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || !takeArray(env, arguments[1], napi_float64_array, &out, &length)) return nullptr;
  if (port->descriptor() >= 0) port->readKernelDrops();
  memcpy(out, &port->total, std::min(length * sizeof(double), sizeof port->total));
  return nullptr;
}

/** watch(handle, callback): call back from the event loop, once a wakeup, while frames wait. Keeps the loop alive. */
napi_value watch(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  napi_valuetype type;
  if (!takeArguments(env, info, 2, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || port->descriptor() < 0) return nullptr;
  if (napi_typeof(env, arguments[1], &type) != napi_ok || type != napi_function) {
    return fail(env, CODE_ARGUMENT, "A function is needed here.");
  }
  if (port->watch != nullptr) {
    return fail(env, CODE_ARGUMENT, "The port is watched already: one callback a port.");
  }
  if (Watch::start(env, port->descriptor(), arguments[1], &port->watch) != napi_ok) {
    return fail(env, "EIO", "The port's descriptor cannot be watched by the event loop.");
  }
  return nullptr;
}

/** wait(handle, boolean): whether a watched port calls back. The event loop stays alive only while some handle does. */
napi_value wait(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  bool waits;
  if (!takeArguments(env, info, 2, arguments)) return nullptr;
  Port* port = takeHandle<Port>(env, arguments[0]);
  if (port == nullptr || !takeBool(env, arguments[1], &waits)) return nullptr;
  if (port->watch != nullptr) port->watch->wait(waits);
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

void registerPort(napi_env env, napi_value exports) {
  setFunction(env, exports, "portBind", bind);
  setFunction(env, exports, "portRx", rx);
  setFunction(env, exports, "portTx", tx);
  setFunction(env, exports, "portTxOffload", txOffload);
  setFunction(env, exports, "portStats", stats);
  setFunction(env, exports, "portWatch", watch);
  setFunction(env, exports, "portWait", wait);
  setFunction(env, exports, "portClose", close);
}
