#include <cstdio>

#include "tools/command.h"
#include "tools/plot/plot.h"

// supra plot: draws the logs of training runs as a PNG.

namespace supra {

int run_plot(Args& args) {
  PlotOptions options;
  std::vector<Path> logs;
  Path output;
  args.positional(&logs, "run.csv", "logs written by supra uptrain --log");
  args.flag(&output, "--output -o", "FILE.png", "the picture to write").required();
  args.flag(&options.x, "--x", "COLUMN", "the horizontal axis: tokens, seconds or step");
  args.flag(&options.y, "--y", "COLUMNS",
            "columns of a panel, such as loss,valid_nll; several lists make several panels");
  args.flag(&options.teacher, "--teacher", "NLL", "draw a dashed line at the teacher's loss");
  args.flag(&options.y_max, "--y-max", "X", "cut off values above X; default: cut off early values far above the rest");
  args.flag(&options.title, "--title", "TEXT", "title of the picture");
  args.flag(&options.width, "--width", "PIXELS", "width of the picture").at_least(200);
  args.flag(&options.height, "--height", "PIXELS", "height of the picture").at_least(150);
  common_flags(args);
  args.parse();

  for (const Path& log : logs) {
    std::error_code absent;
    CHECK(!std::filesystem::equivalent(log, output, absent), "%s: is a log, and would be overwritten (give another --output)", output.c_str());
  }
  plot_runs(logs, output, options);
  fprintf(stderr, "wrote %s\n", output.c_str());
  return 0;
}

}  // namespace supra
