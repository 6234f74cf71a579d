// Registration only: what JS sees is listed at the end of each file and typed in lib/io/native.ts.

#include "batch.h"

void registerPcapPort(napi_env env, napi_value exports);
void registerPcapFile(napi_env env, napi_value exports);
void registerFanout(napi_env env, napi_value exports);
void registerInterfaceInfo(napi_env env, napi_value exports);

NAPI_MODULE_INIT() {
  setProperty(env, exports, "headroom", giveInt(env, HEADROOM));
  setProperty(env, exports, "frameTruncated", giveInt(env, FRAME_TRUNCATED));
  registerPcapPort(env, exports);
  registerPcapFile(env, exports);
  registerFanout(env, exports);
  registerInterfaceInfo(env, exports);
  return exports;
}
