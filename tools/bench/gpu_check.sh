#!/bin/sh
# make gpu-check: builds for the GPU of this machine, proves what no emulator can, measures, and prints one table last.
# In about ten minutes; what each step printed stays in build/cuda/gpu-check. Exits with 1 where a step failed: a rate
# below its goal is called short, and is no failure.
#
# Goals are parts of this card's two ceilings, a copy of memory and a product of large matrices in bf16, or of a peer's
# time. Peers run where python3 (or $PYTHON) finds PyTorch with Triton, and FLA.

build=${BUILD:-build}/cuda
logs=$build/gpu-check
table=$logs/table
golden=${SUPRA_SHARED:-../shared}/golden
python=${PYTHON:-python3}
failed=0

row() { printf '%s\t%s\t%s\t%s\n' "$@" >>"$table"; }

# step NAME command...: one row of the table
step() {
  name=$1
  shift
  echo "  $name"
  begin=$(date +%s)
  "$@" >"$logs/$name.log" 2>&1
  case $? in
    0) verdict=passed ;;
    124) verdict='not done in its time' failed=1 ;;
    *) verdict="FAILED, see $logs/$name.log" failed=1 ;;
  esac
  row "$name" "$(($(date +%s) - begin)) s" - "$verdict"
}

card=$(nvidia-smi --query-gpu=compute_cap,name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)
arch=$(echo "${card%%,*}" | tr -d .)
[ "${arch:-0}" -gt 0 ] 2>/dev/null || { echo 'gpu-check: there is no NVIDIA GPU here: nvidia-smi lists none'; exit 1; }
[ "$arch" -ge 80 ] || { echo "gpu-check: this GPU is sm_$arch, the kernels need sm_80"; exit 1; }
mkdir -p "$logs" && rm -f "$logs"/*.log && : >"$table"
row "${card#*, }" "sm_$arch" - -

step build ${MAKE:-make} CONFIG=cuda GPU="$arch" all "$build/run_tests"
[ $failed = 0 ] || { tail -n 20 "$logs/build.log"; exit 1; }
reason=$("$build/supra" bench --device cuda nothing 2>&1 | grep 'no GPU can be used')
[ -z "$reason" ] || { echo "gpu-check: $reason"; exit 1; }

# a one in every place of every fragment, then every operation against float64 and the models
step fragments timeout 60 "$build/run_tests" --gtest_filter='Cuda.*fragment*:Cuda.a_product_of_a_warp'
step tests timeout 240 "$build/run_tests" --gtest_filter='Cuda*'

[ -d "$golden" ] || row 'golden cases' - - "left out of the tests: there is no $golden"

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tool in memcheck racecheck; do
  if [ -n "$sanitizer" ]; then
    step $tool timeout 90 "$sanitizer" --tool $tool --error-exitcode 1 "$build/run_tests" --gtest_filter='Cuda.*-*model*'
  else
    row $tool - - 'left out: there is no compute-sanitizer'
  fi
done

# lines "peer NAME milliseconds forward, backward", rows of the bench by their names
peers() {
  timeout 120 "$python" - <<'PYTHON'
import torch, torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from triton.testing import do_bench
import torch._functorch.config
torch._functorch.config.donated_buffer = False

def peer(name, f, *shapes):
    x = [torch.randn(s, device="cuda", dtype=torch.bfloat16, requires_grad=True) for s in shapes]
    y = f(*x)
    dy = torch.ones_like(y)
    forward = do_bench(lambda: f(*x), return_mode="median")
    backward = do_bench(lambda: torch.autograd.grad(y, x, dy, retain_graph=True), return_mode="median")
    print("peer", name, forward, backward, flush=True)

def attention(q, k, v):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True)

def swiglu(x):
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up

peer("softmax_attention", attention, *[(8, 2048, 16, 128)] * 3)
peer("softmax_attention_T8192", attention, *[(2, 8192, 16, 128)] * 3)
peer("swiglu", torch.compile(swiglu), (16384, 11264))
peer("rmsnorm", torch.compile(lambda x, w: F.rms_norm(x, (2048,), w)), (16384, 2048), (2048,))
from fla.ops.retention import chunk_retention
for T in 2048, 8192, 32768:
    peer(f"linear_attention_train_d128_T{T}", lambda q, k, v: chunk_retention(q, k, v)[0], *[(8, T, 32, 128)] * 3)
PYTHON
}

bench() { timeout 150 "$build/supra" bench --device cuda --json --seconds 0.1 --repeats 5 "$@"; }
step rates bench kernels
step models bench train_1.3B_supra decode_1.3B_supra_bf16
if "$python" -c 'import torch, triton' 2>/dev/null; then
  "$python" -c 'import fla' 2>/dev/null || row 'peer FLA' - - "left out: $python finds no fla"
  echo '  peers'
  peers >"$logs/peers.log" 2>&1 || row peers - - "not all of them ran, see $logs/peers.log"
else
  row 'peer PyTorch, peer FLA' - - "left out: $python finds no torch with triton"
fi

# An object of the bench's JSON a line, and the lines of the peers.
cat "$logs"/rates.log "$logs"/models.log "$logs"/peers.log 2>/dev/null | sed 's/{/\n/g' | awk -F '[":, }]+' '
  function row(what, measured, goal, good) {
    printf "%s\t%s\t%s\t%s\n", what, measured, goal, goal == "-" ? "-" : good ? "passed" : "short"
  }
  # in percent of the ceiling, or empty
  function goal_of(name, ceiling) {
    if (name ~ /^train_/) return 56       # 45 % of a data sheet, of which large products reach 80 %
    if (name ~ /^decode_|^linear_rows/) return 65
    if (name ~ /^linear_attention_step/) return 80
    if (name ~ /^softmax_attention.*fwd/) return 38
    if (name !~ /^linear_attention_train/ && ceiling == "memory") return 85
  }
  function judge(name, ceiling, percent, time, goal) {
    goal = goal_of(name, ceiling)
    row(name, sprintf("%.3g ms, %.1f %% of %s", time, percent, ceiling == "memory" ? "copy" : "product"),
        goal ? goal " %" : "-", percent >= goal)
  }
  $2 == "gpu" && !roofs++ {
    for (i = 3; i < NF; i++) {
      if ($i == "products_bf16_gflops") row("ceiling: product in bf16", sprintf("%.0f TFLOP/s", $(i + 1) / 1e3), "-")
      if ($i == "copy_gbs") row("ceiling: copy", sprintf("%.0f GB/s", $(i + 1)), "-")
    }
  }
  $2 == "name" && $4 == "error" { row($3, "not measured", "-"); next }
  $2 == "name" {
    judge($3, $13, $15, 1e3 * $5)
    stem = $3
    if (sub(/_(fwd|bwd)$/, "", stem)) { seconds[stem] += $5; least[stem] += $5 * $15 / 100 }
  }
  /^peer/ {
    split($0, peer, " ")
    peers[peer[2]] = (peer[3] + peer[4]) / 1e3
  }
  END {
    for (T = 2048; T <= 32768; T *= 4) {
      name = "linear_attention_train_d128_T" T
      if (name in seconds) {
        percent = 100 * least[name] / seconds[name]
        row(name ", both ways", sprintf("%.3g ms, %.1f %% of copy", 1e3 * seconds[name], percent), "38 %", percent >= 38)
      }
    }
    for (name in peers) {
      if (!(name in seconds)) continue
      goal = name ~ /^linear_attention/ ? 1.8 : name ~ /^softmax/ ? 0.9 : "-"
      ratio = peers[name] / seconds[name]
      row(name " against " (name ~ /^linear_attention/ ? "FLA" : "PyTorch"), sprintf("%.2f times as fast", ratio),
          goal, ratio >= goal)
    }
  }' >>"$table"

echo
{ printf 'what\tmeasured\tgoal\tverdict\n'; cat "$table"; } | awk -F '\t' '
  { for (i = 1; i <= 4; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
  END { for (r = 1; r <= NR; r++) printf "%-*s  %-*s  %-*s  %s\n", width[1], cell[r, 1], width[2], cell[r, 2], width[3], cell[r, 3], cell[r, 4] }'
exit $failed
