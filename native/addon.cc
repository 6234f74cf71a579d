// Registration only: what JS sees is listed at the end of each file and typed in lib/io/native.ts.

#include "batch.h"

void registerPort(napi_env env, napi_value exports);
void registerAfPacketPort(napi_env env, napi_value exports);
void registerPcapPort(napi_env env, napi_value exports);
void registerPairPort(napi_env env, napi_value exports);
void registerPcapFile(napi_env env, napi_value exports);
void registerFanout(napi_env env, napi_value exports);
void registerGroups(napi_env env, napi_value exports);
void registerInterfaceInfo(napi_env env, napi_value exports);
void registerMemory(napi_env env, napi_value exports);
void registerClock(napi_env env, napi_value exports);
void registerCrypto(napi_env env, napi_value exports);
void registerPrivileges(napi_env env, napi_value exports);
void registerOutput(napi_env env, napi_value exports);

NAPI_MODULE_INIT() {
  setProperty(env, exports, "headroom", giveInt(env, HEADROOM));
  setProperty(env, exports, "tailroom", giveInt(env, TAILROOM));
  setProperty(env, exports, "frameFlags", giveInt(env, FRAME_CHECKSUM_PARTIAL | FRAME_TRUNCATED << 8 | FRAME_CHECKSUM_KNOWN << 16));
  registerPort(env, exports);
  registerAfPacketPort(env, exports);
  registerPcapPort(env, exports);
  registerPairPort(env, exports);
  registerPcapFile(env, exports);
  registerFanout(env, exports);
  registerGroups(env, exports);
  registerInterfaceInfo(env, exports);
  registerMemory(env, exports);
  registerClock(env, exports);
  registerCrypto(env, exports);
  registerPrivileges(env, exports);
  registerOutput(env, exports);
  return exports;
}
