#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/verify.h"
#include "supra/formats/safetensors.h"
#include "supra/inference/session.h"
#include "supra/linearize.h"
#include "tensor/cpu.h"
#include "tests/golden_hf.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

void expect_verified(const Path& folder, const VerifyOptions& options = {}) {
  const Path golden = folder / "golden.safetensors";
  for (const VerifyRow& row : verify(load_model(folder), golden, options)) {
    EXPECT_TRUE(row.passed()) << folder.filename() << " " << row.key << ": error " << row.error << " " << row.note;
  }
}

// linear_open_lm's logits, losses, gradients, recurrent logits and states, ten AdamW steps.
TEST(Golden, OpenLmAtEveryCpuLevelAndThreadCount) {
  SKIP_WITHOUT(shared_dir() / "golden/openlm");
  const CpuLevel best = best_cpu_level();
  const int before = threads();
  int cases = 0;
  for (CpuLevel level : {CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > best) continue;
    set_cpu_level(level);
    set_threads(1 + static_cast<int>(level));
    for (const auto& entry : std::filesystem::directory_iterator(shared_dir() / "golden/openlm")) {
      SCOPED_TRACE(name(level));
      expect_verified(entry.path());
      cases++;
    }
  }
  set_cpu_level(best);
  set_threads(before);
  EXPECT_GE(cases, 17);
}

// In double nothing is left but the rounding of the golden values to float32, 2^-24.
TEST(Golden, OpenLmInDouble) {
  SKIP_WITHOUT(shared_dir() / "golden/openlm");
  for (const auto& entry : std::filesystem::directory_iterator(shared_dir() / "golden/openlm"))
    expect_verified(entry.path(), {.tolerance = 6e-8, .dtype = Dtype::f64});
}

class GoldenHuggingFace : public testing::TestWithParam<Dtype> {};
INSTANTIATE_TEST_SUITE_P(, GoldenHuggingFace, testing::Values(Dtype::f32, Dtype::f64), [](const auto& info) { return name(info.param); });

// Every family and every storage: logits, loss and greedy ids of transformers.
TEST_P(GoldenHuggingFace, EveryFamilyAndStorage) {
  SKIP_WITHOUT(shared_dir() / "golden/hf");
  SKIP_WITHOUT(shared_dir() / "golden/hf2");
  const RestoreMachine restore;
  for (const CpuLevel level : cpu_levels()) {
    // double has one form
    if (GetParam() == Dtype::f64 && level != best_cpu_level()) continue;
    SCOPED_TRACE(name(level));
    set_cpu_level(level);
    for (const GoldenCase& golden : golden_hf_cases()) {
      if (golden.loads) {
        expect_verified(golden.folder, {.dtype = GetParam()});
      } else if (level == best_cpu_level()) {
        EXPECT_THROW(load_model(golden.folder), Error) << golden.folder;
      }
    }
  }
}

// A golden file of a model, as double computes it.
NamedTensors golden_of(const Model& model, const Tensor& tokens) {
  Model wide;
  wide.decoder = make_decoder(model.config());
  std::map<std::string, Tensor> weights;
  model.decoder->visit([&](const std::string& name, Var& parameter) { weights[name] = parameter.value(); });
  wide.decoder->visit([&](const std::string& name, Var& parameter) { parameter = Var(weights.at(name).to(Dtype::f64), true); });
  const Var hidden = wide.decoder->hidden(tokens);
  NamedTensors golden = {{"tokens", tokens}, {"targets", tokens}, {"logits", wide.decoder->logits(hidden).value().to(Dtype::f32)}};
  backward(wide.decoder->loss(hidden, tokens.view({-1}), 1e-4));
  wide.decoder->visit([&](const std::string& name, Var& parameter) { golden.push_back({"grad." + name, parameter.grad().to(Dtype::f32)}); });
  return golden;
}

