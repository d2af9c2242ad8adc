#include "tools/ops_table.h"

#include "tensor/random.h"

namespace supra {

// Targets 0, 3, 6, ... modulo O; every fourth row is left out.
static Tensor some_targets(const Var& logits) {
  const Tensor targets = Tensor::empty({logits.numel() / logits.dim(-1)}, Dtype::i32);
  for (int64_t n = 0; n < targets.numel(); n++) {
    targets.data<int32_t>()[n] = n % 4 == 3 ? kIgnore : static_cast<int32_t>(3 * n % logits.dim(-1));
  }
  return targets;
}

// A case of rope: x (B,T,H,K), row b starts at first + b * apart.
static OpCase rope_case(const char* name, const Rope& r, int64_t first, int64_t apart, const Shape& small,
                        const Shape& large) {
  auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> starts;
    for (int64_t b = 0; b < in[0].dim(0); b++) starts.push_back(first + b * apart);
    return {rope(in[0], r, starts)};
  };
  return {name, fn, {{"x", small, large}}};
}

static void add_norms(std::vector<OpCase>& table) {
  auto rms = [](double eps) {
    return [eps](const Vars& in) -> Vars { return {rmsnorm(in[0], in[1], eps)}; };
  };
  table.push_back({"rmsnorm", rms(1e-5), {{"x", {2, 3, 5}, {3, 67, 263}}, {"w", {5}, {263}}}});
  table.push_back({"rmsnorm_narrow", rms(1e-5), {{"x", {4, 3}, {517, 3}}, {"w", {3}, {3}}}});
  table.push_back({"rmsnorm_large_eps", rms(0.5), {{"x", {4, 7}, {65, 768}}, {"w", {7}, {768}}}});

  table.push_back({"layernorm",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], in[1], in[2], 1e-5)}; },
                   {{"x", {2, 3, 5}, {3, 67, 263}}, {"w", {5}, {263}}, {"b", {5}, {263}}}});
  table.push_back({"layernorm_gain_only",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], in[1], {}, 1e-5)}; },
                   {{"x", {4, 5}, {129, 768}}, {"w", {5}, {768}}}});
  table.push_back({"layernorm_bias_only",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], {}, in[1], 1e-5)}; },
                   {{"x", {4, 7}, {257, 31}}, {"b", {7}, {31}}}});
  table.push_back({"layernorm_plain",
                   [](const Vars& in) -> Vars { return {layernorm(in[0], {}, {}, 1e-5)}; },
                   {{"x", {4, 5}, {131, 65}}}});

  auto groups = [](int64_t count) {
    return [count](const Vars& in) -> Vars { return {groupnorm(in[0], count, 1e-5)}; };
  };
  table.push_back({"groupnorm", groups(3), {{"x", {2, 2, 15}, {5, 61, 201}}}});
  // groups that divide a vector, those that fill it and those that do neither, with odd numbers of them
  table.push_back({"groupnorm_of_4", groups(5), {{"x", {2, 20}, {611, 20}}}});
  table.push_back({"groupnorm_of_8", groups(3), {{"x", {2, 24}, {611, 24}}}});
  table.push_back({"groupnorm_of_16", groups(3), {{"x", {2, 48}, {611, 48}}}});
  table.push_back({"groupnorm_of_6", groups(5), {{"x", {2, 30}, {611, 30}}}});
  table.push_back({"groupnorm_of_64", groups(12), {{"x", {1, 48}, {67, 768}}}});
}

static void add_rope(std::vector<OpCase>& table) {
  using enum Rope::Layout;
  const Shape small = {2, 3, 2, 6}, large = {3, 37, 5, 46};
  table.push_back(rope_case("rope_half", {.layout = half}, 0, 0, small, large));
  table.push_back(rope_case("rope_interleaved", {.layout = interleaved}, 0, 0, small, large));
  table.push_back(rope_case("rope_by_head", {.layout = by_head}, 0, 0, small, large));
  table.push_back(rope_case("rope_none", {.layout = none}, 0, 0, small, large));
  table.push_back(rope_case("rope_half_rows_apart", {.layout = half, .base = 500}, 60000, 7, small, large));
  table.push_back(
      rope_case("rope_half_partial", {.layout = half, .scale = 4, .dims = 4}, 11, 0, small, large));
  table.push_back(
      rope_case("rope_interleaved_partial", {.layout = interleaved, .dims = 4}, 11, 5, small, large));
}

static void add_cross_entropy(std::vector<OpCase>& table) {
  auto loss = [](double z) {
    return [z](const Vars& in) -> Vars { return {cross_entropy(in[0], some_targets(in[0]), z)}; };
  };
  table.push_back({"cross_entropy", loss(0), {{"logits", {6, 5}, {67, 517}}}});
  table.push_back({"cross_entropy_z_loss", loss(0.1), {{"logits", {6, 7}, {67, 3001}}}});
  table.push_back({"cross_entropy_narrow", loss(0), {{"logits", {5, 3}, {67, 3}}}});
}

