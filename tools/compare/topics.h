#pragma once
#include <optional>
#include <string>
#include <vector>

#include "supra/evaluation/measure.h"
#include "supra/evaluation/task_folder.h"
#include "tools/device_flags.h"

// The topics of supra compare. A topic is a measurement with its rows of the table and curves of the pictures. A new topic is one
// more function here.

namespace supra {

enum class Unit { percent, nats, bits, bytes, per_second };

// A figure of one model; the row of that name shows it beside the other models'.
struct Figure {
  std::string row;
  Unit unit;
  double value = 0;
  std::optional<double> error = {};   // its standard error
  std::optional<double> chance = {};  // the figure of a model that ignores the context
  std::string items = {};             // "0110": which items were right, to compare models item by item
  bool falls = false;                 // lower is better (a loss)
  std::string note = {};              // a footnote
};

// A line of a picture for one model. x are powers of two.
struct Curve {
  std::string picture, panel, x_label;  // "by_position", "nats a token", "position"
  std::vector<double> x, y;
  std::optional<double> chance = {};  // a dashed line
};

struct Topic {
  Measure measure;
  std::string title;  // above its rows, with sample sizes; topics may share a title
  std::function<std::vector<Figure>(const Json& report)> figures;
  std::function<std::vector<Curve>(const Json& report)> curves = {};
};

// The models and files of a comparison.
struct CompareOptions {
  Path text, tasks;
  std::string separator;  // between documents of the text
  int64_t context = 8192, text_tokens = 1 << 14, limit = 200, facts = 4;
  uint64_t seed = 1;
};
struct Comparison {
  CompareOptions options;
  DeviceFlags device;
  std::shared_ptr<const Tokenizer> tokenizer;  // the teacher's; the text is cut by its ids
  int64_t shared_context = 0;                  // the number of positions that all models have; 0: no limit
  std::string text;                            // the content of options.text
  TaskFolder tasks;                            // with the chosen items
  std::vector<std::string> notes = {};         // what topics skipped, and why
};

Topic text_topic(const Comparison& comparison);       // nats a token, bits a byte
Topic agreement_topic(const Comparison& comparison);  // with the teacher, on the same text
Topic position_topic(Comparison& comparison);         // nats a token by position
Topic task_topic(const TaskSet& set);                 // accuracy
Topic bias_topic(const TaskSet& set);                 // MMLU: whether the model answers by letter
// Recall at 64, 128, ... tokens: one fact, one of four facts, a span that occurs again. None if the text is too short.
std::optional<Topic> recall_topic(Comparison& comparison);
Topic cost_topic(const Comparison& comparison);  // bytes of a session, speed

// All topics for the given options, in the order of the table.
std::vector<Topic> topics_of(Comparison& comparison);

}  // namespace supra
