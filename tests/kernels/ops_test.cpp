#include <gtest/gtest.h>

#include "tests/gradcheck.h"
#include "tests/support.h"
#include "tools/bench/ops_table.h"

// What every operation owes, for every row of the table.

namespace supra {

class Op : public testing::TestWithParam<OpCase> {
 protected:
  const OpCase& op() const { return GetParam(); }

  // Calls f(what, tensor, reference) for each output and gradient that both runs have.
  template <class F>
  void compare(const OpRun& run, const OpRun& reference, const std::string& where, F f) {
    ASSERT_EQ(run.outputs.size(), reference.outputs.size());
    for (size_t i = 0; i < run.outputs.size(); i++) {
      f(where + ", output " + std::to_string(i), run.outputs[i], reference.outputs[i]);
    }
    for (size_t i = 0; i < run.grads.size(); i++) {
      if (op().inputs[i].constant) continue;
      ASSERT_TRUE(run.grads[i].defined() && reference.grads[i].defined())
          << op().inputs[i].name << " got no gradient";
      f(where + ", gradient of " + op().inputs[i].name, run.grads[i], reference.grads[i]);
    }
  }

 private:
  RestoreMachine restore_;
};

// The same values, one element off the alignment that fresh tensors have.
static std::vector<Tensor> misaligned(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> shifted;
  for (const Tensor& t : tensors) {
    Tensor moved = Tensor::empty({t.numel() + 1}, t.dtype()).rows(1, t.numel() + 1).view(t.shape());
    moved.copy_from(t);
    shifted.push_back(moved);
  }
  return shifted;
}

TEST_P(Op, gradient_agrees_with_central_differences) {
  const std::vector<Tensor> inputs = make_inputs(op(), Size::small, Dtype::f64);
  std::vector<Tensor> varied;
  for (size_t i = 0; i < inputs.size(); i++) {
    if (!op().inputs[i].constant) varied.push_back(inputs[i]);
  }
  auto fn = [&](const Vars& vars) {
    Vars all;
    size_t next = 0;
    for (size_t i = 0; i < inputs.size(); i++) {
      all.push_back(op().inputs[i].constant ? Var(inputs[i]) : vars[next++]);
    }
    return op().fn(all);
  };
  EXPECT_EQ(gradcheck(fn, varied), "");
}

TEST_P(Op, f32_agrees_with_f64_at_every_level) {
  for (Size size : {Size::small, Size::large}) {
    const OpRun reference = run_op(op(), make_inputs(op(), size, Dtype::f64));
    const std::vector<Tensor> inputs = make_inputs(op(), size, Dtype::f32);
    for (CpuLevel level : cpu_levels()) {
      set_cpu_level(level);
      compare(run_op(op(), inputs), reference,
              format("%s, %s", name(level), size == Size::small ? "small" : "large"),
              [this](const std::string& what, const Tensor& given, const Tensor& expected) {
                expect_close(given, expected, what, op().tolerance);
              });
    }
  }
}

// Fresh memory is NaN: what was read before it was written shows. The values stand at odd addresses.
TEST_P(Op, nothing_uninitialised_is_read) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    for (Size size : {Size::small, Size::large}) {
      const std::vector<Tensor> inputs = make_inputs(op(), size, dtype);
      for (CpuLevel level : cpu_levels()) {
        set_cpu_level(level);
        set_poison(false);
        const OpRun clean = run_op(op(), inputs);
        set_poison(true);
        compare(run_op(op(), misaligned(inputs)), clean, format("%s, %s", name(level), name(dtype)),
                [](const std::string& what, const Tensor& given, const Tensor& expected) {
                  EXPECT_TRUE(all_finite(given)) << what << " is not finite";
                  EXPECT_TRUE(same_bits(given, expected))
                      << what << " depends on fresh memory or on the alignment";
                });
      }
    }
  }
}

TEST_P(Op, same_bits_again_and_at_any_thread_count) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const std::vector<Tensor> inputs = make_inputs(op(), Size::large, dtype);
    for (CpuLevel level : cpu_levels()) {
      set_cpu_level(level);
      set_threads(1);
      const OpRun first = run_op(op(), inputs);
      for (int count : {1, 2, 3}) {
        set_threads(count);
        compare(run_op(op(), inputs), first, format("%s, %s, %d threads", name(level), name(dtype), count),
                [](const std::string& what, const Tensor& given, const Tensor& expected) {
                  EXPECT_TRUE(same_bits(given, expected)) << what << " differs";
                });
      }
    }
  }
}

TEST_P(Op, inputs_stay_as_they_are) {
  const std::vector<Tensor> inputs = make_inputs(op(), Size::large, Dtype::f32);
  run_op(op(), inputs);
  const std::vector<Tensor> fresh = make_inputs(op(), Size::large, Dtype::f32);
  for (size_t i = 0; i < inputs.size(); i++)
    EXPECT_TRUE(same_bits(inputs[i], fresh[i])) << op().inputs[i].name;
}

TEST_P(Op, gradients_add_up) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const std::vector<Tensor> inputs = make_inputs(op(), Size::large, dtype);
    OpRun once = run_op(op(), inputs);
    for (Tensor& grad : once.grads) {
      if (!grad.defined()) continue;
      grad = grad.to(Dtype::f64).clone();
      for (int64_t i = 0; i < grad.numel(); i++) grad.data<double>()[i] *= 2;
    }
    compare(run_op(op(), inputs, 2), once, name(dtype),
            [this](const std::string& what, const Tensor& given, const Tensor& expected) {
              expect_close(given, expected, what, op().tolerance);
            });
  }
}

INSTANTIATE_TEST_SUITE_P(Table, Op, testing::ValuesIn(ops_table()),
                         [](const testing::TestParamInfo<OpCase>& info) { return info.param.name; });

}  // namespace supra
