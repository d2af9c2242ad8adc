#include "supra/evaluation/tasks.h"

#include <algorithm>

#include "supra/formats/parse/json.h"
#include "supra/tokenizers/corpus.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

const char* name_of(TaskKind kind) {
  constexpr const char* kNames[] = {"multiple choice", "schema", "last word", "MMLU", "question answering"};
  return kNames[static_cast<int>(kind)];
}

static int64_t count_characters(std::string_view text) {
  int64_t n = 0;
  for (; !text.empty(); n++) text.remove_prefix(first_character(text).size);
  return n;
}

static Candidate make_candidate(const std::string& context, const std::string& choice) {
  const bool joined = context.empty() || isspace(static_cast<unsigned char>(context.back()));
  return {context, joined ? choice : " " + choice, count_characters(choice)};
}

// An item as a worked example.
static std::string worked(const TaskItem& item) {
  const Candidate& right = item.candidates[item.gold];
  return right.context + right.continuation + "\n\n";
}

static TaskKind kind_of(const Json& item) {
  const auto has = [&](std::initializer_list<const char*> keys) {
    return std::all_of(keys.begin(), keys.end(), [&](const char* key) { return item.find(key); });
  };
  if (has({"query", "choices"})) return TaskKind::choices;
  if (has({"context_options", "continuation"})) return TaskKind::schema;
  if (has({"context", "continuation"})) return TaskKind::last_word;
  if (has({"context", "answer"})) return TaskKind::questions;
  fail("%s: the keys belong to no known kind of task. Known are multiple choice (query, choices, gold), schema (context_options, "
       "continuation, gold), last word (context, continuation), question answering (context, answer, aliases) and MMLU's csv",
       item.where().c_str());
}

static TaskItem read_item(const Json& json, TaskKind kind) {
  TaskItem item;
  switch (kind) {
    case TaskKind::choices:
      for (const Json& choice : json.at("choices").as_array("choices")) {
        item.candidates.push_back(make_candidate(json.text("query"), choice.as_string("a choice")));
      }
      break;
    case TaskKind::schema:
      for (const Json& context : json.at("context_options").as_array("context_options")) {
        item.candidates.push_back(make_candidate(context.as_string("a context"), json.text("continuation")));
      }
      break;
    case TaskKind::questions:
      item.candidates.push_back(make_candidate(json.text("context"), json.text("answer")));
      item.answers.push_back(json.text("answer"));
      for (const Json& alias : json.at("aliases").as_array("aliases")) item.answers.push_back(alias.as_string("an alias"));
      break;
    default:
      item.candidates.push_back(make_candidate(json.text("context"), json.text("continuation")));
  }
  const bool chosen = kind == TaskKind::choices || kind == TaskKind::schema;
  item.gold = chosen ? json.integer("gold") : 0;
  const int64_t n = static_cast<int64_t>(item.candidates.size());
  CHECK(n > 0 && item.gold >= 0 && item.gold < n, "%s: gold is %ld, of %ld choices", json.where().c_str(),
        static_cast<long>(item.gold), static_cast<long>(n));
  for (const Candidate& candidate : item.candidates) {
    CHECK(candidate.characters > 0, "%s: a continuation is empty, it cannot be scored", json.where().c_str());
  }
  return item;
}

static Task read_jsonl(const Path& path) {
  Task task{path.stem().string(), TaskKind::choices, "", 0, {}};
  const MappedFile file = open_text(path);
  std::string_view text = file.text();
  for (int64_t line = 1; !text.empty(); line++) {
    const std::string_view row = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), row.size() + 1));
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json json = Json::parse(row, format("%s:%ld", path.c_str(), static_cast<long>(line)));
    if (task.items.empty()) task.kind = kind_of(json);
    task.items.push_back(read_item(json, task.kind));
  }
  return task;
}

std::vector<std::vector<std::string>> parse_csv(std::string_view text, const std::string& where) {
  std::vector<std::vector<std::string>> rows;
  for (size_t at = 0; at < text.size();) {
    std::vector<std::string>& row = rows.emplace_back();
    for (bool more = true; more;) {
      std::string& field = row.emplace_back();
      if (at < text.size() && text[at] == '"') {
        const size_t opened = at++;
        for (;; at++) {
          CHECK(at < text.size(), "%s: the quote at byte %zu is never closed", where.c_str(), opened);
          if (text[at] == '"' && text.substr(at, 2) != "\"\"") break;
          at += text[at] == '"';
          field += text[at];
        }
        at++;
      }
      const size_t end = std::min(text.find_first_of(",\r\n", at), text.size());
      field += text.substr(at, end - at);
      more = end < text.size() && text[end] == ',';
      at = end + (text.substr(end, 2) == "\r\n" ? 2 : 1);
    }
  }
  return rows;
}

