#include <map>
#include <set>

#include "supra/formats/parse/json.h"
#include "supra/training/checkpoint.h"
#include "tests/supra/training/recipe_fixture.h"

// Recipe progressive: the teacher's layers become recurrent one by one.

namespace supra {
namespace {

class ProgressiveTest : public RecipeTest {
 protected:
  ProgressiveTest() : RecipeTest(4) {}

  TrainOptions progressive() const {
    TrainOptions o = options(RecipeKind::progressive);
    o.recipe.convert_bound = 0;
    Philox random(3);
    for (int i = 0; i < 3; i++) {
      std::string text;
      while (text.size() < 40) text += random.below(2) ? "a cat sat; a dog ran.\n" : "an owl sat; a cat ran.\n";
      o.recipe.held_out.push_back(teacher_.tokenizer->encode(text));
    }
    return o;
  }

  Model of_mixer(const LinearizeOptions& o) const { return linearize(teacher_, o).model; }

  TrainResult run(Model& model, const TrainOptions& o, const char* name, const TrainHooks& hooks = {}) const {
    return train(model, teacher_.decoder.get(), corpus_, o, directory_.path() / name, hooks);
  }

  Json record(const char* name) const { return Json::load(directory_.path() / name / "recipe.json"); }

  static std::vector<int64_t> layers_of(const Json& list) {
    std::vector<int64_t> layers;
    for (const Json& one : list.as_array()) layers.push_back(one.integer("layer"));
    return layers;
  }

  static int64_t softmax_layers(const Config& c) { return std::count(c.mixers.begin(), c.mixers.end(), MixerKind::softmax); }

