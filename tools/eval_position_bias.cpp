#include <cstdio>

#include "tools/eval_tasks.h"
#include "tools/progress.h"

namespace supra {

static void set_mean(Json& json, const std::string& key, const std::string& error_key, const Mean& mean) {
  json.set(key, mean.mean());
  json.set(error_key, mean.error());
}

Json to_json(const PositionBias& bias) {
  Json report = Json::object(), shifts = Json::array(), letters = Json::object();
  report.set("n", bias.accuracy.n);
  set_mean(report, "acc", "stderr", bias.accuracy);
  set_mean(report, "all_right", "all_right_stderr", bias.all_right);
  set_mean(report, "same_content", "same_content_stderr", bias.same_content);
  for (const Mean& shift : bias.by_shift) {
    Json row = Json::object();
    set_mean(row, "acc", "stderr", shift);
    shifts.push(std::move(row));
  }
  report.set("by_shift", std::move(shifts));
  for (size_t i = 0; i < bias.letters.size(); i++) {
    Json row = Json::object();
    set_mean(row, "share", "stderr", bias.letters[i]);
    letters.set(std::string(1, static_cast<char>('A' + i)), std::move(row));
  }
  report.set("letters", std::move(letters));
  return report;
}

int eval_position_bias(const Model& model, const std::vector<Task>& subjects, int64_t context, bool bos, bool json) {
  int64_t total = 0;
  for (const Task& subject : subjects) total += static_cast<int64_t>(subject.items.size());
  Progress progress("items", total);
  const PositionBias bias = position_bias(*model.decoder, tokenizer_of(model), subjects, context, bos,
                                          [&](int64_t done) { progress.update(done, "four shifts each"); });
  progress.finish();
  tell_cut(bias.cut, context);
  if (json) {
    Json report = to_json(bias);
    report.set("shots", subjects[0].shots);
    report.set("cut", bias.cut);
    report.set("seconds", progress.seconds());
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  const auto print = [](const char* what, const Mean& mean) { printf("%-48s %.4f +- %.4f\n", what, mean.mean(), mean.error()); };
  printf("%ld items, each asked with its choices moved on by 0, 1, 2 and 3 letters, %ld shots\n", static_cast<long>(total),
         static_cast<long>(subjects[0].shots));
  print("right, of all shifts (by chance .25)", bias.accuracy);
  for (size_t shift = 0; shift < bias.by_shift.size(); shift++) print(format("  moved on by %zu", shift).c_str(), bias.by_shift[shift]);
  print("right under every shift", bias.all_right);
  print("one content wins every shift (by chance .0156)", bias.same_content);
  for (size_t i = 0; i < bias.letters.size(); i++) print(format("answers %c", static_cast<char>('A' + i)).c_str(), bias.letters[i]);
  return 0;
}

}  // namespace supra
