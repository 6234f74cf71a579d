// Memory for big tables: whole pages, aligned to cache lines and more, of 2 MiB each where the kernel has them
// (transparent huge pages, "madvise" or "always"). A table of 100 MiB is then 50 pages instead of 25,000, and a lookup
// at random finds its address translation in the processor's own cache.

#include "values.h"

#include <sys/mman.h>

#include <cerrno>

namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;
constexpr int64_t BYTES_MAX = int64_t{1} << 36;

struct Region {
  void* start;
  size_t length;
};

void release(napi_env, void*, void* hint) {
  Region* region = static_cast<Region*>(hint);
  munmap(region->start, region->length);
  delete region;
}

/** memory(bytes) → ArrayBuffer of zeros. Pages are taken when they are first touched; all go back with the buffer. */
napi_value memory(napi_env env, napi_callback_info info) {
  napi_value argument, result = nullptr;
  int64_t bytes;
  if (!takeArguments(env, info, 1, &argument) || !takeInt(env, argument, 1, BYTES_MAX, &bytes)) return nullptr;
  const size_t length = (static_cast<size_t>(bytes) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
  void* start = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return fail(env, errnoCode(errno), "No memory for a table of %lld bytes.", (long long)bytes);
  const size_t at = (reinterpret_cast<size_t>(start) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  void* aligned = reinterpret_cast<void*>(at);
  // A kernel without huge pages refuses; the memory is as good, only slower.
  madvise(aligned, length - HUGE_PAGE, MADV_HUGEPAGE);
  Region* region = new Region{start, length};
  if (napi_create_external_arraybuffer(env, aligned, static_cast<size_t>(bytes), release, region, &result) == napi_ok) {
    return result;
  }
  release(env, aligned, region);
  return fail(env, "ENOMEM", "This Node has no external buffers: a table of %lld bytes cannot be made here.", (long long)bytes);
}

}  // namespace

void registerMemory(napi_env env, napi_value exports) { setFunction(env, exports, "memory", memory); }
