#include "tests/gpu/cuda_support.h"
#include "tools/bench/ops_table.h"

// Ops on rows and elements.

namespace supra {
namespace {

using Op = std::function<Vars(const Vars&)>;

// Inputs are rounded to T, those in `parameters` stay f32; a constant gets no gradient.
struct Inputs {
  std::vector<Tensor> values;
  std::vector<size_t> parameters = {}, constants = {};

  static bool has(const std::vector<size_t>& list, size_t i) {
    return std::find(list.begin(), list.end(), i) != list.end();
  }
};

// Outputs, and gradients after two backward passes: parameters add up.
Results run(const Op& f, const Vars& inputs, const std::vector<Tensor>& seeds) {
  Results results;
  for (int pass = 0; pass < 2; pass++) {
    const Vars outputs = f(inputs);
    if (pass == 0) {
      for (const Var& y : outputs) results.push_back(y.value());
    }
    std::vector<Tensor> given;
    for (size_t i = 0; i < outputs.size(); i++) {
      given.push_back(seeds[i].to(outputs[i].value().device()).to(outputs[i].dtype()));
    }
    backward(outputs, given);
  }
  for (const Var& x : inputs) {
    if (x.requires_grad()) results.push_back(x.grad());
  }
  return results;
}

// f on the GPU in T against f in f64 on the CPU.
template <class T>
void check_op(const std::string& what, const Op& f, const Inputs& in) {
  SCOPED_TRACE(what + " in " + name(dtype_of<T>()));
  std::vector<Tensor> rounded;
  Vars wide;
  for (size_t i = 0; i < in.values.size(); i++) {
    rounded.push_back(in.values[i].to(Inputs::has(in.parameters, i) ? Dtype::f32 : dtype_of<T>()));
    wide.emplace_back(rounded[i].to(Dtype::f64), !Inputs::has(in.constants, i));
  }
  std::vector<Tensor> seeds;
  for (const Var& y : f(wide)) {
    // what a sum over everything gives has an f32 gradient
    const Dtype dtype = y.numel() == 1 ? Dtype::f32 : dtype_of<T>();
    seeds.push_back(random_normal(y.shape(), 100 + seeds.size()).to(dtype));
  }
  const Results truth = run(f, wide, seeds), got = on_gpu([&] {
    Vars inputs;
    for (size_t i = 0; i < rounded.size(); i++) inputs.emplace_back(gpu(rounded[i]), wide[i].requires_grad());
    return run(f, inputs, seeds);
  });
  ASSERT_EQ(got.size(), truth.size());
  for (size_t i = 0; i < got.size(); i++) {
    // a bf16 gradient is rounded in each pass, and so is their sum
    expect_close(got[i], truth[i], "result " + std::to_string(i), 3 * tolerance<T>());
  }
}

void check_both(const std::string& what, const Op& f, const Inputs& in) {
  check_op<float>(what, f, in);
  check_op<Bf16>(what, f, in);
}

bool is_on_gpu(const std::string& name) {
  for (const char* op : {"add", "mul", "square", "scale", "relu", "silu", "sigmoid", "log_sigmoid", "gelu",
                         "swiglu", "rmsnorm", "layernorm", "groupnorm", "divide_by_last", "relative_error",
                         "reshape", "split_columns", "concat_columns", "repeat_heads", "rope", "embedding"}) {
    if (name.starts_with(op)) return true;
  }
  return false;
}

}  // namespace

TEST_F(Cuda, rows_of_the_table_of_operations) {
  int count = 0;
  for (const OpCase& op : ops_table()) {
    if (!is_on_gpu(op.name)) continue;
    Inputs in{make_inputs(op, Size::small, Dtype::f32)};
    for (size_t i = 0; i < op.inputs.size(); i++) {
      const std::string name = op.inputs[i].name;
      const bool table_or_norm = op.name.starts_with("embedding") || op.name.find("norm") != op.name.npos;
      if (table_or_norm && (name == "w" || name == "b")) in.parameters.push_back(i);
      if (op.inputs[i].constant) in.constants.push_back(i);
    }
    check_both(op.name, op.fn, in);
    count++;
  }
  EXPECT_GT(count, 40);
}

TEST_F(Cuda, elements_beyond_a_block_and_between_vectors) {
  const Op f = [](const Vars& in) -> Vars { return {add(silu(in[0]), mul(in[0], in[1]))}; };
  for (int64_t n : {5, 8, 2053}) check_both(format("%ld elements", long(n)), f, {{random_normal({n}, 1), random_normal({n}, 2)}});
  // one element off every vector
  const Op shifted = [=](const Vars& in) -> Vars {
    const Var x(in[0].value().rows(1, 37)), y(in[0].value().rows(2, 38));
    return f({x, y});
  };
  const Tensor x = random_normal({40}, 3);
  const Results got = on_gpu([&] { return Results{shifted({Var(gpu(x))})[0].value()}; });
  expect_close(got[0], shifted({Var(x.to(Dtype::f64))})[0].value(), "shifted");
}

TEST_F(Cuda, activations_far_out) {
  const std::vector<float> far = {-1e4f, -100, -90, -20, -0.0f, 0, 1e-6f, 20, 90, 100, 1e4f, 3};
  const Op all = [](const Vars& in) -> Vars {
    const Var& x = in[0];
    return {relu(x), silu(x), sigmoid(x), log_sigmoid(x), gelu(x), gelu(x, Gelu::tanh)};
  };
  check_op<float>("far out", all, {{Tensor::of(far)}});
}

TEST_F(Cuda, norms_at_odd_sizes) {
  const auto rms = [](const Vars& in) -> Vars { return {rmsnorm(in[0], in[1], 1e-5)}; };
  const auto layer = [](const Vars& in) -> Vars { return {layernorm(in[0], in[1], in[2], 1e-5)}; };
  const auto groups = [](const Vars& in) -> Vars { return {groupnorm(in[0], 2, 1e-5)}; };
  // less than a warp a row, rows that fill no vector, a row as wide as a block and wider, more rows than
  // blocks
  for (auto [N, C] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 2}, {5, 4}, {3, 7}, {40, 64}, {6, 100}, {2, 1024}, {3, 1537}, {2, 3072}, {600, 260}}) {
    const std::string what = format("N%ld C%ld", long(N), long(C));
    const Tensor x = random_normal({N, C}, 1), w = random_normal({C}, 3), b = random_normal({C}, 4);
    check_both("rmsnorm " + what, rms, {{x, w}, {1}});
    // of two numbers nothing is left but rounding
    if (C != 2 && C != 100 && C <= 1537) check_both("layernorm " + what, layer, {{x, w, b}, {1, 2}});
    if (C % 2 == 0 && C >= 64 && N < 600) check_both("groupnorm " + what, groups, {{x}});
  }
}

