#include "kernels/attention.h"
#include "tools/bench/ops_rows.h"

// The rows of attention, linear and softmax.

namespace supra {

// 4 C d + 4 d^2 for each query and head, d = K = V: scores and sums within a chunk of C steps, and the state's part. Backward
// takes 10 for each 4.
static OpWork linear_attention_work() {
  OpWork work;
  work.flop = [](const std::vector<Tensor>& in) {
    const int64_t K = in[0].dim(3), V = in[2].dim(3), chunk = linear_chunk(K, V);
    return static_cast<double>(in[0].numel() / K * (2 * chunk * (K + V) + 4 * K * V));
  };
  work.backward = 2.5;
  return work;
}

// q, k, v, log_decay and the state before the first step; row b ends b * `shorter` steps before T. Key and
// value heads are Gk and Gv beside 4 query heads. packed: with some cuts.
static OpCase linear_attention_case(const char* name, bool decay_by_token, int64_t Gk, int64_t Gv,
                                    int64_t shorter, double norm_eps = 0, bool packed = false,
                                    bool features = false) {
  auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < in[0].dim(0); b++) lengths.push_back(in[0].dim(1) - b * shorter);
    Features before;
    if (features) before.rope.layout = Rope::Layout::half, before.rope.dims = 2, before.of_relu = true;
    before.first = {3, 7};
    const Var q = features ? relu(in[0]) : in[0], k = features ? relu(in[1]) : in[1];
    const LinearAttention y = linear_attention(q, k, in[2], in[3], 0.4, in[4], lengths, norm_eps,
                                               packed ? some_cuts(lengths) : Cuts(), before);
    return {y.o, y.state};
  };
  const auto decay = [=](int64_t T, int64_t H) { return decay_by_token ? Shape{2, T, H} : Shape{H}; };
  return {name,
          fn,
          {{"q", {2, 4, 4, 2}, {2, 131, 4, 17}, {2, 512, 12, 64}},
           {"k", {2, 4, Gk, 2}, {2, 131, Gk, 17}, {2, 512, 3 * Gk, 64}},
           {"v", {2, 4, Gv, 3}, {2, 131, Gv, 35}, {2, 512, 3 * Gv, 64}},
           parameter({"log_decay", decay(4, 4), decay(131, 4), decay(512, 12), Fill::log_decay}),
           parameter({"state", {2, 4, 2, 3}, {2, 4, 17, 35}, {2, 12, 64, 64}})},
          linear_attention_work(),
          // the gradient of a fixed decay, one number per head, is a difference of much larger sums; at the beginning of a
          // document only o = q.k v is normalised, however small q.k is
          decay_by_token && !(packed && norm_eps > 0) ? 1.0 : 16.0,
          norm_eps > 0 || features ? 2.0 : 1.0};
}

// Also A besides P, a substitution, and the subtraction of the old values: 8 C d + 6 d^2. Backward takes 20 C d + 12 d^2.
static OpWork delta_attention_work() {
  OpWork work;
  work.flop = [](const std::vector<Tensor>& in) {
    const int64_t K = in[0].dim(3), V = in[2].dim(3), chunk = linear_chunk(K, V);
    return static_cast<double>(in[0].numel() / K * (4 * chunk * (K + V) + 6 * K * V));
  };
  work.backward = 2.3;
  return work;
}

static OpCase delta_attention_case(const char* name, int64_t Gk, int64_t Gv, int64_t shorter, bool packed = false) {
  OpCase c = linear_attention_case(name, true, Gk, Gv, shorter);
  c.fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < in[0].dim(0); b++) lengths.push_back(in[0].dim(1) - b * shorter);
    const LinearAttention y = delta_attention(in[0], in[1], in[2], in[3], in[5], in[4], lengths, packed ? some_cuts(lengths) : Cuts());
    return {y.o, y.state};
  };
  c.inputs[1].fill = Fill::direction;
  OpInput beta = c.inputs[3];
  beta.name = "beta", beta.fill = Fill::fraction;
  c.inputs.push_back(beta);
  c.work = delta_attention_work();
  // the GPU's backward reads values as rounded by forward
  c.roundings = 2;
  return c;
}

static OpCase short_convolution_case(const char* name, int64_t shorter, bool packed) {
  const auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < in[0].dim(0); b++) lengths.push_back(in[0].dim(1) - b * shorter);
    const ShortConvolution y = short_convolution(in[0], in[1], in[2], lengths, packed ? some_cuts(lengths) : Cuts());
    return {y.y, y.state};
  };
  OpCase c = {name, fn, {{"x", {2, 5, 3}, {2, 131, 35}, {2, 512, 960}}, parameter({"w", {4, 3}, {4, 35}, {4, 960}}), parameter({"state", {2, 3, 3}, {2, 3, 35}, {2, 3, 960}})}, {}};
  // a multiplication and an addition per tap
  c.work.flop = [](const std::vector<Tensor>& in) { return static_cast<double>(in[0].numel() * 2 * in[1].dim(0)); };
  c.work.backward = 2;
  return c;
}

