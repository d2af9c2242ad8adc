#include "supra/evaluation/task_folder.h"

#include <algorithm>
#include <numeric>

#include "supra/evaluation/question_answering.h"
#include "supra/formats/fingerprint.h"
#include "tensor/random.h"

namespace supra {

namespace fs = std::filesystem;

int64_t TaskSet::items() const {
  int64_t n = 0;
  for (const Task& part : parts) n += static_cast<int64_t>(part.items.size());
  return n;
}

double TaskSet::chance() const {
  if (kind() == TaskKind::last_word || kind() == TaskKind::questions) return 0;
  double sum = 0;
  for (const Task& part : parts)
    for (const TaskItem& item : part.items) sum += 1 / static_cast<double>(item.candidates.size());
  return sum / static_cast<double>(items());
}

uint64_t TaskSet::hash() const {
  Hash hash;
  for (const Task& part : parts) {
    hash.add(part.prompt);
    for (const TaskItem& item : part.items) {
      hash.add(static_cast<uint64_t>(item.gold));
      for (const Candidate& candidate : item.candidates) {
        hash.add(candidate.context);
        hash.add(candidate.continuation);
        hash.add(static_cast<uint64_t>(candidate.characters));
      }
    }
  }
  return hash.value();
}

int64_t TaskSet::tokens() const {
  constexpr int64_t kBytesAToken = 4, kWritten = 16;
  size_t bytes = 0;
  for (const Task& part : parts) {
    bytes += part.prompt.size();
    for (const TaskItem& item : part.items) {
      for (size_t i = 0; i < item.candidates.size(); i++) {
        const bool again = i > 0 && item.candidates[i].context == item.candidates[i - 1].context;
        bytes += (again ? 0 : item.candidates[i].context.size()) + item.candidates[i].continuation.size();
      }
    }
  }
  return static_cast<int64_t>(bytes) / kBytesAToken + (kind() == TaskKind::questions ? kWritten * items() : 0);
}

// ---- the folder

static std::vector<Path> files_in(const Path& folder, const char* extension) {
  std::vector<Path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TaskFolder read_task_folder(const Path& path) {
  CHECK(fs::exists(path), "%s: does not exist (--tasks names a folder of task files, or a single one)", path.c_str());
  TaskFolder folder;
  const Path canonical = fs::weakly_canonical(path / ".");
  if (!fs::is_directory(path)) {
    folder.sets.push_back({path.stem().string(), read_tasks(path, "")});
    return folder;
  }
  for (const Path& file : files_in(path, ".jsonl")) folder.sets.push_back({file.stem().string(), read_tasks(file, "")});
  std::vector<Path> folders = {path};
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.begin() + 1, folders.end());
  for (const Path& subjects : folders) {
    for (const Path& where : {subjects, subjects / "test"}) {
      if (!fs::is_directory(where) || files_in(where, ".csv").empty()) continue;
      const Path name = subjects == path ? canonical : subjects;
      folder.sets.push_back({name.filename().string(), read_tasks(where, "")});
      break;
    }
  }
  for (const Path& file : files_in(path, ".gz")) {
    const bool unpacked = fs::exists(Path(file).replace_extension());
    if (!unpacked) folder.left_aside.push_back(file.string() + ": is compressed by gzip (gunzip it)");
  }
  CHECK(!folder.sets.empty(), "%s: has no task: no .jsonl, and no csv of MMLU in it, in a subfolder or in that one's test/",
        path.c_str());
  return folder;
}

void choose_items(TaskSet& set, int64_t limit, uint64_t seed) {
  const int64_t n = set.items();
  if (limit > 0 && limit < n) {
    // the first `limit` of all items in a random order
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    Philox random(seed, 0x6974656d);
    for (int64_t i = 0; i < limit; i++) std::swap(order[i], order[i + static_cast<int64_t>(random.below(static_cast<uint64_t>(n - i)))]);
    std::vector<bool> kept(n);
    for (int64_t i = 0; i < limit; i++) kept[order[i]] = true;
    int64_t at = 0;
    for (Task& part : set.parts) std::erase_if(part.items, [&](const TaskItem&) { return !kept[at++]; });
  }
  std::erase_if(set.parts, [](const Task& part) { return part.items.empty(); });
}

// ---- the score

static Accuracy accuracy_of(const std::string& right) {
  return accuracy(std::count(right.begin(), right.end(), '1'), static_cast<int64_t>(right.size()));
}

// The results of the items.
struct Answered {
  std::string right, right_normalised;
  int64_t cut = 0;

  void add(bool by_sum, bool by_length) {
    right += by_sum ? '1' : '0';
    right_normalised += by_length ? '1' : '0';
  }
};

static void ask(const Model& model, const Task& task, const OnItems& on_items, Answered& answered) {
  const Tokenizer& tokenizer = tokenizer_of(model);
  const int64_t context = position_limit(model.config());
  const bool bos = tokenizer.adds_bos();
  if (task.kind == TaskKind::questions) {
    const QuestionAnswering result = answer_questions(*model.decoder, tokenizer, task, {.context = context, .bos = bos}, on_items);
    for (const Answer& answer : result.answers) answered.add(answer.right, answer.right);
    answered.cut += result.cut;
    return;
  }
  std::vector<std::vector<Request>> requests = encode_task(tokenizer, task, bos);
  if (context > 0) answered.cut += cut_requests(requests, context);
  const auto scores = score_requests(*model.decoder, requests, on_items);
  for (size_t i = 0; i < scores.size(); i++) {
    const Prediction chosen = predict(task, i, scores[i]);
    answered.add(chosen.sum == task.items[i].gold, chosen.normalised == task.items[i].gold);
  }
}

Json score_task_set(const Model& model, const TaskSet& set, const OnItems& on_items) {
  Answered answered;
  for (const Task& task : set.parts) {
    const int64_t before = static_cast<int64_t>(answered.right.size());
    const auto on_more = [&](int64_t done) {
      if (on_items) on_items(before + done);
    };
    ask(model, task, on_more, answered);
  }
  const Accuracy sum = accuracy_of(answered.right), normalised = accuracy_of(answered.right_normalised);
  return Json::object({{"kind", name_of(set.kind())},
                       {"n", static_cast<int64_t>(answered.right.size())},
                       {"acc", sum.mean},
                       {"acc_norm", normalised.mean},
                       {"stderr", sum.error},
                       {"stderr_norm", normalised.error},
                       {"shots", set.parts[0].shots},
                       {"chance", set.chance()},
                       {"cut", answered.cut},
                       {"right", answered.right},
                       {"right_norm", answered.right_normalised}});
}

}  // namespace supra
