#pragma once
#include <optional>
#include <string>
#include <vector>

#include "supra/formats/file.h"

// Pictures of training logs. A log is CSV: a line of column names, then a row per step; an empty field has no
// value.

namespace supra {

struct PlotOptions {
  std::string x = "tokens";
  // One string per panel; the columns of a panel are separated by commas. A run may lack some of several
  // columns.
  std::vector<std::string> y = {"loss,valid_nll"};
  std::optional<double> teacher;  // a dashed line in the first panel
  std::optional<double> y_max;    // values above are cut off, in the first panel
  std::string title;
  int width = 1000, height = 600;
};

// Throws Error naming file and line if a log cannot be read, and if there is nothing to draw.
void plot_runs(const std::vector<Path>& logs, const Path& png, const PlotOptions& options);

}  // namespace supra
