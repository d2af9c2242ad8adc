#!/bin/sh
# make gpu-check: everything that can only be known on a GPU, in ten minutes, with one table last.
#   tools/gpu_check.sh DIR      DIR: a build with CUDA, build/cuda
# What each step printed stays in DIR/gpu-check. Fails where a step does.

dir=$1
logs=$dir/gpu-check
table=$logs/table
mkdir -p "$logs" && : >"$table"
failed=0

# step NAME SECONDS command...: one row of the table
step() {
  name=$1 limit=$2
  shift 2
  echo "  $name"
  begin=$(date +%s)
  timeout "$limit" "$@" >"$logs/$name.log" 2>&1
  case $? in
    0) verdict=passed ;;
    124) verdict="not done in $limit s" failed=1 ;;
    *) verdict="FAILED, see $logs/$name.log" failed=1 ;;
  esac
  printf '%-22s %5d s  %s\n' "$name" $(($(date +%s) - begin)) "$verdict" >>"$table"
}

reason=$("$dir/supra" bench --device cuda nothing 2>&1 | sed -n 's/^supra bench: //p' | grep '^no GPU')
[ -z "$reason" ] || { echo "gpu-check: $reason"; exit 1; }

step tests 180 "$dir/run_tests" --gtest_filter='Cuda*'
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tool in memcheck racecheck; do
  if [ -n "$sanitizer" ]; then
    step $tool 100 "$sanitizer" --tool $tool --error-exitcode 1 "$dir/run_tests" --gtest_filter='Cuda.*'
  else
    printf '%-22s          %s\n' $tool 'left out, compute-sanitizer is not here' >>"$table"
  fi
done
step rates 200 "$dir/supra" bench --device cuda --seconds 0.1 --repeats 5 kernels
step models 200 "$dir/supra" bench --device cuda --seconds 0.5 --repeats 5 train decode

echo
cat "$logs/rates.log" "$logs/models.log" | grep -v '^bench\|^measuring'
echo
cat "$table"
exit $failed
