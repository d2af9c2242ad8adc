#include "supra/evaluation/position_bias.h"

#include <algorithm>

namespace supra {

TaskItem shifted(const TaskItem& item, int64_t shift) {
  const int64_t n = static_cast<int64_t>(item.choices.size());
  std::vector<std::string> moved(item.choices.size());
  for (int64_t i = 0; i < n; i++) moved[(i + shift) % n] = item.choices[i];
  return mmlu_item(item.question, moved, (item.gold + shift) % n);
}

// An item's answers: the letters chosen under each shift.
static void count_item(PositionBias& result, const std::vector<int64_t>& letters, int64_t gold) {
  const int64_t n = static_cast<int64_t>(letters.size());
  std::vector<int64_t> contents;
  std::vector<double> chosen(letters.size());
  for (int64_t shift = 0; shift < n; shift++) {
    contents.push_back((letters[shift] - shift + n) % n);
    chosen[letters[shift]] += 1.0 / static_cast<double>(n);
    result.by_shift[shift].add(contents.back() == gold);
  }
  const auto right = std::count(contents.begin(), contents.end(), gold);
  result.accuracy.add(static_cast<double>(right) / static_cast<double>(n));
  result.all_right.add(right == n);
  result.same_content.add(std::count(contents.begin(), contents.end(), contents[0]) == n);
  for (int64_t letter = 0; letter < n; letter++) result.letters[letter].add(chosen[letter]);
}

PositionBias position_bias(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Task>& subjects, int64_t context, bool bos,
                           const OnItems& on_items) {
  constexpr int64_t kShifts = 4;
  PositionBias result;
  result.by_shift.resize(kShifts);
  result.letters.resize(kShifts);
  int64_t done = 0;
  for (const Task& subject : subjects) {
    CHECK(subject.kind == TaskKind::mmlu, "%s: holds %s items, position bias is measured on MMLU's csv", subject.name.c_str(), name_of(subject.kind));
    // the shifts of an item follow one another
    Task moved{subject.name, subject.kind, subject.prompt, subject.shots, {}};
    for (const TaskItem& item : subject.items) {
      for (int64_t shift = 0; shift < kShifts; shift++) moved.items.push_back(shifted(item, shift));
    }
    std::vector<std::vector<Request>> requests = encode_task(tokenizer, moved, bos);
    if (context > 0) result.cut += cut_requests(requests, context);
    const auto scores = score_requests(decoder, requests, [&](int64_t asked) {
      if (on_items) on_items(done + asked / kShifts);
    });
    for (size_t i = 0; i < subject.items.size(); i++) {
      std::vector<int64_t> letters;
      for (size_t shift = 0; shift < kShifts; shift++) letters.push_back(predict(moved, kShifts * i + shift, scores[kShifts * i + shift]).sum);
      count_item(result, letters, subject.items[i].gold);
    }
    done += static_cast<int64_t>(subject.items.size());
  }
  return result;
}

}  // namespace supra
