// What the addon's code reaches, for test/fuzz/fuzzer.ts: g++ puts a call in front of every block of native/*.cc
// (-fsanitize-coverage=trace-pc; g++ has no libFuzzer), and this counts them. Not traced itself.

#include "values.h"

namespace {

constexpr size_t MAP_BYTES = 1 << 14;
uint8_t map[MAP_BYTES];

/** coverage() → ArrayBuffer: a counter a block, up to collisions, of this process. */
napi_value coverage(napi_env env, napi_callback_info) {
  napi_value result = nullptr;
  napi_create_external_arraybuffer(env, map, sizeof map, nullptr, nullptr, &result);
  return result;
}

}  // namespace

// Hidden, or it would be libasan's, which does nothing.
extern "C" __attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc() {
  // The distance from here is the same wherever the loader put the addon.
  const uintptr_t here = reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - reinterpret_cast<uintptr_t>(map);
  map[(static_cast<uint64_t>(here) * 0x9e3779b97f4a7c15) >> 50]++;
}

// native/addon.cc's own, under this name when it is compiled for fuzzing (build.sh).
extern "C" napi_value registerAddon(napi_env env, napi_value exports);
void registerKernel(napi_env env, napi_value exports);

NAPI_MODULE_INIT() {
  registerAddon(env, exports);
  registerKernel(env, exports);
  setFunction(env, exports, "coverage", coverage);
  return exports;
}