static OpCase softmax_attention_case(const char* name, int64_t queries, int64_t G, const Shape& bench_q,
                                     const Shape& bench_kv, int64_t window = 0, bool packed = false, double cap = 0) {
  auto fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> first;
    for (int64_t b = 0; b < in[0].dim(0); b++) first.push_back((in[1].dim(1) - in[0].dim(1)) / (b + 1));
    const Cuts cuts = packed ? some_cuts(std::vector(first.size(), in[0].dim(1))) : Cuts();
    return {softmax_attention(in[0], in[1], in[2], {0.4, cap}, first, window, cuts)};
  };
  OpWork work;
  work.flop = [=](const std::vector<Tensor>& in) {
    const int64_t T = in[0].dim(1), S = in[1].dim(1), K = in[0].dim(3), V = in[2].dim(3);
    // every query with the keys up to its own
    const int64_t pairs = window > 0 ? T * std::min(window, S) : T * S - T * (T - 1) / 2;
    return static_cast<double>(in[0].dim(0) * in[0].dim(2) * pairs * 2 * (K + V));
  };
  work.backward = 2.5;
  // one query at a time is for inference
  if (queries == 1) work.moves = OpWork::Moves::nothing_in_back;
  return {name,
          fn,
          {{"q", {2, std::min<int64_t>(queries, 3), 4, 2}, {2, queries, 4, 17}, bench_q},
           {"k", {2, 5, G, 2}, {2, 150, G, 17}, bench_kv},
           {"v", {2, 5, G, 3}, {2, 150, G, 35}, bench_kv}},
          work};
}

// With sinks, separate queries for them, and the log-sum-exp.
static OpCase softmax_attention_with_sinks_case(const char* name, int64_t window, int64_t sinks, bool packed, const Shape& bench_q,
                                                double cap = 0) {
  OpCase c = softmax_attention_case(name, 131, 2, bench_q, bench_q.empty() ? bench_q : Shape{2, 512, 6, 64}, window, packed);
  c.fn = [=](const Vars& in) -> Vars {
    std::vector<int64_t> first;
    for (int64_t b = 0; b < in[0].dim(0); b++) first.push_back((in[1].dim(1) - in[0].dim(1)) / (b + 1));
    const Cuts cuts = packed ? some_cuts(std::vector(first.size(), in[0].dim(1))) : Cuts();
    const SoftmaxPart y = softmax_attention_with_sinks(in[0], in[3], in[1], in[2], {0.4, cap}, first, window, sinks, cuts);
    return {y.o, y.lse};
  };
  OpInput of_sinks = c.inputs[0];
  of_sinks.name = "q_sinks";
  c.inputs.push_back(of_sinks);
  return c;
}

void add_attention(std::vector<OpCase>& table) {
  table.push_back(linear_attention_case("linear_attention", false, 4, 4, 0));
  table.push_back(linear_attention_case("linear_attention_gated", true, 4, 2, 0));
  table.push_back(linear_attention_case("linear_attention_with_lengths", true, 1, 2, 3));
  table.push_back(linear_attention_case("linear_attention_normed", false, 4, 4, 3, 1e-5));
  table.push_back(linear_attention_case("linear_attention_gated_normed", true, 2, 1, 0, 1e-5));
  table.push_back(linear_attention_case("linear_attention_packed", false, 4, 2, 0, 0, true));
  table.push_back(linear_attention_case("linear_attention_packed_gated_normed", true, 1, 2, 3, 1e-5, true));
  table.push_back(linear_attention_case("linear_attention_of_features", true, 2, 4, 1, 0, true, true));
  table.push_back(delta_attention_case("delta_attention", 4, 4, 0));
  table.push_back(delta_attention_case("delta_attention_grouped_with_lengths", 1, 2, 3));
  table.push_back(delta_attention_case("delta_attention_packed", 4, 2, 1, true));
  table.push_back(short_convolution_case("short_convolution", 3, false));
  table.push_back(short_convolution_case("short_convolution_packed", 1, true));
  const Shape q = {2, 512, 12, 64};
  table.push_back(softmax_attention_case("softmax_attention", 131, 4, q, q));
  table.push_back(softmax_attention_case("softmax_attention_window", 67, 2, q, {2, 512, 6, 64}, 3));
  table.push_back(softmax_attention_case("softmax_attention_grouped", 67, 2, q, {2, 512, 6, 64}));
  table.push_back(softmax_attention_case("softmax_attention_packed", 131, 2, {}, {}, 0, true));
  table.push_back(softmax_attention_case("softmax_attention_packed_window", 67, 4, {}, {}, 30, true));
  table.push_back(softmax_attention_case("softmax_attention_capped", 67, 2, {}, {}, 0, false, 0.7));
  table.push_back(softmax_attention_case("softmax_attention_decode_capped", 1, 2, {}, {}, 30, false, 0.7));
  table.push_back(softmax_attention_with_sinks_case("softmax_attention_with_sinks_capped", 3, 2, true, {}, 0.7));
  table.push_back(softmax_attention_with_sinks_case("softmax_attention_with_sinks", 3, 2, false, q));
  table.push_back(softmax_attention_with_sinks_case("softmax_attention_with_sinks_packed", 30, 5, true, {}));
  table.push_back(
      softmax_attention_case("softmax_attention_decode", 1, 1, {1, 1, 12, 64}, {1, 32768, 6, 64}));
}