TEST_F(Cuda, rope_in_vectors) {
  using enum Rope::Layout;
  const Tensor x = random_normal({2, 5, 3, 48}, 1);
  for (Rope::Layout layout : {half, interleaved, by_head}) {
    for (int64_t dims : {0, 32, 10}) {
      const Rope r{.layout = layout, .scale = 2, .dims = dims, .magnitude = 1.2};
      const Op f = [=](const Vars& in) -> Vars { return {rope(in[0], r, {1000, 3}, {{}, {2, 4}})}; };
      check_both(format("layout %d, %ld dims", int(layout), long(dims)), f, {{x}});
    }
  }
}

TEST_F(Cuda, wide_columns_move) {
  const Op f = [](const Vars& in) -> Vars {
    const Vars parts = split_columns(in[0], {64, 32, 33});
    const Var heads = repeat_heads(reshape(parts[0], {2, 2, 2, 32}), 3);
    return {concat_columns({parts[1], reshape(heads, {4, 192}), parts[2]}), swiglu(parts[0])};
  };
  check_both("columns", f, {{random_normal({4, 129}, 1)}});
}

TEST_F(Cuda, rows_beyond_a_length_do_not_count) {
  const Tensor y = random_normal({2, 3, 40}, 1), t = random_normal({2, 3, 40}, 2);
  const Op f = [](const Vars& in) -> Vars { return {relative_error(in[0], in[1].value(), {2, 3})}; };
  y.rows(0, 1).view({3, 40}).rows(2, 3).fill(NAN);
  check_both("relative_error", f, {{y, t}, {}, {1}});
  EXPECT_THROW(relative_error(Var(gpu(t)), gpu(Tensor::zeros({2, 3, 40}))), Error);
}

TEST_F(Cuda, cast_there_and_back) {
  const Op f = [](const Vars& in) -> Vars { return {cast(cast(in[0], Dtype::bf16), Dtype::f32)}; };
  const Tensor x = random_normal({3, 37}, 1);
  const Results got = on_gpu([&] { return run(f, {Var(gpu(x), true)}, {x}); });
  // as the CPU rounds, and the gradient as well, in each pass
  EXPECT_TRUE(same_bits(got[0], x.to(Dtype::bf16).to(Dtype::f32)));
  for (int64_t i = 0; i < x.numel(); i++)
    EXPECT_EQ(got[1].data<float>()[i], 2 * got[0].data<float>()[i]);
}

namespace {

// N ids: most of them 1, so that its rows are summed in pieces
Tensor some_ids(int64_t N, int64_t O) {
  const Tensor ids = Tensor::empty({N}, Dtype::i32);
  for (int64_t i = 0; i < N; i++) ids.data<int32_t>()[i] = i % 4 ? 1 : static_cast<int32_t>(i * 7 % O);
  return ids;
}

}  // namespace

