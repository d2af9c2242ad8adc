#include "tools/bench/ops_table.h"

#include <cmath>

#include "kernels/simd.h"
#include "tools/bench/ops_rows.h"

namespace supra {

// Targets 0, 3, 6, ... modulo O; every fourth row is left out.
static Tensor some_targets(const Var& logits) {
  const Tensor targets = Tensor::empty({logits.numel() / logits.dim(-1)}, Dtype::i32);
  for (int64_t n = 0; n < targets.numel(); n++) {
    targets.data<int32_t>()[n] = n % 4 == 3 ? kIgnore : static_cast<int32_t>(3 * n % logits.dim(-1));
  }
  return targets;
}

// A case of rope: x (B,T,H,K), row b starts at first + b * apart; packed: with some cuts.
static OpCase rope_case(const char* name, const Rope& r, int64_t first, int64_t apart, const Shape& small,
                        const Shape& large, bool packed = false) {
  auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> starts;
    for (int64_t b = 0; b < in[0].dim(0); b++) starts.push_back(first + b * apart);
    const Cuts cuts = packed ? some_cuts(std::vector(starts.size(), in[0].dim(1))) : Cuts();
    return {rope(in[0], r, starts, cuts)};
  };
  // without a layout it returns x: there is nothing to time
  const Shape bench = r.layout == Rope::Layout::none ? Shape() : Shape{8, 2048, 12, 64};
  return {name, fn, {{"x", small, large, bench}}, moved(3)};
}

static void add_norms(std::vector<OpCase>& table) {
  auto rms = [](double eps) {
    return [eps](const Vars& in) -> Vars { return {rmsnorm(in[0], in[1], eps)}; };
  };
  table.push_back({"rmsnorm",
                   rms(1e-5),
                   {{"x", {2, 3, 5}, {3, 67, 263}, {16384, 768}}, parameter({"w", {5}, {263}, {768}})},
                   each(5)});
  table.push_back(
      {"rmsnorm_narrow", rms(1e-5), {{"x", {4, 3}, {517, 3}, {1 << 22, 3}}, parameter({"w", {3}, {3}, {3}})}, each(5)});
  table.push_back({"rmsnorm_large_eps",
                   rms(0.5),
                   {{"x", {4, 7}, {65, 768}, {6144, 2048}}, parameter({"w", {7}, {768}, {2048}})},
                   each(5)});

  table.push_back(
      {"layernorm",
       [](const Vars& in) -> Vars { return {layernorm(in[0], in[1], in[2], 1e-5)}; },
       {{"x", {2, 3, 5}, {3, 67, 263}, {16384, 768}}, parameter({"w", {5}, {263}, {768}}), parameter({"b", {5}, {263}, {768}})},
       each(7)});
  table.push_back({"layernorm_gain_only",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], in[1], {}, 1e-5)}; },
                   {{"x", {4, 5}, {129, 768}, {16384, 768}}, parameter({"w", {5}, {768}, {768}})},
                   each(7)});
  table.push_back({"layernorm_bias_only",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], {}, in[1], 1e-5)}; },
                   {{"x", {4, 7}, {257, 31}, {16384, 768}}, parameter({"b", {7}, {31}, {768}})},
                   each(7)});
  table.push_back({"layernorm_plain",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], {}, {}, 1e-5)}; },
                   {{"x", {4, 5}, {131, 65}, {16384, 768}}},
                   each(7)});

  auto groups = [](int64_t count) {
    return [count](const Vars& in) -> Vars { return {groupnorm(in[0], count, 1e-5)}; };
  };
  table.push_back({"groupnorm", groups(3), {{"x", {2, 2, 15}, {5, 61, 201}, {16384, 768}}}, each(8)});
  // odd numbers of groups that divide a vector, fill it, or do neither
  table.push_back({"groupnorm_of_4", groups(5), {{"x", {2, 20}, {611, 20}, {1 << 19, 20}}}, each(8)});
  table.push_back({"groupnorm_of_8", groups(3), {{"x", {2, 24}, {611, 24}, {1 << 19, 24}}}, each(8)});
  table.push_back({"groupnorm_of_16", groups(3), {{"x", {2, 48}, {611, 48}, {1 << 18, 48}}}, each(8)});
  table.push_back({"groupnorm_of_6", groups(5), {{"x", {2, 30}, {611, 30}, {1 << 19, 30}}}, each(8)});
  table.push_back({"groupnorm_of_64", groups(12), {{"x", {1, 48}, {67, 768}, {16384, 768}}}, each(8)});
}