// As in the training of a SUPRA layer: a fixed decay, and no state before the sequence.
static OpCase trained_linear_attention(int64_t H, int64_t d) {
  return {format("linear_attention_train_d%ld", static_cast<long>(d)),
          [](const Vars& in) -> Vars { return {linear_attention(in[0], in[1], in[2], in[3], 0.1).o}; },
          {{"q", {1, 5, 2, 3}, {}, {2, 512, H, d}},
           {"k", {1, 5, 2, 3}, {}, {2, 512, H, d}},
           {"v", {1, 5, 2, 3}, {}, {2, 512, H, d}},
           parameter({"log_decay", {2}, {}, {H}, Fill::log_decay, true})},
          linear_attention_work()};
}

// As in the training of a layer with the gated delta rule.
static OpCase trained_delta_attention(int64_t H, int64_t d) {
  return {format("delta_attention_train_d%ld", static_cast<long>(d)),
          [](const Vars& in) -> Vars { return {delta_attention(in[0], in[1], in[2], in[3], in[4]).o}; },
          {{"q", {1, 5, 2, 3}, {}, {2, 512, H, d}},
           {"k", {1, 5, 2, 3}, {}, {2, 512, H, d}, Fill::direction},
           {"v", {1, 5, 2, 3}, {}, {2, 512, H, d}},
           parameter({"log_decay", {1, 5, 2}, {}, {2, 512, H}, Fill::log_decay}),
           parameter({"beta", {1, 5, 2}, {}, {2, 512, H}, Fill::fraction})},
          delta_attention_work()};
}

void add_trained_attention(std::vector<OpCase>& table) {
  for (const auto& [H, d] : {std::pair{12, 64}, {6, 128}}) table.push_back(trained_delta_attention(H, d));
  table.push_back(trained_linear_attention(12, 64));
  table.push_back(trained_linear_attention(6, 128));
}

void add_attention_steps(std::vector<OpCase>& table) {
  auto step = [](const Vars& in) -> Vars {
    const Tensor o =
        linear_attention_step(in[0].value(), in[1].value(), in[2].value(), in[3].value(), in[4].value(), 0.1);
    return {in[0], Var(o)};
  };
  table.push_back({"linear_attention_step", step,
                   constants({parameter({"state", {2, 2, 3, 5}, {}, {256, 12, 64, 64}}),
                              {"q", {2, 1, 2, 3}, {}, {256, 1, 12, 64}},
                              {"k", {2, 1, 2, 3}, {}, {256, 1, 12, 64}},
                              {"v", {2, 1, 2, 5}, {}, {256, 1, 12, 64}},
                              parameter({"log_decay", {2}, {}, {12}, Fill::log_decay})}),
                   each(5)});
  auto delta = [](const Vars& in) -> Vars {
    return {in[0], Var(delta_attention_step(in[0].value(), in[1].value(), in[2].value(), in[3].value(), in[4].value(), in[5].value()))};
  };
  table.push_back({"delta_attention_step", delta,
                   constants({parameter({"state", {2, 2, 3, 5}, {}, {256, 12, 64, 64}}),
                              {"q", {2, 1, 2, 3}, {}, {256, 1, 12, 64}},
                              {"k", {2, 1, 2, 3}, {}, {256, 1, 12, 64}, Fill::direction},
                              {"v", {2, 1, 2, 5}, {}, {256, 1, 12, 64}},
                              parameter({"log_decay", {2, 1, 2}, {}, {256, 1, 12}, Fill::log_decay}),
                              parameter({"beta", {2, 1, 2}, {}, {256, 1, 12}, Fill::fraction})}),
                   each(7)});
  auto window = [](const Vars& in) -> Vars {
    const Ring ring = {in[0].value(), in[1].value(), in[0].dim(1) - 2, 2};
    // a ring that is full, and one that is not
    std::vector<int64_t> positions(in[2].dim(0), 3 * ring.window);
    positions[0] = 3;
    const Tensor &q = in[2].value(), &k = in[3].value(), &v = in[4].value();
    const WindowStep y = window_step(ring, q, q, k, v, 0.4, positions, true);
    return {in[0], in[1], Var(y.o), Var(y.lse), Var(y.old_k), Var(y.old_v)};
  };
  table.push_back({"window_step", window,
                   constants({parameter({"ring_k", {2, 6, 2, 3}, {}, {2, 514, 4, 64}}),
                              parameter({"ring_v", {2, 6, 2, 5}, {}, {2, 514, 4, 64}}),
                              {"q", {2, 1, 4, 3}, {}, {2, 1, 12, 64}},
                              {"k", {2, 1, 2, 3}, {}, {2, 1, 4, 64}},
                              {"v", {2, 1, 2, 5}, {}, {2, 1, 4, 64}}}),
                   each(12)});
}

}  // namespace supra
