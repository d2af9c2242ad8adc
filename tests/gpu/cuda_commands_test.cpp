#include "supra/formats/parse/json.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/linearize.h"
#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"
#include "tools/command.h"

// Commands with --device cuda, in this process: what they report is what they report of the CPU, within what
// rounding does.

namespace supra {
namespace {

class CudaCommands : public Cuda {
 protected:
  void SetUp() override {
    Cuda::SetUp();
    // commands set the products of the whole process, and training is faster in bf16
    setenv("SUPRA_PRODUCTS", "f32", 1);
    std::string text;
    for (int i = 0; i < 30; i++) text += format("%d cats sat; %d ran\n", i, i * i);
    write_file_atomically(at("text.txt"), text);
    save_model(byte_model(MixerKind::softmax), at("teacher"));
    save_model(linearize(byte_model(MixerKind::softmax), {}).model, at("student"));
  }
  void TearDown() override {
    unsetenv("SUPRA_PRODUCTS");
    Cuda::TearDown();
  }
  std::string at(const std::string& name) const { return (directory_.path() / name).string(); }

  // The JSON that a command prints.
  static Json report(int (*command)(Args&), std::vector<std::string> words,
                     const std::vector<std::string>& more = {}) {
    words.insert(words.end(), more.begin(), more.end());
    words.push_back("--json");
    Args args("it", "", words);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    int code = -1;
    std::string trouble;
    try {
      code = command(args);
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    const std::string out = testing::internal::GetCapturedStdout(),
                      said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(code, 0) << trouble << said << out;
    return code == 0 ? Json::parse(out, "stdout") : Json::object();
  }
  // A number that it reports on each place, in the order CPU, GPU with activations in f32, in bf16.
  static void expect_alike(const char* key, int (*command)(Args&), const std::vector<std::string>& words,
                           double bf16 = 0.02) {
    const double truth = report(command, words).number(key);
    EXPECT_NEAR(report(command, words, {"--device", "cuda", "--activations", "f32"}).number(key), truth,
                2e-4 * truth)
        << key;
    EXPECT_NEAR(report(command, words, {"--device", "cuda", "--activations", "bf16"}).number(key), truth,
                bf16 * truth)
        << key;
  }

  TempDir directory_;
};

}  // namespace

TEST_F(CudaCommands, generate) {
  const std::vector<std::string> words = {"--greedy", "--ignore-eos", "-n", "4", "-p", "9 cats"};
  for (const std::string& model : {at("teacher"), at("student")}) {
    std::vector<std::string> all = words;
    all.insert(all.begin(), model);
    const Json here = report(run_generate, all),
               there = report(run_generate, all, {"--device", "cuda", "--activations", "f32"});
    EXPECT_EQ(there.at("ids").dump(), here.at("ids").dump());
    EXPECT_EQ(report(run_generate, all, {"--device", "cuda"}).at("ids").as_array().size(), 4u);
  }
}

TEST_F(CudaCommands, eval) {
  for (const std::string& model : {at("teacher"), at("student")})
    expect_alike("nll", run_eval, {model, "--text", at("text.txt"), "--max-tokens", "60", "--context", "20"});
  write_file_atomically(at("task.jsonl"), R"({"query": "9 cats", "choices": ["sat", "ran"], "gold": 0})"
                                          "\n");
  expect_alike("acc", run_eval, {at("student"), "--task", at("task.jsonl")});
}

TEST_F(CudaCommands, verify) {
  const Model model = load_model(at("student"));
  const Tensor tokens = Tensor::of(std::vector<int32_t>{1, 2, 3, 4, 5, 6}, {2, 3});
  write_safetensors(at("golden"), {{"tokens", tokens},
                                   {"logits", model.decoder->logits(model.decoder->hidden(tokens)).value()},
                                   {"adamw.loss", Tensor::zeros({10})}});
  const Json got = report(run_verify, {at("student"), at("golden"), "--device", "cuda"});
  EXPECT_EQ(got.number("passed"), 1);
  EXPECT_EQ(got.number("left_out"), 1);
  report(run_verify,
         {at("student"), at("golden"), "--device", "cuda", "--activations", "bf16", "--tolerance", "0.05"});
}

TEST_F(CudaCommands, quantize) {
  expect_alike(
      "nll", run_quantize,
      {at("student"), "-o", at("small"), "--dtype", "bf16", "--check", at("text.txt"), "--max-tokens", "60"});
}

TEST_F(CudaCommands, linearize_and_uptrain) {
  report(run_linearize, {at("teacher"), "-o", at("fitted"), "--calibrate", at("text.txt"),
                         "--calibrate-tokens", "64", "--device", "cuda"});
  const std::vector<std::string> common = {
      "-o",       at("healed"), "--overwrite", "--data", at("text.txt"),   "--valid", at("text.txt"),
      "--tokens", "64",         "--seq-len",   "16",     "--batch-tokens", "32"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.end(), common.begin(), common.end());
    return words;
  };
  expect_alike("valid_nll", run_uptrain, with({at("fitted")}));
  const std::vector<std::string> distill = {at("fitted"),  "--recipe",           "distill", "--teacher",
                                            at("teacher"), "--calibrate-tokens", "32"};
  report(run_uptrain, with(distill), {"--device", "cuda"});
  EXPECT_GT(report(run_uptrain, with(distill), {"--device", "cuda", "--dry-run"}).at("plan").number("peak"),
            0);
  report(run_uptrain,
         {at("fitted"), "-o", at("self"), "--data", "self", "--teacher", at("teacher"), "--self-tokens", "64",
          "--tokens", "32", "--seq-len", "16", "--batch-tokens", "32", "--device", "cuda"});
  write_file_atomically(
      at("config.json"),
      R"({"hidden_dim":24,"n_layers":1,"n_heads":4,"vocab_size":256,"seq_len":16,"intermediate_dim_ffn":40,"model_norm":"rms_norm"})");
  expect_alike("loss", run_train, with({at("config.json"), "--tokenizer", "bytes"}));
  // weights that were trained there are files like any other
  report(run_eval, {at("healed"), "--text", at("text.txt"), "--max-tokens", "20", "--context", "20"});
}

}  // namespace supra
