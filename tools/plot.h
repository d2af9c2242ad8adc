#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tensor/file.h"

// Training logs as a picture. A log is CSV: a line of column names, then a row a step; an empty field is no
// value.

namespace supra {

struct PlotOptions {
  std::string x = "tokens";
  // One panel each; the columns of a panel are separated by commas. A run without one of several columns is
  // fine.
  std::vector<std::string> y = {"loss,valid_nll"};
  std::optional<double> teacher;  // a dashed line in the first panel
  std::optional<double> y_max;    // values above are cut off, in the first panel
  std::string title;
  int width = 1000, height = 600;
};

// Throws Error naming file and line for a log that cannot be read, and where there is nothing to draw.
void plot_runs(const std::vector<Path>& logs, const Path& png, const PlotOptions& options);

}  // namespace supra
