#include "runtime/cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

#include "runtime/system.h"

namespace rnnfast::core {

namespace {

// Parses "max 100000" or "150000 100000": running time per period, both in microseconds.
double quota_of(std::istream& file) {
    double quota = 0, period = 0;
    if (!(file >> quota >> period) || quota <= 0 || period <= 0) return 0;  // "max", or -1 of version 1
    return quota / period;
}

double quota_in(const std::string& folder) {
    if (std::ifstream file(folder + "/cpu.max"); file) return quota_of(file);
    std::ifstream quota(folder + "/cpu.cfs_quota_us"), period(folder + "/cpu.cfs_period_us");
    if (!quota || !period) return 0;
    std::stringstream both;
    both << quota.rdbuf() << ' ' << period.rdbuf();
    return quota_of(both);
}

// Whether one of the names in "cpu,cpuacct" is cpu.
bool names_cpu(const std::string& controllers) { return ("," + controllers + ",").find(",cpu,") != std::string::npos; }

}  // namespace

double cpu_quota(const std::string& groups, const std::string& mount) {
    double least = 0;
    const auto take = [&](double quota) {
        if (quota > 0) least = least > 0 ? std::min(least, quota) : quota;
    };
    std::ifstream lines(groups);
    for (std::string line; std::getline(lines, line);) {  // number:controllers:path
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (!controllers.empty() && !names_cpu(controllers)) continue;
        const std::string top = mount + (controllers.empty() ? "" : "/cpu");
        for (std::string path = line.substr(second + 1);; path.erase(path.find_last_of('/'))) {
            take(quota_in(top + path));
            if (path.find('/') == std::string::npos) break;
        }
    }
    return least;
}

double cpu_quota() { return cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup"); }

int cores_allowed() {
    int cores = cores_of_affinity();
    if (cores == 0) cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    if (const double quota = cpu_quota(); quota > 0)
        cores = std::min(cores, static_cast<int>(std::min(std::ceil(quota), 1e6)));
    return cores;
}

}  // namespace rnnfast::core
