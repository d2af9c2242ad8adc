#include <cmath>

#include "tools/plot/chart.h"
#include "tools/compare/table.h"

// The pictures of supra compare: a line per model, over positions, distances and lengths that double.

namespace supra {

std::vector<Path> draw_curves(const std::vector<Topic>& topics, const std::vector<Column>& columns, const Path& folder) {
  std::vector<std::pair<std::string, Chart>> pictures;
  const auto chart_of = [&](const std::string& name) -> Chart& {
    for (auto& [known, chart] : pictures)
      if (known == name) return chart;
    return pictures.emplace_back(name, Chart{}).second;
  };
  const auto panel_of = [](Chart& chart, const std::string& label) -> Panel& {
    for (Panel& panel : chart.panels)
      if (panel.label == label) return panel;
    chart.panels.emplace_back();
    chart.panels.back().label = label;
    return chart.panels.back();
  };
  for (const Topic& topic : topics) {
    for (size_t i = 0; i < columns.size() && topic.curves; i++) {
      const Json* report = columns[i].report.find(topic.measure.name);
      if (!report) continue;
      for (const Curve& curve : topic.curves(*report)) {
        Chart& chart = chart_of(curve.picture);
        chart.x_label = curve.x_label;
        chart.x_doubles = true;
        std::vector<double> octaves;
        for (const double x : curve.x) octaves.push_back(std::log2(x));
        Panel& panel = panel_of(chart, curve.panel);
        panel.series.push_back({columns[i].name, octaves, curve.y, i, true});
        if (curve.chance && panel.levels.empty()) panel.levels.emplace_back("chance", *curve.chance);
      }
    }
  }
  std::vector<Path> files;
  for (const auto& [name, chart] : pictures) {
    files.push_back(folder / (name + ".png"));
    draw(chart, 1000, 160 + 340 * static_cast<int>(chart.panels.size())).write_png(files.back());
  }
  return files;
}

}  // namespace supra
