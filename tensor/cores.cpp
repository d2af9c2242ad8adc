#include "tensor/cores.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace supra {

// A file of the kernel; empty if it cannot be read.
static std::string kernel_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string text;
  char piece[4096];
  for (ssize_t bytes; (bytes = ::read(fd, piece, sizeof piece)) > 0;) text.append(piece, static_cast<size_t>(bytes));
  ::close(fd);
  return text;
}

// "quota period", both in microseconds; no quota is written as "max" or as -1. Rounded up; 0: no quota.
static int cores_of(const std::string& quota_and_period) {
  char* rest = nullptr;
  const double quota = strtod(quota_and_period.c_str(), &rest), period = strtod(rest, nullptr);
  return quota > 0 && period > 0 ? static_cast<int>(std::min(std::ceil(quota / period), 1e6)) : 0;
}

// The quota of one group, in cgroup v2 or v1.
static int cores_in(const std::string& folder) {
  const int cores = cores_of(kernel_file(folder + "/cpu.max"));
  return cores > 0 ? cores : cores_of(kernel_file(folder + "/cpu.cfs_quota_us") + kernel_file(folder + "/cpu.cfs_period_us"));
}

// The part of /proc/self/cgroup's line "id:controllers:/path" that names the group; empty if no line names the controller.
// Kernels differ in the order of the controllers, "cpu,cpuacct" or "cpuacct,cpu"; version 2 has an empty list.
static std::string group_of(std::string_view lines, const std::string& controller) {
  for (size_t at = 0; at < lines.size();) {
    const std::string_view line = lines.substr(at, lines.find('\n', at) - at);
    at += line.size() + 1;
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string list = "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    if (list.find("," + controller + ",") != list.npos) return std::string(line.substr(second + 1));
  }
  return "";
}

int cgroup_cores(const std::string& root) {
  const std::string groups = kernel_file(root + "/proc/self/cgroup");
  int least = 0;
  // v2, then the places where v1 may be mounted
  for (const std::string folder : {"", "cpu", "cpu,cpuacct", "cpuacct,cpu"}) {
    const std::string mount = root + "/sys/fs/cgroup/" + folder;
    std::string group = group_of(groups, folder.empty() ? "" : "cpu");
    // The quotas of all groups above count too. In a container the path may be the host's; then only the mount exists.
    while (true) {
      while (group.ends_with('/')) group.pop_back();
      const int cores = cores_in(mount + group);
      if (cores > 0 && (least == 0 || cores < least)) least = cores;
      if (group.empty()) break;
      group.resize(group.rfind('/') + 1);
    }
  }
  return least;
}

Cores usable_cores() {
  const int online = std::max(1u, std::thread::hardware_concurrency());
  Cores cores = {online, nullptr};
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores.count = std::max(1, CPU_COUNT(&set));
  if (cores.count < static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))) cores.limit = "CPU affinity";
  const int quota = cgroup_cores();
  return quota > 0 && quota < cores.count ? Cores{quota, "CPU quota of the control group"} : cores;
}

}  // namespace supra
