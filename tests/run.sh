#!/bin/sh
# Runs test programs side by side, the first one in several processes that share its tests. Prints what each said, one after the
# other, then one summary of all. usage: tests/run.sh PROCESSES PROGRAM... -- [FLAGS]
processes=$1
shift

said=$(mktemp -d) || exit 1
trap 'rm -rf "$said"' EXIT
trap 'kill $started 2>/dev/null; exit 130' INT TERM

# start SHARD SHARDS PROGRAM FLAGS...: its exit status is in $said/N.status, GoogleTest's closing lines are in $said/N.closing, all
# other lines in $said/N.text, N = 0, 1, ... What a sanitizer says at the very end is no closing line.
count=0
start() {
  name=$said/$count
  shard=$1 shards=$2
  shift 2
  : >"$name.closing"
  echo "unknown $1" >"$name.status"
  {
    GTEST_SHARD_INDEX=$shard GTEST_TOTAL_SHARDS=$shards "$@" 2>&1
    echo "$? $1" >"$name.status"
  } | awk -v closing="$name.closing" \
    '/^\[==========\] .* ran\./ { ended = 1 }
     ended && /^\[|^$|^ *[0-9]+ FAILED |^ *YOU HAVE / { print >closing; next }
     { print; fflush() }' >"$name.text" &
  started="$started $!"
  count=$((count + 1))
}

programs=
while [ "$1" != -- ]; do programs="$programs $1" && shift; done
shift
for program in $programs; do
  for shard in $(seq 0 $((processes - 1))); do start "$shard" "$processes" "$program" "$@"; done
  processes=1
done

# The first one's lines are seen as they come.
number=0
for process in $started; do
  tail -n +1 -f --pid="$process" "$said/$number.text" 2>/dev/null || { wait "$process"; cat "$said/$number.text"; }
  wait "$process"
  number=$((number + 1))
done

# Counts are added, names are listed; what listed no test and failed all the same, or ended early, is named too.
cat "$said"/*.closing | awk '
  function counted(n, what) { return n " " what (n == 1 ? "" : "s") }
  / ran\. / { tests += $2 }
  /^\[  PASSED  \]/ { passed += $4 }
  / tests?, listed below:$/ { next }
  /^\[  SKIPPED \]/ { skipped = skipped $0 "\n"; skips++ }
  /^\[  FAILED  \]/ { failed = failed $0 "\n"; failures++ }
  END {
    printf "[==========] %s ran.\n[  PASSED  ] %s.\n", counted(tests, "test"), counted(passed, "test")
    if (skips) printf "[  SKIPPED ] %s, listed below:\n%s", counted(skips, "test"), skipped
    if (failures) printf "[  FAILED  ] %s, listed below:\n%s", counted(failures, "test"), failed
  }'
# A program that a test ends by exit(0) has no closing lines: its other tests did not run.
result=0
for status in "$said"/*.status; do
  read -r code program <"$status"
  [ "$code" = 0 ] && grep -q ' ran\.' "${status%.status}.closing" && continue
  result=1
  grep -q '^\[  FAILED' "${status%.status}.closing" ||
    echo "[  FAILED  ] 1 test program did not end well: $program, exit status $code (what it said stands above)"
done
exit $result
