#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"
#include "tools/bench/bench.h"

// What supra bench --device cuda does, at sizes that an emulator bears.

namespace supra {

TEST_F(Cuda, the_bench_measures_operations) {
  BenchOptions options;
  options.device = Device::cuda, options.dtype = Dtype::bf16;
  options.seconds = 0, options.repeats = 1, options.flush_bytes = 4096;
  Bench bench(options, {});
  const auto rmsnorm = std::find_if(ops_table().begin(), ops_table().end(),
                                    [](const OpCase& op) { return op.name == "rmsnorm"; });
  bench_op(bench, *rmsnorm, Size::large);
  ASSERT_EQ(bench.rows().size(), 2u);
  for (const BenchRow& row : bench.rows()) EXPECT_GT(row.time.seconds, 0) << row.name;
  // activations are in bf16
  EXPECT_EQ(bench.rows()[0].work.written, 2.0 * 3 * 67 * 263);
  // every row of its own table is an operation of the others
  EXPECT_EQ(kernel_jobs(options).size(), gpu_table().size());
}

TEST_F(Cuda, the_bench_decodes_with_a_recorded_step) {
  const TempDir directory;
  BenchOptions options;
  options.device = Device::cuda, options.dtype = Dtype::bf16, options.model = directory.path() / "model";
  options.seconds = 0, options.repeats = 3, options.flush_bytes = 4096;
  save_model(byte_model(MixerKind::supra), options.model);
  Bench bench(options, {});
  for (const BenchJob& job : decode_jobs(options)) job.run(bench);
  ASSERT_EQ(bench.rows().size(), 2u);
  for (const BenchRow& row : bench.rows()) EXPECT_TRUE(row.note.ends_with(" tok/s")) << row.note;
}

TEST_F(Cuda, its_roofs_are_products_and_a_copy) {
  const Roofs roofs = measure_gpu_roofs(Dtype::bf16, 0, {}, 40, 1 << 16);
  EXPECT_GT(roofs.products_bf16, 0);
  EXPECT_GT(roofs.products_f32, 0);
  EXPECT_EQ(roofs.fma, roofs.products_bf16);
  EXPECT_GT(roofs.copy, 0);
  EXPECT_STREQ(bound_of(roofs, {.flop = 1e12, .read = 1}).name, "matrix");
}

}  // namespace supra
