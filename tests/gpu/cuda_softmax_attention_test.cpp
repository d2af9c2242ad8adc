#include "nn/softmax_attention.h"
#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"

// Softmax attention on the GPU, with and without tensor cores, and the KV cache there.

namespace supra {
namespace {

struct Softmax {
  int64_t B = 2, T = 37, S = 37, H = 4, G = 2, K = 8, V = 8;
  std::vector<int64_t> first = {0, 0};
  int64_t window = 0;
  Cuts cuts = {};
  double scale = 0.3;
  int64_t sinks = 0;
  bool apart = false;  // the sinks have queries of their own

  std::string name() const {
    return format("B%ld T%ld S%ld H%ld G%ld K%ld V%ld window %ld%s, %ld sinks%s", long(B), long(T), long(S), long(H), long(G),
                  long(K), long(V), long(window), cuts.empty() ? "" : " cut", long(sinks), apart ? " apart" : "");
  }
};

const char* const kNames[] = {"o", "lse", "dq", "dk", "dv", "dq of the sinks"};

// Keys that no query sees are NaN: nobody reads what a cache does not hold yet.
void hide(const Tensor& keys, const Softmax& c) {
  for (int64_t b = 0; b < c.B; b++) {
    const Tensor row = keys.rows(b, b + 1).view({c.S, keys.dim(2), keys.dim(3)});
    row.rows(c.first[b] + c.T, c.S).fill(NAN);
  }
}

template <class T>
void check_softmax(const Softmax& c, double looser = 1) {
  SCOPED_TRACE(std::string(name(dtype_of<T>())) + " " + c.name());
  const Tensor q = random_normal({c.B, c.T, c.H, c.K}, 1, dtype_of<T>()),
               k = random_normal({c.B, c.S, c.G, c.K}, 2, dtype_of<T>()),
               v = random_normal({c.B, c.S, c.G, c.V}, 3, dtype_of<T>()),
               q_sinks = random_normal(q.shape(), 5, q.dtype()), dy = random_normal({c.B, c.T, c.H, c.V}, 4, dtype_of<T>()),
               dlse = random_normal({c.B, c.T, c.H}, 6);
  const auto run = [&](auto where) {
    const auto var = [&](const Tensor& t) { return Var(t.to(where), true); };
    const Var there[] = {var(q), var(k), var(v), c.apart ? var(q_sinks) : Var()};
    const SoftmaxPart part = softmax_attention_with_sinks(there[0], there[3], there[1], there[2], c.scale, c.first, c.window,
                                                          c.sinks, c.cuts);
    backward({part.o, part.lse}, {dy.to(where), dlse.to(where)});
    Results results = {part.o.value(), part.lse.value()};
    for (const Var& input : there) {
      if (input.defined()) results.push_back(input.grad());
    }
    return results;
  };
  const Results truth = run(Dtype::f64);
  hide(k, c), hide(v, c);
  const Results got = on_gpu([&] { return run(Device::cuda); });
  for (size_t i = 0; i < got.size(); i++) expect_close(got[i], truth[i], kNames[i], looser * tolerance<T>());
}

}  // namespace

TEST_F(Cuda, softmax_attention_of_any_size) {
  for (const Softmax& c : {Softmax{}, Softmax{.B = 1, .T = 1, .S = 1, .H = 1, .G = 1, .K = 1, .V = 1, .first = {0}},
                           Softmax{.B = 1, .T = 33, .S = 33, .H = 3, .G = 1, .K = 7, .V = 35, .first = {0}},
                           Softmax{.T = 5, .S = 70, .first = {64, 3}, .window = 9},
                           Softmax{.T = 1, .S = 40, .first = {39, 0}},
                           Softmax{.T = 66, .S = 70, .G = 4, .first = {2, 0}, .window = 20, .cuts = {{5, 40}, {}}}}) {
    check_softmax<float>(c);
    check_softmax<Bf16>(c);
  }
}

TEST_F(Cuda, softmax_attention_on_tensor_cores) {
  const double scale = 0.125;
  // more than one tile of queries and of keys; documents; a window narrower than a tile; a cache
  for (const Softmax& c :
       {Softmax{.B = 1, .T = 130, .S = 130, .H = 2, .G = 1, .K = 64, .V = 64, .first = {0}, .scale = scale},
        Softmax{.T = 67, .S = 67, .H = 1, .G = 1, .K = 64, .V = 64, .cuts = {{}, {1, 33}}, .scale = scale},
        Softmax{.B = 1, .T = 140, .S = 200, .H = 1, .G = 1, .K = 64, .V = 64, .first = {49}, .window = 5, .scale = scale},
        Softmax{.T = 3, .S = 140, .H = 2, .G = 2, .K = 128, .V = 128, .first = {137, 5}, .scale = scale},
        Softmax{.B = 1, .T = 66, .S = 66, .H = 2, .G = 1, .K = 128, .V = 128, .first = {0}, .scale = scale}}) {
    check_softmax<Bf16>(c);
  }
}

TEST_F(Cuda, softmax_attention_with_sinks) {
  // sinks within the window and before it, beyond a block of queries; documents shorter than their sinks, and a cache
  for (const Softmax& c :
       {Softmax{.window = 9, .sinks = 3, .apart = true}, Softmax{.G = 1, .window = 2, .sinks = 34},
        Softmax{.T = 66, .S = 70, .G = 4, .first = {2, 0}, .window = 20, .cuts = {{1, 3, 40}, {33}}, .sinks = 4, .apart = true},
        Softmax{.T = 5, .S = 70, .first = {64, 3}, .window = 9, .cuts = {{}, {2}}, .sinks = 5}}) {
    check_softmax<float>(c);
    check_softmax<Bf16>(c);
  }
  // on tensor cores
  for (Softmax c : {Softmax{.T = 140, .S = 200, .H = 2, .K = 64, .first = {49}, .window = 5, .sinks = 3, .apart = true},
                    Softmax{.T = 140, .S = 140, .H = 1, .K = 64, .first = {0}, .window = 20, .cuts = {{1, 33, 70, 131}}, .sinks = 4},
                    Softmax{.T = 20, .S = 20, .H = 1, .K = 128, .first = {0}, .window = 4, .sinks = 2, .apart = true}}) {
    c.B = c.G = 1, c.V = c.K, c.scale = 0.125;
    check_softmax<Bf16>(c);
  }
}

TEST_F(Cuda, softmax_attention_stands_large_scores) {
  // scores of hundreds keep fewer digits behind the point
  check_softmax<float>({.T = 34, .S = 34, .scale = 60}, 8);
  check_softmax<Bf16>({.B = 1, .T = 34, .S = 34, .H = 1, .G = 1, .K = 64, .V = 64, .first = {0}, .scale = 8},
                      2);
}

#if !defined(SUPRA_CUDA)
TEST_F(Cuda, softmax_attention_on_a_card_of_less_shared_memory) {
  const auto some = [](uint64_t seed) { return random_normal({1, 40, 2, 128}, seed).to(Dtype::bf16); };
  const Tensor q = some(1), k = some(2), v = some(3);
  const auto run = [&](auto where) {
    return softmax_attention(Var(q.to(where)), Var(k.to(where)), Var(v.to(where)), 0.1, {0}).value();
  };
  const Results got = on_gpu_with_shared_memory(99 * 1024, [&] { return Results{run(Device::cuda)}; });
  expect_close(got[0], run(Dtype::f64), "o", tolerance<Bf16>());
}

// Gemma's heads on the A100.
TEST_F(Cuda, softmax_attention_says_how_much_shared_memory_its_backward_needs) {
  const Tensor x = gpu(random_normal({1, 4, 1, 256}, 1));
  const Var q(x, true), k(x, true), v(x, true);
  emulator::set_most_shared_memory(163 * 1024);
  const Var o = softmax_attention(q, k, v, 0.1, {0});
  try {
    backward({o}, {x});
    ADD_FAILURE() << "171008 bytes were granted";
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with(
        "softmax_attention_dq_kernel<float> needs 171008 bytes of shared memory for a block, this GPU has 166912: "))
        << error.what();
  }
}
#endif

