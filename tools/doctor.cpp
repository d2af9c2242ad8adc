#include <dlfcn.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "kernels/blas.h"
#include "kernels/products.h"
#include "supra/formats/parse/json.h"
#include "tensor/cores.h"
#include "tensor/cpu.h"
#include "tensor/cuda.h"
#include "tensor/parallel.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"
#include "tools/plot/png.h"

// supra doctor: facts about this machine and this build, one per line: what there is, what will be used, and why.

namespace supra {
namespace {

enum class Verdict { good, absent, wrong };

struct Finding {
  const char* key;
  Verdict verdict;
  std::string found;  // what there is
  std::string use;    // what will be used
};

// The text after "name" and separators in the first line of /proc/cpuinfo or /proc/meminfo that begins with the name.
std::string proc_value(const char* path, const std::string& name) {
  FILE* file = fopen(path, "r");
  if (!file) return "";
  char line[512];
  std::string value;
  while (value.empty() && fgets(line, sizeof line, file)) {
    const std::string text = line;
    if (text.rfind(name, 0) != 0) continue;
    const size_t from = text.find_first_not_of(" \t:", name.size());
    if (from != std::string::npos) value = text.substr(from, text.find('\n') - from);
  }
  fclose(file);
  return value;
}

double meminfo_bytes(const char* name) { return 1024 * atof(proc_value("/proc/meminfo", name).c_str()); }

Finding cores() {
  const int online = int(sysconf(_SC_NPROCESSORS_ONLN));
  std::string processor = proc_value("/proc/cpuinfo", "model name");
  if (processor.empty()) {
    utsname system = {};
    processor = uname(&system) == 0 ? system.machine : "unknown processor";
  }
  const Cores usable = usable_cores();
  const std::string limit = usable.limit ? std::string(" (") + usable.limit + ")" : "";
  return {"cores", Verdict::good,
          format("%d online, %d for this process%s: %s", online, usable.count, limit.c_str(), processor.c_str()),
          format("%d thread%s (--threads N takes another number)", threads(), threads() == 1 ? "" : "s")};
}

Finding cpu() {
  const std::string best = std::string("the best level it can run is ") + name(best_cpu_level());
  const char* forced = getenv("SUPRA_CPU");
  try {
    const std::string used = name(cpu_level());
    return {"cpu", Verdict::good, best,
            used + " kernels, " +
                (forced && *forced ? "because SUPRA_CPU says so" : "because they are the fastest here")};
  } catch (const Error& error) {
    return {"cpu", Verdict::wrong, best, error.what()};
  }
}

Finding memory() {
  return {"memory", Verdict::good, format_bytes(meminfo_bytes("MemTotal")) + " in all",
          format_bytes(meminfo_bytes("MemAvailable")) + " free to use now"};
}

Finding matrices() {
#if defined(SUPRA_OPENBLAS)
  const std::string found = "OpenBLAS is linked";
#elif defined(SUPRA_INFERENCE)
  const std::string found = "this program has its own matrix product alone";
#else
  const std::string found = "OpenBLAS is not linked (apt-get install libopenblas-dev, then make)";
#endif
  try {
    return {"blas", Verdict::good, found, blas_note()};
  } catch (const Error& error) {
    return {"blas", Verdict::wrong, found, error.what()};
  }
}

#if defined(SUPRA_INFERENCE)
Finding gpu() { return {"cuda", Verdict::absent, "no kernels for GPUs in this program", "the processor computes: " + why_no_gpu()}; }
#else
// CUDA's compiler, on the PATH or in its usual place.
std::string cuda_toolkit() {
  std::string folders = getenv("PATH") ? getenv("PATH") : "";
  folders += ":/usr/local/cuda/bin:/opt/cuda/bin";
  for (size_t from = 0; from < folders.size();) {
    const size_t colon = std::min(folders.find(':', from), folders.size());
    const std::string nvcc = folders.substr(from, colon - from) + "/nvcc";
    if (access(nvcc.c_str(), X_OK) == 0) return nvcc;
    from = colon + 1;
  }
  return "";
}

Finding gpu() {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver) dlclose(driver);
  const std::string toolkit = cuda_toolkit();
  std::string found = (toolkit.empty() ? "no toolkit (nvcc)" : "toolkit " + toolkit) + std::string(", ") +
                      (driver ? "a driver (libcuda.so.1)" : "no driver (libcuda.so.1)");
  if (cuda::built()) {
    found += ", built with " + cuda::versions();
    for (const cuda::Gpu& each : cuda::gpus()) {
      found += format(", %s (sm_%d%d, %d multiprocessors, %s)", each.name.c_str(), each.major, each.minor,
                      each.multiprocessors, format_bytes(static_cast<double>(each.memory)).c_str());
    }
  } else if (!driver) {
    return {"cuda", Verdict::absent, found, "the processor computes: without the driver of an NVIDIA GPU no build could use one"};
  }
  const std::string reason = why_no_gpu();
  if (!reason.empty()) return {"cuda", Verdict::absent, found, "--device cuda is refused, the processor computes: " + reason};
  return {"cuda", Verdict::good, found,
          "--device cuda computes on it: activations in bf16 (--activations f32 is exact and slower), what is trained in f32"};
}

// Matrix products in bf16.
Finding bf16_products() {
  try {
    std::string found = std::string("products of bf16 by ") + bf16_instructions();
    if (cpu_level() < CpuLevel::amx) found += std::string(", not by AMX: ") + why_no_amx();
    return {"products", Verdict::good, found,
            format("%s; --products bf16 is %.1f times as fast as f32 here, bf16x3 %.1f times", name(products()), speed_of(Products::bf16),
                   speed_of(Products::bf16x3))};
  } catch (const Error& error) {
    return {"products", Verdict::wrong, "", error.what()};
  }
}

// Pictures of plot, demo and lab.
Finding pictures() {
  const std::string reason = why_no_png();
  if (reason.empty()) return {"png", Verdict::good, "stb_image_write is built in", "plot, demo and lab draw curves"};
  return {"png", Verdict::absent, "stb_image_write is not built in", reason};
}
#endif

void print_json(const std::vector<Finding>& findings, bool healthy) {
  Json report = Json::object();
  report.set("ok", healthy);
  for (const Finding& finding : findings) {
    Json row = Json::object();
    row.set("ok", finding.verdict != Verdict::wrong);
    row.set("found", finding.found);
    row.set("use", finding.use);
    report.set(finding.key, row);
  }
  printf("%s\n", report.dump().c_str());
}

void print_text(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    const char* mark = finding.verdict == Verdict::good     ? "✓"
                       : finding.verdict == Verdict::absent ? "-"
                                                            : "✗";
    printf("%s %-9s%s\n           %s\n", mark, finding.key, finding.found.c_str(), finding.use.c_str());
  }
}

}  // namespace

int run_doctor(Args& args) {
  bool json = false;
  common_flags(args, &json);
  args.parse();

  std::vector<Finding> findings = {cores(), cpu(), memory(), matrices(), gpu()};
#if !defined(SUPRA_INFERENCE)
  findings.push_back(bf16_products());
  findings.push_back(pictures());
#endif
  bool healthy = true;
  for (const Finding& finding : findings) healthy &= finding.verdict != Verdict::wrong;
  json ? print_json(findings, healthy) : print_text(findings);
  return healthy ? 0 : 1;
}

}  // namespace supra
