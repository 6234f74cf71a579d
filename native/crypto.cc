// Digests, a block cipher and sums over the rows of one memory, on the OpenSSL that Node carries. What JS calls is used by
// lib/crypto/native-crypto.ts, and lib/crypto/node-crypto.ts is its plain twin: the same bytes for the same rows.
//
//   row i is bytes[from[i]..to[i]); what an operation adds or takes off is at its end and changes to[i]
//
// One crossing serves all rows of a call. Nothing is allocated for a row, and nothing outside `bytes` is read or written:
// a row that does not lie inside, or has no room to grow, is left alone and told so.

// The low-level hash functions have no replacement that works on plain memory: a provider's context is copied by malloc.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "values.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

namespace {

constexpr size_t BLOCK = 16;
constexpr size_t IV_LENGTH = 16;
constexpr int32_t HMAC_RIGHT = 0, HMAC_WRONG = 1, HMAC_MISSING = 2;
/** In the place of `to` and of a sum: the row does not lie inside the bytes, or was nothing that seal makes. */
constexpr int32_t NO_ROW = -1;
constexpr int64_t NO_WINDOW = -1;
/** Number.MAX_SAFE_INTEGER. */
constexpr int64_t WHOLE_MAX = (int64_t{1} << 53) - 1;

/** Rows that JS hands over for one call: bytes, from, to, count. */
struct Rows {
  uint8_t* bytes;
  size_t byteCount;
  int32_t *from, *to;
  int64_t count;

  bool take(napi_env env, const napi_value* values) {
    size_t froms, tos;
    return takeArray(env, values[0], napi_uint8_array, &bytes, &byteCount) &&
           takeArray(env, values[1], napi_int32_array, &from, &froms) &&
           takeArray(env, values[2], napi_int32_array, &to, &tos) &&
           takeInt(env, values[3], 0, static_cast<int64_t>(std::min(froms, tos)), &count);
  }

  /** Row `i`, if it lies inside the bytes with `growth` more behind it. */
  bool row(int64_t i, size_t growth, uint8_t** start, size_t* length) const {
    const int32_t first = from[i], end = to[i];
    if (first < 0 || end < first || static_cast<size_t>(end) + growth > byteCount) return false;
    *start = bytes + first;
    *length = static_cast<size_t>(end - first);
    return true;
  }
};

/** A column of results, one for each of `count` rows. */
bool takeResults(napi_env env, napi_value value, int64_t count, int32_t** column) {
  size_t rows;
  if (!takeArray(env, value, napi_int32_array, column, &rows)) return false;
  if (static_cast<size_t>(count) <= rows) return true;
  fail(env, CODE_ARGUMENT, "The column for the results is shorter than the rows are many.");
  return false;
}

struct Sha1 {
  using State = SHA_CTX;
  static constexpr size_t LENGTH = SHA_DIGEST_LENGTH;
  static void begin(State* state) { SHA1_Init(state); }
  static void add(State* state, const void* data, size_t length) { SHA1_Update(state, data, length); }
  static void end(State* state, uint8_t* digest) { SHA1_Final(digest, state); }
};

struct Sha256 {
  using State = SHA256_CTX;
  static constexpr size_t LENGTH = SHA256_DIGEST_LENGTH;
  static void begin(State* state) { SHA256_Init(state); }
  static void add(State* state, const void* data, size_t length) { SHA256_Update(state, data, length); }
  static void end(State* state, uint8_t* digest) { SHA256_Final(digest, state); }
};

/** RFC 2104 with one key; `length` bytes of the digest are sent. */
class Hmac : public Tagged {
 public:
  static constexpr uint32_t KIND = 0x77686d63;
  const size_t length;

