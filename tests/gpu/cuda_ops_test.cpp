#include "tests/gpu/cuda_support.h"
#include "tools/bench/ops_table.h"

// Every operation of the table on the GPU, forward and every gradient, against the f64 reference on the CPU.

namespace supra {
namespace {

Results all_of(const OpRun& run) {
  Results results = run.outputs;
  for (const Tensor& grad : run.grads) {
    if (grad.defined()) results.push_back(grad);
  }
  return results;
}

std::vector<Tensor> moved(std::vector<Tensor> tensors, auto where) {
  for (Tensor& t : tensors) t = t.to(where);
  return tensors;
}

}  // namespace

class CudaOp : public Cuda, public testing::WithParamInterface<OpCase> {
 protected:
  void check(Dtype dtype, Size size) {
    const OpCase& op = GetParam();
    const std::vector<Tensor> inputs = make_inputs(op, size, dtype);
    const Results truth = all_of(run_op(op, moved(inputs, Dtype::f64), 1, dtype));
    const Results got = on_gpu([&] { return all_of(run_op(op, moved(inputs, Device::cuda), 1, dtype)); });
    ASSERT_EQ(got.size(), truth.size());
    const double loss = dtype == Dtype::bf16 ? op.roundings * tolerance<Bf16>() : tolerance<float>();
    for (size_t i = 0; i < got.size(); i++) {
      expect_close(got[i], truth[i],
                   format("%s, %s, result %zu", name(dtype), size == Size::small ? "small" : "large", i),
                   op.tolerance * loss);
    }
  }
};

TEST_P(CudaOp, agrees_with_f64) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    for (Size size : {Size::small, Size::large}) check(dtype, size);
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaOp, testing::ValuesIn(ops_table()),
                         [](const testing::TestParamInfo<OpCase>& info) { return info.param.name; });

}  // namespace supra
