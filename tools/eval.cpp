#include <algorithm>
#include <cmath>
#include <cstdio>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/json.h"
#include "supra/model.h"
#include "tools/command.h"
#include "tools/human.h"
#include "tools/progress.h"

namespace supra {

int run_eval(Args& args) {
  Path input, text;
  std::string tokenizer_file;
  TextOptions options;
  options.context = 0;
  std::optional<bool> bos;
  bool json = false, recurrent = false;
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&text, "--text", "FILE", "the text to score").required();
  args.flag(&options.separator, "--docs", "SEP", "what stands between documents; else the file is one sequence");
  args.flag(&options.max_documents, "--max-docs", "N", "documents to score; 0: all").at_least(0);
  args.tokens(&options.max_tokens, "--max-tokens", "ids to keep; 0: all");
  args.tokens(&options.context, "--context", "ids of a sequence; 0: the model's context");
  args.flag(&bos, "--bos", "whether a sequence begins with BOS; else as the tokenizer says");
  args.flag(&recurrent, "--recurrent", "decode token by token instead of in chunks");
  args.flag(&tokenizer_file, "--tokenizer", "FILE", "else the one found beside the model");
  common_flags(args, &json);
  args.parse();

  const Model model = load_model(input, tokenizer_file, Weights::stored);
  const Tokenizer& tokenizer = tokenizer_of(model);
  if (options.context == 0) options.context = model.config().context > 0 ? model.config().context : 2048;
  options.bos = bos.value_or(tokenizer.adds_bos());
  const MappedFile file(text);
  const auto sequences = scoring_sequences(tokenizer, file.text(), options);
  CHECK(std::any_of(sequences.begin(), sequences.end(), [](const auto& ids) { return ids.size() > 1; }),
        "%s: is too short to score, there is no token to predict", text.c_str());

  Perplexity result;
  {
    Progress progress("tokens", 0);
    result = evaluate(*model.decoder, sequences, recurrent, [&](int64_t done, int64_t total) {
      progress.update(done, format("of %s", format_count(static_cast<double>(total)).c_str()));
    });
  }
  const double bits = bits_per_byte(result.nll, result.tokens, predicted_bytes(tokenizer, sequences));
  const double speed = static_cast<double>(result.tokens) / result.seconds;
  if (json) {
    Json report = Json::object();
    report.set("tokens", result.tokens);
    report.set("nll", result.nll);
    report.set("stderr", result.error);
    report.set("ppl", std::exp(result.nll));
    report.set("bits_per_byte", bits);
    report.set("seconds", result.seconds);
    report.set("tokens_per_second", speed);
    report.set("sequences", static_cast<int64_t>(sequences.size()));
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  printf("%.4f +- %.4f nats a token, perplexity %.3f, %.4f bits a byte\n", result.nll, result.error, std::exp(result.nll), bits);
  printf("%s tokens of %zu sequences in %s, %s tok/s\n", format_count(static_cast<double>(result.tokens)).c_str(), sequences.size(),
         format_time(result.seconds).c_str(), format_count(speed).c_str());
  return 0;
}

}  // namespace supra