static void add_matmul(std::vector<OpCase>& table) {
  auto affine = [](const Vars& in) -> Vars { return {linear(in[0], in[1], in.size() > 2 ? in[2] : Var())}; };
  table.push_back(
      {"linear", affine, {{"x", {2, 3, 5}, {3, 67, 131}}, {"w", {4, 5}, {93, 131}}, {"bias", {4}, {93}}}});
  // few rows take another kernel; many are summed in blocks for dw
  for (int64_t rows : {1, 2, 3, 4}) {
    table.push_back({"linear_rows_" + std::to_string(rows),
                     affine,
                     {{"x", {rows, 7}, {rows, 517}}, {"w", {3, 7}, {519, 517}}, {"bias", {3}, {519}}}});
  }
  table.push_back({"linear_no_bias", affine, {{"x", {5, 3}, {1025, 65}}, {"w", {3, 3}, {50, 65}}}});
  table.push_back({"matmul",
                   [](const Vars& in) -> Vars { return {matmul(in[0], in[1])}; },
                   {{"a", {3, 4}, {65, 259}}, {"b", {4, 5}, {259, 77}}}});
}

// Ids 0, 2, 4, ... modulo O, so that some come again and some not at all.
static void add_embedding(std::vector<OpCase>& table) {
  auto look_up = [](const Shape& ids) {
    return [ids](const Vars& in) -> Vars {
      const Tensor some = Tensor::empty(ids, Dtype::i32);
      for (int64_t i = 0; i < some.numel(); i++)
        some.data<int32_t>()[i] = static_cast<int32_t>(2 * i % in[0].dim(0));
      return {embedding(some, in[0])};
    };
  };
  table.push_back({"embedding", look_up({2, 5}), {{"w", {6, 3}, {6, 67}}}});
  table.push_back({"embedding_many", look_up({3, 211}), {{"w", {4, 3}, {150, 131}}}});
}

static void add_elementwise(std::vector<OpCase>& table) {
  const Shape small = {3, 5}, large = {3, 16411};
  table.push_back({"add",
                   [](const Vars& in) -> Vars { return {add(in[0], in[1])}; },
                   {{"a", small, large}, {"b", small, large}}});
  table.push_back({"mul",
                   [](const Vars& in) -> Vars { return {mul(in[0], in[1])}; },
                   {{"a", small, large}, {"b", small, large}}});
  // both gradients come from one tensor and go to one variable
  table.push_back(
      {"add_to_itself", [](const Vars& in) -> Vars { return {add(in[0], in[0])}; }, {{"x", small, large}}});
  table.push_back(
      {"square", [](const Vars& in) -> Vars { return {mul(in[0], in[0])}; }, {{"x", small, large}}});
  table.push_back(
      {"scale", [](const Vars& in) -> Vars { return {scale(in[0], -0.3)}; }, {{"x", small, large}}});
  table.push_back({"relu",
                   [](const Vars& in) -> Vars { return {relu(in[0])}; },
                   {{"x", small, large, Fill::away_from_zero}}});
  table.push_back({"silu", [](const Vars& in) -> Vars { return {silu(in[0])}; }, {{"x", small, large}}});
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    const std::string suffix = kind == Gelu::erf ? "" : "_tanh";
    table.push_back({"gelu" + suffix,
                     [kind](const Vars& in) -> Vars { return {gelu(in[0], kind)}; },
                     {{"x", small, large}}});
    table.push_back({"geglu" + suffix,
                     [kind](const Vars& in) -> Vars { return {geglu(in[0], kind)}; },
                     {{"gate_up", {2, 6}, {67, 2 * 517}}}});
  }
  table.push_back({"swiglu",
                   [](const Vars& in) -> Vars { return {swiglu(in[0])}; },
                   {{"gate_up", {2, 2, 6}, {3, 67, 2 * 517}}}});
}

static void add_layout(std::vector<OpCase>& table) {
  table.push_back({"reshape",
                   [](const Vars& in) -> Vars {
                     return {reshape(in[0], {-1, in[0].dim(0)})};
                   },
                   {{"x", {2, 3, 2}, {3, 67, 129}}}});
  auto thirds = [](const Var& x) {
    const int64_t C = x.dim(-1);
    return split_columns(x, {C / 3, C / 4, C - C / 3 - C / 4});
  };
  table.push_back({"split_columns",
                   [=](const Vars& in) -> Vars { return thirds(in[0]); },
                   {{"x", {2, 2, 7}, {3, 67, 259}}}});
  table.push_back({"split_columns_one_unused",
                   [=](const Vars& in) -> Vars {
                     const Vars parts = thirds(in[0]);
                     return {parts[2], parts[0]};
                   },
                   {{"x", {3, 7}, {201, 259}}}});
  table.push_back({"concat_columns",
                   [](const Vars& in) -> Vars {
                     return {concat_columns({in[0], in[1], in[0]})};
                   },
                   {{"a", {2, 2, 3}, {3, 67, 65}}, {"b", {2, 2, 1}, {3, 67, 131}}}});
  table.push_back({"repeat_heads",
                   [](const Vars& in) -> Vars { return {repeat_heads(in[0], 3)}; },
                   {{"x", {2, 2, 2, 3}, {3, 37, 5, 46}}}});
}

