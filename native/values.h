// Reading arguments and making results. The `take` functions return false after a JS Error was thrown.
#pragma once

#include "errors.h"

#include <cstdint>
#include <string>

/** Fetch exactly `count` arguments. */
inline bool takeArguments(napi_env env, napi_callback_info info, size_t count, napi_value* arguments) {
  size_t given = count;
  napi_get_cb_info(env, info, &given, arguments, nullptr, nullptr);
  if (given == count) return true;
  fail(env, CODE_ARGUMENT, "%zu arguments were given where the addon takes %zu: call it through lib/io/native.ts.", given, count);
  return false;
}

inline bool takeInt(napi_env env, napi_value value, int64_t min, int64_t max, int64_t* result) {
  if (napi_get_value_int64(env, value, result) == napi_ok && *result >= min && *result <= max) return true;
  fail(env, CODE_ARGUMENT, "A whole number from %lld to %lld is needed here.", (long long)min, (long long)max);
  return false;
}

inline bool takeBool(napi_env env, napi_value value, bool* result) {
  if (napi_get_value_bool(env, value, result) == napi_ok) return true;
  fail(env, CODE_ARGUMENT, "true or false is needed here.");
  return false;
}

/** A string of at most 4,095 bytes without NUL. */
inline bool takeText(napi_env env, napi_value value, std::string* result) {
  char text[4097];
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, text, sizeof text, &length) == napi_ok && length < sizeof text - 1) {
    result->assign(text, length);
    if (result->find('\0') == std::string::npos) return true;
  }
  fail(env, CODE_ARGUMENT, "A string of at most 4095 bytes without NUL is needed here.");
  return false;
}

/** The elements of a typed array of type `type`. The pointer is good until the array is collected or transferred. */
template <class Element>
inline bool takeArray(napi_env env, napi_value value, napi_typedarray_type type, Element** data, size_t* length) {
  napi_typedarray_type given;
  void* start = nullptr;
  if (napi_get_typedarray_info(env, value, &given, length, &start, nullptr, nullptr) == napi_ok && given == type) {
    *data = static_cast<Element*>(start);
    return true;
  }
  fail(env, CODE_ARGUMENT, "A typed array of the type that lib/io/native.ts declares is needed here.");
  return false;
}

/** Base of everything a JS handle points to: tells the kinds apart, so that a wrong handle is an Error, not a crash. */
struct Tagged {
  const uint32_t kind;
};

/** What a JS handle points to, if it is a `Handle`; its kind is `Handle::KIND`. */
template <class Handle>
inline Handle* takeHandle(napi_env env, napi_value value) {
  napi_valuetype type;
  void* data = nullptr;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_external &&
      napi_get_value_external(env, value, &data) == napi_ok && data != nullptr &&
      static_cast<Tagged*>(data)->kind == Handle::KIND) {
    return static_cast<Handle*>(static_cast<Tagged*>(data));
  }
  fail(env, CODE_ARGUMENT, "This is not the kind of handle the addon takes here.");
  return nullptr;
}

/** Give `handle` to JS, which deletes it when nothing refers to it any more or the environment ends. */
template <class Handle>
inline napi_value giveHandle(napi_env env, Handle* handle) {
  napi_value result = nullptr;
  auto finalize = [](napi_env, void* data, void*) { delete static_cast<Handle*>(static_cast<Tagged*>(data)); };
  if (napi_create_external(env, static_cast<Tagged*>(handle), finalize, nullptr, &result) == napi_ok) return result;
  delete handle;
  return fail(env, "ENOMEM", "No handle could be made: the process is out of memory.");
}

inline napi_value giveInt(napi_env env, int64_t value) {
  napi_value result = nullptr;
  napi_create_int64(env, value, &result);
  return result;
}

inline napi_value giveBool(napi_env env, bool value) {
  napi_value result = nullptr;
  napi_get_boolean(env, value, &result);
  return result;
}

inline void setProperty(napi_env env, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(env, object, name, value);
}

inline void setFunction(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  setProperty(env, exports, name, function);
}
