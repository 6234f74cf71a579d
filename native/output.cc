// A write that waits for nobody, for the log's lines: fs has one only where the descriptor says so for all who share it.

#include "values.h"

#include <sys/socket.h>

#include <cerrno>
#include <climits>

namespace {

/** sendNow(fd, Uint8Array, from): as much of bytes[from..) as the socket takes at once. Returns how many. EAGAIN: nothing. */
napi_value sendNow(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  int64_t fd, from;
  uint8_t* bytes;
  size_t length;
  if (!takeArguments(env, info, 3, arguments) || !takeInt(env, arguments[0], 0, INT_MAX, &fd) ||
      !takeArray(env, arguments[1], napi_uint8_array, &bytes, &length) ||
      !takeInt(env, arguments[2], 0, static_cast<int64_t>(length), &from)) {
    return nullptr;
  }
  const ssize_t sent = send(static_cast<int>(fd), bytes + from, length - from, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0) return giveInt(env, sent);
  return fail(env, errnoCode(errno), "The socket %d takes nothing: %s.", static_cast<int>(fd), errnoText(errno));
}

}  // namespace

void registerOutput(napi_env env, napi_value exports) { setFunction(env, exports, "sendNow", sendNow); }