TaskItem mmlu_item(const std::string& question, const std::vector<std::string>& choices, int64_t gold) {
  std::string context = question + "\n";
  for (size_t i = 0; i < choices.size(); i++) context += std::string{static_cast<char>('A' + i), '.', ' '} + choices[i] + "\n";
  TaskItem item{{}, gold, question, choices, {}};
  for (size_t i = 0; i < choices.size(); i++) item.candidates.push_back({context + "Answer:", {' ', static_cast<char>('A' + i)}, 1});
  return item;
}

static Task read_csv(const Path& path) {
  Task task{path.stem().string(), TaskKind::mmlu, "", 0, {}};
  for (const char* part : {"_test", "_dev", "_val"}) {
    if (task.name.ends_with(part)) task.name.resize(task.name.size() - std::string_view(part).size());
  }
  const MappedFile file = open_text(path);
  const auto rows = parse_csv(file.text(), path.string());
  const std::vector<std::string> header = {"question", "choice0", "choice1", "choice2", "choice3", "answer"};
  CHECK(!rows.empty() && rows[0] == header,
        "%s: the first line of a csv task must be question,choice0,choice1,choice2,choice3,answer",
        path.c_str());
  for (size_t r = 1; r < rows.size(); r++) {
    const std::vector<std::string>& row = rows[r];
    CHECK(row.size() == header.size(), "%s: row %zu has %zu fields, expected %zu", path.c_str(), r,
          row.size(), header.size());
    CHECK(row[5].size() == 1 && row[5][0] >= '0' && row[5][0] <= '3',
          "%s: row %zu: the answer is \"%s\", expected 0, 1, 2 or 3", path.c_str(), r, row[5].c_str());
    task.items.push_back(mmlu_item(row[0], {row.begin() + 1, row.begin() + 5}, row[5][0] - '0'));
  }
  return task;
}

// The file with the worked examples of a csv: the given one, or that of the subject.
static Path find_shots(const Path& path, const std::string& subject, const Path& shots) {
  if (!shots.empty() && !std::filesystem::is_directory(shots)) return shots;
  const Path folder =
      shots.empty() ? std::filesystem::absolute(path).parent_path().parent_path() / "dev" : shots;
  const Path file = folder / (subject + "_dev.csv");
  CHECK(std::filesystem::exists(file),
        "%s: does not exist; it should have the worked examples of %s (name their folder with --shots, or give --shots 0)",
        file.c_str(), subject.c_str());
  return file;
}

static Task read_task(const Path& path, const Path& shots) {
  const auto read = [](const Path& file) {
    Task task = file.extension() == ".csv" ? read_csv(file) : read_jsonl(file);
    CHECK(!task.items.empty(), "%s: has no items", file.c_str());
    return task;
  };
  Task task = read(path);
  const bool mmlu = task.kind == TaskKind::mmlu;
  const bool none = shots == "0" || (shots.empty() && !mmlu);
  if (mmlu) {
    std::string subject = task.name;
    std::replace(subject.begin(), subject.end(), '_', ' ');
    task.prompt = "The following are multiple choice questions (with answers) about " + subject + ".\n\n";
  }
  if (none) return task;
  const Path examples = mmlu ? find_shots(path, task.name, shots) : shots;
  const Task solved = read(examples);
  CHECK((solved.kind == TaskKind::mmlu) == mmlu,
        "%s: holds %s items, worked examples of a %s task were expected", examples.c_str(),
        name_of(solved.kind), name_of(task.kind));
  for (const TaskItem& item : solved.items) task.prompt += worked(item);
  task.shots = static_cast<int64_t>(solved.items.size());
  return task;
}

std::vector<Task> read_tasks(const Path& path, const Path& shots) {
  if (!std::filesystem::is_directory(path)) return {read_task(path, shots)};
  std::vector<Path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const Path& file = entry.path();
    if (file.extension() == ".csv") files.push_back(file);
    const Path unpacked = Path(file).replace_extension();
    CHECK(file.extension() != ".gz" || unpacked.extension() != ".csv" || std::filesystem::exists(unpacked),
          "%s: is compressed by gzip (gunzip it)", file.c_str());
  }
  CHECK(!files.empty(), "%s: there is no csv in this folder; a jsonl task is named as a file", path.c_str());
  std::sort(files.begin(), files.end());
  std::vector<Task> tasks;
  for (const Path& file : files) tasks.push_back(read_task(file, shots));
  return tasks;
}

void cut_task(Task& task, int64_t offset, int64_t limit) {
  const int64_t n = static_cast<int64_t>(task.items.size());
  CHECK(offset < n, "%s: item %ld was requested, but there are only %ld", task.name.c_str(), static_cast<long>(offset),
        static_cast<long>(n));
  task.items.erase(task.items.begin(), task.items.begin() + offset);
  if (limit > 0 && limit < n - offset) task.items.resize(static_cast<size_t>(limit));
}

}  // namespace supra
