#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/verify.h"
#include "supra/formats/json.h"
#include "supra/inference/session.h"
#include "supra/linearize.h"
#include "tensor/cpu.h"
#include "tests/support.h"

namespace supra {
namespace {

void expect_verified(const Path& folder) {
  const Path golden = folder / "golden.safetensors";
  for (const VerifyRow& row : verify(load_model(folder), golden)) {
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

// Every family and every storage: logits, loss and greedy ids of transformers.
TEST(Golden, HuggingFace) {
  const Path golden = shared_dir() / "golden/hf";
  SKIP_WITHOUT(golden);
  const Json cases = Json::load(golden / "cases.json");
  for (const Json& entry : cases.as_array()) {
    const Path folder = golden / entry.text("name");
    if (entry.text("expect") == "load") {
      expect_verified(folder);
    } else {
      EXPECT_THROW(load_model(folder), Error) << folder;
    }
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
