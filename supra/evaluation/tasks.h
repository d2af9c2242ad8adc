#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/file.h"

namespace supra {

// A context and one of its possible continuations.
struct Candidate {
  std::string context, continuation;
  int64_t characters = 0;  // code points of the bare choice
};

struct TaskItem {
  std::vector<Candidate> candidates;
  int64_t gold = 0;  // index of the right candidate
  std::string question = "";              // mmlu: the parts of its context: the question,
  std::vector<std::string> choices = {};  // and the contents of the letters
  std::vector<std::string> answers = {};  // questions: the accepted answers
};

enum class TaskKind {
  choices,    // one context, several continuations
  schema,     // several contexts, one continuation
  last_word,  // one context, one continuation: right if each of its tokens is the most likely one
  mmlu,       // one context that shows the choices, continuations " A" to " D"
  questions   // one context and its right continuation, which is not scored: question_answering.h
};
const char* name_of(TaskKind kind);

struct Task {
  std::string name;  // of the file, or of the subject
  TaskKind kind = TaskKind::choices;
  std::string prompt;  // the text before every context: the worked examples
  int64_t shots = 0;   // the number of worked examples
  std::vector<TaskItem> items;
};

// Reads a task by the keys of its first item:
//   {"query", "choices", "gold"}                     separated by a space, unless the query ends in white space
//   {"context_options", "continuation", "gold"}, {"context", "continuation"}        the same
//   {"context", "answer", "aliases"}                 the answer and all aliases are right
//   a csv with the header question,choice0,choice1,choice2,choice3,answer (Hendrycks et al., arXiv
//   2009.03300)
// `shots` names a file of the same form whose items are put in front, with their right choices. "0" or "": none;
// but for a csv "" means ../dev/<subject>_dev.csv. In a folder of csv files each file is a task, in order of
// names; `shots` is then the folder of <subject>_dev.csv. Throws Error naming the file, the item and the problem.
// Other kinds of files, and compressed files, are refused by name.
std::vector<Task> read_tasks(const Path& path, const Path& shots);

// MMLU's prompt for a question with these choices.
TaskItem mmlu_item(const std::string& question, const std::vector<std::string>& choices, int64_t gold);

// Keeps `limit` items from `offset` on; 0: all.
void cut_task(Task& task, int64_t offset, int64_t limit);

// The rows of a csv (RFC 4180): fields may be quoted, and then hold commas, line ends and doubled quotes.
std::vector<std::vector<std::string>> parse_csv(std::string_view text, const std::string& where);

}  // namespace supra
