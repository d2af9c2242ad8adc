#include "tests/gpu/cuda_support.h"

// A step over a ring on the GPU against the CPU: what it answers, what it writes and what it gives back.

namespace supra {
namespace {

struct Case {
  int64_t H, G, K, V, window, sinks;
  std::vector<int64_t> positions;
};

template <class T>
void check_ring(const Case& c) {
  SCOPED_TRACE(format("%s, H%ld G%ld K%ld V%ld, window %ld, %ld sinks", name(dtype_of<T>()), long(c.H), long(c.G), long(c.K),
                      long(c.V), long(c.window), long(c.sinks)));
  const int64_t B = static_cast<int64_t>(c.positions.size()), slots = c.window + c.sinks;
  uint64_t seed = 1;
  const auto some = [&](const Shape& shape) { return random_normal(shape, seed++, dtype_of<T>()); };
  const Tensor q = some({B, 1, c.H, c.K}), q_sinks = some(q.shape()), k = some({B, 1, c.G, c.K}), v = some({B, 1, c.G, c.V}),
               ring_k = some({B, slots, c.G, c.K}), ring_v = some({B, slots, c.G, c.V});
  // nobody reads what a ring does not hold yet
  for (int64_t b = 0; b < B; b++) {
    if (c.positions[b] >= slots) continue;
    ring_k.rows(b, b + 1).view({slots, c.G, c.K}).rows(c.positions[b], slots).fill(NAN);
    ring_v.rows(b, b + 1).view({slots, c.G, c.V}).rows(c.positions[b], slots).fill(NAN);
  }
  const auto run = [&](auto where) {
    const auto there = [&](const Tensor& t) { return t.to(where); };
    const Ring ring = {there(ring_k).clone(), there(ring_v).clone(), c.window, c.sinks};
    const WindowStep step = window_step(ring, there(q), there(q_sinks), there(k), there(v), 0.4, c.positions, true);
    const Tensor again = window_step({ring.k.clone(), ring.v.clone(), c.window, c.sinks}, there(q), there(q_sinks), there(k),
                                     there(v), 0.4, c.positions, false)
                             .o;
    return Results{step.o, step.lse, step.old_k, step.old_v, ring.k, ring.v, again};
  };
  const Results truth = run(Dtype::f32), got = on_gpu([&] { return run(Device::cuda); });
  for (const size_t i : {0, 1, 6}) expect_close(got[i], truth[i], format("result %zu", i), tolerance<T>());
  for (size_t i = 2; i < 6; i++) EXPECT_TRUE(same_bits(got[i].to(Dtype::f32), truth[i])) << "result " << i;
}

}  // namespace

TEST_F(Cuda, window_step) {
  // rings that are empty, not full, just full and long full; heads that share none, one and several blocks; slots that
  // several blocks share
  for (const Case& c : {Case{4, 2, 8, 8, 9, 3, {0, 2, 3, 7, 11, 12, 40}}, Case{3, 3, 7, 35, 40, 0, {39, 60}},
                        Case{5, 1, 64, 3, 4, 2, {5, 300}}, Case{2, 1, 4, 5, 1100, 4, {3, 700, 1104}}}) {
    check_ring<float>(c);
    check_ring<Bf16>(c);
  }
}

}  // namespace supra
