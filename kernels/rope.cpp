#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "kernels/cuda.h"
#include "kernels/cuda_rope_tables.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "kernels/rope.h"
#include "kernels/simd.h"
#include "tensor/kept.h"

// rope (Su et al., arXiv 2104.09864): at position p, pair i of a head is rotated by p / (scale divisor_i base^(2i/dims))
//   y_a = x_a cos - x_b sin,  y_b = x_b cos + x_a sin;   (a,b) = (i, i + dims/2) or (2i, 2i+1)
// where cos and sin are multiplied by the magnitude
//   x, y (B,T,H,K)  nothing saved: backward rotates dy by the opposite angle.   dx: =

namespace supra {
namespace {

int64_t repeat_of(const Rope& rope) { return rope.layout == Rope::Layout::interleaved ? 2 : 1; }
int64_t width_of(const Rope& rope) { return rope.dims / 2 * repeat_of(rope); }

// The frequencies of a call that goes up to the last of these positions.
Rope at_length(Rope rope, const std::vector<int64_t>& positions) {
  const int64_t length = positions.empty() ? 0 : *std::max_element(positions.begin(), positions.end()) + 1;
  if (rope.trained == 0 || length <= rope.trained) return rope;
  if (!rope.long_divisors.empty()) rope.divisors = rope.long_divisors;
  const double ratio = static_cast<double>(length) / static_cast<double>(rope.trained), dims = static_cast<double>(rope.dims);
  if (rope.dynamic > 0) rope.base *= std::pow(rope.dynamic * ratio - (rope.dynamic - 1), dims / (dims - 2));
  return rope;
}

// The last two tables are kept: q, k and every layer of a step use the same one, and beyond the context window some layers use
// another. The memory of the list of positions is kept, too.
struct LastCall {
  RopeTable table, one_before;
  std::vector<int64_t> positions;
};

const RopeTable& table_for(const Rope& rope, const std::vector<int64_t>& positions, Dtype dtype, Device device) {
  LastCall& last = kept().get<LastCall>();
  const auto serves = [&](const RopeTable& t) {
    return t.rope == rope && t.positions == positions && t.cosine.dtype() == dtype && t.cosine.device() == device;
  };
  if (!serves(last.table)) {
    std::swap(last.table, last.one_before);
    if (!serves(last.table)) last.table = rope_table(rope, positions, device, dtype);
  }
  return last.table;
}

}  // namespace

// The angles are computed in double.
RopeTable rope_table(const Rope& given, const std::vector<int64_t>& positions, Device device, Dtype dtype) {
  const Rope rope = at_length(given, positions);
  const int64_t repeat = repeat_of(rope);
  std::vector<double> period;
  for (int64_t i = 0; i < width_of(rope); i++) {
    const double exponent = static_cast<double>(i / repeat * 2) / static_cast<double>(rope.dims);
    const double divisor = rope.divisors.empty() ? 1 : rope.divisors[i / repeat];
    period.push_back(rope.scale * divisor * std::pow(rope.base, exponent));
  }
  std::vector<double> cosine, sine;
  // packed documents count from 0 again and again, so each position is computed once
  std::unordered_map<int64_t, size_t> known;
  for (int64_t position : positions) {
    const auto [row, fresh] = known.try_emplace(position, cosine.size());
    const bool held = rope.held_from > 0 && position >= rope.held_from;
    for (size_t i = 0; i < period.size(); i++) {
      const double angle = fresh ? static_cast<double>(held ? rope.held_at : position) / period[i] : 0;
      cosine.push_back(fresh ? rope.magnitude * std::cos(angle) : cosine[row->second + i]);
      sine.push_back(fresh ? rope.magnitude * std::sin(angle) : sine[row->second + i]);
    }
  }
  return {given, positions, Tensor::of(cosine).to(dtype).to(device), Tensor::of(sine).to(dtype).to(device)};
}

namespace cpu {

template <class T>
static void rope(T* y, const T* x, const T* cosine, const T* sine, const RopeTurn& turn) {
  for (int64_t n = 0; n < turn.N; n++) {
    for (int64_t h = 0; h < turn.H; h++, y += turn.K, x += turn.K) {
      const int64_t angles = n % turn.period * turn.width + h * turn.head_step;
      for (int64_t i = 0; i < turn.dims / 2; i++) {
        const int64_t a = turn.interleaved ? 2 * i : i, b = turn.interleaved ? 2 * i + 1 : i + turn.dims / 2;
        const T c = cosine[angles + a], s = sine[angles + a] * turn.direction;
        y[a] = x[a] * c - x[b] * s;
        y[b] = x[b] * c + x[a] * s;
      }
      for (int64_t i = turn.dims; i < turn.K; i++) y[i] = x[i];
    }
  }
}

static void rope(float* y, const float* x, const float* cosine, const float* sine, const RopeTurn& turn) {
  const int64_t row = turn.H * turn.K;
  parallel_each(turn.N, row_grain(row), [&](int64_t n) {
    const int64_t angles = n % turn.period * turn.width;
    simd().rope(y + n * row, x + n * row, cosine + angles, sine + angles, turn.interleaved, turn.H, turn.K, turn.dims,
                turn.head_step, static_cast<float>(turn.direction));
  });
}

}  // namespace cpu

// The rope with its defaults filled in. Throws unless it fits x.
static Rope checked(Rope rope, const Shape& x, const std::vector<int64_t>& first) {
  CHECK(x.size() == 4, "rope: x is %s, expected (B,T,H,K)", to_string(x).c_str());
  CHECK(static_cast<int64_t>(first.size()) == x[0], "rope: %zu first positions for a batch of %ld", first.size(),
        static_cast<long>(x[0]));
  if (rope.dims == 0) rope.dims = x[3];
  CHECK(rope.dims > 0 && rope.dims <= x[3] && rope.dims % 2 == 0,
        "rope: %ld dimensions to rotate in heads of %ld, an even number up to that is needed",
        static_cast<long>(rope.dims), static_cast<long>(x[3]));
  for (const auto* divisors : {&rope.divisors, &rope.long_divisors}) {
    CHECK(divisors->empty() || static_cast<int64_t>(divisors->size()) == rope.dims / 2, "rope: %zu divisors for %ld pairs",
          divisors->size(), static_cast<long>(rope.dims / 2));
  }
  // OpenLM's by_head rotation ignores the configured base and scale
  if (rope.layout == Rope::Layout::by_head) rope.base = 10000, rope.scale = 1;
  return rope;
}

RopeAngles rope_angles(const Shape& x, Dtype dtype, Device device, const Rope& given, const std::vector<int64_t>& first,
                       const Cuts& cuts, int direction) {
  const Rope rope = checked(given, x, first);
  const int64_t B = x[0], steps = x[1], H = x[2], K = x[3], width = width_of(rope);
  const bool by_head = rope.layout == Rope::Layout::by_head;
  RopeTables* const steady = device == Device::cuda ? RopeTables::in_scope() : nullptr;
  const bool together =
      !steady && cuts.empty() && std::all_of(first.begin(), first.end(), [&](int64_t p) { return p == first[0]; });
  constexpr int64_t kZero[] = {0};
  const std::span rows(first.data(), together ? std::min<size_t>(first.size(), 1) : first.size());
  std::vector<int64_t>& turns = kept().get<LastCall>().positions;
  if (by_head)
    positions(turns, "rope", kZero, H, {});
  else
    positions(turns, "rope", rows, steps, cuts);
  const int64_t period = by_head ? 1 : together ? steps : B * steps;
  const RopeTable& table = steady ? steady->of(rope, turns) : table_for(rope, turns, dtype, device);
  return {table.cosine, table.sine,
          {B * steps, H, K, rope.dims, rope.layout == Rope::Layout::interleaved, period, width, by_head ? width : 0,
           direction}};
}

static Tensor turned(const Tensor& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts, int direction) {
  const RopeAngles angles = rope_angles(x.shape(), sum_dtype(x.dtype()), x.device(), rope, first, cuts, direction);
  const Tensor y = empty_like(x);
  by_device("rope", x, OVERLOADS(cpu::rope), OVERLOADS(cuda::rope), y, x, Wide{angles.cosine}, Wide{angles.sine}, angles.turn);
  return y;
}

Var rope(const Var& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts) {
  if (rope.layout == Rope::Layout::none) return x;
  return record("rope", {x}, turned(x.value(), rope, first, cuts, 1),
                [=](const Tensor& dy, Grads& grads) { grads.give(0, turned(dy, rope, first, cuts, -1)); });
}

}  // namespace supra
