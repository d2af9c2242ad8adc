#include "tools/bench/bench.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "supra/formats/parse/json.h"
#include "tests/support.h"
#include "tools/command.h"

namespace supra {
namespace {

// 100 operations and 10 bytes a nanosecond on all cores, half of it on one.
const Roofs kRoofs = {2, 50, 100, 5, 10, 4, 8, false};

BenchOptions quick() {
  BenchOptions options;
  options.seconds = 0;
  options.repeats = 1;
  return options;
}

std::string run(const std::vector<std::string>& words) {
  Args args("bench", "", words);
  testing::internal::CaptureStdout();
  run_bench(args);
  return testing::internal::GetCapturedStdout();
}

TEST(Bench, median_and_half_the_distance_of_the_quartiles) {
  EXPECT_DOUBLE_EQ(timing_of({5, 1, 2, 4, 3}).seconds, 3);
  EXPECT_DOUBLE_EQ(timing_of({5, 1, 2, 4, 3}).spread, 1.0 / 3);
  EXPECT_DOUBLE_EQ(timing_of({1, 2}).seconds, 1.5);
  EXPECT_DOUBLE_EQ(timing_of({7}).spread, 0);
}

TEST(Bench, the_nearest_roof_binds) {
  const Bound compute = bound_of(kRoofs, {.flop = 2e9, .read = 1e6});
  EXPECT_STREQ(compute.name, "fma");
  EXPECT_DOUBLE_EQ(compute.seconds, 0.02);
  EXPECT_DOUBLE_EQ(compute.amount, 2e9);
  EXPECT_DOUBLE_EQ(bound_of(kRoofs, {.flop = 2e9, .one_core = true}).seconds, 0.04);
  // 2 bytes of each 3 go at the speed of a copy
  const Bound memory = bound_of(kRoofs, {.flop = 1, .read = 2e9, .written = 1e9});
  EXPECT_STREQ(memory.name, "memory");
  EXPECT_DOUBLE_EQ(memory.seconds, 2.0 / 8 + 1.0 / 10);
  EXPECT_DOUBLE_EQ(memory.amount, 3e9);
  // what is written alone is no faster than a copy
  EXPECT_DOUBLE_EQ(bound_of(kRoofs, {.written = 1e9}).seconds, 1.0 / 8);
}

TEST(Bench, roofs_are_plausible_and_keep_the_best) {
  const Roofs roofs = measure_roofs(0.05, {}, 8 << 20);
  EXPECT_EQ(roofs.threads, threads());
  for (auto [core, all] :
       {std::pair{roofs.fma_core, roofs.fma}, {roofs.read_core, roofs.read}, {roofs.copy_core, roofs.copy}}) {
    EXPECT_GT(core, 0.05);
    EXPECT_GE(all, core);
    EXPECT_LT(core, 5000);
  }
  Roofs high = roofs;
  high.fma *= 1e6;
  EXPECT_EQ(measure_roofs(0.01, high, 1 << 20).fma, high.fma);
}

TEST(Bench, every_case_of_the_tables_has_work_and_a_time) {
  std::set<std::string> names;
  for (const auto* table : {&ops_table(), &bench_table()}) {
    for (const OpCase& op : *table) {
      if (op.inputs[0].bench.empty()) continue;
      Bench bench(quick(), {});
      bench_op(bench, op, Size::small);
      ASSERT_FALSE(bench.rows().empty()) << op.name;
      for (const BenchRow& row : bench.rows()) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name << " is there twice";
        const Bound bound = bound_of(kRoofs, row.work);
        EXPECT_GT(row.time.seconds, 0) << row.name;
        EXPECT_GE(row.time.spread, 0) << row.name;
        EXPECT_GT(bound.amount, 0) << row.name;
        EXPECT_TRUE(std::isfinite(bound.seconds) && bound.seconds > 0) << row.name;
      }
    }
  }
}

TEST(Bench, shapes_of_the_bench_fit_the_operation) {
  for (const auto* table : {&ops_table(), &bench_table()}) {
    for (const OpCase& op : *table) {
      for (const OpInput& input : op.inputs) {
        EXPECT_EQ(input.bench.empty(), op.inputs[0].bench.empty()) << op.name << " " << input.name;
        EXPECT_LE(numel(input.bench), 1 << 26) << op.name << " " << input.name;
      }
    }
  }
}

TEST(Bench, rows_of_the_gpu_are_operations_of_the_tables) {
  std::set<std::string> names;
  for (const OpCase& op : gpu_table()) {
    EXPECT_TRUE(names.insert(op.name).second) << op.name << " is there twice";
    double bytes = 0;
    for (const OpInput& input : op.inputs) bytes += 4.0 * static_cast<double>(numel(input.bench));
    // not in the caches of a GPU, which are flushed before, and all of it in the memory of one, in half as many bytes
    EXPECT_GT(bytes, 32e6) << op.name;
    EXPECT_LT(bytes, 16e9) << op.name;
  }
}

// The declarations of kernels/ops.h, and the rows.
TEST(Bench, no_operation_is_without_a_row) {
  std::set<std::string> names;
  for (const BenchJob& job : kernel_jobs({})) names.insert(job.rows.begin(), job.rows.end());
  std::istringstream header(read_file("kernels/ops.h"));
  int found = 0;
  // a declaration begins at the left margin: type name(
  for (std::string line; std::getline(header, line);) {
    const size_t paren = line.find('('), space = line.rfind(' ', paren);
    const bool declares = paren != std::string::npos && space != std::string::npos && isalpha(line[0]);
    if (!declares) continue;
    found++;
    std::string op = line.substr(space + 1, paren - space - 1);
    if (op == "adamw_update") op = "adamw";
    const auto row = names.lower_bound(op);
    // a view of the same memory; and a half of relu, which is no derivative alone: linear_attention_of_features has it
    if (op == "reshape" || op == "relu_slope") continue;
    EXPECT_TRUE(row != names.end() && row->rfind(op, 0) == 0) << op << " has no row in tools/bench/ops_table.cpp";
  }
  EXPECT_GT(found, 20);
}

TEST(Bench, names_of_rows_are_words_and_stand_alone) {
  std::set<std::string> names;
  for (const auto& jobs : {kernel_jobs({}), train_jobs({}), prefill_jobs({}), decode_jobs({})}) {
    for (const BenchJob& job : jobs) {
      for (const std::string& row : job.rows) {
        EXPECT_TRUE(std::all_of(row.begin(), row.end(), [](char c) { return isalnum(c) || c == '_'; }))
            << row;
        EXPECT_TRUE(names.insert(row).second) << row << " is there twice";
      }
    }
  }
}

TEST(Bench, prints_one_json_object_with_roofs_and_the_rows_asked_for) {
  const Json report =
      Json::parse(run({"kernels", "gemm_tile_64x64x64", "rows_1_fwd", "--quick", "--json"}), "stdout");
  for (const char* key :
       {"fma_gflops_core", "fma_gflops", "read_gbs_core", "read_gbs", "copy_gbs_core", "copy_gbs"})
    EXPECT_GT(report.at("roofs").number(key), 0) << key;
  const Json::Array& rows = report.at("rows").as_array();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].text("name"), "linear_rows_1_fwd");
  EXPECT_EQ(rows[0].text("bound"), "memory");
  for (const Json& row : rows) {
    // the roofs are measured while other tests run, so a tile's nearest one may be either
    EXPECT_EQ(row.text("unit"), row.text("bound") == "memory" ? "GB/s" : "GFLOP/s");
    for (const char* key : {"seconds", "rate", "percent"}) EXPECT_GT(row.number(key), 0) << key;
    EXPECT_GE(row.number("spread"), 0);
  }
}