  explicit Hmac(size_t length) : Tagged{KIND}, length(length) {}
  virtual ~Hmac() = default;
  virtual void sign(const Rows& rows, int64_t window) const = 0;
  virtual void verify(const Rows& rows, int64_t window, int32_t* outcome) const = 0;
};

/** The hash has taken in the key already, once for the inner and once for the outer pass. */
template <class Hash>
class KeyedHmac final : public Hmac {
 public:
  KeyedHmac(size_t length, const uint8_t* key, size_t keyLength) : Hmac(length) {
    uint8_t block[KEY_BLOCK] = {};
    if (keyLength > KEY_BLOCK) {
      Hash::begin(&inner_);
      Hash::add(&inner_, key, keyLength);
      Hash::end(&inner_, block);
    } else if (keyLength > 0) {
      memcpy(block, key, keyLength);
    }
    for (uint8_t& byte : block) byte ^= 0x36;
    Hash::begin(&inner_);
    Hash::add(&inner_, block, sizeof block);
    for (uint8_t& byte : block) byte ^= 0x36 ^ 0x5c;
    Hash::begin(&outer_);
    Hash::add(&outer_, block, sizeof block);
    OPENSSL_cleanse(block, sizeof block);
  }

  ~KeyedHmac() override {
    OPENSSL_cleanse(&inner_, sizeof inner_);
    OPENSSL_cleanse(&outer_, sizeof outer_);
  }

  void sign(const Rows& rows, int64_t window) const override {
    State state;
    uint8_t digest[Hash::LENGTH];
    uint8_t* start;
    size_t size;
    for (int64_t i = 0; i < rows.count; i++) {
      if (!rows.row(i, length, &start, &size)) {
        rows.to[i] = NO_ROW;
        continue;
      }
      state = inner_;
      Hash::add(&state, start, size);
      finish(&state, window, digest);
      memcpy(start + size, digest, length);
      rows.to[i] += static_cast<int32_t>(length);
    }
    OPENSSL_cleanse(&state, sizeof state);
  }

  void verify(const Rows& rows, int64_t window, int32_t* outcome) const override {
    const int64_t windows[] = {window, window - 1, window + 1};
    const int tries = window == NO_WINDOW ? 1 : 3;
    State taken, state;
    uint8_t digest[Hash::LENGTH];
    uint8_t* start;
    size_t size;
    for (int64_t i = 0; i < rows.count; i++) {
      if (!rows.row(i, 0, &start, &size) || size < length) {
        outcome[i] = HMAC_MISSING;
        continue;
      }
      size -= length;
      taken = inner_;
      Hash::add(&taken, start, size);
      bool right = false;
      for (int at = 0; at < tries && !right; at++) {
        state = taken;
        if (tries > 1) mix(&state, windows[at]);
        finish(&state, NO_WINDOW, digest);
        right = CRYPTO_memcmp(start + size, digest, length) == 0;
      }
      outcome[i] = right ? HMAC_RIGHT : HMAC_WRONG;
      if (right) rows.to[i] -= static_cast<int32_t>(length);
    }
    OPENSSL_cleanse(&taken, sizeof taken);
    OPENSSL_cleanse(&state, sizeof state);
  }

 private:
  using State = typename Hash::State;
  /** Both hashes work on blocks of 64 bytes. */
  static constexpr size_t KEY_BLOCK = 64;

  static void mix(State* state, int64_t window) {
    const uint32_t number = static_cast<uint32_t>(window);
    const uint8_t bytes[] = {static_cast<uint8_t>(number >> 24), static_cast<uint8_t>(number >> 16),
                             static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)};
    Hash::add(state, bytes, sizeof bytes);
  }

  /** `state` has taken in the row; it is used up. */
  void finish(State* state, int64_t window, uint8_t* digest) const {
    if (window != NO_WINDOW) mix(state, window);
    Hash::end(state, digest);
    *state = outer_;
    Hash::add(state, digest, Hash::LENGTH);
    Hash::end(state, digest);
  }

  State inner_, outer_;
};

/** Keys of JS's in a column, and which of them each row of a call has. */
struct KeyColumn {
  /** A key's place, whatever its length. */
  static constexpr size_t STRIDE = 32;
  const uint8_t* bytes;
  size_t byteCount;
  const int32_t* places;

  /** `count` rows will ask. */
  bool take(napi_env env, napi_value keys, napi_value column, int64_t count) {
    uint8_t* first;
    int32_t* each;
    size_t rows;
    if (!takeArray(env, keys, napi_uint8_array, &first, &byteCount) ||
        !takeArray(env, column, napi_int32_array, &each, &rows)) {
      return false;
    }
    bytes = first;
    places = each;
    if (static_cast<size_t>(count) <= rows) return true;
    fail(env, CODE_ARGUMENT, "The column that says which key is shorter than the rows are many.");
    return false;
  }

