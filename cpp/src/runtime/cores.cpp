#include "runtime/cores.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "runtime/system.h"
#include "runtime/threads.h"

namespace rnnfast::core {

namespace {

// The text of a small file, or nothing. Some C++ libraries for WebAssembly have no file streams.
std::string text_of(const std::string& path) {
    std::string text;
    if (std::FILE* file = std::fopen(path.c_str(), "rb")) {
        for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) text += static_cast<char>(c);
        std::fclose(file);
    }
    return text;
}

// Parses "max 100000" or "150000 100000": running time per period, both in microseconds.
double quota_of(const std::string& text) {
    std::istringstream words(text);
    double quota = 0, period = 0;
    if (!(words >> quota >> period) || quota <= 0 || period <= 0) return 0;  // "max", or -1 of version 1
    return quota / period;
}

double quota_in(const std::string& folder) {
    if (const std::string text = text_of(folder + "/cpu.max"); !text.empty()) return quota_of(text);
    return quota_of(text_of(folder + "/cpu.cfs_quota_us") + ' ' + text_of(folder + "/cpu.cfs_period_us"));
}

// Whether one of the names in "cpu,cpuacct" is cpu.
bool names_cpu(const std::string& controllers) { return ("," + controllers + ",").find(",cpu,") != std::string::npos; }

}  // namespace

double cpu_quota(const std::string& groups, const std::string& mount) {
    double least = 0;
    const auto take = [&](double quota) {
        if (quota > 0) least = least > 0 ? std::min(least, quota) : quota;
    };
    std::istringstream lines(text_of(groups));
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
    if (cores == 0) cores = std::max(1, static_cast<int>(hardware_threads()));
    if (const double quota = cpu_quota(); quota > 0)
        cores = std::min(cores, static_cast<int>(std::min(std::ceil(quota), 1e6)));
    return cores;
}

}  // namespace rnnfast::core
