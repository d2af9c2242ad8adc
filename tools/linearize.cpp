#include "supra/linearize.h"

#include <algorithm>
#include <cstdio>

#include "supra/formats/json.h"
#include "supra/training/calibrate.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"

namespace supra {

int run_linearize(Args& args) {
  Path input, output;
  std::string tokenizer;
  LinearizeOptions options;
  Path calibration_text;
  std::string separator;
  int64_t calibration_tokens = 8192;
  Calibration calibration = Calibration::ridge;
  bool json = false;
  DeviceFlags device;
  args.positional(&input, "MODEL", "a softmax transformer: a folder or a file");
  args.flag(&output, "--output -o", "DIR", "where the SUPRA model goes").required();
  args.choice(&options.init, "--init",
              {{"default", LinearizeOptions::Init::standard}, {"identity", LinearizeOptions::Init::identity}},
              "feature maps at first: random as torch.nn.Linear's, or relu(q)");
  args.choice(&options.decay.kind, "--decay",
              {{"lightning", DecayConfig::Kind::lightning}, {"retnet", DecayConfig::Kind::retnet}, {"none", DecayConfig::Kind::none}},
              "slopes of the decay, fixed per head");
  args.choice(&options.decay.source, "--mixer",
              {{"supra", DecayConfig::Source::fixed}, {"gated", DecayConfig::Source::gated}, {"learned-decay", DecayConfig::Source::learned}},
              "decays that are fixed (the paper's), or follow each token, or are learned a head");
  args.flag(&options.decay.start, "--decay-start", "X", "first slope of a lightning decay");
  args.flag(&options.key_dim, "--key-dim", "N", "features of a head, the rows of its state; 0: as many as its queries have").at_least(0);
  args.choice(&options.rope_before_map, "--rope", {{"after-map", false}, {"before-map", true}}, "where q and k are rotated");
  args.choice(&options.output_norm, "--output-norm",
              {{"group", OutputNorm::group}, {"denominator", OutputNorm::denominator}, {"none", OutputNorm::none}},
              "of a head's outputs: the paper's GroupNorm, T2R's sum of weights, or none");
  args.flag(&options.output_gate, "--output-gate", "multiply the outputs by a gate that starts open");
  args.flag(&options.qk_norm, "--qk-norm", "normalise queries and keys behind the feature maps");
  args.choice(&options.per_head, "--feature-map", {{"full", false}, {"per-head", true}}, "whether a feature map mixes the heads");
  args.flag(&options.keep_softmax, "--keep-softmax", "0,5", "layers that keep their softmax attention");
  args.flag(&calibration_text, "--calibrate", "TEXT", "fit the output projections to the teacher's outputs on this text, in closed form");
  args.choice(&calibration, "--calibration", {{"ridge", Calibration::ridge}, {"heads", Calibration::heads}},
              "all of an output projection, or one number a head");
  args.tokens(&calibration_tokens, "--calibrate-tokens", "of the text to use");
  args.flag(&separator, "--docs", "SEP", "what stands between documents of the text; else it is one document");
  args.flag(&options.seed, "--seed", "N", "of the random feature maps");
  args.flag(&tokenizer, "--tokenizer", "FILE", "the tokenizer to put beside the model; else the one found beside MODEL");
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);

  std::error_code absent;
  CHECK(!std::filesystem::equivalent(input, output, absent),
        "%s: is the model itself, which would be overwritten (give another --output)", output.c_str());
  const Model teacher = load_model(input, tokenizer);
  const Linearized result = linearize(teacher, options);
  const size_t state = result.model.decoder->state_bytes(1), cache = teacher.decoder->state_bytes(1);
  if (!calibration_text.empty()) {
    const Corpus corpus = read_corpus({calibration_text}, tokenizer_of(teacher), separator);
    const int64_t T = std::min<int64_t>(512, teacher.config().context), rows = 4;
    BatchLoader loader(corpus, rows, T, options.seed);
    std::vector<Batch> batches;
    for (int64_t tokens = 0; tokens < calibration_tokens; tokens += rows * T) batches.push_back(loader.next());
    device.move(*teacher.decoder);
    device.move(*result.model.decoder);
    calibrate(*result.model.decoder, *teacher.decoder, batches, calibration);
  }
  save_model(result.model, output);

  const int64_t total = result.copied_parameters + result.fresh_parameters;
  if (json) {
    Json report = Json::object();
    report.set("parameters", total);
    report.set("copied", result.copied_parameters);
    report.set("new", result.fresh_parameters);
    report.set("state_bytes", static_cast<int64_t>(state));
    Json notes = Json::array();
    for (const std::string& note : result.notes) notes.push(note);
    report.set("notes", std::move(notes));
    report.set("output", output.string());
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  if (!calibration_text.empty()) printf("fitted  the output projections, to the teacher's outputs on %s\n", calibration_text.c_str());
  printf("copied  %4zu tensors, %s parameters\n", result.copied.size(), format_count(static_cast<double>(result.copied_parameters)).c_str());
  printf("new     %4zu tensors, %s parameters\n", result.fresh.size(), format_count(static_cast<double>(result.fresh_parameters)).c_str());
  for (const std::string& note : result.notes) printf("note    %s\n", note.c_str());
  printf("state   %s a sequence, at any length (the KV cache takes %s a token)\n", format_bytes(static_cast<double>(state)).c_str(),
         format_bytes(static_cast<double>(cache)).c_str());
  printf("wrote   %s   (it speaks nonsense until it is uptrained: supra uptrain %s -o DIR --data FILE --tokens 3M)\n",
         output.c_str(), output.c_str());
  return 0;
}

}  // namespace supra