  bool has(int32_t place) const { return place >= 0 && static_cast<size_t>(place) < byteCount / STRIDE; }
  const uint8_t* key(int32_t place) const { return bytes + STRIDE * static_cast<size_t>(place); }
};

/** AES-CBC: a context a direction, made once. OpenSSL wipes the key schedules when they are freed. */
class Cipher {
 public:
  Cipher() = default;
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;
  ~Cipher() {
    EVP_CIPHER_CTX_free(seal_);
    EVP_CIPHER_CTX_free(open_);
  }

  /** Call once. `key` null: each row brings its own. False when OpenSSL has no such cipher, or no memory. */
  bool begin(const EVP_CIPHER* cipher, const uint8_t* key) {
    seal_ = EVP_CIPHER_CTX_new();
    open_ = EVP_CIPHER_CTX_new();
    return seal_ != nullptr && open_ != nullptr && EVP_EncryptInit_ex(seal_, cipher, nullptr, key, nullptr) == 1 &&
           EVP_DecryptInit_ex(open_, cipher, nullptr, key, nullptr) == 1 &&
           // Only here: decrypting with padding would hold the last block back. Encrypting gives whole blocks at once
           // either way, and a context without padding sets its IV 40 ns slower.
           EVP_CIPHER_CTX_set_padding(open_, 0) == 1;
  }

  /** `keys` null: all rows have the cipher's own. False when OpenSSL refused a row; those before it are sealed. */
  bool seal(const Rows& rows, const uint8_t* ivs, const KeyColumn* keys) const {
    uint8_t* start;
    size_t size;
    int32_t set = NO_ROW;
    for (int64_t i = 0; i < rows.count; i++) {
      const int32_t place = keys == nullptr ? NO_ROW : keys->places[i];
      uint8_t iv[IV_LENGTH];
      memcpy(iv, ivs + IV_LENGTH * static_cast<size_t>(i), sizeof iv);
      if (!rows.row(i, 0, &start, &size) || !rows.row(i, BLOCK - size % BLOCK + IV_LENGTH, &start, &size) ||
          (keys != nullptr && !keys->has(place))) {
        rows.to[i] = NO_ROW;
        continue;
      }
      const size_t padding = BLOCK - size % BLOCK;
      memset(start + size, static_cast<int>(padding), padding);
      size += padding;
      int done;
      const uint8_t* key = nextKey(keys, place, &set);
      if (EVP_EncryptInit_ex(seal_, nullptr, nullptr, key, iv) != 1 ||
          EVP_EncryptUpdate(seal_, start, &done, start, static_cast<int>(size)) != 1 || done != static_cast<int>(size)) {
        return false;
      }
      memcpy(start + size, iv, sizeof iv);
      rows.to[i] += static_cast<int32_t>(padding + IV_LENGTH);
    }
    return true;
  }

  /** `keys` null: all rows have the cipher's own. False when OpenSSL refused a row; those before it are open. */
  bool open(const Rows& rows, const KeyColumn* keys) const {
    uint8_t* start;
    size_t size;
    int32_t set = NO_ROW;
    for (int64_t i = 0; i < rows.count; i++) {
      // Read once: JS may have given the same column for the ends.
      const int32_t place = keys == nullptr ? NO_ROW : keys->places[i];
      const bool inside = rows.row(i, 0, &start, &size) && (keys == nullptr || keys->has(place));
      const int32_t first = rows.from[i];
      rows.to[i] = NO_ROW;
      if (!inside || size < BLOCK + IV_LENGTH || size % BLOCK != 0) continue;
      size -= IV_LENGTH;
      int done;
      const uint8_t* key = nextKey(keys, place, &set);
      if (EVP_DecryptInit_ex(open_, nullptr, nullptr, key, start + size) != 1 ||
          EVP_DecryptUpdate(open_, start, &done, start, static_cast<int>(size)) != 1 || done != static_cast<int>(size)) {
        return false;
      }
      const size_t padding = paddingOf(start + size - BLOCK);
      if (padding > 0) rows.to[i] = first + static_cast<int32_t>(size - padding);
    }
    return true;
  }

