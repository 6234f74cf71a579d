#!/bin/sh
# usage: test/sanitize/build.sh FOLDER [fuzz]
#
# Builds the addon with the address and undefined-behaviour sanitizers into FOLDER/waymark.node; with `fuzz` also with
# counters for what its code reaches and with test/fuzz/native in it. Needs g++ and libasan (they come together).
set -eu
cd "$(dirname "$0")/../.."

folder=$1
mkdir -p "$folder"
include=${NODE_INCLUDE:-$(node -p 'path.resolve(process.execPath, "../../include/node")')}
openssl=$(node -p '`${process.config.variables.node_shared_openssl}` === "true" ? "-lcrypto" : ""')
flags="-std=c++17 -O1 -g -fPIC -fno-exceptions -Wall -Wextra -DNAPI_VERSION=8 -I$include -Inative
  -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
traced=
sources=native/*.cc
wraps=
if [ "${2:-}" = fuzz ]; then
  # addon.cc's registration is called by ours; system calls go to the kernel of test/fuzz/native/kernel.cc.
  traced="-fsanitize-coverage=trace-pc -Dnapi_register_module_v1=registerAddon -Dnode_api_module_get_api_version_v1=addonVersion"
  sources="$sources test/fuzz/native/*.cc"
  for call in socket close ioctl setsockopt getsockopt bind recvmmsg sendmmsg sendmsg; do
    wraps="$wraps -Wl,--wrap=$call"
  done
fi

compile() {
  case $1 in
    test/*) g++ $flags -c "$1" -o "$folder/$(basename "$1" .cc).o" ;;
    *) g++ $flags $traced -c "$1" -o "$folder/$(basename "$1" .cc).o" ;;
  esac
}

# As many at a time as there are processors.
pids=
objects=
running=0
for source in $sources; do
  compile "$source" &
  pids="$pids $!"
  objects="$objects $folder/$(basename "$source" .cc).o"
  running=$((running + 1))
  if [ $running -ge "$(nproc)" ]; then
    set -- $pids
    wait "$1"
    shift
    pids=$*
    running=$((running - 1))
  fi
done
for pid in $pids; do wait "$pid"; done
g++ -shared -fsanitize=address,undefined $wraps $objects -lpcap $openssl -o "$folder/waymark.node"
