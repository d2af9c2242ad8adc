#include <gtest/gtest.h>

#include <cmath>

#include "supra/formats/weights/safetensors.h"
#include "tests/cli.h"

// supra linearize: every flag makes the layer that it names, which inspect, eval, quantize and convert know.

namespace supra {
namespace {

struct LayerFlags {
  std::vector<std::string> words;
  std::string key, value;  // of the config
  std::string tensor;      // of layer 1, that no other layer has; may be empty
};

const std::vector<LayerFlags>& layer_flags() {
  static const std::vector<LayerFlags> all = {
      {{"--mixer", "gated"}, "decay.source", "\"gated\"", "_totrain_decay.weight"},
      {{"--mixer", "learned-decay"}, "decay.source", "\"learned\"", "_totrain_decay.bias"},
      {{"--mixer", "supra"}, "decay.source", "\"fixed\"", ""},
      {{"--decay", "none"}, "decay.kind", "\"none\"", ""},
      {{"--decay", "retnet"}, "decay.kind", "\"retnet\"", ""},
      {{"--decay-start", "0.5"}, "decay.start", "0.5", ""},
      {{"--feature-map", "per-head"}, "per_head_feature_map", "true", ""},
      {{"--key-dim", "16"}, "key_dim", "16", ""},
      {{"--rope", "before-map"}, "rope_before_map", "true", ""},
      {{"--output-norm", "denominator"}, "output_norm", "\"denominator\"", ""},
      {{"--output-norm", "none"}, "output_norm", "\"none\"", ""},
      {{"--output-gate"}, "output_gate", "true", "_totrain_z.weight"},
      {{"--qk-norm"}, "qk_norm", "\"whole\"", "_totrain_q_norm.weight"},
      {{"--keep-softmax", "0"}, "mixers", R"(["softmax", "supra"])", ""},
      {{"--decay", "none", "--feature-map", "per-head", "--rope", "before-map", "--output-norm",
        "denominator"},
       "output_norm",
       "\"denominator\"",
       ""},
      {{"--mixer", "gated", "--key-dim", "16", "--output-gate", "--qk-norm", "--init", "identity"},
       "key_dim",
       "16",
       "_totrain_decay.bias"},
      {{"--mixer", "delta"}, "feature_map", "false", "_totrain_beta.weight"},
      {{"--mixer", "delta", "--short-convolution", "--rope", "none"}, "short_convolution", "true", "_totrain_conv.weight"}};
  return all;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + " ";
  return text;
}

// A student in DIR, and what linearize says of it in JSON.
Json linearize_with(const std::string& teacher, const std::string& directory,
                    std::vector<std::string> words) {
  words.insert(words.begin(), {"linearize", teacher, "-o", directory, "--json"});
  const Outcome outcome = supra_run(words);
  EXPECT_EQ(outcome.code, 0) << joined(words) << outcome.err;
  return Json::parse(outcome.out, "stdout");
}

std::map<std::string, Tensor> weights_of(const Path& directory) {
  std::map<std::string, Tensor> all;
  const auto file = open_safetensors(directory / "model.safetensors");
  for (const TensorInfo& info : file->tensors()) all[info.name] = file->get(info.name).clone();
  return all;
}

TEST_F(CliTest, EveryFlagOfALayerMakesThatLayer) {
  for (const LayerFlags& flags : layer_flags()) {
    SCOPED_TRACE(joined(flags.words));
    const Json made = linearize_with(at("teacher"), at("variant"), flags.words);
    const Json seen = expect_json(supra_run({"inspect", at("variant"), "--json"}), {"state_bytes"});
    EXPECT_EQ(seen.at("config").at(flags.key).dump(), flags.value);
    EXPECT_EQ(seen.integer("state_bytes"), made.integer("state_bytes"));
    EXPECT_EQ(seen.integer("parameters"), made.integer("parameters"));
    if (!flags.tensor.empty()) {
      EXPECT_TRUE(weights_of(at("variant")).count("layers.1.attention." + flags.tensor));
    }
    // in chunks, step by step, and behind a quantization of its weights
    std::vector<std::string> words = {"eval",         at("variant"), "--text", at("text.txt"),
                                      "--max-tokens", "300",         "--json"};
    const double chunked = expect_json(supra_run(words), {}).number("nll");
    words.push_back("--recurrent");
    EXPECT_NEAR(expect_json(supra_run(words), {}).number("nll"), chunked, 1e-4);
    const std::vector<std::string> small = {"quantize",     at("variant"), "-o",      at("small"),
                                            "--dtype",      "q8_0",        "--check", at("text.txt"),
                                            "--max-tokens", "300",         "--json"};
    const Json quantized = expect_json(supra_run(small), {"bytes", "kept_bf16"});
    EXPECT_NEAR(quantized.number("nll_before"), chunked, 1e-4);
    EXPECT_NEAR(quantized.number("nll"), chunked, 0.1);
    EXPECT_EQ(expect_json(supra_run({"inspect", at("small"), "--json"}), {}).at("config").dump(),
              seen.at("config").dump());
  }
}

// A decay follows the token within 4 bits of nothing: its weights stay as they are.
TEST_F(CliTest, QuantizedGatesKeepTheirDecay) {
  linearize_with(at("teacher"), at("variant"), {"--mixer", "gated", "--output-gate"});
  supra_run({"quantize", at("variant"), "-o", at("small"), "--dtype", "q4_0"});
  std::map<std::string, std::string> dtypes;
  const Json seen = expect_json(supra_run({"inspect", at("small"), "--json"}), {"tensors"});
  for (const Json& tensor : seen.at("tensors").as_array()) dtypes[tensor.text("name")] = tensor.text("dtype");
  EXPECT_EQ(dtypes["layers.0.attention._totrain_decay.weight"], "f32");
  EXPECT_EQ(dtypes["layers.0.attention._totrain_embed.weight"], "f32");
  EXPECT_EQ(dtypes["layers.0.attention._totrain_z.weight"], "q4_0");
}

TEST_F(CliTest, InspectNamesTheVariant) {
  const auto inspected = [](std::vector<std::string> words) {
    linearize_with(at("teacher"), at("variant"), std::move(words));
    return supra_run({"inspect", at("variant"), "--tensors"}).out;
  };
  const std::string wide =
      inspected({"--mixer", "gated", "--key-dim", "16", "--output-gate", "--output-norm", "none"});
  EXPECT_SAYS(wide, "4 heads of 8");
  EXPECT_SAYS(wide, "gated       layers 0-1, 16 features a head, outputs without a norm, an output gate");
  // two layers, four heads of 16 x 8
  EXPECT_SAYS(wide, "state       4.10 kB a sequence\n");
  EXPECT_SAYS(wide, "_totrain_z.weight");
  const std::string t2r = inspected({"--mixer", "learned-decay", "--feature-map", "per-head", "--rope",
                                     "before-map", "--output-norm", "denominator", "--keep-softmax", "1"});
  EXPECT_SAYS(t2r, "softmax     layers 1\n");
  EXPECT_SAYS(t2r,
              "learned-decay layers 0, a feature map per head, rotated before the map, outputs over their "
              "sum of weights");
  EXPECT_SAYS(t2r, "a sequence and 256 B a token");
}

// Learned decays start as the fixed ones: the same text, the same loss.
TEST_F(CliTest, GatedAndLearnedStartAsSupra) {
  const auto loss = [](const std::string& mixer, const std::string& decay) {
    linearize_with(at("teacher"), at("variant"), {"--mixer", mixer, "--decay", decay});
    return expect_json(
               supra_run({"eval", at("variant"), "--text", at("text.txt"), "--max-tokens", "500", "--json"}),
               {})
        .number("nll");
  };
  for (const char* decay : {"lightning", "retnet"}) {
    const double supra = loss("supra", decay);
    EXPECT_NEAR(loss("gated", decay), supra, 1e-6) << decay;
    EXPECT_NEAR(loss("learned-decay", decay), supra, 1e-6) << decay;
  }
}

// The fit changes output projections alone; by heads, all columns of one by one number.
TEST_F(CliTest, CalibrationFitsTheOutputProjections) {
  linearize_with(at("teacher"), at("plain"), {"--mixer", "gated"});
  const auto plain = weights_of(at("plain"));
  for (const std::string kind : {"ridge", "heads"}) {
    linearize_with(at("teacher"), at(kind),
                   {"--mixer", "gated", "--calibrate", at("text.txt"), "--docs", "<end>", "--calibration",
                    kind, "--calibrate-tokens", "1k"});
    for (const auto& [name, tensor] : weights_of(at(kind))) {
      const Tensor& before = plain.at(name);
      const bool fitted = name.ends_with("out_proj.weight");
      EXPECT_EQ(same_bits(tensor, before), !fitted) << name;
      if (!fitted) continue;
      double spread = 0;
      for (int64_t i = 0; i < 32; i++) {
        const int64_t first = i / 8 * 8;
        const double factor = tensor.data<float>()[first] / before.data<float>()[first];
        spread = std::max(spread, std::fabs(tensor.data<float>()[i] / before.data<float>()[i] / factor - 1));
      }
      EXPECT_EQ(spread < 1e-5, kind == "heads") << name << " " << spread;
    }
  }
  // a delta layer's gates, too
  linearize_with(at("teacher"), at("delta"), {"--mixer", "delta", "--calibrate", at("text.txt"), "--docs", "<end>", "--calibrate-tokens", "1k"});
  linearize_with(at("teacher"), at("fresh"), {"--mixer", "delta"});
  const auto fitted = weights_of(at("delta"));
  for (const auto& [name, tensor] : weights_of(at("fresh"))) {
    const bool moved = name.ends_with("out_proj.weight") || name.ends_with("_totrain_decay.bias") || name.ends_with("_totrain_beta.bias");
    EXPECT_EQ(same_bits(tensor, fitted.at(name)), !moved) << name;
  }
  const Outcome none = supra_run({"linearize", at("teacher"), "-o", at("none"), "--mixer", "delta", "--calibrate", at("text.txt"), "--calibrate-tokens", "0"});
  EXPECT_EQ(none.code, 2);
  EXPECT_SAYS(none.err, "--calibrate-tokens: 0 is too small");
  // other text, another fit
  linearize_with(
      at("teacher"), at("more"),
      {"--mixer", "gated", "--calibrate", at("text.txt"), "--docs", "<end>", "--calibrate-tokens", "3k"});
  EXPECT_FALSE(same_bits(weights_of(at("more")).at("layers.0.attention.out_proj.weight"),
                         weights_of(at("ridge")).at("layers.0.attention.out_proj.weight")));
}

TEST_F(CliTest, LinearizeSaysWhatDoesNotGoTogether) {
  const auto with = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"linearize", at("teacher"), "-o", at("refused")});
    return supra_run(words);
  };
  expect_error(with({"--mixer", "gated", "--decay", "none"}), {"--decay lightning or retnet"});
  expect_error(with({"--qk-norm", "--keep-softmax", "0"}), {"--qk-norm or --keep-softmax"});
  expect_error(with({"--keep-softmax", "0,1"}), {"no softmax layer is left"});
  expect_error(with({"--keep-softmax", "2"}), {"layer 2", "0 to 1"});
  expect_error(with({"--key-dim", "7"}), {"7", "pairs"});
  expect_error(with({"--decay-start", "-1"}), {"-1", "positive"});
  expect_error(with({"--calibrate", at("nowhere")}), {"nowhere"});
  for (const char* flag :
       {"--mixer", "--decay", "--feature-map", "--rope", "--output-norm", "--calibration", "--init"}) {
    EXPECT_EQ(with({flag, "bogus"}).code, 2) << flag;
  }
  EXPECT_FALSE(std::filesystem::exists(at("refused")));
  EXPECT_SAYS(with({"--output-norm", "denominator"}).out, "--rope before-map keeps it positive");
}