TEST(Bench, a_word_that_is_in_no_name_is_refused_with_the_nearest) {
  try {
    run({"kernels", "rmsnrom_fwd"});
    FAIL() << "was taken";
  } catch (const UsageError& error) {
    testing::internal::GetCapturedStdout();
    EXPECT_NE(std::string(error.what()).find("did you mean rmsnorm_fwd?"), std::string::npos) << error.what();
  }
}

// A model of the tests' size goes through all three.
TEST(Bench, whole_models_have_speed_and_memory) {
  const std::string text =
      run({"train", "prefill", "decode", "--model", "tools/demo/teacher", "--quick", "--json"});
  const Json report = Json::parse(text, "stdout");
  const Json::Array& rows = report.at("rows").as_array();
  ASSERT_EQ(rows.size(), 5u) << text;
  EXPECT_EQ(rows[0].text("name"), "train_teacher");
  EXPECT_GT(rows[0].number("peak_bytes"), 0);
  EXPECT_GT(rows[0].number("percent_of_sgemm"), 0);
  const double tokens[] = {512, 128, 512, 1, 1};
  for (size_t i = 0; i < rows.size(); i++)
    EXPECT_NEAR(rows[i].number("tokens_per_second") * rows[i].number("seconds"), tokens[i], 1e-6);
}

}  // namespace
}  // namespace supra