  /** No key of a row stays behind the call that brought it: it may be wiped in JS any time now. */
  void forgetSealKey() const { EVP_EncryptInit_ex(seal_, nullptr, nullptr, NO_KEY, nullptr); }
  void forgetOpenKey() const { EVP_DecryptInit_ex(open_, nullptr, nullptr, NO_KEY, nullptr); }

 private:
  static constexpr uint8_t NO_KEY[KeyColumn::STRIDE] = {};

  /** The key at `place`; null where the context has it from the row before, whose place is `*set`. */
  static const uint8_t* nextKey(const KeyColumn* keys, int32_t place, int32_t* set) {
    if (keys == nullptr || place == *set) return nullptr;
    *set = place;
    return keys->key(place);
  }

  /** Bytes of PKCS#7 padding in the last block, 0 when it is none. Takes the same time for every block. */
  static size_t paddingOf(const uint8_t* block) {
    constexpr uint32_t last = BLOCK - 1;
    const uint32_t padding = block[last];
    uint32_t wrong = (padding - 1) & ~last;
    for (uint32_t i = 0; i <= last; i++) {
      // All ones for the bytes that the padding covers: the difference is below zero there.
      const uint32_t covered = 0u - ((last - i - padding) >> 31);
      wrong |= (block[i] ^ padding) & covered;
    }
    return wrong == 0 ? padding : 0;
  }

  EVP_CIPHER_CTX* seal_ = nullptr;
  EVP_CIPHER_CTX* open_ = nullptr;
};

/** One key for all rows. */
struct KeyedCipher : Tagged {
  static constexpr uint32_t KIND = 0x77636970;
  KeyedCipher() : Tagged{KIND} {}
  Cipher cipher;
};

/** A key a row. */
struct ColumnCipher : Tagged {
  static constexpr uint32_t KIND = 0x77636f6c;
  ColumnCipher() : Tagged{KIND} {}
  Cipher cipher;
};

/** hmacKey(algorithm, key: Uint8Array) → handle. Algorithms: sha1, sha256, sha256-128. */
napi_value hmacKey(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::string algorithm;
  uint8_t* key;
  size_t length;
  if (!takeArguments(env, info, 2, arguments) || !takeText(env, arguments[0], &algorithm) ||
      !takeArray(env, arguments[1], napi_uint8_array, &key, &length)) {
    return nullptr;
  }
  Hmac* hmac = nullptr;
  if (algorithm == "sha1") hmac = new KeyedHmac<Sha1>(20, key, length);
  else if (algorithm == "sha256") hmac = new KeyedHmac<Sha256>(32, key, length);
  else if (algorithm == "sha256-128") hmac = new KeyedHmac<Sha256>(16, key, length);
  if (hmac != nullptr) return giveHandle(env, hmac);
  return fail(env, CODE_ARGUMENT, "The digest is none of sha1, sha256 and sha256-128.");
}

/** hmacSign(handle, bytes, from, to, count, window): put the digest of each row behind it. */
napi_value hmacSign(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  Rows rows;
  int64_t window;
  if (!takeArguments(env, info, 6, arguments)) return nullptr;
  const Hmac* hmac = takeHandle<Hmac>(env, arguments[0]);
  if (hmac == nullptr || !rows.take(env, arguments + 1) || !takeInt(env, arguments[5], -WHOLE_MAX, WHOLE_MAX, &window)) {
    return nullptr;
  }
  hmac->sign(rows, window);
  return nullptr;
}

/** hmacVerify(handle, bytes, from, to, count, window, outcome): take right digests off the rows' ends. */
napi_value hmacVerify(napi_env env, napi_callback_info info) {
  napi_value arguments[7];
  Rows rows;
  int64_t window;
  int32_t* outcome;
  if (!takeArguments(env, info, 7, arguments)) return nullptr;
  const Hmac* hmac = takeHandle<Hmac>(env, arguments[0]);
  if (hmac == nullptr || !rows.take(env, arguments + 1) ||
      !takeInt(env, arguments[5], -WHOLE_MAX, WHOLE_MAX, &window) ||
      !takeResults(env, arguments[6], rows.count, &outcome)) {
    return nullptr;
  }
  hmac->verify(rows, window, outcome);
  return nullptr;
}