// ---- layers with windows

TEST_F(CliTest, WindowsByLayer) {
  const Json made = linearize_with(at("teacher"), at("windows"),
                                   {"--mixer", "window", "--window", "16", "--window", "8:1", "--window=24:0-1", "--window", "12:0", "--sinks", "2",
                                    "--state-dtype", "f32"});
  EXPECT_EQ(made.at("layers").dump(),
            R"([{"layer": 0, "window": 12, "sinks": 2, "far_features": 0}, {"layer": 1, "window": 24, "sinks": 2, "far_features": 0}])");
  // keys and values of 4 heads of 8, in f32
  EXPECT_EQ(made.integer("state_bytes"), (12 + 24 + 2 * 2) * 2 * 4 * 8 * 4);
  EXPECT_EQ(made.integer("new"), 0);
  const Json seen = expect_json(supra_run({"inspect", at("windows"), "--json"}), {});
  EXPECT_EQ(seen.integer("state_bytes"), made.integer("state_bytes"));
  EXPECT_EQ(seen.at("config").at("windows").dump(), "[12, 24]");
  const std::string text = supra_run({"inspect", at("windows")}).out;
  EXPECT_SAYS(text,
              "window      layers 0-1, 2 sinks, keys and values in f32\n              24 keys in layers 1\n              12 keys in layers 0\n");
  EXPECT_SAYS(text, "state       10.2 kB a sequence\n");

  // as the teacher, where nothing leaves a window
  linearize_with(at("teacher"), at("windows"), {"--mixer", "window", "--window", "64"});
  const auto loss = [](const std::string& model) {
    return expect_json(supra_run({"eval", at(model), "--text", at("text.txt"), "--max-tokens", "300", "--json"}), {}).number("nll");
  };
  EXPECT_NEAR(loss("windows"), loss("teacher"), 1e-6);
  EXPECT_SAYS(supra_run({"inspect", at("windows")}).out, "keys and values in f16");

  const Outcome mixed = supra_run(
      {"linearize", at("teacher"), "-o", at("windows"), "--mixer", "window", "--keep-softmax", "0", "--far-features", "4:1"});
  EXPECT_EQ(mixed.code, 0) << mixed.err;
  EXPECT_SAYS(mixed.out, "256 keys and 4 far features in layers 1\n");
  EXPECT_SAYS(mixed.out, "layers 0, which keep their softmax");
  EXPECT_SAYS(mixed.out, "writes sense at once");
}

