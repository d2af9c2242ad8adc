#include "tools/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "supra/formats/parse/json.h"
#include "tensor/cpu.h"
#include "tensor/cuda.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/progress.h"

// supra bench: measures speeds and compares them with the limits of this machine.

namespace supra {

Timing timing_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const auto quantile = [&](double q) {
    const double at = q * static_cast<double>(seconds.size() - 1);
    const size_t below = static_cast<size_t>(at), above = std::min(below + 1, seconds.size() - 1);
    return seconds[below] + (at - static_cast<double>(below)) * (seconds[above] - seconds[below]);
  };
  const double median = quantile(0.5);
  return {median, (quantile(0.75) - quantile(0.25)) / 2 / median};
}

double seconds_of(FunctionRef<void()> f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Bench::Bench(BenchOptions options, std::vector<std::string> words)
    : options_(std::move(options)), words_(std::move(words)) {
  if (options_.device == Device::cuda) {
    flush_ = Tensor::empty({options_.flush_bytes / 4}, Dtype::f32, Device::cuda);
  }
}

double Bench::seconds_of(FunctionRef<void()> f) const {
  if (options_.device == Device::cpu) return supra::seconds_of(f);
  // the CPU launches ahead while the GPU writes, so launch times are not measured
  flush_.fill(0);
  return cuda::seconds_of([&] { f(); });
}

bool Bench::wants(const std::string& name) const {
  return words_.empty() || std::any_of(words_.begin(), words_.end(), [&](const std::string& word) {
           return name.find(word) != std::string::npos;
         });
}

std::vector<Timing> Bench::repeat(FunctionRef<std::vector<double>()> f) const {
  constexpr size_t kMost = 10000;
  constexpr double kLong = 20;
  std::vector<std::vector<double>> parts;
  double spent = 0;
  // repeats a short first run, which may have found sleeping threads
  if (supra::seconds_of([&] { parts.resize(f().size()); }) < 1) f();
  const auto enough = [&] {
    const size_t runs = parts[0].size();
    if (runs == 0) return false;
    if (interrupted() || runs >= kMost || (spent > kLong && runs >= 3)) return true;
    return spent >= options_.seconds && static_cast<int64_t>(runs) >= options_.repeats;
  };
  while (!enough()) {
    const std::vector<double> seconds = f();
    for (size_t i = 0; i < parts.size(); i++) {
      parts[i].push_back(seconds[i]);
      spent += seconds[i];
    }
  }
  std::vector<Timing> times;
  for (const std::vector<double>& part : parts) times.push_back(timing_of(part));
  return times;
}

BenchRow* Bench::add(const std::string& name, Timing time, const Work& work) {
  if (!wants(name)) return nullptr;
  rows_.push_back({name, time, work});
  return &rows_.back();
}

namespace {

const char* copy_stores(const Roofs& roofs) { return roofs.copy_streams ? "streaming" : "plain"; }

Json to_json(const Roofs& roofs) {
  Json json = Json::object();
  if (!roofs.gpu.empty()) {
    json.set("gpu", roofs.gpu);
    json.set("products_bf16_gflops", roofs.products_bf16);
    json.set("products_f32_gflops", roofs.products_f32);
    json.set("copy_gbs", roofs.copy);
    return json;
  }
  json.set("threads", roofs.threads);
  json.set("level", name(cpu_level()));
  json.set("fma_gflops_core", roofs.fma_core);
  json.set("fma_gflops", roofs.fma);
  json.set("products", name(products()));
  json.set("bf16_gflops_core", roofs.bf16_core);
  json.set("bf16_gflops", roofs.bf16);
  json.set("read_gbs_core", roofs.read_core);
  json.set("read_gbs", roofs.read);
  json.set("copy_gbs_core", roofs.copy_core);
  json.set("copy_gbs", roofs.copy);
  json.set("copy_stores", copy_stores(roofs));
  return json;
}

Json to_json(const BenchRow& row, const Roofs& roofs) {
  const Bound bound = bound_of(roofs, row.work);
  Json json = Json::object();
  json.set("name", row.name);
  json.set("seconds", row.time.seconds);
  json.set("spread", row.time.spread);
  json.set("rate", bound.amount / row.time.seconds / 1e9);
  json.set("unit", bound.unit);
  json.set("bound", bound.name);
  json.set("percent", 100 * bound.seconds / row.time.seconds);
  for (const auto& [key, value] : row.more) json.set(key, value);
  return json;
}

// Rows that could not be measured, with the reason.
using Failures = std::vector<std::pair<std::string, std::string>>;

void print_json(const Bench& bench, const Roofs& roofs, const Failures& failures) {
  Json report = Json::object(), rows = Json::array();
  for (const BenchRow& row : bench.rows()) rows.push(to_json(row, roofs));
  report.set("roofs", to_json(roofs));
  report.set("rows", std::move(rows));
  Json failed = Json::array();
  for (const auto& [name, why] : failures) {
    Json row = Json::object();
    row.set("name", name);
    row.set("error", why);
    failed.push(std::move(row));
  }
  report.set("failed", std::move(failed));
  report.set("interrupted", interrupted());
  printf("%s\n", report.dump().c_str());
}

std::string roofs_line(const Roofs& r) {
  if (!r.gpu.empty()) {
    return format("%s: products of matrices %.1f TFLOP/s in bf16, %.1f in f32, copy %.0f GB/s", r.gpu.c_str(),
                  r.products_bf16 / 1e3, r.products_f32 / 1e3, r.copy);
  }
  return format(
      "%s, %d threads: fused multiply-add %.0f GFLOP/s (%.0f a core), products of bf16 %.0f (%.0f), read %.1f GB/s (%.1f), copy %.1f GB/s "
      "(%.1f, %s stores)",
      name(cpu_level()), r.threads, r.fma, r.fma_core, r.bf16, r.bf16_core, r.read, r.read_core, r.copy, r.copy_core,
      copy_stores(r));
}

void print_text(const Bench& bench, const Roofs& roofs, const Failures& failures, bool markdown) {
  printf("%s\n\n", roofs_line(roofs).c_str());
  size_t width = 3;
  for (const BenchRow& row : bench.rows()) width = std::max(width, row.name.size());
  const int w = static_cast<int>(width);
  printf(markdown
             ? "| %-*s | %8s | %4s | %15s | %-6s | %4s | |\n| --- | ---: | ---: | ---: | --- | ---: | --- |\n"
             : "%-*s  %8s  %4s  %15s  %-6s  %4s\n",
         w, "row", "time", "+-", "rate", "roof", "%");
  for (const BenchRow& row : bench.rows()) {
    const Bound bound = bound_of(roofs, row.work);
    const double part = bound.seconds / row.time.seconds;
    constexpr int kBar = 20;
    std::string last = row.note;
    if (!markdown) {
      const int filled = std::clamp(static_cast<int>(part * kBar + 0.5), 0, kBar);
      last = std::string(static_cast<size_t>(filled), '#') +
             std::string(static_cast<size_t>(kBar - filled), '.');
      if (!row.note.empty()) last += "  " + row.note;
    }
    printf(markdown ? "| %-*s | %8s | %3.0f%% | %7s %-7s | %-6s | %3.0f%% | %s |\n"
                    : "%-*s  %8s  %3.0f%%  %7s %-7s  %-6s  %3.0f%%  %s\n",
           w, row.name.c_str(), format_precise_time(row.time.seconds).c_str(), 100 * row.time.spread,
           format_count(bound.amount / row.time.seconds / 1e9).c_str(), bound.unit, bound.name, 100 * part,
           last.c_str());
  }
  for (const auto& [name, why] : failures) printf("%s was not measured: %s\n", name.c_str(), why.c_str());
}

Roofs measure(const BenchOptions& options, const Roofs& before, bool quick) {
  if (options.device == Device::cuda) return measure_gpu_roofs(options.dtype, quick ? 0.2 : 1, before);
  return quick ? measure_roofs(0.2, before, 64 << 20) : measure_roofs(1, before);
}

struct Group {
  const char* name;
  std::vector<BenchJob> (*jobs)(const BenchOptions&);
};
const Group kGroups[] = {
    {"kernels", kernel_jobs}, {"train", train_jobs}, {"prefill", prefill_jobs}, {"decode", decode_jobs}};

// The jobs of the groups that `words` name, or of all groups. Removes these words; the others choose rows.
std::vector<BenchJob> jobs_of(std::vector<std::string>& words, const BenchOptions& options) {
  std::vector<BenchJob> jobs, all;
  const size_t given = words.size();
  for (const Group& group : kGroups) {
    const std::vector<BenchJob> some = group.jobs(options);
    all.insert(all.end(), some.begin(), some.end());
    const size_t before = words.size();
    words.erase(std::remove(words.begin(), words.end(), group.name), words.end());
    if (words.size() < before) jobs.insert(jobs.end(), some.begin(), some.end());
  }
  return words.size() == given ? all : jobs;
}

}  // namespace

int run_bench(Args& args) {
  BenchOptions options;
  std::vector<std::string> words;
  bool json = false, markdown = false, quick = false;
  DeviceFlags device;
  args.optional_positional(
      &words, "WORD", "kernels, train, prefill, decode, or a part of row names; without words: everything");
  args.flag(&options.seconds, "--seconds", "S", "repeat each row for at least this time").at_least(0);
  args.flag(&options.repeats, "--repeats", "N", "and at least this often, unless that takes longer than 20 s")
      .at_least(1);
  args.flag(&quick, "--quick", "the same as --seconds 0.05 --repeats 3");
  device.declare(args);
  args.flag(&options.model, "--model", "MODEL",
            "use this model for train, prefill and decode, instead of random weights");
  args.flag(&options.long_rows, "--long", "also train on sequences of 8,192 tokens; takes minutes");
  args.flag(&markdown, "--markdown", "print the table as markdown");
  common_flags(args, &json);
  args.parse();
  if (quick) options.seconds = 0.05, options.repeats = 3;
  device.check(args);
  options.device = device.device, options.dtype = device.activations;

  std::vector<BenchJob> jobs = jobs_of(words, options);
  std::vector<std::string> names;
  for (const BenchJob& job : jobs) names.insert(names.end(), job.rows.begin(), job.rows.end());
  for (const std::string& word : words) {
    const bool known = std::any_of(names.begin(), names.end(),
                                   [&](const std::string& n) { return n.find(word) != std::string::npos; });
    if (!known)
      args.misused("no row has '%s' in its name%s", word.c_str(), nearest_hint(word, names).c_str());
  }

  catch_interrupts();
  fprintf(stderr, "measuring the roofs of this machine\n");
  Roofs roofs = measure(options, {}, quick);
  Bench bench(options, words);
  Failures failures;
  std::erase_if(jobs, [&](const BenchJob& job) {
    return std::none_of(job.rows.begin(), job.rows.end(),
                        [&](const std::string& row) { return bench.wants(row); });
  });
  {
    Progress progress("bench", static_cast<int64_t>(jobs.size()));
    for (size_t i = 0; i < jobs.size() && !interrupted(); i++) {
      progress.update(static_cast<int64_t>(i), jobs[i].rows[0]);
      try {
        jobs[i].run(bench);
      } catch (const Error& error) {
        failures.emplace_back(jobs[i].rows[0], error.what());
      }
    }
    if (!interrupted()) progress.update(static_cast<int64_t>(jobs.size()));
  }
  if (interrupted()) fprintf(stderr, "interrupted: these rows were measured before\n");
  // other programs may have been busy the first time
  if (!interrupted() && !quick) roofs = measure(options, roofs, quick);
  json ? print_json(bench, roofs, failures) : print_text(bench, roofs, failures, markdown);
  return interrupted() || !failures.empty() ? 1 : 0;
}

}  // namespace supra
