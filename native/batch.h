// How frames lie in memory, shared with lib/io/port.ts. lib/io/native.ts compares the constants when it loads the addon.
//
//   | HEADROOM free | frame | pad to ALIGNMENT | HEADROOM free | frame | ... | TAILROOM
//                   ^ offset[i], length[i] bytes, flags[i]
//
// TAILROOM is behind every frame; all but the last have it in the next frame's headroom.
//
// A JS caller binds its memory and columns once. References keep them alive until they are bound anew or released;
// the memory must not be transferred to another thread meanwhile.
#pragma once

#include "values.h"

#include <algorithm>
#include <cstring>

constexpr size_t HEADROOM = 512;
constexpr size_t TAILROOM = 64;
constexpr size_t ALIGNMENT = 64;
constexpr int32_t FRAME_CHECKSUM_PARTIAL = 1;
constexpr int32_t FRAME_TRUNCATED = 2;
constexpr int32_t FRAME_CHECKSUM_KNOWN = 4;
constexpr int32_t SEGMENT_SIZE_UNKNOWN = 0xffff;
constexpr size_t ETHERNET_HEADER = 14;
/** The longest frame a device can hand over: a 65,535-byte IP packet behind an Ethernet header. */
constexpr size_t FRAME_LENGTH_MAX = 65535 + ETHERNET_HEADER;

static_assert(sizeof(int32_t) == 4 && HEADROOM % ALIGNMENT == 0 && TAILROOM <= HEADROOM, "layout of lib/io/port.ts");

class BoundBatch {
 public:
  size_t count = 0;

  /** Take memory (Uint8Array) and offset, length, flags and, where asked for, segmentSize (Int32Array), in this order. */
  bool bind(napi_env env, const napi_value* values, bool withSegmentSize = false) {
    const int count = withSegmentSize ? 4 : 3;
    size_t bytes, rows[4];
    uint8_t* memory;
    int32_t* columns[4] = {};
    if (!takeArray(env, values[0], napi_uint8_array, &memory, &bytes)) return false;
    for (int i = 0; i < count; i++) {
      if (!takeArray(env, values[1 + i], napi_int32_array, &columns[i], &rows[i])) return false;
    }
    release(env);
    for (int i = 0; i <= count; i++) napi_create_reference(env, values[i], 1, &references_[i]);
    memory_ = memory;
    bytes_ = bytes;
    offset_ = columns[0];
    length_ = columns[1];
    flags_ = columns[2];
    segmentSize_ = columns[3];
    capacity_ = *std::min_element(rows, rows + count);
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

  /** For a port that puts frames into slots itself: the memory, its length, and how many rows there are. */
  uint8_t* memory() const { return memory_; }
  size_t bytes() const { return bytes_; }
  size_t capacity() const { return capacity_; }

  /** Fill the next row. Call only while not full(), with segmentSize bound. */
  void add(size_t offset, size_t length, int32_t flags, int32_t segmentSize) {
    offset_[count] = static_cast<int32_t>(offset);
    length_[count] = static_cast<int32_t>(length);
    flags_[count] = flags;
    segmentSize_[count] = segmentSize;
    count++;
  }

  /** How many more frames of up to `frameMax` bytes certainly fit. */
  size_t room(size_t frameMax) const {
    return std::min(capacity_ - count, (usable() - std::min(cursor_, usable())) / slot(frameMax));
  }

  /** Copy a frame in, cut to the memory that is left; `whole` is its length on the wire. Call only while not full(). */
  void append(const uint8_t* frame, size_t captured, size_t whole) {
    const size_t at = cursor_ + HEADROOM;
    const size_t length = std::min(captured, at < usable() ? usable() - at : 0);
    if (length > 0) memcpy(memory_ + at, frame, length);
    offset_[count] = static_cast<int32_t>(at);
    length_[count] = static_cast<int32_t>(length);
    flags_[count] = length < whole ? FRAME_TRUNCATED : 0;
    count++;
    cursor_ += slot(length);
  }

 private:
  /** All but the last frame's tailroom. */
  size_t usable() const { return bytes_ > TAILROOM ? bytes_ - TAILROOM : 0; }

  static size_t slot(size_t length) { return HEADROOM + (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

  uint8_t* memory_ = nullptr;
  size_t bytes_ = 0;
  size_t capacity_ = 0;
  size_t cursor_ = 0;
  int32_t* offset_ = nullptr;
  int32_t* length_ = nullptr;
  int32_t* flags_ = nullptr;
  int32_t* segmentSize_ = nullptr;
  napi_ref references_[5] = {};
};

/** Rows of frames that JS hands over for one call: bytes, offset, length, from, to. */
struct FrameRows {
  uint8_t* bytes;
  size_t byteCount;
  int32_t *offset, *length;
  int64_t from, to;
  /** Only of takeOffload; nullptr otherwise. */
  int32_t *flags = nullptr, *segmentSize = nullptr;

  /** As take, with flags and segmentSize behind length. */
  bool takeOffload(napi_env env, const napi_value* values) {
    const napi_value plain[] = {values[0], values[1], values[2], values[5], values[6]};
    size_t flagRows, sizeRows;
    if (!take(env, plain) || !takeArray(env, values[3], napi_int32_array, &flags, &flagRows) ||
        !takeArray(env, values[4], napi_int32_array, &segmentSize, &sizeRows)) {
      return false;
    }
    if (static_cast<size_t>(to) <= std::min(flagRows, sizeRows)) return true;
    fail(env, CODE_ARGUMENT, "The columns are shorter than the rows to send.");
    return false;
  }

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
