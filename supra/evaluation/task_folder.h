#pragma once
#include "supra/evaluation/choices.h"
#include "supra/formats/json.h"

namespace supra {

// The tasks of a folder, and how a model does at one of them.

// What has one name in a table: a jsonl, or all subjects of MMLU.
struct TaskSet {
  std::string name;
  std::vector<Task> parts;  // of one kind; those without items are dropped

  TaskKind kind() const { return parts[0].kind; }
  int64_t items() const;
  double chance() const;   // the accuracy of who guesses
  uint64_t hash() const;   // of all that a model is asked
  int64_t tokens() const;  // about so many are read and written: what items have in front of them alike counts once
};

struct TaskFolder {
  std::vector<TaskSet> sets;
  std::vector<std::string> left_aside;  // "x.jsonl.gz: is compressed by gzip (gunzip it)"
};

// Every jsonl, in order of names; the csv files, and those of a folder in it or of that one's test/, are a set. A single file
// is a folder of one. Throws Error as read_tasks() does, and where there is no task.
TaskFolder read_task_folder(const Path& path);

// Keeps `limit` items, chosen by the seed; 0: all there are. A smaller limit keeps some of those that a larger one does.
void choose_items(TaskSet& set, int64_t limit, uint64_t seed);

// {"kind","n","acc","acc_norm","stderr","stderr_norm","shots","chance","cut","right","right_norm"} of one set. `cut`: contexts that
// were longer than the model knows. `right`: a '1' or '0' an item, so that models can be compared by pairs.
Json score_task_set(const Model& model, const TaskSet& set, const OnItems& on_items = {});

}  // namespace supra
