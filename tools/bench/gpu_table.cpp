#include <algorithm>

#include "tools/bench/ops_table.h"

// Sizes for a GPU: those of a model with 1.3 billion parameters (width 2048, 16 heads of 128, MLP 5632) on 16,384 tokens; if
// memory is the limit, far larger than the caches.

namespace supra {
namespace {

const OpCase& find(const std::string& name) {
  for (const auto* table : {&ops_table(), &bench_table()}) {
    const auto found =
        std::find_if(table->begin(), table->end(), [&](const OpCase& op) { return op.name == name; });
    if (found != table->end()) return *found;
  }
  fail("gpu_table: no operation has the name %s", name.c_str());
}

// An operation of the other tables with these shapes of inputs.
OpCase resized(const std::string& name, const std::vector<Shape>& shapes, const std::string& suffix = "") {
  OpCase op = find(name);
  CHECK(shapes.size() == op.inputs.size(), "gpu_table: %zu shapes for the %zu inputs of %s", shapes.size(),
        op.inputs.size(), name.c_str());
  op.name += suffix;
  for (size_t i = 0; i < shapes.size(); i++) op.inputs[i].bench = shapes[i];
  return op;
}

}  // namespace

const std::vector<OpCase>& gpu_table() {
  static const std::vector<OpCase> table = [] {
    const int64_t N = 16384, C = 2048, F = 5632, O = 32000;
    const Shape x = {N, C}, wide = {N, 2 * F}, heads = {8, 2048, 16, 128},
                long_heads = {2, 8192, 16, 128};
    std::vector<OpCase> cases = {
        resized("add", {wide, wide}),
        resized("mul", {wide, wide}),
        resized("relu", {wide}),
        resized("silu", {wide}),
        resized("gelu", {wide}),
        resized("swiglu", {wide}),
        resized("rmsnorm", {x, {C}}),
        resized("layernorm", {x, {C}, {C}}),
        resized("groupnorm_of_64", {{4 * N, 768}}),
        resized("rope_half", {heads}),
        resized("split_columns", {{N, 3 * C}}),
        resized("embedding", {{O, C}}),
        resized("cross_entropy", {{8192, O}}),
        resized("linear_cross_entropy", {{8192, C}, {O, C}}),
        resized("linear", {x, {F, C}, {F}}),
        resized("linear_no_bias", {{8192, 8192}, {8192, 8192}}),
        resized("headwise_linear", {x, {C, 128}, {C}}),
        resized("softmax_attention", {heads, heads, heads}),
        resized("softmax_attention", {long_heads, long_heads, long_heads}, "_T8192"),
        resized("adamw", {{N, 4096}, {N, 4096}, {N, 4096}, {N, 4096}}),
        resized("squared_norm", {{N, 4096}}),
    };
    for (const char* stored : {"f16", "bf16", "q8_0", "q4_0"}) {
      cases.push_back(resized(format("linear_rows_1_%s", stored), {{1, C}, {65536, C}}));
    }
    for (int64_t B : {16, 64}) {
      const Shape token = {B, 1, 32, 128};
      cases.push_back(resized("linear_attention_step", {{B, 32, 128, 128}, token, token, token, {32}},
                              format("_B%ld", static_cast<long>(B))));
      cases.push_back(resized("delta_attention_step", {{B, 32, 128, 128}, token, token, token, {B, 1, 32}, {B, 1, 32}},
                              format("_B%ld", static_cast<long>(B))));
    }
    // published figures of other implementations are for these sizes
    for (int64_t T : {2048, 8192, 32768}) {
      const Shape qkv = {8, T, 32, 128};
      cases.push_back(resized("linear_attention_train_d128", {qkv, qkv, qkv, {32}},
                              format("_T%ld", static_cast<long>(T))));
      cases.push_back(resized("delta_attention_train_d128", {qkv, qkv, qkv, {8, T, 32}, {8, T, 32}},
                              format("_T%ld", static_cast<long>(T))));
    }
    return cases;
  }();
  return table;
}

}  // namespace supra
