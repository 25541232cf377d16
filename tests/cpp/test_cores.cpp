// The number of cores that a container's quota allows.
#include "runtime/cores.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "helpers.h"

using namespace rnnfast;

namespace {

// A folder with the files given, as /sys/fs/cgroup and /proc/self/cgroup would be.
struct Groups {
    explicit Groups(const std::string& lines) {
        std::filesystem::remove_all(folder);
        write("groups", lines);
    }
    ~Groups() { std::filesystem::remove_all(folder); }
    void write(const std::string& name, const std::string& text) const {
        const std::filesystem::path place = folder / name;
        std::filesystem::create_directories(place.parent_path());
        std::ofstream(place) << text << "\n";
    }
    double quota() const { return cpu_quota((folder / "groups").string(), folder.string()); }
    std::filesystem::path folder =
        std::filesystem::temp_directory_path() / ("rnnfast-test-" + std::to_string(getpid()) + "-groups");
};

}  // namespace

TEST_CASE("the CPU quota of control groups of version 2 is the smallest of the group and its parents [R13]") {
    const Groups groups("0::/pod/container");
    CHECK(groups.quota() == 0.0);
    groups.write("cpu.max", "max 100000");
    CHECK(groups.quota() == 0.0);
    groups.write("pod/container/cpu.max", "400000 100000");
    CHECK(groups.quota() == 4.0);
    groups.write("pod/cpu.max", "150000 100000");
    CHECK(groups.quota() == 1.5);
    groups.write("pod/container/cpu.max", "max 100000");
    CHECK(groups.quota() == 1.5);
    for (const char* text : {"", "nonsense", "-5 100000", "100000 0", "100000"}) {
        groups.write("pod/cpu.max", text);
        CHECK(groups.quota() == 0.0);
    }
}

TEST_CASE("the CPU quota of control groups of version 1, mounted from the container's own or not [R13]") {
    const Groups groups("5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n3:cpuset:/docker/x\nnonsense\n0::/");
    groups.write("cpu/cpu.cfs_quota_us", "-1");
    groups.write("cpu/cpu.cfs_period_us", "100000");
    CHECK(groups.quota() == 0.0);
    groups.write("cpu/cpu.cfs_quota_us", "250000");
    CHECK(groups.quota() == 2.5);
    groups.write("cpu/docker/x/cpu.cfs_quota_us", "50000");
    groups.write("cpu/docker/x/cpu.cfs_period_us", "100000");
    CHECK(groups.quota() == 0.5);
}

TEST_CASE("without control groups there is no quota, and at least one core is allowed [R13]") {
    CHECK(cpu_quota("/nowhere/groups", "/nowhere") == 0.0);
    CHECK(cores_allowed() >= 1);
}