class VerifyTest : public testing::Test {
 protected:
  VerifyTest() {
    model_.decoder = stirred_decoder(tiny_config(MixerKind::supra));
    Philox random(1);
    tokens_ = Tensor::of(random_ids(random, 40), {2, 20});
  }
  std::vector<VerifyRow> rows(const NamedTensors& golden, const VerifyOptions& options = {}) {
    write_safetensors(path_, golden);
    std::vector<VerifyRow> rows = verify(model_, path_, options);
    measure_weight_rounding(model_, path_, options, rows);
    return rows;
  }
  // The row of a golden file that is `tokens` and this tensor.
  VerifyRow row(const std::string& key, const Tensor& value) { return rows({{"tokens", tokens_}, {"targets", tokens_}, {key, value}}).at(0); }

  TempDir dir_;
  Path path_ = dir_.path() / "golden.safetensors";
  Model model_;
  Tensor tokens_;
};

// The values of a head are almost equal, so that GroupNorm subtracts their mean and divides by almost nothing. float32 cannot
// meet the tolerance, whoever computes; the rounding of the weights alone says so, and double meets one far smaller.
TEST_F(VerifyTest, AnIllConditionedModelProvesExactInDouble) {
  const Config& c = model_.config();
  Philox random(2);
  model_.decoder->visit([&](const std::string& name, Var& parameter) {
    if (!name.ends_with("in_proj.weight")) return;
    const int64_t first = (c.heads + c.kv_heads) * c.head_dim, C = c.width;
    const Tensor before = parameter.value().clone();
    for (int64_t r = first; r < parameter.dim(0); r++) {
      const float* of_head = before.data<float>() + (r - (r - first) % c.value_dim) * C;
      for (int64_t i = 0; i < C; i++)
        parameter.value().data<float>()[r * C + i] = static_cast<float>(10 * of_head[i] + 1e-4 * random.normal());
    }
  });
  const NamedTensors golden = golden_of(model_, tokens_);
  int out_of_reach = 0;
  for (const VerifyRow& row : rows(golden)) {
    EXPECT_EQ(row.weight_rounding.has_value(), !row.passed()) << row.key;
    out_of_reach += row.key.starts_with("grad.") && row.weight_rounding.value_or(0) > row.tolerance;
  }
  EXPECT_GT(out_of_reach, 3);
  for (const VerifyRow& row : rows(golden, {.dtype = Dtype::f64})) {
    EXPECT_TRUE(row.passed()) << row.key << ": error " << row.error << " " << row.note;
    EXPECT_LT(row.error, 1e-7) << row.key;
  }
}

// Where the model is another one, rounding explains nothing, and the weights are those of before.
TEST_F(VerifyTest, RoundingDoesNotExplainAWrongWeight) {
  const NamedTensors golden = golden_of(model_, tokens_);
  std::map<std::string, Tensor> before;
  model_.decoder->visit([&](const std::string& name, Var& parameter) {
    if (name.ends_with("out_proj.weight")) parameter.value().data<float>()[3] += 0.5f;
    before[name] = parameter.value().clone();
  });
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    for (const VerifyRow& row : rows(golden, {.dtype = dtype})) {
      EXPECT_FALSE(row.passed()) << row.key;
      ASSERT_TRUE(row.weight_rounding) << row.key;
      EXPECT_LT(*row.weight_rounding, 0.1 * row.error) << row.key;
    }
  }
  model_.decoder->visit([&](const std::string& name, Var& parameter) { EXPECT_TRUE(same_bits(parameter.value(), before.at(name))) << name; });
}

TEST_F(VerifyTest, ComparesShapesAndWantsFiniteValues) {
  const Tensor logits = model_.decoder->logits(model_.decoder->hidden(tokens_)).value();
  const Tensor loss = model_.decoder->loss(model_.decoder->hidden(tokens_), tokens_.view({-1}), 0).value();
  EXPECT_TRUE(row("logits", logits).passed());
  // as many values
  EXPECT_EQ(row("logits", logits.view({1, 40, 61})).note, "shape (2, 20, 61), golden (1, 40, 61)");
  EXPECT_TRUE(row("loss", loss).passed());
  EXPECT_TRUE(row("loss", loss.view({})).passed()) << "PyTorch's mean has no dimension";
  EXPECT_FALSE(row("loss", loss.view({1, 1})).passed());
  for (const float value : {INFINITY, NAN}) {
    const Tensor damaged = logits.clone();
    damaged.data<float>()[5] = value;
    EXPECT_EQ(row("logits", damaged).note, "a value is NaN or infinite");
  }
}

