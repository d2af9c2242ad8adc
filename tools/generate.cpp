#include "supra/inference/generate.h"

#include <cstdio>

#include "supra/formats/parse/json.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/sampling_flags.h"

namespace supra {
namespace {

// The ids to read: --ids, or the text, which begins with BOS if the tokenizer says so. After a saved state the text continues
// the text before it, without BOS and without a space before it.
std::vector<int32_t> prompt_ids(const Model& model, const std::string& text, const std::vector<int64_t>& ids, bool fresh) {
  if (!ids.empty()) {
    for (int64_t id : ids) {
      CHECK(id >= 0 && id < model.config().vocab, "--ids: %ld is not a token, the model has 0 to %ld", static_cast<long>(id),
            static_cast<long>(model.config().vocab - 1));
    }
    return {ids.begin(), ids.end()};
  }
  if (text.empty() && !fresh) return {};
  const Tokenizer& tokenizer = tokenizer_of(model);
  std::vector<int32_t> encoded = tokenizer.encode(text, {.parse_special = true, .continues = !fresh});
  if (fresh && tokenizer.adds_bos()) encoded.insert(encoded.begin(), tokenizer.bos());
  return encoded;
}

}  // namespace

int run_generate(Args& args) {
  Path input, state_in, state_out;
  std::string prompt, tokenizer_file;
  std::vector<int64_t> ids;
  GenerateOptions options;
  SamplingFlags sampling;
  DeviceFlags device;
  Weights weights = Weights::folded;
  bool json = false, ignore_marks = false;
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&prompt, "--prompt -p", "TEXT", "text to continue; without it the model starts from nothing");
  args.flag(&ids, "--ids", "1,2,3", "the prompt as token ids");
  args.flag(&options.tokens, "--tokens -n", "N", "largest number of new tokens").at_least(0);
  sampling.declare(args);
  args.flag(&options.stop, "--stop", "S", "texts that end the generation");
  args.flag(&ignore_marks, "--ignore-eos", "continue after the end of a text");
  args.flag(&state_in, "--state-in", "F", "continue from a saved state; the prompt is appended to its text");
  args.flag(&state_out, "--state-out", "F", "save the state at the end");
  args.choice(&weights, "--dtype", {{"stored", Weights::folded}, {"f32", Weights::trainable}},
              "weights as stored in the file, or all of them in f32");
  args.flag(&tokenizer_file, "--tokenizer", "FILE", "tokenizer to use instead of the one beside the model");
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);

  const Model model = load_model(input, tokenizer_file, weights);
  device.place(*model.decoder);
  Session session(model);
  if (!state_in.empty()) print_note(session.load(state_in));
  std::vector<int32_t> history = prompt_ids(model, prompt, ids, session.position() == 0);
  const size_t prompt_tokens = history.size();
  CHECK(prompt_tokens > 0 || session.logits().defined(), "there is nothing to continue (give -p TEXT or --ids)");

  const auto start = std::chrono::steady_clock::now();
  if (prompt_tokens > 0) session.feed(history);
  const double prefill = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  catch_interrupts();
  Sampler sampler(sampling.finish());
  options.stop_at_mark = !ignore_marks;
  options.should_stop = interrupted;
  if (!json) {
    printf("%s", prompt.c_str());
    fflush(stdout);
    options.on_text = [](const std::string& text) {
      fputs(text.c_str(), stdout);
      fflush(stdout);
    };
  }
  const Generated result = generate(session, model.tokenizer.get(), sampler, history, options);
  if (!state_out.empty()) session.save(state_out);
  const std::string beyond = beyond_context(model.config(), session.position());
  if (!beyond.empty()) fprintf(stderr, "%s%s\n", json ? "" : "\n", beyond.c_str());

  const double prefill_speed = prefill > 0 ? static_cast<double>(prompt_tokens) / prefill : 0;
  const double decode_speed = result.seconds > 0 ? static_cast<double>(result.ids.size()) / result.seconds : 0;
  if (json) {
    Json report = Json::object(), list = Json::array();
    for (int32_t id : result.ids) list.push(id);
    report.set("ids", std::move(list));
    report.set("text", result.text);
    report.set("prompt_tokens", static_cast<int64_t>(prompt_tokens));
    report.set("prefill_tokens_per_second", prefill_speed);
    report.set("decode_tokens_per_second", decode_speed);
    report.set("state_bytes", static_cast<int64_t>(session.state_bytes()));
    report.set("position", session.position());
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  if (!model.tokenizer) {
    for (size_t i = 0; i < result.ids.size(); i++) printf("%s%d", i ? "," : "", result.ids[i]);
  }
  printf("\n");
  fprintf(stderr, "prompt %zu tokens at %s tok/s, %zu new at %s tok/s, state %s at position %ld\n", prompt_tokens,
          format_count(prefill_speed).c_str(), result.ids.size(), format_count(decode_speed).c_str(),
          format_bytes(static_cast<double>(session.state_bytes())).c_str(), static_cast<long>(session.position()));
  return 0;
}

}  // namespace supra