namespace {

// What a layer gives for 18 calls of 4 steps each, with rows cut here and there: its cache grows twice.
Results run_with_a_cache(Device device) {
  SoftmaxAttention layer(tiny_config(MixerKind::softmax), 0);
  uint64_t seed = 1;
  layer.visit("", [&](const std::string&, Var& parameter) {
    parameter = Var(random_normal(parameter.shape(), seed++).to(device));
  });
  LayerState state = layer.init_state(2);
  Steps steps = {.first = {0, 0}, .lengths = {}, .cuts = {}};
  Results outputs;
  for (int call = 0; call < 18; call++) {
    steps.cuts = {{}, {}};
    if (call == 3) steps.cuts[1] = {1, 3};
    const Tensor x = random_normal({2, 4, 24}, seed++);
    outputs.push_back(layer.forward(Var(x.to(device)), steps, &state).value());
    for (int b = 0; b < 2; b++) steps.first[b] = steps.cuts[b].empty() ? steps.first[b] + 4 : 4 - steps.cuts[b].back();
  }
  return outputs;
}

}  // namespace

TEST_F(Cuda, a_kv_cache_grows_and_is_cut) {
  const Results truth = run_with_a_cache(Device::cpu);
  const Results got = on_gpu([] { return run_with_a_cache(Device::cuda); });
  // both round, and scores are large
  for (size_t i = 0; i < got.size(); i++) expect_close(got[i], truth[i], format("call %zu", i), 2);
}

}  // namespace supra
