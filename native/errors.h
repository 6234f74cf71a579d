// Failures become a JS Error with `.code` and a sentence that says what to do. Nothing here prints, exits or throws a
// C++ exception.
#pragma once

#include <node_api.h>
#include <uv.h>

#include <cstdarg>
#include <cstdio>

// Codes beside the names of errno.
constexpr const char* CODE_ARGUMENT = "EINVAL";      // a call that lib/io never makes
constexpr const char* CODE_FILTER = "EFILTER";       // libpcap does not understand the filter
constexpr const char* CODE_LINK_TYPE = "ELINKTYPE";  // not Ethernet
constexpr const char* CODE_OFFLOAD = "EOFFLOAD";     // the kernel or the device cannot do what af-packet needs
constexpr const char* CODE_CAPTURE = "ECAPTURE";     // not a capture file, or a damaged one

/** Throw an Error with `code`. Returns nullptr, so that a function can end with `return fail(...)`. */
__attribute__((format(printf, 3, 4)))
inline napi_value fail(napi_env env, const char* code, const char* format, ...) {
  char text[768];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  napi_throw_error(env, code, text);
  return nullptr;
}

/** The name of an errno value, "ENODEV". */
inline const char* errnoCode(int number) { return uv_err_name(-number); }
/** Its meaning, "no such device". */
inline const char* errnoText(int number) { return uv_strerror(-number); }
