#include <chrono>
#include <cstdio>

#include "supra/evaluation/text_sample.h"
#include "tools/command.h"
#include "tools/compare/table.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/output_folder.h"
#include "tools/plot/png.h"
#include "tools/progress.h"

// supra compare: students beside their teacher, in one table. Each result is stored in a file, so an interrupted comparison
// continues where it stopped, and no model is measured twice on the same files.

namespace supra {
namespace {

constexpr const char* kResults = "results";  // the folder of the files

// A model that is compared.
struct Subject {
  Path path;
  std::string name, key;
  bool same_vocabulary = true;
  int64_t positions = 0;  // the most that it can read; 0: any number
};

struct Run {
  Path output = "build/compare";
  std::string tokenizer;
  DeviceFlags device;
  std::vector<Subject> subjects;
  std::vector<Topic> topics;
};

// Thrown after Ctrl-C during a measurement.
struct Stopped {};

// Identifies the meaning of a tokenizer's ids.
std::string hash_of_vocabulary(const Tokenizer& tokenizer) {
  Hash hash;
  for (int32_t id = 0; id < tokenizer.size(); id++)
    hash.add(tokenizer.is_special(id) ? "<" + tokenizer.mark_text(id) : tokenizer.piece(id));
  return hex(hash.value());
}

// The model's name, with a number after it if another model has the same.
std::string name_of(const Path& path, const std::vector<Subject>& others) {
  const std::string name = model_name(path);
  std::string unique = name;
  const auto taken = [&] { return std::any_of(others.begin(), others.end(), [&](const Subject& s) { return s.name == unique; }); };
  for (int n = 2; taken(); n++) unique = name + format("-%d", n);
  return unique;
}

// Reads each model once, to find models that cannot be compared before hours are spent. Returns the teacher's tokenizer.
std::shared_ptr<const Tokenizer> look_at(Run& run, const std::vector<Path>& models) {
  std::shared_ptr<const Tokenizer> first;
  std::string vocabulary;
  int64_t size = 0;
  for (const Path& path : models) {
    const Model model = load_model(path, run.tokenizer, Weights::stored);
    const std::string words = hash_of_vocabulary(tokenizer_of(model));
    if (!first) first = model.tokenizer, vocabulary = words, size = model.config().vocab;
    run.subjects.push_back({path, name_of(path, run.subjects), key_of_model(model), words == vocabulary && model.config().vocab == size,
                            position_limit(model.config())});
  }
  return first;
}

// Of a model and a topic: whether to measure it, and the key of the result.
bool applies(const Run& run, size_t subject, const Topic& topic) {
  return !topic.measure.by_teacher || (subject > 0 && run.subjects[subject].same_vocabulary);
}
std::string key_of(const Run& run, size_t subject, const Topic& topic) {
  return topic.measure.by_teacher ? run.subjects[subject].key + " of " + run.subjects[0].key : run.subjects[subject].key;
}

// The work left and the speed, from the times of this run.
struct Work {
  int64_t jobs = 0, jobs_done = 0;
  double tokens = 0, tokens_done = 0;
  std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();

  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); }
  // the remaining time, if the speed stays the same
  std::string left(double done_of_this) const {
    const double done = tokens_done + done_of_this;
    return done > 0.02 * tokens ? ", all in about " + format_time(seconds() / done * (tokens - done)) : "";
  }
};

KeptResult measure(const Run& run, const Subject& subject, const Topic& topic, const Model& model, const Work& work) {
  const Measure& m = topic.measure;
  std::optional<Model> teacher;
  if (m.by_teacher) run.device.place(*teacher.emplace(load_model(run.subjects[0].path, run.tokenizer, Weights::stored)).decoder);
  Progress progress(subject.name + ", " + m.name + ", tokens", m.work);
  const auto on_part = [&](double part) {
    if (interrupted()) throw Stopped{};
    const double done = part * static_cast<double>(m.work);
    progress.update(static_cast<int64_t>(done),
                    format("%ld of %ld", static_cast<long>(work.jobs_done + 1), static_cast<long>(work.jobs)) + work.left(done));
  };
  try {
    Json result = m.run(model, teacher ? &*teacher : nullptr, on_part);
    return {std::move(result), progress.seconds()};
  } catch (const Error& error) {
    fail("%s, %s: %s", subject.name.c_str(), m.name.c_str(), error.what());
  }
}

