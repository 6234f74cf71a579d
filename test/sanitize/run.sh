#!/bin/sh
# Builds the addon with the address and undefined-behaviour sanitizers and runs the tests that reach it. Exits non-zero
# on any report or failed test. Needs dist/ (npx tsc -p .), g++ and libasan; as root also the live ports.
#
# Every process of the run, the tests' children included, writes its report to a file of its own, because tests swallow
# standard error. Leaks: node itself frees little at exit, so of the leaks only those count that the addon's own code, or
# libpcap for it, allocated.
set -eu
cd "$(dirname "$0")/../.."

build=build/sanitize
rm -rf "$build"
mkdir -p "$build/reports"
test/sanitize/build.sh "$build"

reports=$PWD/$build/reports
status=0
WAYMARK_ADDON=$PWD/$build/waymark.node \
LD_PRELOAD=$(g++ -print-file-name=libasan.so) \
ASAN_OPTIONS=log_path=$reports/address:detect_leaks=1:exitcode=0:abort_on_error=0 \
UBSAN_OPTIONS=log_path=$reports/undefined:print_stacktrace=1 \
  npx ava --timeout=5m 'dist/test/io/*.test.js' 'dist/test/crypto/*.test.js' || status=1

for report in "$reports"/*; do
  [ -s "$report" ] || continue
  if grep -q "LeakSanitizer: detected" "$report" && ! grep -q "AddressSanitizer:.*on address" "$report"; then
    # One paragraph a leak. Ours: the first frame outside the allocator is in native/ or libpcap (stacks end there).
    awk -v RS= -F '\n' '/(Direct|Indirect) leak/ {
      frame = 2
      while ($frame ~ /libsanitizer/) frame++
      if ($frame ~ / native\/|libpcap/) print $0 "\n"
    }' "$report" > "$report.ours"
    [ -s "$report.ours" ] || continue
    report=$report.ours
  fi
  echo "sanitizer report $report:" >&2
  head -60 "$report" >&2
  status=1
done
[ $status -eq 0 ] && echo "sanitize: no reports"
exit $status
