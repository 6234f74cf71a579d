// Two ports that are each other's far end, without a device: what one sends, the other receives. The warm-up runs the
// forwarding plane on them, so that the very functions that carry traffic later are compiled, for the very same calls.
// A pair of local sockets that keep the boundaries between frames. What JS calls is in port.cc.

#include "port.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace {

class PairPort : public Port {
 public:
  PairPort(napi_env env, int descriptor) : Port(env, false), descriptor_(descriptor) {}
  ~PairPort() override { close(); }

  int descriptor() const override { return descriptor_; }

  bool receive() override {
    while (batch.room(sizeof frame_) > 0) {
      const ssize_t length = recv(descriptor_, frame_, sizeof frame_, MSG_DONTWAIT);
      if (length <= 0) break;
      batch.append(frame_, static_cast<size_t>(length), static_cast<size_t>(length));
      total.rxBytes += static_cast<double>(length);
    }
    return true;
  }

  /** What does not fit is refused to the sender. */
  void readKernelDrops() override {}

 protected:
  void release() override {
    ::close(descriptor_);
    descriptor_ = -1;
  }

 private:
  int descriptor_;
  uint8_t frame_[2048];
};

/** pairOpen() → [handle, handle] */
napi_value open(napi_env env, napi_callback_info) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return fail(env, errnoCode(errno), "A pair of local sockets could not be made: %s.", errnoText(errno));
  }
  napi_value pair;
  napi_create_array_with_length(env, 2, &pair);
  for (uint32_t i = 0; i < 2; i++) napi_set_element(env, pair, i, giveHandle(env, new PairPort(env, ends[i])));
  return pair;
}

}  // namespace

void registerPairPort(napi_env env, napi_value exports) { setFunction(env, exports, "pairOpen", open); }
