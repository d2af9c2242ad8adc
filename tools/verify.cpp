#include "supra/evaluation/verify.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "supra/formats/json.h"
#include "tools/command.h"
#include "tools/device_flags.h"

namespace supra {

int run_verify(Args& args) {
  Path input, golden;
  VerifyOptions options;
  bool json = false;
  // the tolerances are those of f32
  DeviceFlags device{.activations = Dtype::f32};
  args.positional(&input, "MODEL", "a folder or a file");
  args.positional(&golden, "GOLDEN.safetensors", "tokens, targets, and what a trusted program computed from them");
  Flag& tolerance = args.flag(&options.tolerance, "--tolerance", "X", "largest error over the largest golden value").at_least(0);
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);
  if (tolerance.given()) options.adamw_tolerance = options.tolerance;

  const Model model = load_model(input);
  device.move(*model.decoder);
  std::vector<VerifyRow> rows = verify(model, golden, options);
  const size_t left_out = std::erase_if(rows, [](const VerifyRow& row) { return row.left_out; });
  CHECK(!rows.empty(), "%s: all of its keys are left out on a GPU (give --device cpu)", golden.c_str());
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const VerifyRow& row) { return !row.passed(); });
  Json report = Json::object(), keys = Json::array();
  for (const VerifyRow& row : rows) {
    if (!json) printf("%-64s %.2e  %s%s\n", row.key.c_str(), row.error, row.passed() ? "pass" : "FAIL", row.note.empty() ? "" : ("  " + row.note).c_str());
    Json entry = Json::object();
    entry.set("key", row.key);
    entry.set("error", std::isfinite(row.error) ? Json(row.error) : Json());
    entry.set("tolerance", row.tolerance);
    entry.set("pass", row.passed());
    keys.push(std::move(entry));
  }
  report.set("passed", static_cast<int64_t>(rows.size()) - failed);
  report.set("failed", static_cast<int64_t>(failed));
  report.set("left_out", static_cast<int64_t>(left_out));
  report.set("keys", std::move(keys));
  if (json) printf("%s\n", report.dump().c_str());
  else printf("%zu keys, %ld failed\n", rows.size(), static_cast<long>(failed));
  if (left_out > 0) fprintf(stderr, "%zu keys adamw.* are left out: ten steps of a network that was not trained need double, which --device cpu has\n", left_out);
  return failed ? 1 : 0;
}

}  // namespace supra
