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
#include "tensor/parallel.h"

// rope (Su et al., arXiv 2104.09864): pair i of a head is turned by the angle p / (scale divisor_i base^(2i/dims)),
// p its position
//   y_a = x_a cos - x_b sin,  y_b = x_b cos + x_a sin;   (a,b) = (i, i + dims/2) or (2i, 2i+1)
// where cos and sin carry the magnitude
//   x, y (B,T,H,K)  nothing saved: backward turns dy by the opposite angle.   dx: =

namespace supra {
namespace {

int64_t repeat_of(const Rope& rope) { return rope.layout == Rope::Layout::interleaved ? 2 : 1; }
int64_t width_of(const Rope& rope) { return rope.dims / 2 * repeat_of(rope); }

// What a call up to the last of these positions is turned by.
Rope at_length(Rope rope, const std::vector<int64_t>& positions) {
  const int64_t length = positions.empty() ? 0 : *std::max_element(positions.begin(), positions.end()) + 1;
  if (rope.trained == 0 || length <= rope.trained) return rope;
  if (!rope.long_divisors.empty()) rope.divisors = rope.long_divisors;
  const double ratio = static_cast<double>(length) / static_cast<double>(rope.trained), dims = static_cast<double>(rope.dims);
  if (rope.dynamic > 0) rope.base *= std::pow(rope.dynamic * ratio - (rope.dynamic - 1), dims / (dims - 2));
  return rope;
}

// The angles are taken in double.
template <class T>
RopeTable make_table(const Rope& given, const std::vector<int64_t>& positions, Device device) {
  const Rope rope = at_length(given, positions);
  const int64_t repeat = repeat_of(rope);
  std::vector<double> period;
  for (int64_t i = 0; i < width_of(rope); i++) {
    const double exponent = static_cast<double>(i / repeat * 2) / static_cast<double>(rope.dims);
    const double divisor = rope.divisors.empty() ? 1 : rope.divisors[i / repeat];
    period.push_back(rope.scale * divisor * std::pow(rope.base, exponent));
  }
  std::vector<T> cosine, sine;
  // packed documents count from 0 again and again: each position is worked out once
  std::unordered_map<int64_t, size_t> known;
  for (int64_t position : positions) {
    const auto [row, fresh] = known.try_emplace(position, cosine.size());
    const bool held = rope.held_from > 0 && position >= rope.held_from;
    for (size_t i = 0; i < period.size(); i++) {
      const double angle = fresh ? static_cast<double>(held ? rope.held_at : position) / period[i] : 0;
      cosine.push_back(fresh ? static_cast<T>(rope.magnitude * std::cos(angle)) : cosine[row->second + i]);
      sine.push_back(fresh ? static_cast<T>(rope.magnitude * std::sin(angle)) : sine[row->second + i]);
    }
  }
  return {given, positions, Tensor::of(cosine).to(device), Tensor::of(sine).to(device)};
}

// The last two tables are kept: q, k and every layer of a step ask for the same, and beyond the context window layers ask for
// another one by turns. So is the memory of the list of positions that a call asks for.
template <class T>
struct LastCall {
  RopeTable table, one_before;
  std::vector<int64_t> positions;
};

template <class T>
const RopeTable& table_for(const Rope& rope, const std::vector<int64_t>& positions, Device device) {
  LastCall<T>& kept_here = kept().get<LastCall<T>>();
  const auto serves = [&](const RopeTable& table) {
    return table.rope == rope && table.positions == positions && table.cosine.device() == device;
  };
  if (!serves(kept_here.table)) {
    std::swap(kept_here.table, kept_here.one_before);
    if (!serves(kept_here.table)) kept_here.table = make_table<T>(rope, positions, device);
  }
  return kept_here.table;
}

}  // namespace

RopeTable rope_table(const Rope& rope, const std::vector<int64_t>& positions, Device device) {
  return make_table<float>(rope, positions, device);
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
  const auto rotate = turn.interleaved ? simd().rope_interleaved : simd().rope_half;
  const int64_t row = turn.H * turn.K;
  parallel_for(turn.N, row_grain(row), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const int64_t angles = n % turn.period * turn.width;
      rotate(y + n * row, x + n * row, cosine + angles, sine + angles, turn.H, turn.K, turn.dims,
             turn.head_step, static_cast<float>(turn.direction));
    }
  });
}

}  // namespace cpu

// The table of x (B,T,H,K), and how it is used.
template <class T>
static std::pair<const RopeTable&, RopeTurn> angles(const Shape& x, const Rope& rope,
                                                    const std::vector<int64_t>& first, const Cuts& cuts,
                                                    int direction, Device device) {
  const int64_t B = x[0], steps = x[1], H = x[2], K = x[3];
  const bool by_head = rope.layout == Rope::Layout::by_head;
  RopeTables* const steady = device == Device::cuda ? RopeTables::in_scope() : nullptr;
  const bool together =
      !steady && cuts.empty() && std::all_of(first.begin(), first.end(), [&](int64_t p) { return p == first[0]; });
  constexpr int64_t kZero[] = {0};
  const std::span rows(first.data(), together ? std::min<size_t>(first.size(), 1) : first.size());
  std::vector<int64_t>& turns = kept().get<LastCall<T>>().positions;
  by_head ? positions(turns, "rope", kZero, H, {}) : positions(turns, "rope", rows, steps, cuts);
  const int64_t width = width_of(rope);
  return {steady ? steady->of(rope, turns) : table_for<T>(rope, turns, device),
          {.N = B * steps,
           .H = H,
           .K = K,
           .dims = rope.dims,
           .interleaved = rope.layout == Rope::Layout::interleaved,
           .period = by_head    ? 1
                     : together ? steps
                                : B * steps,
           .width = width,
           .head_step = by_head ? width : 0,
           .direction = direction}};
}

static Tensor turned(const Tensor& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts,
                     int direction) {
  const Tensor y = empty_like(x);
  by_device(
      "rope", x,
      [&]<class T>(T) {
        const auto [table, turn] = angles<T>(x.shape(), rope, first, cuts, direction, Device::cpu);
        cpu::rope(y.data<T>(), x.data<T>(), table.cosine.template data<T>(), table.sine.template data<T>(), turn);
      },
      [&]<class T>(T) {
        constexpr Device gpu = Device::cuda;
        const auto [table, turn] = angles<float>(x.shape(), rope, first, cuts, direction, gpu);
        cuda::rope(y.data<T>(gpu), x.data<T>(gpu), table.cosine.data<float>(gpu), table.sine.data<float>(gpu), turn);
      });
  return y;
}

// With the defaults filled in, once it fits x.
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
  // OpenLM's by_head rotation never saw the configured base and scale
  if (rope.layout == Rope::Layout::by_head) rope.base = 10000, rope.scale = 1;
  return rope;
}

RopeAngles rope_angles(const Shape& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts) {
  if (rope.layout == Rope::Layout::none) return {};
  const auto [table, turn] = angles<float>(x, checked(rope, x, first), first, cuts, 1, Device::cuda);
  return {table.cosine, table.sine, turn};
}

Var rope(const Var& x, const Rope& given, const std::vector<int64_t>& first, const Cuts& cuts) {
  if (given.layout == Rope::Layout::none) return x;
  const Rope rope = checked(given, x.shape(), first);
  return record(
      "rope", {x}, turned(x.value(), rope, first, cuts, 1),
      [=](const Tensor& dy, Grads& grads) { grads.give(0, turned(dy, rope, first, cuts, -1)); });
}

}  // namespace supra