struct KnownModel {
  const char* file;
  std::vector<int32_t> greedy;   // after BOS
  std::vector<double> logits;    // of ids 0.. after BOS
  double probe_nll;
  bool first_line;               // of the probe text
};

const std::vector<int32_t> kStory = {403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338,
                                     401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282, 295, 433, 426, 385};
const std::vector<int32_t> kBaby = {3, 34, 9, 22, 4, 3, 18, 20, 7, 9, 3, 5, 3, 6, 10, 16,
                                    4, 25, 3, 6, 8, 4, 13, 4, 3, 17, 5, 12, 3, 5, 3, 14};

// The documented values of real checkpoints: greedy text, logits after BOS, loss of the probe text.
TEST(Golden, RealCheckpoints) {
  const KnownModel models[] = {
      {"stories260K/stories260K.bin", kStory, {-6.22291, 8.40434, -6.22374, -6.22254, -6.22195, -6.22288}, 1.297745, false},
      {"stories260K/checkpoint_v1.bin", kStory, {-6.22291, 8.40434, -6.22374, -6.22254, -6.22195, -6.22288}, 1.297745, false},
      {"stories260K/stories260K-q8.bin", kStory, {}, 1.295689, false},
      {"babyllama-tok105/model5000.bin", kBaby, {2.05371, 2.75973, -11.52401, 8.31352, -0.63651, -0.11124}, 0.847870, true}};
  for (const KnownModel& known : models) {
    SCOPED_TRACE(known.file);
    const Path path = shared_dir() / "models" / known.file, probe = shared_dir() / "data/tinystories/probe.txt";
    SKIP_WITHOUT(path);
    const Model model = load_model(path);
    Session session(*model.decoder);
    int32_t next = 1;
    for (size_t i = 0; i < known.greedy.size(); i++) {
      session.step(std::span(&next, 1));
      const float* logits = session.logits().data<float>();
      for (size_t k = 0; i == 0 && k < known.logits.size(); k++) EXPECT_NEAR(logits[k], known.logits[k], 1e-4);
      next = static_cast<int32_t>(std::max_element(logits, logits + session.logits().numel()) - logits);
      EXPECT_EQ(next, known.greedy[i]) << "token " << i;
    }
    std::string text = read_file(probe);
    if (known.first_line) text.resize(text.find('\n'));
    const auto sequences = scoring_sequences(*model.tokenizer, text, {"", 0, 0, 512, true});
    for (bool recurrent : {false, true}) EXPECT_NEAR(evaluate(*model.decoder, sequences, recurrent).nll, known.probe_nll, 1e-4);
  }
}

// Conformance without randomness: identity maps and no training.
TEST(Golden, LinearizedWithIdentityMaps) {
  const Path path = shared_dir() / "models/stories260K/stories260K.bin", text = shared_dir() / "data/tinystories/uptrain_test.txt";
  SKIP_WITHOUT(path);
  SKIP_WITHOUT(text);
  LinearizeOptions options;
  options.init = LinearizeOptions::Init::identity;
  const Model student = linearize(load_model(path), options).model;
  const auto sequences = scoring_sequences(*student.tokenizer, read_file(text), {"<|endoftext|>", 0, 0, 512, true});
  const Perplexity score = evaluate(*student.decoder, sequences);
  EXPECT_EQ(score.tokens, 70200);
  EXPECT_NEAR(score.nll, 6.2465, 0.002);
}

}  // namespace
}  // namespace supra