static void add_rope(std::vector<OpCase>& table) {
  using enum Rope::Layout;
  const Shape small = {2, 3, 2, 6}, large = {3, 37, 5, 46};
  table.push_back(rope_case("rope_half", {.layout = half}, 0, 0, small, large));
  table.push_back(rope_case("rope_interleaved", {.layout = interleaved}, 0, 0, small, large));
  table.push_back(rope_case("rope_by_head", {.layout = by_head}, 0, 0, small, large));
  table.push_back(rope_case("rope_scaled", {.layout = half, .dims = 4, .divisors = {1.5, 8}, .magnitude = 1.1}, 2, 3, small, large));
  const Rope longer = {.layout = half, .dims = 4, .divisors = {1.5, 8}, .magnitude = 1.1, .trained = 4, .long_divisors = {3, 9}};
  table.push_back(rope_case("rope_long", longer, 2, 3, small, large));
  table.push_back(rope_case("rope_dynamic", {.layout = half, .dims = 6, .trained = 4, .dynamic = 2}, 2, 3, small, large));
  table.push_back(rope_case("rope_none", {.layout = none}, 0, 0, small, large));
  table.push_back(rope_case("rope_half_rows_apart", {.layout = half, .base = 500}, 60000, 7, small, large));
  table.push_back(rope_case("rope_half_packed", {.layout = half}, 9, 0, small, large, true));
  table.push_back(
      rope_case("rope_half_partial", {.layout = half, .scale = 4, .dims = 4}, 11, 0, small, large));
  table.push_back(
      rope_case("rope_interleaved_partial", {.layout = interleaved, .dims = 4}, 11, 5, small, large));
}

static void add_cross_entropy(std::vector<OpCase>& table) {
  auto loss = [](double z) {
    return [z](const Vars& in) -> Vars { return {cross_entropy(in[0], some_targets(in[0]), z)}; };
  };
  table.push_back({"cross_entropy", loss(0), {{"logits", {6, 5}, {67, 517}, {512, 32000}}}, each(4)});
  table.push_back(
      {"cross_entropy_z_loss", loss(0.1), {{"logits", {6, 7}, {67, 3001}, {512, 32000}}}, each(4)});
  table.push_back({"cross_entropy_narrow", loss(0), {{"logits", {5, 3}, {67, 3}, {1 << 22, 3}}}, each(4)});
  // its forward does the three products of both directions
  OpWork three_products = product([](const auto& in) { return 3 * in[1].dim(0); });
  three_products.moves = OpWork::Moves::nothing_in_back;
  table.push_back({"linear_cross_entropy",
                   [](const Vars& in) -> Vars {
                     const Tensor targets = some_targets(Var(Tensor::empty({in[0].dim(0), in[1].dim(0)})));
                     return {linear_cross_entropy(in[0], in[1], targets, 0.01)};
                   },
                   {{"h", {6, 3}, {67, 35}, {512, 768}}, parameter({"w", {5, 3}, {517, 35}, {32000, 768}})},
                   three_products});
  // in bf16 gradients are rounded after the softmax, after the slope of the cap and after its factor
  table.push_back({"linear_cross_entropy_capped",
                   [](const Vars& in) -> Vars {
                     const Tensor targets = some_targets(Var(Tensor::empty({in[0].dim(0), in[1].dim(0)})));
                     return {linear_cross_entropy(scale(in[0], 0.1), in[1], targets, 0.01, {{}, 0}, 3)};
                   },
                   {{"h", {6, 3}, {67, 35}, {512, 768}}, parameter({"w", {5, 3}, {517, 35}, {32000, 768}})},
                   three_products,
                   1,
                   3});
  // the teacher's logits are waves along the vocabulary
  table.push_back({"linear_cross_entropy_distilled",
                   [](const Vars& in) -> Vars {
                     const Tensor targets = some_targets(Var(Tensor::empty({in[0].dim(0), in[1].dim(0)})));
                     const auto teacher = [](int64_t first, const Tensor&, const Tensor& logits) {
                       const int64_t O = logits.dim(1);
                       const Tensor waves = Tensor::empty(logits.shape(), Dtype::f64);
                       for (int64_t i = 0; i < waves.numel(); i++) {
                         waves.data<double>()[i] = 2 * std::sin(0.7 * static_cast<double>(first * O + i));
                       }
                       logits.copy_from(waves);
                     };
                     return {linear_cross_entropy(in[0], in[1], targets, 0.01, {teacher, 0.7})};
                   },
                   {{"h", {6, 3}, {67, 35}, {512, 768}}, parameter({"w", {5, 3}, {517, 35}, {32000, 768}})},
                   three_products});
  table.push_back({"relative_error",
                   [](const Vars& in) -> Vars {
                     const Tensor t = Tensor::full(in[0].shape(), 0.3125, in[0].dtype(), in[0].value().device());
                     return {relative_error(in[0], t, {in[0].dim(1), in[0].dim(1) - 1})};
                   },
                   {{"y", {2, 3, 4}, {2, 37, 67}, {2, 2048, 768}}},
                   each(4)});
}