  // What a run complains about; empty where it does not.
  std::string complaint(Model model, const TrainOptions& o, const Decoder* teacher) const {
    try {
      train(model, teacher, corpus_, o, directory_.path() / "refused");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(ProgressiveTest, TheLeastSensitiveLayerComesFirst) {
  Model model = student();
  std::string notes;
  TrainHooks hooks;
  hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
  run(model, progressive(), "run", hooks);
  const Json json = record("run");
  std::vector<double> kl;
  for (const Json& one : json.at("layers").as_array()) kl.push_back(one.number("kl"));
  ASSERT_EQ(kl.size(), 4u);
  EXPECT_TRUE(std::is_sorted(kl.begin(), kl.end()));
  EXPECT_LT(kl.front(), kl.back());
  EXPECT_EQ(layers_of(json.at("conversions")), layers_of(json.at("layers")));
  EXPECT_NE(notes.find("KL where it alone is recurrent"), std::string::npos) << notes;
  EXPECT_EQ(softmax_layers(model.config()), 0);
  EXPECT_TRUE(same_weights(load_model(directory_.path() / "run"), model));
}

// With nothing learned, the first layer alone costs what the table says of it.
TEST_F(ProgressiveTest, TheTableSaysWhatALayerCosts) {
  TrainOptions o = progressive();
  o.recipe.lr = o.recipe.transfer_lr = 1e-12;
  Model model = student();
  run(model, o, "run");
  const Json json = record("run");
  const double expected = json.at("layers").as_array()[0].number("kl");
  EXPECT_EQ(json.at("conversions").as_array()[0].number("kl_before"), 0);
  EXPECT_NEAR(json.at("conversions").as_array()[0].number("kl_after"), expected, 0.05 * expected);
}

TEST_F(ProgressiveTest, TheMostSensitiveLayersStay) {
  TrainOptions o = progressive();
  o.recipe.keep_softmax_most = 2;
  Model model = student();
  run(model, o, "run");
  const std::vector<int64_t> order = layers_of(record("run").at("layers"));
  for (size_t i = 0; i < 4; i++) EXPECT_EQ(model.config().mixers[order[i]], i < 2 ? MixerKind::supra : MixerKind::softmax) << i;
  EXPECT_EQ(load_model(directory_.path() / "run").config().mixers, model.config().mixers);
}

// Every layer is tried, one of them twice, and what it did to the others is undone, too.
TEST_F(ProgressiveTest, ALayerThatCostsTooMuchIsUndone) {
  TrainOptions o = progressive();
  o.recipe.convert_bound = 1e-9;
  o.recipe.convert_share = 0.9;
  Model model = student();
  std::vector<Tensor> last;
  TrainHooks hooks;
  hooks.on_step = [&](const TrainStep& s) {
    if (s.stage != "distill" || !last.empty()) return;
    EXPECT_LT(s.loss, 1e-4) << "the last stage began with something else than the teacher";
    last.push_back({});
  };
  run(model, o, "run", hooks);
  EXPECT_EQ(last.size(), 1u);
  EXPECT_EQ(softmax_layers(model.config()), 4);
  const Json json = record("run");
  std::vector<int64_t> tried = layers_of(json.at("layers"));
  tried.push_back(tried[0]);
  EXPECT_EQ(layers_of(json.at("conversions")), tried);
  for (const Json& one : json.at("conversions").as_array()) EXPECT_FALSE(one.flag("kept"));
}

TEST_F(ProgressiveTest, ResumesBitForBit) {
  for (const bool killed : {false, true}) {
    TrainOptions o = progressive();
    // nothing is undone, or everything
    o.recipe.convert_bound = killed ? 1e-9 : 0;
    o.checkpoint_every = killed ? 3 * o.batch_tokens : 0;
    Model straight = student();
    run(straight, o, "straight");
    TrainOptions again = o;
    again.resume = true;
    // before the first step of a layer, in its transfer, in its healing, in the last stage
    for (const int64_t at : {0, 1, 7, 12, 30}) {
      int64_t steps = 0;
      TrainHooks hooks;
      hooks.should_stop = [&] {
        CHECK(!killed || steps < at, "killed");
        return steps++ == at;
      };
      Model broken = student(), resumed = student();
      try {
        EXPECT_TRUE(run(broken, o, "broken", hooks).interrupted);
      } catch (const Error& error) {
        EXPECT_STREQ(error.what(), "killed");
      }
      run(resumed, again, "broken");
      EXPECT_EQ(resumed.config().mixers, straight.config().mixers);
      EXPECT_TRUE(same_weights(resumed, straight)) << at << (killed ? " killed" : "");
    }
  }
}

TEST_F(ProgressiveTest, EveryMixerIsReached) {
  std::map<std::string, LinearizeOptions> mixers;
  mixers["supra"].init = mixers["gated"].init = LinearizeOptions::Init::identity;
  mixers["gated"].decay.source = DecayConfig::Source::gated;
  mixers["gated"].output_gate = true;
  mixers["learned"].decay.source = DecayConfig::Source::learned;
  mixers["learned"].key_dim = 12;
  mixers["window"].mixer = mixers["far"].mixer = MixerKind::window;
  mixers["window"].windows = mixers["far"].windows = {{8}};
  mixers["far"].far_features = {{4}};
  mixers["delta"].mixer = MixerKind::delta;
  mixers["delta"].decay.source = DecayConfig::Source::gated;
  for (auto& [name, linear] : mixers) {
    SCOPED_TRACE(name);
    Model model = of_mixer(linear), goal = of_mixer(linear);
    TrainOptions o = progressive();
    o.recipe.keep_softmax_most = 1;
    run(model, o, "run");
    const Config &made = model.config(), &wanted = goal.config();
    const int64_t kept = layers_of(record("run").at("layers"))[3];
    for (int64_t i = 0; i < 4; i++) {
      EXPECT_EQ(made.mixers[i], i == kept ? MixerKind::softmax : wanted.mixers[i]);
      const int64_t window = wanted.windows.empty() || i == kept ? 0 : wanted.windows[i];
      EXPECT_EQ(made.windows.empty() ? 0 : made.windows[i], window);
    }
    EXPECT_TRUE(same_weights(load_model(directory_.path() / "run"), model));
  }
}

TEST_F(ProgressiveTest, RefusesByName) {
  const auto refused = [&](const char* why, const Model& model, const TrainOptions& o, const Decoder* teacher) {
    const std::string said = complaint(model, o, teacher);
    EXPECT_NE(said.find(why), std::string::npos) << said;
  };
  const Decoder* const teacher = teacher_.decoder.get();
  const TrainOptions good = progressive();
  Model other;
  other.decoder = tiny_decoder(MixerKind::softmax);
  refused("the teacher has 2 layers of width 24 and 61 tokens", student(), good, other.decoder.get());
  refused("--teacher", student(), good, nullptr);
  refused("must all be of one kind", load_model(directory_.path() / "teacher"), good, teacher);
  TrainOptions bad = good;
  bad.recipe.keep_softmax_most = 4;
  refused("--keep-softmax-most 4", student(), bad, teacher);
  bad = good;
  bad.recipe.held_out.clear();
  refused("--valid", student(), bad, teacher);
  bad = good;
  bad.packing = Packing::carried;
  refused("--pack carried", student(), bad, teacher);
  bad = good;
  bad.tokens = 64 * 9;
  refused("steps are too few", student(), bad, teacher);
  LinearizeOptions normed;
  normed.qk_norm = true;
  refused("--qk-norm", of_mixer(normed), good, teacher);
  Model adapted = student();
  adapted.decoder->add_lora({2, 16, {"in_proj"}}, 1);
  refused("--lora", adapted, good, teacher);
  // a run goes on with its own student alone
  TrainHooks hooks;
  hooks.should_stop = [asked = 0]() mutable { return asked++ == 5; };
  Model model = student(), another = student(DecayConfig::Source::fixed);
  run(model, good, "refused", hooks);
  bad = good;
  bad.resume = true;
  refused("with another student", another, bad, teacher);
  bad.recipe.keep_softmax_most = 1;
  refused("another --keep-softmax-most", student(), bad, teacher);
  bad = good;
  bad.resume = true;
  bad.recipe.held_out[0][0]++;
  refused("other held-out text", student(), bad, teacher);
  bad = good;
  bad.recipe.convert_share = 1.5;
  refused("--convert-share 1.5", student(), bad, teacher);
}

}  // namespace
}  // namespace supra