// Measures what is missing, one model after the other, and returns the columns of the table.
std::vector<Column> measure_all(const Run& run, const KeptResults& results) {
  Work work;
  std::vector<std::vector<std::optional<KeptResult>>> kept(run.subjects.size());
  for (size_t s = 0; s < run.subjects.size(); s++) {
    for (const Topic& topic : run.topics) {
      const bool wanted = applies(run, s, topic);
      kept[s].push_back(wanted ? results.find(key_of(run, s, topic), topic.measure) : KeptResult{});
      if (!kept[s].back()) work.jobs++, work.tokens += static_cast<double>(topic.measure.work);
    }
  }
  fprintf(stderr, "%ld measurements to make; what was measured before is taken from %s\n", static_cast<long>(work.jobs),
          (run.output / kResults).c_str());
  std::vector<Column> columns;
  for (size_t s = 0; s < run.subjects.size(); s++) {
    const Subject& subject = run.subjects[s];
    std::optional<Model> model;
    columns.push_back({subject.name, subject.same_vocabulary, Json::object()});
    for (size_t t = 0; t < run.topics.size(); t++) {
      const Topic& topic = run.topics[t];
      std::optional<KeptResult>& there = kept[s][t];
      if (!there) {
        if (!model) run.device.place(*model.emplace(load_model(subject.path, run.tokenizer, Weights::stored)).decoder);
        there = measure(run, subject, topic, *model, work);
        results.keep(key_of(run, s, topic), subject.path, topic.measure, *there);
        work.jobs_done++;
        work.tokens_done += static_cast<double>(topic.measure.work);
        if (interrupted()) throw Stopped{};
      }
      if (applies(run, s, topic)) columns[s].report.set(topic.measure.name, there->result);
    }
  }
  return columns;
}

// {"models":[{"path",…}],"rows":[…],"notes":[…]}
Json report_of(const Run& run, const std::vector<Column>& columns, const Table& table, const std::vector<std::string>& notes) {
  Json models = Json::array(), said = Json::array();
  for (size_t s = 0; s < columns.size(); s++) {
    Json model = Json::object({{"path", run.subjects[s].path.string()},
                               {"name", columns[s].name},
                               {"teacher", s == 0},
                               {"same_vocabulary", columns[s].same_vocabulary}});
    for (const Json::Member& part : columns[s].report.as_object()) merge(model, part.value);
    models.push(std::move(model));
  }
  for (const std::string& note : notes) said.push(note);
  return Json::object({{"models", std::move(models)}, {"rows", as_json(table)}, {"notes", std::move(said)}});
}

// Writes the table, the JSON and the pictures into the folder. Returns a sentence about them.
std::string write_outputs(const Run& run, const std::vector<Column>& columns, const Table& table, const Json& report) {
  write_file_atomically(run.output / "compare.md", as_markdown(table));
  write_file_atomically(run.output / "compare.json", report.dump(true) + "\n");
  std::string names = "compare.md, compare.json";
  if (const std::string no_png = why_no_png(); !no_png.empty()) return names + " (no pictures: " + no_png + ")";
  for (const Path& file : draw_curves(run.topics, columns, run.output)) names += ", " + file.filename().string();
  return names;
}