static void add_matmul(std::vector<OpCase>& table) {
  const OpWork by_rows_of_w = product([](const auto& in) { return in[1].dim(0); });
  auto affine = [](const Vars& in) -> Vars { return {linear(in[0], in[1], in.size() > 2 ? in[2] : Var())}; };
  table.push_back({"linear",
                   affine,
                   {{"x", {2, 3, 5}, {3, 67, 131}, {512, 768}},
                    parameter({"w", {4, 5}, {93, 131}, {2048, 768}}),
                    parameter({"bias", {4}, {93}, {2048}})},
                   by_rows_of_w});
  // biases keep every y away from the kink
  table.push_back({"linear_relu",
                   [](const Vars& in) -> Vars { return {linear_relu(scale(in[0], 0.01), in[1], in[2])}; },
                   {{"x", {2, 3, 5}, {3, 67, 131}, {512, 768}},
                    parameter({"w", {9, 5}, {93, 131}, {2048, 768}}),
                    parameter({"bias", {9}, {93}, {2048}, Fill::away_from_zero})},
                   by_rows_of_w});
  // few rows use another kernel; many rows are summed in blocks for dw
  for (int64_t rows : {1, 2, 3, 4}) {
    table.push_back({"linear_rows_" + std::to_string(rows),
                     affine,
                     {{"x", {rows, 7}, {rows, 517}, {rows, 2048}},
                      parameter({"w", {3, 7}, {519, 517}, {8192, 2048}}),
                      parameter({"bias", {3}, {519}, {8192}})},
                     by_rows_of_w});
  }
  table.push_back({"linear_no_bias",
                   affine,
                   {{"x", {5, 3}, {1025, 65}, {1024, 768}}, parameter({"w", {3, 3}, {50, 65}, {768, 768}})},
                   by_rows_of_w});
  table.push_back({"headwise_linear",
                   [](const Vars& in) -> Vars {
                     return {headwise_linear(in[0], in[1], in[2], in[0].dim(-1) / in[1].dim(1))};
                   },
                   {{"x", {2, 3, 6}, {3, 67, 129}, {1024, 768}},
                    parameter({"w", {12, 2}, {93, 43}, {768, 64}}),
                    parameter({"bias", {12}, {93}, {768}})},
                   product([](const auto& in) { return in[1].dim(0) * in[1].dim(1) / in[0].dim(-1); })});
  table.push_back({"matmul",
                   [](const Vars& in) -> Vars { return {matmul(in[0], in[1])}; },
                   {{"a", {3, 4}, {65, 259}, {512, 768}}, {"b", {4, 5}, {259, 77}, {768, 2048}}},
                   product([](const auto& in) { return in[1].dim(1); })});
}

