#pragma once
#include <optional>
#include <string>
#include <vector>

#include "supra/evaluation/measure.h"
#include "supra/evaluation/task_folder.h"
#include "tools/device_flags.h"

// What supra compare measures, a topic each: how it is measured, and which rows of the table and curves of the pictures come of
// it. Another topic is one more function here.

namespace supra {

enum class Unit { percent, nats, bits, bytes, per_second };

// A figure of one model; the row of that name holds it beside the others'.
struct Figure {
  std::string row;
  Unit unit;
  double value = 0;
  std::optional<double> error = {};   // its standard error
  std::optional<double> chance = {};  // what a model reaches that knows nothing of what stands before
  std::string items = {};             // "0110": which items were right, for a comparison by pairs
  bool falls = false;                 // a loss: less is better
  std::string note = {};              // a foot note
};

// A line of a picture, a model each. x are powers of two.
struct Curve {
  std::string picture, panel, x_label;  // "by_position", "nats a token", "position"
  std::vector<double> x, y;
  std::optional<double> chance = {};  // a dashed line
};

struct Topic {
  Measure measure;
  std::string title;  // above its rows, with the sizes; topics of one title share it
  std::function<std::vector<Figure>(const Json& report)> figures;
  std::function<std::vector<Curve>(const Json& report)> curves = {};
};

// The models and files that topics are made for.
struct CompareOptions {
  Path text, tasks;
  std::string separator;  // of documents of the text
  int64_t context = 8192, text_tokens = 1 << 14, limit = 200, facts = 4;
  uint64_t seed = 1;
};
struct Comparison {
  CompareOptions options;
  DeviceFlags device;
  std::shared_ptr<const Tokenizer> tokenizer;  // the teacher's: the text is cut by its ids
  int64_t shared_context = 0;                  // positions that all models know; 0: any number
  std::string text;                            // of options.text
  TaskFolder tasks;                            // items are chosen
  std::vector<std::string> notes = {};         // what topics left out, and why
};

Topic text_topic(const Comparison& comparison);       // nats a token, bits a byte
Topic agreement_topic(const Comparison& comparison);  // with the teacher, on the same text
Topic position_topic(Comparison& comparison);         // nats a token by position
Topic task_topic(const TaskSet& set);                 // accuracy
Topic bias_topic(const TaskSet& set);                 // of MMLU: whether it goes by letter
// What was told 64, 128, ... tokens before: a fact, one of four, a span that occurs again. None where the text is too short.
std::optional<Topic> recall_topic(Comparison& comparison);
Topic cost_topic(const Comparison& comparison);  // bytes a session, speed

// Those of what was given, in the order of the table.
std::vector<Topic> topics_of(Comparison& comparison);

}  // namespace supra