TEST_F(CliTest, WindowsThatFitABudget) {
  const Outcome table = supra_run({"linearize", at("teacher"), "--mixer", "window", "--sensitivity", at("text.txt"), "--budget-tokens", "400"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_SAYS(table.out, "layer     gain\n");
  const std::vector<std::string> words = {"--mixer", "window", "--state-bytes", "10k", "--budget-text", at("text.txt"), "--budget-tokens", "400"};
  const Json made = linearize_with(at("teacher"), at("fitted"), words);
  EXPECT_LE(made.integer("state_bytes"), 10'000);
  EXPECT_GT(made.integer("state_bytes"), 9'000);
  EXPECT_EQ(made.at("tries").as_array()[0].at("windows").dump(),
            expect_json(supra_run({"inspect", at("fitted"), "--json"}), {}).at("config").at("windows").dump());
  EXPECT_EQ(linearize_with(at("teacher"), at("fitted"), words).dump(), made.dump());
  const Json json = expect_json(supra_run({"linearize", at("teacher"), "--mixer", "window", "--sensitivity", at("text.txt"),
                                           "--budget-tokens", "400", "--json"}),
                                {"base", "full"});
  EXPECT_EQ(json.dump(), made.at("sensitivity").dump());
  EXPECT_EQ(json.at("layers").as_array().size(), 2u);
}

TEST_F(CliTest, WindowFlagsThatSayNothingAreRefused) {
  const auto with = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"linearize", at("teacher"), "-o", at("windowless")});
    return supra_run(words);
  };
  const auto misused = [&](std::vector<std::string> words, const std::string& part) {
    const Outcome outcome = with(std::move(words));
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_SAYS(outcome.err, part);
  };
  for (const auto& [flag, value] : std::vector<std::pair<std::string, std::string>>{
           {"--decay", "none"}, {"--init", "identity"}, {"--feature-map", "full"}, {"--calibrate", at("text.txt")}, {"--key-dim", "0"}}) {
    misused({"--mixer", "window", flag, value}, flag + " has no effect");
  }
  for (const auto& [flag, value] : std::vector<std::pair<std::string, std::string>>{
           {"--window", "8"}, {"--sinks", "4"}, {"--far-features", "4"}, {"--state-dtype", "f16"}, {"--sensitivity", at("text.txt")}}) {
    misused({flag, value}, flag + " has no effect");
    misused({"--mixer", "gated", flag, value}, "--mixer window");
  }
  misused({"--mixer", "delta", "--decay", "retnet"}, "--decay has no effect on --mixer delta");
  misused({"--mixer", "delta", "--init", "identity"}, "--init has no effect without a feature map");
  misused({"--mixer", "gated", "--short-convolution"}, "--short-convolution has no effect without --mixer delta");
  for (const char* setting : {"", "x", "8:", "8:x", "8:1-", "8:1-0", "8:1,,0", "0", "-4", "8:0:1"}) {
    misused({"--mixer", "window", "--window", setting}, "--window");
  }
  misused({"--mixer", "window", "--state-bytes", "9M"}, "--budget-text");
  misused({"--mixer", "window", "--fit-tokens", "4k"}, "--fit-tokens has no effect without --fit");
  misused({"--mixer", "window", "--budget-tokens", "4k"}, "--budget-tokens has no effect without --budget-text");
  misused({"--mixer", "window", "--window", "8", "--state-bytes", "9M", "--budget-text", at("text.txt")}, "--window");
  expect_error(with({"--mixer", "window", "--window", "8:2"}), {"layer 2", "0 to 1"});
  expect_error(with({"--mixer", "window", "--far-features", "3"}), {"3 far features", "even"});
  expect_error(with({"--mixer", "window", "--state-bytes", "1k", "--budget-text", at("text.txt")}), {"1000 bytes", "1280"});
  EXPECT_FALSE(std::filesystem::exists(at("windowless")));
}

}  // namespace
}  // namespace supra