// `times` half as many ids as rows: 0, 2, 4, ... modulo O, so that some occur twice and some never.
static void add_embedding(std::vector<OpCase>& table) {
  auto look_up = [](int64_t times) {
    return [times](const Vars& in) -> Vars {
      const Tensor ids = Tensor::empty({times, in[0].dim(0) / 2}, Dtype::i32);
      for (int64_t i = 0; i < ids.numel(); i++)
        ids.data<int32_t>()[i] = static_cast<int32_t>(2 * i % in[0].dim(0));
      return {embedding(ids, in[0])};
    };
  };
  OpWork rows = each(0);
  rows.moves = OpWork::Moves::rows;
  table.push_back({"embedding", look_up(2), {parameter({"w", {6, 3}, {6, 67}, {32000, 768}})}, rows});
  table.push_back({"embedding_many", look_up(8), {parameter({"w", {4, 3}, {150, 131}, {4000, 768}})}, rows});
}

static void add_elementwise(std::vector<OpCase>& table) {
  const Shape small = {3, 5}, large = {3, 16411}, bench = {4096, 4096};
  OpWork passed_on = each(1);
  passed_on.moves = OpWork::Moves::nothing_in_back;
  table.push_back({"add",
                   [](const Vars& in) -> Vars { return {add(in[0], in[1])}; },
                   {{"a", small, large, bench}, {"b", small, large, bench}},
                   passed_on});
  table.push_back({"mul",
                   [](const Vars& in) -> Vars { return {mul(in[0], in[1])}; },
                   {{"a", small, large, bench}, {"b", small, large, bench}},
                   each(1)});
  // both gradients come from the same tensor and go to the same variable
  table.push_back({"add_to_itself",
                   [](const Vars& in) -> Vars { return {add(in[0], in[0])}; },
                   {{"x", small, large, bench}},
                   moved(1)});
  table.push_back({"square",
                   [](const Vars& in) -> Vars { return {mul(in[0], in[0])}; },
                   {{"x", small, large, bench}},
                   each(1)});
  table.push_back({"scale",
                   [](const Vars& in) -> Vars { return {scale(in[0], -0.3)}; },
                   {{"x", small, large, bench}},
                   moved(1)});
  table.push_back({"relu",
                   [](const Vars& in) -> Vars { return {relu(in[0])}; },
                   {{"x", small, large, bench, Fill::away_from_zero}},
                   each(1)});
  table.push_back(
      {"silu", [](const Vars& in) -> Vars { return {silu(in[0])}; }, {{"x", small, large, bench}}, each(8)});
  table.push_back({"sigmoid",
                   [](const Vars& in) -> Vars { return {sigmoid(in[0])}; },
                   {{"x", small, large, bench}},
                   each(8)});
  table.push_back({"log_sigmoid",
                   [](const Vars& in) -> Vars { return {log_sigmoid(in[0])}; },
                   {{"x", small, large, bench}},
                   each(20)});
  table.push_back({"tanh", [](const Vars& in) -> Vars { return {tanh(in[0])}; }, {{"x", small, large, bench}}, each(10)});
  // each is three operations
  table.push_back(
      {"soft_cap", [](const Vars& in) -> Vars { return {soft_cap(in[0], 1.5)}; }, {{"x", small, large, bench}}, each(12), 1, 3});
  table.push_back(
      {"hard_cap", [](const Vars& in) -> Vars { return {hard_cap(in[0], 1)}; }, {{"x", small, large, bench}}, each(3), 1, 3});
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    const std::string suffix = kind == Gelu::erf ? "" : "_tanh";
    table.push_back({"gelu" + suffix,
                     [kind](const Vars& in) -> Vars { return {gelu(in[0], kind)}; },
                     {{"x", small, large, bench}},
                     each(10)});
  }
  table.push_back({"swiglu",
                   [](const Vars& in) -> Vars { return {swiglu(in[0])}; },
                   {{"gate_up", {2, 2, 6}, {3, 67, 2 * 517}, {4096, 2 * 2048}}},
                   each(4)});
}

