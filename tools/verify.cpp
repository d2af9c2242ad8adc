#include "supra/evaluation/verify.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "supra/formats/json.h"
#include "tools/command.h"

namespace supra {

int run_verify(Args& args) {
  Path input, golden;
  VerifyOptions options;
  bool json = false;
  args.positional(&input, "MODEL", "a folder or a file");
  args.positional(&golden, "GOLDEN.safetensors", "tokens, targets, and what a trusted program computed from them");
  Flag& tolerance = args.flag(&options.tolerance, "--tolerance", "X", "largest error over the largest golden value").at_least(0);
  common_flags(args, &json);
  args.parse();
  if (tolerance.given()) options.adamw_tolerance = options.tolerance;

  const std::vector<VerifyRow> rows = verify(load_model(input), golden, options);
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
  report.set("keys", std::move(keys));
  if (json) printf("%s\n", report.dump().c_str());
  else printf("%zu keys, %ld failed\n", rows.size(), static_cast<long>(failed));
  return failed ? 1 : 0;
}

}  // namespace supra