// q, k, v, log_decay and the state before the first step; row b ends b * `shorter` steps before T.
static OpCase linear_attention_case(const char* name, const Shape& log_decay_small,
                                    const Shape& log_decay_large, int64_t Gk, int64_t Gv, int64_t shorter) {
  auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < in[0].dim(0); b++) lengths.push_back(in[0].dim(1) - b * shorter);
    const LinearAttention y = linear_attention(in[0], in[1], in[2], in[3], 0.4, in[4], lengths);
    return {y.o, y.state};
  };
  return {name,
          fn,
          {{"q", {2, 4, 4, 2}, {2, 131, 4, 17}},
           {"k", {2, 4, Gk, 2}, {2, 131, Gk, 17}},
           {"v", {2, 4, Gv, 3}, {2, 131, Gv, 35}},
           {"log_decay", log_decay_small, log_decay_large, Fill::log_decay},
           {"state", {2, 4, 2, 3}, {2, 4, 17, 35}}},
          // the gradient of a fixed decay, one number a head, is a difference of sums that are much larger
          log_decay_large.size() == 1 ? 16.0 : 1.0};
}

static OpCase softmax_attention_case(const char* name, int64_t queries, int64_t G) {
  auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> first;
    for (int64_t b = 0; b < in[0].dim(0); b++) first.push_back((in[1].dim(1) - in[0].dim(1)) / (b + 1));
    return {softmax_attention(in[0], in[1], in[2], 0.4, first)};
  };
  return {name,
          fn,
          {{"q", {2, std::min<int64_t>(queries, 3), 4, 2}, {2, queries, 4, 17}},
           {"k", {2, 5, G, 2}, {2, 150, G, 17}},
           {"v", {2, 5, G, 3}, {2, 150, G, 35}}}};
}

static void add_attention(std::vector<OpCase>& table) {
  table.push_back(linear_attention_case("linear_attention", {4}, {4}, 4, 4, 0));
  table.push_back(linear_attention_case("linear_attention_gated", {2, 4, 4}, {2, 131, 4}, 4, 2, 0));
  table.push_back(linear_attention_case("linear_attention_with_lengths", {2, 4, 4}, {2, 131, 4}, 1, 2, 3));
  table.push_back(softmax_attention_case("softmax_attention", 131, 4));
  table.push_back(softmax_attention_case("softmax_attention_grouped", 67, 2));
  table.push_back(softmax_attention_case("softmax_attention_decode", 1, 1));
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
    add_layout(cases);
    add_attention(cases);
    return cases;
  }();
  return table;
}

static float draw(Philox& random, Fill fill) {
  switch (fill) {
    case Fill::normal:
      return static_cast<float>(random.normal());
    case Fill::positive:
      return static_cast<float>(0.5 + random.uniform());
    case Fill::away_from_zero: {
      const double magnitude = 0.5 + random.uniform();
      return static_cast<float>(random.next() % 2 ? magnitude : -magnitude);
    }
    case Fill::log_decay:
      return static_cast<float>(random.uniform() - 1);
  }
  return 0;
}

static Tensor random_tensor(const Shape& shape, Fill fill, uint64_t stream, Dtype dtype) {
  Philox random(2024, stream);
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.numel(); i++) t.data<float>()[i] = draw(random, fill);
  return t.to(dtype);
}

std::vector<Tensor> make_inputs(const OpCase& op, Size size, Dtype dtype) {
  std::vector<Tensor> inputs;
  for (const OpInput& input : op.inputs) {
    inputs.push_back(
        random_tensor(size == Size::small ? input.small : input.large, input.fill, inputs.size(), dtype));
  }
  return inputs;
}

OpRun run_op(const OpCase& op, const std::vector<Tensor>& inputs, int passes) {
  Vars vars;
  for (size_t i = 0; i < inputs.size(); i++) vars.emplace_back(inputs[i], !op.inputs[i].constant);
  OpRun run;
  for (int pass = 0; pass < passes; pass++) {
    const Vars outputs = op.fn(vars);
    std::vector<Tensor> seeds;
    run.outputs.clear();
    for (const Var& y : outputs) {
      seeds.push_back(random_tensor(y.shape(), Fill::normal, 100 + seeds.size(), y.dtype()));
      run.outputs.push_back(y.value());
    }
    backward(outputs, seeds);
  }
  for (const Var& v : vars) run.grads.push_back(v.grad());
  return run;
}

}  // namespace supra
