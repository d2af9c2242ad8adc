#include "tools/plot/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>

#include "tensor/error.h"
#include "tools/args.h"
#include "tools/plot/chart.h"

namespace supra {
namespace {

// The columns of a log.
struct Run {
  Path path;
  std::string name;
  std::vector<std::string> names;
  std::vector<std::vector<double>> columns;
  std::vector<std::string> stages;  // of each row; empty if the log has none

  const std::vector<double>* find(const std::string& column) const {
    const auto found = std::find(names.begin(), names.end(), column);
    return found == names.end() ? nullptr : &columns[size_t(found - names.begin())];
  }
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t from = 0; from <= text.size();) {
    const size_t end = std::min(text.find(separator, from), text.size());
    parts.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return parts;
}

double read_field(const std::string& field, const Path& path, size_t line) {
  if (field.empty()) return std::numeric_limits<double>::quiet_NaN();
  char* end = nullptr;
  const double value = strtod(field.c_str(), &end);
  CHECK(end == field.c_str() + field.size(), "%s:%zu: '%.40s' is not a number", path.c_str(), line,
        field.c_str());
  return value;
}

Run read_run(const Path& path) {
  std::string text = read_file(path);
  // A killed run may leave an unfinished row, which is not an error.
  text.resize(text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n'));
  text.erase(std::remove(text.begin(), text.end(), '\r'), text.end());
  const std::vector<std::string> lines = split(text, '\n');
  CHECK(!lines[0].empty(), "%s: no line of column names (a log of supra uptrain --log is expected)",
        path.c_str());

  Run run;
  run.path = path;
  run.name = path.stem().string();
  run.names = split(lines[0], ',');
  run.columns.resize(run.names.size());
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::vector<std::string> fields = split(lines[i], ',');
    CHECK(fields.size() == run.names.size(), "%s:%zu: %zu fields, the first line names %zu columns",
          path.c_str(), i + 1, fields.size(), run.names.size());
    for (size_t c = 0; c < fields.size(); ++c) {
      const bool is_stage = run.names[c] == "stage";
      if (is_stage) run.stages.push_back(fields[c]);
      run.columns[c].push_back(read_field(is_stage ? "" : fields[c], path, i + 1));
    }
  }
  CHECK(!run.columns[0].empty(), "%s: no rows yet", path.c_str());
  return run;
}

[[noreturn]] void no_column(const Run& run, const std::string& column) {
  std::string known;
  for (const std::string& name : run.names) known += (known.empty() ? "" : ", ") + name;
  fail("%s: no column %s%s; it has %s", run.path.c_str(), column.c_str(),
       nearest_hint(column, run.names).c_str(), known.c_str());
}

// Two logs of the same name are distinguished by their folders.
void tell_apart(std::vector<Run>& runs) {
  for (Run& run : runs) {
    const auto same = [&](const Run& other) { return other.path.stem() == run.path.stem(); };
    if (std::count_if(runs.begin(), runs.end(), same) > 1)
      run.name = (run.path.parent_path() / run.path.stem()).string();
  }
}

// The label of a column of supra uptrain --log.
std::string column_label(const std::string& column, bool with_unit) {
  static const std::map<std::string, std::pair<const char*, const char*>> kLabels = {
      {"tokens", {"tokens trained on", ""}}, {"seconds", {"time", " (s)"}},         {"loss", {"training loss", ""}},
      {"valid_nll", {"validation loss", " (nats a token)"}}, {"lr", {"learning rate", ""}}, {"grad_norm", {"norm of the gradient", ""}},
      {"tokens_per_second", {"speed", " (tokens a second)"}}};
  const auto found = kLabels.find(column);
  return found == kLabels.end() ? column : found->second.first + std::string(with_unit ? found->second.second : "");
}

// The stages of a run except the last, and the end of each.
std::vector<std::pair<std::string, double>> stage_ends(const Run& run, const std::vector<double>& x) {
  std::vector<std::pair<std::string, double>> ends;
  for (size_t i = 1; i < run.stages.size(); ++i)
    if (run.stages[i] != run.stages[i - 1]) ends.emplace_back(run.stages[i - 1], x[i - 1]);
  return ends;
}

// The series of one panel: its columns of every run that has them.
Panel make_panel(const std::vector<Run>& runs, const std::string& x_column, const std::string& y_columns) {
  Panel panel;
  const std::vector<std::string> wanted = split(y_columns, ',');
  const auto is_loss = [](const std::string& column) { return column == "loss" || column == "valid_nll"; };
  const bool losses = std::all_of(wanted.begin(), wanted.end(), is_loss);
  panel.falls = losses || wanted == std::vector<std::string>{"grad_norm"};
  // the loss of attention transfer is not in nats
  const auto transfers = [](const Run& run) { return std::count(run.stages.begin(), run.stages.end(), "transfer") > 0; };
  const bool mixed = std::any_of(runs.begin(), runs.end(), transfers);
  if (losses && wanted.size() > 1) panel.label = mixed ? "loss (nats a token; transfer: relative error)" : "loss (nats a token)";
  else for (const std::string& column : wanted) panel.label += (panel.label.empty() ? "" : ", ") + column_label(column, column == wanted.back());
  for (size_t r = 0; r < runs.size(); ++r) {
    const Run& run = runs[r];
    const std::vector<double>* x = run.find(x_column);
    if (!x) no_column(run, x_column);
    if (std::none_of(wanted.begin(), wanted.end(), [&](const std::string& w) { return run.find(w); }))
      no_column(run, wanted[0]);
    for (size_t c = 0; c < wanted.size(); ++c) {
      const std::vector<double>* y = run.find(wanted[c]);
      if (!y || std::none_of(y->begin(), y->end(), [](double v) { return std::isfinite(v); })) continue;
      std::string name = runs.size() == 1 ? column_label(wanted[c], wanted.size() == 1) : run.name;
      if (runs.size() > 1 && wanted.size() > 1) name += ": " + column_label(wanted[c], false);
      panel.series.push_back({name, *x, *y, runs.size() == 1 ? c : r, c > 0, stage_ends(run, *x)});
    }
  }
  CHECK(!panel.series.empty(), "%s: no value of %s to draw", runs[0].path.c_str(), y_columns.c_str());
  return panel;
}

}  // namespace

void plot_runs(const std::vector<Path>& logs, const Path& png, const PlotOptions& options) {
  std::vector<Run> runs;
  for (const Path& path : logs) runs.push_back(read_run(path));
  tell_apart(runs);
  Chart chart;
  chart.title = options.title;
  chart.x_label = column_label(options.x, true);
  for (const std::string& columns : options.y) chart.panels.push_back(make_panel(runs, options.x, columns));
  chart.panels[0].y_max = options.y_max;
  if (options.teacher) chart.panels[0].levels.emplace_back("teacher", *options.teacher);
  draw(chart, options.width, options.height).write_png(png);
}

}  // namespace supra
