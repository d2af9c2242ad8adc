#pragma once
#include "supra/evaluation/choices.h"
#include "supra/formats/parse/json.h"

namespace supra {

// The tasks of a folder, and the score of a model on one of them.

// The tasks under one name in a table: one jsonl, or all subjects of MMLU.
struct TaskSet {
  std::string name;
  std::vector<Task> parts;  // of the same kind; tasks without items are dropped

  TaskKind kind() const { return parts[0].kind; }
  int64_t items() const;
  double chance() const;   // the accuracy of guessing
  uint64_t hash() const;   // of all questions
  int64_t tokens() const;  // about how many are read and written; a common prefix counts once
};

struct TaskFolder {
  std::vector<TaskSet> sets;
  std::vector<std::string> left_aside;  // "x.jsonl.gz: is compressed by gzip (gunzip it)"
};

// Every jsonl is a set, in order of names. The csv files of the folder, of a subfolder or of its test/ form one set. A single
// file counts as a folder. Throws Error as read_tasks() does, and if there is no task.
TaskFolder read_task_folder(const Path& path);

// Keeps `limit` items, chosen by the seed; 0: all. A smaller limit keeps a subset of a larger one's.
void choose_items(TaskSet& set, int64_t limit, uint64_t seed);

// {"kind","n","acc","acc_norm","stderr","stderr_norm","shots","chance","cut","right","right_norm"} of one set. `cut`: contexts
// longer than the model's positions. `right`: '1' or '0' per item, so that models can be compared item by item.
Json score_task_set(const Model& model, const TaskSet& set, const OnItems& on_items = {});

}  // namespace supra
