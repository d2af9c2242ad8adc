#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/file.h"

namespace supra {

// A text that goes on in one of the ways there are to choose from.
struct Candidate {
  std::string context, continuation;
  int64_t characters = 0;  // code points of the bare choice
};

struct TaskItem {
  std::vector<Candidate> candidates;
  int64_t gold = 0;  // of the candidates
  std::string question = "";              // mmlu: what its context is made of, with
  std::vector<std::string> choices = {};  // the contents of the letters
  std::vector<std::string> answers = {};  // questions: each of them is right
};

enum class TaskKind {
  choices,    // one context, several continuations
  schema,     // several contexts, one continuation
  last_word,  // one of each: right where every token of the continuation is the most likely one
  mmlu,       // one context that shows the choices, continuations " A" to " D"
  questions   // one context and its right continuation, which is not scored: question_answering.h
};
const char* name_of(TaskKind kind);

struct Task {
  std::string name;  // of its file, or of the subject
  TaskKind kind = TaskKind::choices;
  std::string prompt;  // what stands in front of every context: the worked examples
  int64_t shots = 0;   // how many of them
  std::vector<TaskItem> items;
};

// Reads a task by the keys of its first item:
//   {"query", "choices", "gold"}                     a space between, unless the query ends in white space
//   {"context_options", "continuation", "gold"}, {"context", "continuation"}        the same
//   {"context", "answer", "aliases"}                 all aliases are right, and so is the answer
//   a csv with the header question,choice0,choice1,choice2,choice3,answer (Hendrycks et al., arXiv
//   2009.03300)
// `shots` names a file of the same form whose items are put in front with their right choices; "0" or "" for
// none, but for a csv "" means ../dev/<subject>_dev.csv. A folder of csv files is a task for each, in order of
// names; `shots` is then the folder of <subject>_dev.csv. Throws Error naming file, item and what is wrong, and
// refuses other kinds, and compressed files, by name.
std::vector<Task> read_tasks(const Path& path, const Path& shots);

// What MMLU asks of a question with these choices.
TaskItem mmlu_item(const std::string& question, const std::vector<std::string>& choices, int64_t gold);

// Keeps `limit` items from `offset` on; 0: all there are.
void cut_task(Task& task, int64_t offset, int64_t limit);

// The rows of a csv (RFC 4180): fields may be quoted, and then hold commas, line ends and doubled quotes.
std::vector<std::vector<std::string>> parse_csv(std::string_view text, const std::string& where);

}  // namespace supra