TEST_F(Cuda, embedding_adds_rows_of_an_id_in_order) {
  for (int64_t C : {5, 32}) {
    const Tensor w = random_normal({11, C}, 1), ids = some_ids(300, 11);
    for (Dtype activations : {Dtype::f32, Dtype::bf16}) {
      const Op f = [=](const Vars& in) -> Vars { return {embedding(ids, in[0], activations)}; };
      const Op there = [&](const Vars& in) -> Vars { return {embedding(gpu(ids), in[0], activations)}; };
      const bool full = activations == Dtype::f32;
      full ? check_op<float>("embedding", f, {{w}, {0}}) : check_op<Bf16>("embedding", f, {{w}, {0}});
      const Tensor dy = random_normal({300, C}, 2);
      const auto bits = [&](const Op& op) { return on_gpu([&] { return run(op, {Var(gpu(w), true)}, {dy}); }); };
      const Results a = bits(f), b = bits(there);
      EXPECT_TRUE(same_bits(a[0], b[0]) && same_bits(a[1], b[1]));
    }
  }
  const Var w(gpu(random_normal({3, 4}, 1)));
  EXPECT_THROW(embedding(Tensor::of<int32_t>({3}), w), Error);
  EXPECT_TRUE(std::isnan(embedding(gpu(Tensor::of<int32_t>({3})), w).value().to(Device::cpu).data<float>()[0]));
  EXPECT_EQ(embedding(Tensor::zeros({2, 0}, Dtype::i32), w).shape(), (Shape{2, 0, 4}));
}

TEST_F(Cuda, embedding_of_stored_tables) {
  const Tensor ids = Tensor::of<int32_t>({3, 0, 2});
  for (Dtype stored : {Dtype::bf16, Dtype::f16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    for (int64_t C : {32, 64, 96}) {
      const Tensor w = random_normal({4, C}, 1);
      // halves below the smallest normal one
      w.data<float>()[2] = 3e-6f;
      const Tensor table = w.to(stored), expected = embedding(ids, Var(table)).value();
      const Results got = on_gpu([&] {
        return Results{embedding(ids, Var(gpu(table))).value(), embedding(ids, Var(gpu(table)), Dtype::bf16).value()};
      });
      expect_close(got[0], expected, name(stored));
      EXPECT_TRUE(same_bits(got[1], got[0].to(Dtype::bf16))) << name(stored);
    }
  }
}

TEST_F(Cuda, adamw_steps_as_the_reference) {
  for (int64_t n : {3, 2053}) {
    const Tensor w = random_normal({n}, 1), m = random_normal({n}, 2), v = Tensor::full({n}, 0.3), g = random_normal({n}, 4);
    const auto update = [&](Dtype dtype, Device device) {
      const auto there = [&](const Tensor& t) { return t.clone().to(dtype).to(device); };
      const Results r = {there(w), there(m), there(v)};
      for (int64_t step = 1; step <= 2; step++)
        adamw_update(r[0], r[1], r[2], there(g), {1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5});
      return r;
    };
    const Results truth = update(Dtype::f64, Device::cpu);
    const Results got = on_gpu([&] { return update(Dtype::f32, Device::cuda); });
    for (size_t i = 0; i < 3; i++) expect_close(got[i], truth[i], std::to_string(i));
  }
}

TEST_F(Cuda, squared_norms_are_summed_in_double) {
  const Tensor x = random_normal({40000}, 1), y = random_normal({7}, 2);
  const double truth = squared_norm({x.to(Dtype::f64)}) + squared_norm({y.to(Dtype::f64)});
  EXPECT_NEAR(squared_norm({gpu(x), gpu(y)}), truth, 1e-12 * truth);
  EXPECT_EQ(squared_norm({gpu(x), gpu(y)}), squared_norm({gpu(x), gpu(y)}));
  EXPECT_NEAR(squared_norm({gpu(Tensor::full({1000}, 1e30))}) / 1e63, 1, 1e-6);
  EXPECT_TRUE(std::isnan(squared_norm({gpu(Tensor::of<float>({1, NAN, 2}))})));
}

#if !defined(SUPRA_CUDA)
TEST_F(Cuda, a_kernel_misses_its_scratch_by_name) {
  const Tensor x = gpu(random_normal({1024, 8}, 1)), sums = gpu_empty({8});
  emulator::set_gpu_memory(0);
  EXPECT_THROW(cuda::add_rows(at<float>(sums), at<float>(x), 1024, 8), OutOfMemory);
  emulator::set_gpu_memory(size_t{80} << 30);
}
#endif

}  // namespace supra
