#pragma once
#include <string>

// How many cores this process may use: the smaller of its CPU affinity and of the CPU quota that its control group (of a
// container, say) sets.

namespace supra {

struct Cores {
  int count;          // at least 1
  const char* limit;  // what keeps it below the cores that are online; null: nothing does
};

Cores usable_cores();

// The cores that the quota of this process's control group pays for, rounded up; 0 where there is no quota. Knows cgroup v2
// (cpu.max) and v1 (cpu.cfs_quota_us). `root` stands before /proc and /sys: tests give a folder of their own.
int cgroup_cores(const std::string& root = "");

}  // namespace supra