static void add_ratio(std::vector<OpCase>& table) {
  // far enough from zero whatever the random divisor is
  table.push_back({"divide_by_last",
                   [](const Vars& in) -> Vars { return {divide_by_last(in[0], 7)}; },
                   {{"x", {2, 3, 4}, {3, 67, 9}, {16384, 65}}},
                   each(2)});
  // backward reads y as rounded by forward
  table.push_back({"join_attention",
                   [](const Vars& in) -> Vars { return {join_attention(in[0], in[1], in[2], in[3])}; },
                   {{"o", {1, 3, 2, 2}, {2, 37, 3, 35}, {4, 2048, 12, 64}},
                    parameter({"lse", {1, 3, 2}, {2, 37, 3}, {4, 2048, 12}}),
                    {"far", {1, 3, 2, 3}, {2, 37, 3, 36}, {4, 2048, 12, 65}, Fill::positive},
                    {"mass", {1, 3, 2}, {2, 37, 3}, {4, 2048, 12}}},
                   each(3),
                   1,
                   2});
  OpWork features = each(24);
  features.backward = 0.4;
  for (int64_t heads : {12, 24}) {
    table.push_back({"softmax_features_of_" + std::to_string(768 / heads),
                     [heads](const Vars& in) -> Vars { return {softmax_features(in[0], heads)}; },
                     {{"x", {2, 24}, {5, 67, heads * 13}, {16384, 768}}},
                     features,
                     1,
                     2});
  }
}

static void add_layout(std::vector<OpCase>& table) {
  // moves nothing: not timed
  table.push_back({"reshape",
                   [](const Vars& in) -> Vars {
                     return {reshape(in[0], {-1, in[0].dim(0)})};
                   },
                   {{"x", {2, 3, 2}, {3, 67, 129}, {}}},
                   {}});
  auto thirds = [](const Var& x) {
    const int64_t C = x.dim(-1);
    return split_columns(x, {C / 3, C / 4, C - C / 3 - C / 4});
  };
  table.push_back({"split_columns",
                   [=](const Vars& in) -> Vars { return thirds(in[0]); },
                   {{"x", {2, 2, 7}, {3, 67, 259}, {16384, 768}}},
                   moved()});
  table.push_back({"split_columns_one_unused",
                   [=](const Vars& in) -> Vars {
                     const Vars parts = thirds(in[0]);
                     return {parts[2], parts[0]};
                   },
                   {{"x", {3, 7}, {201, 259}, {16384, 768}}},
                   moved()});
  table.push_back({"concat_columns",
                   [](const Vars& in) -> Vars {
                     return {concat_columns({in[0], in[1], in[0]})};
                   },
                   {{"a", {2, 2, 3}, {3, 67, 65}, {8192, 768}}, {"b", {2, 2, 1}, {3, 67, 131}, {8192, 768}}},
                   moved()});
  // to a wider dtype, if the device has one
  table.push_back({"cast",
                   [](const Vars& in) -> Vars {
                     const bool on_cpu = in[0].value().device() == Device::cpu;
                     return {cast(in[0], on_cpu ? Dtype::f64 : Dtype::f32)};
                   },
                   {{"x", {3, 5}, {37, 131}, {4096, 1024}}},
                   moved()});
  table.push_back({"repeat_heads",
                   [](const Vars& in) -> Vars { return {repeat_heads(in[0], 3)}; },
                   {{"x", {2, 2, 2, 3}, {3, 37, 5, 46}, {4, 1024, 4, 256}}},
                   moved()});
  // every fourth row is zeros; the others come in reverse order, each once, or from a few rows that are taken often
  auto rows = [](bool once) {
    return [once](const Vars& in) -> Vars {
      const int64_t N = in[0].dim(0) + in[1].dim(0);
      std::vector<int64_t> index;
      for (int64_t m = 0; m < N; m++) index.push_back(m % 4 == 2 ? -1 : once ? N - 1 - m : m * m % (N - 1));
      return {take_rows(in, index)};
    };
  };
  for (bool once : {true, false}) {
    table.push_back({once ? "take_rows" : "take_rows_often",
                     rows(once),
                     {{"a", {4, 3}, {67, 131}, {8192, 768}}, {"b", {3, 3}, {259, 131}, {16384, 768}}},
                     moved()});
  }
}

