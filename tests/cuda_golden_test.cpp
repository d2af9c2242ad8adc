#include <map>
#include <set>

#include "supra/evaluation/verify.h"
#include "supra/formats/config_json.h"
#include "tests/cuda_support.h"
#include "tests/golden_hf.h"

// What linear_open_lm and transformers computed, against the GPU's kernels.

namespace supra {
namespace {

// These networks were never trained, and amplify rounding: a group norm divides by outputs near zero. So bf16 is
// measured by what weights rounded to bf16 in three ways do on the CPU, largest error by largest error; it may be this
// much worse, and 0.05 of the largest value anyway.
constexpr double kOfRoundedWeights = 4, kAnyway = 0.05;
constexpr double kWays[] = {1, 1.25, 1.5};

using Errors = std::map<std::string, double>;

// Steps of AdamW are taken in double, on the CPU; greedy ids are not asked of bf16, their gaps of 0.02 are below what
// it rounds.
bool wanted(const std::string& key) { return !key.starts_with("adamw.") && key != "greedy.ids"; }

// The largest error of each kind of key.
Errors errors(const Model& model, const Path& folder, const VerifyOptions& options) {
  Errors largest;
  for (const VerifyRow& row : verify(model, folder / "golden.safetensors", options)) {
    double& error = largest[row.key.substr(0, row.key.find('.'))];
    EXPECT_TRUE(row.note.empty()) << row.key << ": " << row.note;
    error = std::max(error, row.error);
  }
  return largest;
}

void check_f32(const Path& folder) {
  const Model model = load_model(folder);
  model.decoder->to(Device::cuda);
  for (const VerifyRow& row : verify(model, folder / "golden.safetensors"))
    EXPECT_TRUE(row.passed()) << row.key << ": error " << row.error << " " << row.note;
}

void check_bf16(const Path& folder) {
  // gradients that are zero but for rounding count for nothing
  const VerifyOptions options = {.gradient_floor = 0.05, .wanted = wanted};
  Errors allowed;
  for (double way : kWays) {
    const Model rounded = load_model(folder);
    rounded.decoder->visit([&](const std::string&, Var& weight) {
      const Var bits(scale(weight, way).value().to(Dtype::bf16).to(Dtype::f32));
      weight.value().copy_from(scale(bits, 1 / way).value());
    });
    for (const auto& [key, error] : errors(rounded, folder, options)) allowed[key] = std::max(allowed[key], error);
  }
  const Model model = load_model(folder);
  model.decoder->to(Device::cuda, Dtype::bf16);
  for (const auto& [key, error] : errors(model, folder, options))
    EXPECT_LE(error, std::max(kAnyway, kOfRoundedWeights * allowed.at(key))) << key;
}

void check(const Path& folder) {
  SCOPED_TRACE(folder.filename());
  check_f32(folder);
  check_bf16(folder);
}

}  // namespace

TEST_F(Cuda, golden_openlm) {
  const Path golden = shared_dir() / "golden/openlm";
  SKIP_WITHOUT(golden);
  for (const auto& entry : std::filesystem::directory_iterator(golden)) check(entry.path());
}

// One case for each architecture. Others of the same hold the same kinds of numbers in another file format; the GPU gets f32
// from all of them, and tests/golden_test.cpp reads them all.
TEST_F(Cuda, golden_hf) {
  SKIP_WITHOUT(shared_dir() / "golden/hf");
  SKIP_WITHOUT(shared_dir() / "golden/hf2");
  std::set<std::string> seen;
  for (const GoldenCase& golden : golden_hf_cases()) {
    if (!golden.loads) continue;
    if (seen.insert(describe(load_model(golden.folder).decoder->config()).dump()).second) check(golden.folder);
  }
  EXPECT_GE(seen.size(), 25u);
}

}  // namespace supra
