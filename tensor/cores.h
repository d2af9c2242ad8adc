#pragma once
#include <string>

// How many cores this process may use: the smaller of its CPU affinity and the CPU quota of its control group (for example of
// a container).

namespace supra {

struct Cores {
  int count;          // at least 1
  const char* limit;  // why it is below the number of online cores; null: it is not
};

Cores usable_cores();

// The number of cores in the CPU quota of this process's control group, rounded up; 0 if there is no quota. Reads cgroup v2
// (cpu.max) and v1 (cpu.cfs_quota_us). `root` is a prefix of /proc and /sys: tests use a folder of their own.
int cgroup_cores(const std::string& root = "");

}  // namespace supra
