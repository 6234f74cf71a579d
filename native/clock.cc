// The time for a loop that must leave no garbage: Node's own clocks make an object, a BigInt or a number on the heap a call.

#include "values.h"

#include <sched.h>

#include <ctime>

namespace {

/** clock(Float64Array): its first element becomes the microseconds of CLOCK_MONOTONIC. */
napi_value clock(napi_env env, napi_callback_info info) {
  napi_value argument;
  double* out;
  size_t length;
  if (!takeArguments(env, info, 1, &argument) || !takeArray(env, argument, napi_float64_array, &out, &length)) return nullptr;
  if (length == 0) return fail(env, CODE_ARGUMENT, "An array with room for the time is needed here.");
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  *out = static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
  return nullptr;
}

/** yield(): let whoever else is ready on this processor run first, the kernel's own threads among them. */
napi_value yield(napi_env, napi_callback_info) {
  sched_yield();
  return nullptr;
}

}  // namespace

void registerClock(napi_env env, napi_value exports) {
  setFunction(env, exports, "clock", clock);
  setFunction(env, exports, "yield", yield);
}
