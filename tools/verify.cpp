#include "supra/evaluation/verify.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "supra/formats/parse/json.h"
#include "tools/command.h"
#include "tools/device_flags.h"

namespace supra {

int run_verify(Args& args) {
  Path input, golden;
  VerifyOptions options;
  bool json = false;
  // the tolerances are for f32
  DeviceFlags device{.activations = Dtype::f32};
  args.positional(&input, "MODEL", "a folder or a file");
  args.positional(&golden, "GOLDEN.safetensors", "tokens, targets, and the results of a trusted program");
  args.flag(&options.tolerance, "--tolerance", "X",
            format("largest error divided by the largest golden value; default %g (adamw.final: %g), in f64 %g", kTolerance,
                   kToleranceAfterAdamW, kToleranceF64)
                .c_str())
      .at_least(0);
  args.choice(&options.dtype, "--dtype", {{"f32", Dtype::f32}, {"f64", Dtype::f64}},
              "type of the computation; f64: with the reference of each operation, slower and without float32's rounding");
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  if (options.dtype == Dtype::f64 && device.device != Device::cpu)
    args.misused("--dtype f64 runs only on the CPU: remove --device cuda");
  device.check(args);

  const Model model = load_model(input);
  device.move(*model.decoder);
  std::vector<VerifyRow> rows = verify(model, golden, options);
  if (options.dtype == Dtype::f32) measure_weight_rounding(model, golden, options, rows);
  const size_t left_out = std::erase_if(rows, [](const VerifyRow& row) { return row.left_out; });
  CHECK(!rows.empty(), "%s: all of its keys are left out on a GPU (give --device cpu)", golden.c_str());
  const auto failed = std::count_if(rows.begin(), rows.end(), [](const VerifyRow& row) { return !row.passed(); });
  Json report = Json::object(), keys = Json::array();
  int unreachable = 0;
  for (const VerifyRow& row : rows) {
    const std::string why = row.weight_rounding ? format("rounding of the weights alone: %.2e", *row.weight_rounding) : row.note;
    unreachable += row.weight_rounding.value_or(0) > row.tolerance;
    if (!json)
      printf("%-64s %.2e  %s%s%s\n", row.key.c_str(), row.error, row.passed() ? "pass" : "FAIL", why.empty() ? "" : "  ", why.c_str());
    Json entry = Json::object();
    entry.set("key", row.key);
    const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(); };
    entry.set("error", number(row.error));
    entry.set("tolerance", row.tolerance);
    entry.set("pass", row.passed());
    if (row.weight_rounding) entry.set("weight_rounding", number(*row.weight_rounding));
    keys.push(std::move(entry));
  }
  report.set("dtype", name(options.dtype));
  report.set("passed", static_cast<int64_t>(rows.size()) - failed);
  report.set("failed", static_cast<int64_t>(failed));
  report.set("left_out", static_cast<int64_t>(left_out));
  report.set("keys", std::move(keys));
  if (json) printf("%s\n", report.dump().c_str());
  else printf("%zu keys, %ld failed\n", rows.size(), static_cast<long>(failed));
  if (left_out > 0) fprintf(stderr, "%zu keys adamw.* are left out: ten steps of a network that was not trained need double, which --device cpu has\n", left_out);
  if (unreachable > 0) {
    fprintf(stderr,
            "float32 cannot be expected to meet the tolerance of %d of these: rounding the weights alone moves them further "
            "(--dtype f64 computes in double)\n",
            unreachable);
  }
  return failed ? 1 : 0;
}

}  // namespace supra