/** The cipher of a name; null with an error thrown. Ciphers: aes-cbc-128, aes-cbc-256. */
const EVP_CIPHER* cipherNamed(napi_env env, const std::string& algorithm) {
  if (algorithm == "aes-cbc-128") return EVP_aes_128_cbc();
  if (algorithm == "aes-cbc-256") return EVP_aes_256_cbc();
  fail(env, CODE_ARGUMENT, "The cipher is none of aes-cbc-128 and aes-cbc-256.");
  return nullptr;
}

template <class Handle>
napi_value beginCipher(napi_env env, const EVP_CIPHER* known, const std::string& algorithm, const uint8_t* key) {
  Handle* handle = new Handle();
  if (handle->cipher.begin(known, key)) return giveHandle(env, handle);
  delete handle;
  ERR_clear_error();
  return fail(env, "ENOTSUP", "Node's OpenSSL does not do %s here: was it started with --force-fips or an openssl.cnf?", algorithm.c_str());
}

/** cipherKey(algorithm, key: Uint8Array) → handle. */
napi_value cipherKey(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  std::string algorithm;
  uint8_t* key;
  size_t length;
  if (!takeArguments(env, info, 2, arguments) || !takeText(env, arguments[0], &algorithm) ||
      !takeArray(env, arguments[1], napi_uint8_array, &key, &length)) {
    return nullptr;
  }
  const EVP_CIPHER* known = cipherNamed(env, algorithm);
  if (known == nullptr) return nullptr;
  const size_t needed = static_cast<size_t>(EVP_CIPHER_key_length(known));
  if (length != needed) {
    return fail(env, CODE_ARGUMENT, "A key of %s has %zu bytes; this one has %zu.", algorithm.c_str(), needed, length);
  }
  return beginCipher<KeyedCipher>(env, known, algorithm, key);
}

/** columnCipher(algorithm) → handle. */
napi_value columnCipher(napi_env env, napi_callback_info info) {
  napi_value arguments[1];
  std::string algorithm;
  if (!takeArguments(env, info, 1, arguments) || !takeText(env, arguments[0], &algorithm)) return nullptr;
  const EVP_CIPHER* known = cipherNamed(env, algorithm);
  return known == nullptr ? nullptr : beginCipher<ColumnCipher>(env, known, algorithm, nullptr);
}

napi_value refusedRow(napi_env env) {
  ERR_clear_error();
  return fail(env, "EIO", "Node's OpenSSL refused to encrypt or decrypt a packet.");
}

/** An IV for each of `count` rows. */
bool takeIvs(napi_env env, napi_value value, int64_t count, uint8_t** ivs) {
  size_t length;
  if (!takeArray(env, value, napi_uint8_array, ivs, &length)) return false;
  if (length >= IV_LENGTH * static_cast<size_t>(count)) return true;
  fail(env, CODE_ARGUMENT, "Each row needs an IV of 16 bytes.");
  return false;
}

/** cipherSeal(handle, bytes, from, to, count, ivs): encrypt each row in place, padding and its IV behind it. */
napi_value cipherSeal(napi_env env, napi_callback_info info) {
  napi_value arguments[6];
  Rows rows;
  uint8_t* ivs;
  if (!takeArguments(env, info, 6, arguments)) return nullptr;
  const KeyedCipher* handle = takeHandle<KeyedCipher>(env, arguments[0]);
  if (handle == nullptr || !rows.take(env, arguments + 1) || !takeIvs(env, arguments[5], rows.count, &ivs)) {
    return nullptr;
  }
  return handle->cipher.seal(rows, ivs, nullptr) ? nullptr : refusedRow(env);
}

/** cipherOpen(handle, bytes, from, to, count): decrypt each row in place. */
napi_value cipherOpen(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  Rows rows;
  if (!takeArguments(env, info, 5, arguments)) return nullptr;
  const KeyedCipher* handle = takeHandle<KeyedCipher>(env, arguments[0]);
  if (handle == nullptr || !rows.take(env, arguments + 1)) return nullptr;
  return handle->cipher.open(rows, nullptr) ? nullptr : refusedRow(env);
}