static void add_products_of_use(std::vector<OpCase>& table) {
  const OpWork by_rows_of_w = product([](const auto& in) { return in[1].dim(0); });
  auto plain = [](const Vars& in) -> Vars { return {linear(in[0], in[1])}; };
  struct Size {
    int64_t N, O, C;
  };
  for (auto [N, O, C] : {Size{1024, 768, 768}, {512, 2048, 768}, {512, 768, 2048}, {2048, 2048, 2048}}) {
    table.push_back(
        {format("linear_%ldx%ldx%ld", static_cast<long>(N), static_cast<long>(O), static_cast<long>(C)),
         plain,
         {{"x", {3, 5}, {}, {N, C}}, parameter({"w", {4, 5}, {}, {O, C}})},
         by_rows_of_w});
  }
  // products of one token use weights in their stored dtype
  for (Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    table.push_back({format("linear_rows_1_%s", name(dtype)),
                     plain,
                     {{"x", {1, 64}, {}, {1, 2048}, Fill::normal, true},
                      parameter({"w", {5, 64}, {}, {32768, 2048}, Fill::normal, true, dtype})},
                     by_rows_of_w});
  }
  auto tile = [](const Vars& in) -> Vars {
    const int64_t M = in[0].dim(0), N = in[1].dim(1), K = in[1].dim(0);
    const Tensor c = Tensor::empty({M, N});
    simd().gemm_tile(false, false, M, N, K, in[0].value().data<float>(), K, in[1].value().data<float>(), N,
                     false, c.data<float>(), N);
    return {Var(c)};
  };
  OpWork in_one_core = product([](const auto& in) { return in[1].dim(1); });
  in_one_core.one_core = true;
  for (auto [M, N, K] : {Size{64, 64, 64}, {64, 128, 128}, {128, 128, 64}}) {
    table.push_back(
        {format("gemm_tile_%ldx%ldx%ld", static_cast<long>(M), static_cast<long>(N), static_cast<long>(K)),
         tile, constants({{"a", {3, 5}, {}, {M, K}}, {"b", {5, 4}, {}, {K, N}}}), in_one_core});
  }
}

static void add_without_gradient(std::vector<OpCase>& table) {
  auto adamw = [](const Vars& in) -> Vars {
    const AdamwStep step = {1e-3, 0.9, 0.95, 1e-8, 0.1, 10, 1};
    adamw_update(in[0].value(), in[1].value(), in[2].value(), in[3].value(), step);
    return {in[0], in[1], in[2]};
  };
  const Shape small = {3, 5}, bench = {4096, 4096};
  table.push_back({"adamw", adamw,
                   constants({parameter({"w", small, {}, bench}),
                              parameter({"m", small, {}, bench}),
                              parameter({"v", small, {}, bench, Fill::positive}),
                              parameter({"g", small, {}, bench})}),
                   each(15)});
  table.push_back(
      {"squared_norm",
       [](const Vars& in) -> Vars { return {Var(Tensor::full({1}, squared_norm({in[0].value()})))}; },
       constants({{"x", small, {}, bench}}), each(2)});
  table.push_back(
      {"token_nll",
       [](const Vars& in) -> Vars { return {Var(token_nll(in[0].value(), some_targets(in[0])))}; },
       constants({{"logits", {6, 5}, {}, {512, 32000}}}), each(4)});
  table.push_back({"log_sum_exp",
                   [](const Vars& in) -> Vars { return {Var(log_sum_exp(in[0].value()).to(in[0].dtype()))}; },
                   constants({{"logits", {6, 5}, {}, {512, 32000}}}), each(4)});
}

const std::vector<OpCase>& ops_table() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> cases;
    add_norms(cases);
    add_rope(cases);
    add_cross_entropy(cases);
    add_matmul(cases);
    add_embedding(cases);
    add_elementwise(cases);
    add_ratio(cases);
    add_layout(cases);
    add_attention(cases);
    return cases;
  }();
  return table;
}

const std::vector<OpCase>& bench_table() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> cases;
    add_products_of_use(cases);
    add_trained_attention(cases);
    add_without_gradient(cases);
    add_attention_steps(cases);
    return cases;
  }();
  return table;
}

}  // namespace supra