// Reads and checks the files for the comparison, and chooses parts of them.
Comparison prepare(const Run& run, const CompareOptions& options, std::shared_ptr<const Tokenizer> tokenizer) {
  Comparison c = {options, run.device, std::move(tokenizer), 0, "", {}};
  for (const Subject& subject : run.subjects) {
    if (subject.positions > 0) c.shared_context = c.shared_context > 0 ? std::min(c.shared_context, subject.positions) : subject.positions;
    if (!subject.same_vocabulary)
      c.notes.push_back(
          subject.name +
          " has another vocabulary than the teacher: nats a token are not comparable, bits a byte are; no agreement is measured");
  }
  if (!options.text.empty()) c.text = read_whole_text(options.text, options.separator);
  if (!options.tasks.empty()) c.tasks = read_task_folder(options.tasks);
  for (TaskSet& set : c.tasks.sets) choose_items(set, options.limit, options.seed);
  for (const std::string& file : c.tasks.left_aside) c.notes.push_back(file);
  return c;
}

}  // namespace

int run_compare(Args& args) {
  Run run;
  CompareOptions options;
  Path teacher;
  std::vector<Path> students;
  bool json = false, markdown = false, quiet = false;
  args.positional(&teacher, "TEACHER", "the model that the students were made from");
  args.positional(&students, "STUDENT", "the models to compare with it");
  args.flag(&options.text, "--text", "FILE", "text that no model was trained on: measures loss, loss by position, agreement");
  args.flag(&options.tasks, "--tasks", "FOLDER", "task files, as eval --task reads them, and folders of MMLU's csv");
  args.flag(&options.separator, "--docs", "SEP", "separator of documents in the text; without it the text is one document");
  args.tokens(&options.context, "--context", "largest position at which the loss is shown").at_least(16);
  args.tokens(&options.text_tokens, "--text-tokens", "tokens of the text to score, in parts at even distances").at_least(16);
  args.flag(&options.limit, "--limit", "N", "items of each task, the same for all models; 0: all").at_least(0);
  args.flag(&options.facts, "--facts", "N", "planted facts, and repeated spans, at each distance up to --context").at_least(1);
  args.flag(&options.seed, "--seed", "N", "random seed that chooses items and facts");
  args.flag(&run.output, "--output -o", "DIR", "folder for results, table and pictures");
  args.flag(&run.tokenizer, "--tokenizer", "FILE", "tokenizer for all models, instead of the one beside each");
  args.flag(&markdown, "--markdown", "print the table as markdown");
  args.flag(&quiet, "--quiet", "do not print the table; it is in DIR");
  // the measurements have larger errors than the products
  run.device.declare(args, true);
  common_flags(args, &json);
  args.parse();
  run.device.check(args);
  if (json && markdown) args.misused("--json and --markdown exclude each other");
  catch_interrupts();

  students.insert(students.begin(), teacher);
  Comparison comparison = prepare(run, options, look_at(run, students));
  run.topics = topics_of(comparison);
  for (Topic& topic : run.topics)
    topic.measure.key += format(" %s %s %s", name(run.device.device), name(run.device.activations), name(products()));
  for (const std::string& note : comparison.notes) print_note(note);
  make_output_folder(run.output, {kResults});
  const KeptResults results(run.output / kResults);
  const FileLock lock(run.output / ".lock");
  std::vector<Column> columns;
  try {
    columns = measure_all(run, results);
  } catch (const Stopped&) {
    fprintf(stderr, "stopped: what was measured is kept in %s; the same command goes on there\n", (run.output / kResults).c_str());
    return 1;
  }
  const Table table = make_table(run.topics, columns);
  const Json report = report_of(run, columns, table, comparison.notes);
  const std::string written = write_outputs(run, columns, table, report);
  if (json)
    printf("%s\n", report.dump().c_str());
  else if (!quiet)
    fputs(markdown ? as_markdown(table).c_str() : as_text(table).c_str(), stdout);
  fprintf(stderr, "%s holds %s\n", run.output.c_str(), written.c_str());
  return 0;
}

}  // namespace supra