/** columnSeal(handle, bytes, from, to, count, ivs, keys, places): cipherSeal, row i with the key at keys[32 * places[i]]. */
napi_value columnSeal(napi_env env, napi_callback_info info) {
  napi_value arguments[8];
  Rows rows;
  KeyColumn keys;
  uint8_t* ivs;
  if (!takeArguments(env, info, 8, arguments)) return nullptr;
  const ColumnCipher* handle = takeHandle<ColumnCipher>(env, arguments[0]);
  if (handle == nullptr || !rows.take(env, arguments + 1) || !takeIvs(env, arguments[5], rows.count, &ivs) ||
      !keys.take(env, arguments[6], arguments[7], rows.count)) {
    return nullptr;
  }
  const bool done = handle->cipher.seal(rows, ivs, &keys);
  handle->cipher.forgetSealKey();
  return done ? nullptr : refusedRow(env);
}

/** columnOpen(handle, bytes, from, to, count, keys, places): cipherOpen, row i with the key at keys[32 * places[i]]. */
napi_value columnOpen(napi_env env, napi_callback_info info) {
  napi_value arguments[7];
  Rows rows;
  KeyColumn keys;
  if (!takeArguments(env, info, 7, arguments)) return nullptr;
  const ColumnCipher* handle = takeHandle<ColumnCipher>(env, arguments[0]);
  if (handle == nullptr || !rows.take(env, arguments + 1) ||
      !keys.take(env, arguments[5], arguments[6], rows.count)) {
    return nullptr;
  }
  const bool done = handle->cipher.open(rows, &keys);
  handle->cipher.forgetOpenKey();
  return done ? nullptr : refusedRow(env);
}

/**
 * The folded ones' complement sum of big-endian 16-bit words. Added up as the machine reads them, 32 bits at a time: the
 * sum of swapped words is the swapped sum (RFC 1071, section 2B).
 */
uint16_t foldedSum(const uint8_t* bytes, size_t length) {
  uint64_t sums[4] = {};
  size_t at = 0;
  for (; at + 32 <= length; at += 32) {
    uint64_t words[4];
    memcpy(words, bytes + at, sizeof words);
    for (int i = 0; i < 4; i++) sums[i] += (words[i] & 0xffffffff) + (words[i] >> 32);
  }
  uint64_t sum = sums[0] + sums[1] + sums[2] + sums[3];
  for (; at + 4 <= length; at += 4) {
    uint32_t word;
    memcpy(&word, bytes + at, sizeof word);
    sum += word;
  }
  uint32_t last = 0;
  // No bytes may have no address either, which memcpy does not take.
  if (at < length) memcpy(&last, bytes + at, length - at);
  sum += last;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  sum = (sum & 0xff) << 8 | sum >> 8;
#endif
  return static_cast<uint16_t>(sum);
}

/** rowSums(bytes, from, to, count, sums): the folded sum of each row, -1 for one that does not lie inside the bytes. */
napi_value rowSums(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  Rows rows;
  int32_t* sums;
  if (!takeArguments(env, info, 5, arguments) || !rows.take(env, arguments) ||
      !takeResults(env, arguments[4], rows.count, &sums)) {
    return nullptr;
  }
  uint8_t* start;
  size_t size;
  for (int64_t i = 0; i < rows.count; i++) sums[i] = rows.row(i, 0, &start, &size) ? foldedSum(start, size) : NO_ROW;
  return nullptr;
}

}  // namespace

void registerCrypto(napi_env env, napi_value exports) {
  setFunction(env, exports, "hmacKey", hmacKey);
  setFunction(env, exports, "hmacSign", hmacSign);
  setFunction(env, exports, "hmacVerify", hmacVerify);
  setFunction(env, exports, "cipherKey", cipherKey);
  setFunction(env, exports, "cipherSeal", cipherSeal);
  setFunction(env, exports, "cipherOpen", cipherOpen);
  setFunction(env, exports, "columnCipher", columnCipher);
  setFunction(env, exports, "columnSeal", columnSeal);
  setFunction(env, exports, "columnOpen", columnOpen);
  setFunction(env, exports, "rowSums", rowSums);
}
