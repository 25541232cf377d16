// The number of cores that this process may use.
#pragma once

#include <string>

namespace rnnfast::core {

// Depends on the machine, the affinity of this process, and the CPU quota of its container; at least 1.
int cores_allowed();

// The CPU quota of this process's control groups, in cores: 1.5 means 150 ms of running time per 100 ms. 0: no limit.
double cpu_quota();

// The same from other files: `groups` has the form of /proc/self/cgroup, `mount` that of /sys/fs/cgroup. Supports
// versions 1 and 2 of control groups; the smallest quota of the group and its parents counts.
double cpu_quota(const std::string& groups, const std::string& mount);

}  // namespace rnnfast::core
