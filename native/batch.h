// How frames lie in memory, shared with lib/io/port.ts. lib/io/native.ts compares the constants when it loads the addon.
//
//   | HEADROOM free | frame | pad to ALIGNMENT | HEADROOM free | frame | ...
//                   ^ offset[i], length[i] bytes, flags[i]
//
// A JS caller binds its memory and columns once. References keep them alive until they are bound anew or released;
// the memory must not be transferred to another thread meanwhile.
#pragma once

#include "values.h"

#include <algorithm>
#include <cstring>

constexpr size_t HEADROOM = 512;
constexpr size_t ALIGNMENT = 64;
constexpr int32_t FRAME_TRUNCATED = 2;

static_assert(sizeof(int32_t) == 4 && HEADROOM % ALIGNMENT == 0, "layout of lib/io/port.ts");

class BoundBatch {
 public:
  size_t count = 0;

  /** Take memory (Uint8Array) and offset, length, flags (Int32Array), in this order. */
  bool bind(napi_env env, const napi_value* values) {
    size_t bytes, rows[3];
    uint8_t* memory;
    int32_t* columns[3];
    if (!takeArray(env, values[0], napi_uint8_array, &memory, &bytes)) return false;
    for (int i = 0; i < 3; i++) {
      if (!takeArray(env, values[1 + i], napi_int32_array, &columns[i], &rows[i])) return false;
    }
    release(env);
    for (int i = 0; i < 4; i++) napi_create_reference(env, values[i], 1, &references_[i]);
    memory_ = memory;
    bytes_ = bytes;
    offset_ = columns[0];
    length_ = columns[1];
    flags_ = columns[2];
    capacity_ = std::min({rows[0], rows[1], rows[2]});
    return true;
  }

  void release(napi_env env) {
    for (napi_ref& reference : references_) {
      if (reference != nullptr) napi_delete_reference(env, reference);
      reference = nullptr;
    }
    memory_ = nullptr;
    bytes_ = capacity_ = count = cursor_ = 0;
  }

  /** Begin at the start of the memory: frames given before are gone. */
  void begin() { count = cursor_ = 0; }

  bool full() const { return count >= capacity_; }

  /** How many more frames of up to `frameMax` bytes certainly fit. */
  size_t room(size_t frameMax) const {
    return std::min(capacity_ - count, (bytes_ - std::min(cursor_, bytes_)) / slot(frameMax));
  }

  /** Copy a frame in, cut to the memory that is left; `whole` is its length on the wire. Call only while not full(). */
  void append(const uint8_t* frame, size_t captured, size_t whole) {
    const size_t at = cursor_ + HEADROOM;
    const size_t length = std::min(captured, at < bytes_ ? bytes_ - at : 0);
    memcpy(memory_ + at, frame, length);
    offset_[count] = static_cast<int32_t>(at);
    length_[count] = static_cast<int32_t>(length);
    flags_[count] = length < whole ? FRAME_TRUNCATED : 0;
    count++;
    cursor_ += slot(length);
  }

 private:
  static size_t slot(size_t length) { return HEADROOM + (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

  uint8_t* memory_ = nullptr;
  size_t bytes_ = 0;
  size_t capacity_ = 0;
  size_t cursor_ = 0;
  int32_t* offset_ = nullptr;
  int32_t* length_ = nullptr;
  int32_t* flags_ = nullptr;
  napi_ref references_[4] = {};
};

/** Rows of frames that JS hands over for one call: bytes, offset, length, from, to. */
struct FrameRows {
  uint8_t* bytes;
  size_t byteCount;
  int32_t *offset, *length;
  int64_t from, to;

  bool take(napi_env env, const napi_value* values) {
    size_t offsets, lengths;
    return takeArray(env, values[0], napi_uint8_array, &bytes, &byteCount) &&
           takeArray(env, values[1], napi_int32_array, &offset, &offsets) &&
           takeArray(env, values[2], napi_int32_array, &length, &lengths) &&
           takeInt(env, values[3], 0, static_cast<int64_t>(std::min(offsets, lengths)), &from) &&
           takeInt(env, values[4], from, static_cast<int64_t>(std::min(offsets, lengths)), &to);
  }

  /** Whether row `row` lies inside the bytes. */
  bool inside(int64_t row) const {
    return offset[row] >= 0 && length[row] > 0 &&
           static_cast<size_t>(offset[row]) + static_cast<size_t>(length[row]) <= byteCount;
  }
};
