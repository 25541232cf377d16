#include "runtime/parallel.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

#include "runtime/cores.h"
#include "runtime/fork.h"
#include "runtime/log.h"
#include "runtime/sentence.h"
#include "runtime/spin.h"
#include "runtime/thread_pool.h"

#ifdef _OPENMP
#include <omp.h>
#endif
#if __has_include(<dlfcn.h>)
#include <dlfcn.h>
#define RNNFAST_HAS_DLADDR
#endif

namespace rnnfast::core {

namespace {

constexpr int most_threads = 4096;
std::atomic<int> chosen_threads{0};     // 0: not chosen yet
thread_local int threads_for_call = 0;  // 0: no call has its own number
TeamSource team_source;

// What compilers call for a parallel region. GCC's runtime has these names, and LLVM's and Intel's have them too.
using RunRegion = void (*)(void (*body)(void*), void* object, unsigned threads, unsigned flags);
using NumberOf = int (*)();
struct OpenMPOfProcess {
    std::atomic<FunctionOfOpenMP> find{nullptr};
    std::atomic<RunRegion> run{nullptr};  // written last: the others are there if this is
    std::atomic<NumberOf> thread{nullptr}, threads{nullptr};

    // Threads that look at the same time find the same functions.
    bool found() {
        if (run.load(std::memory_order_acquire)) return true;
        const FunctionOfOpenMP function = find.load(std::memory_order_relaxed);
        void* const region = function ? function("GOMP_parallel") : nullptr;
        if (!region) return false;
        thread.store(reinterpret_cast<NumberOf>(function("omp_get_thread_num")), std::memory_order_relaxed);
        threads.store(reinterpret_cast<NumberOf>(function("omp_get_num_threads")), std::memory_order_relaxed);
        if (!thread.load(std::memory_order_relaxed) || !threads.load(std::memory_order_relaxed)) return false;
        run.store(reinterpret_cast<RunRegion>(region), std::memory_order_release);
        return true;
    }
};
OpenMPOfProcess openmp_of_process;

// A body for those who run it by an index.
struct Region {
    void (*body)(const void*, const Team&);
    const void* object;
    Barrier barrier{};
    std::atomic<size_t> size{0}, done{0};

    static void run(void* job, size_t index, size_t size) {
        auto& self = *static_cast<Region*>(job);
        self.size.store(size, std::memory_order_relaxed);
        self.body(self.object, Team{index, size, &self.barrier});
        self.done.fetch_add(1, std::memory_order_release);
    }
};

void run_elsewhere(size_t threads, Region& region) {
    team_source.execute(team_source.user, threads, Region::run, &region);
    const size_t done = region.done.load(std::memory_order_acquire), size = region.size.load();
    if (done == 0 || done != size)
        throw std::logic_error(
            joined({"the executor ran ", done, " of ", size,
                    " parts: execute must call run once for every index, and return when all have returned"}));
}

#ifdef _OPENMP
// fork_count() when the first team was started, or -1. OpenMP's threads do not survive a fork after that.
std::atomic<int64_t> first_team{-1};

bool team_may_start() {
    const int64_t forks = fork_count();
    int64_t first = first_team.load(std::memory_order_relaxed);
    if (first < 0 && first_team.compare_exchange_strong(first, forks)) return true;
    static std::atomic<bool> reported{false};
    if (first != forks && !reported.exchange(true))
        report(LogLevel::warning,
               {"calls of this process use one thread: it was forked after OpenMP had started its threads"});
    return first == forks;
}
#endif

// The number in an environment variable, up to `end`, or -1 if it is not from 1 to most_threads.
int number_in(const char* text, const char*& end) {
    while (*text == ' ') ++text;
    int value = 0;
    for (end = text; *end >= '0' && *end <= '9' && value <= most_threads; ++end) value = 10 * value + (*end - '0');
    return end != text && value >= 1 && value <= most_threads ? value : -1;
}

int own_limit(int otherwise) {
    const char *text = std::getenv("RNNFAST_NUM_THREADS"), *end = nullptr;
    if (!text || !*text) return otherwise;
    const int value = number_in(text, end);
    if (value < 0 || *end)
        refuse({"RNNFAST_NUM_THREADS=", text, ": expected an integer from 1 to ", most_threads,
                ", or unset it for all cores"});
    return value;
}

// OpenMP's variable may be a list, whose first number counts; OpenMP's runtime reports other errors.
int openmp_limit(int otherwise) {
    const char *text = std::getenv("OMP_NUM_THREADS"), *end = nullptr;
    const int value = text ? number_in(text, end) : -1;
    return value > 0 && (*end == '\0' || *end == ',' || *end == ' ') ? value : otherwise;
}

}  // namespace

int num_threads() {
    if (threads_for_call) return threads_for_call;
    if (const int chosen = chosen_threads.load(std::memory_order_relaxed)) return chosen;
    const int cores = cores_allowed();
    const int own = own_limit(cores), threads = std::min({cores, own, openmp_limit(cores)});
    report(own > cores ? LogLevel::warning : LogLevel::info,
           {"threads: ", threads, own > cores ? ", fewer than RNNFAST_NUM_THREADS" : "",
            "; cores that affinity and CPU quota allow: ", cores});
    chosen_threads.store(threads, std::memory_order_relaxed);
    return threads;
}

void set_num_threads(int threads) {
    if (threads < 1 || threads > most_threads)
        refuse({"set_num_threads: got ", threads, ", expected 1 to ", most_threads});
    chosen_threads.store(threads, std::memory_order_relaxed);
}

ThreadsForCall::ThreadsForCall(int threads)
    : before_(std::exchange(threads_for_call, std::clamp(threads, 1, most_threads))) {}

ThreadsForCall::~ThreadsForCall() { threads_for_call = before_; }

int openmp_version() {
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}

std::string openmp_library() {
#if defined(_OPENMP) && defined(RNNFAST_HAS_DLADDR)
    Dl_info found{};
    if (dladdr(reinterpret_cast<const void*>(&omp_get_max_threads), &found) && found.dli_fname) return found.dli_fname;
#endif
    return {};
}

Range split(size_t count, size_t parts, size_t index, size_t grain) {
    const size_t grains = (count + grain - 1) / grain;
    const size_t share = grains / parts, larger = grains % parts;
    const size_t begin = index * share + std::min(index, larger);
    const size_t end = begin + share + (index < larger ? 1 : 0);
    return {std::min(begin * grain, count), std::min(end * grain, count)};
}

void Barrier::wait(int members) {
    const unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (Spin spin; round_.load(std::memory_order_acquire) == round;) spin.wait();
}

void Progress::await(size_t place) const {
    for (Spin spin; place_.load(std::memory_order_acquire) < place;) spin.wait();
}

void set_team_source(const TeamSource& source) { team_source = source; }

void set_openmp_of_process(FunctionOfOpenMP find) {
    openmp_of_process.run.store(nullptr, std::memory_order_relaxed);
    openmp_of_process.find.store(find, std::memory_order_relaxed);
}

bool run_on_openmp_of_process(size_t threads, void (*run)(void* job, size_t index, size_t size), void* job) {
    if (fork_count() != 0 || !openmp_of_process.found()) return false;
    struct Parts {
        void (*run)(void* job, size_t index, size_t size);
        void* job;
    } parts{run, job};
    const auto body = [](void* object) {
        const auto& p = *static_cast<const Parts*>(object);
        const NumberOf thread = openmp_of_process.thread.load(std::memory_order_relaxed);
        const NumberOf size = openmp_of_process.threads.load(std::memory_order_relaxed);  // may be fewer than requested
        p.run(p.job, static_cast<size_t>(thread()), static_cast<size_t>(size()));
    };
    openmp_of_process.run.load(std::memory_order_acquire)(body, &parts, static_cast<unsigned>(threads), 0);
    return true;
}

void run_team([[maybe_unused]] size_t threads, void (*body)(const void*, const Team&), const void* object) {
    if (threads > 1 && team_source.execute) {
        Region region{body, object};
        return run_elsewhere(threads, region);
    }
#ifdef _OPENMP
    if (threads > 1 && team_may_start()) {
        Barrier barrier;
#pragma omp parallel num_threads(static_cast<int>(threads))
        {
            const auto size = static_cast<size_t>(omp_get_num_threads());  // may be fewer than requested
            body(object, Team{static_cast<size_t>(omp_get_thread_num()), size, &barrier});
        }
        return;
    }
#elif RNNFAST_HAS_THREADS
    if (threads > 1) {
        Region region{body, object};
        if (!run_on_openmp_of_process(threads, Region::run, &region)) thread_pool().run(threads, Region::run, &region);
        return;
    }
#endif
    body(object, Team{0, 1, nullptr});
}

size_t threads_for(double flops) {
    constexpr double worth_a_thread = 2e5;  // 2 microseconds of arithmetic: the cost of starting a region
    const double wanted = flops / worth_a_thread;
    const auto most = static_cast<double>(num_threads());
    return wanted < 1 ? 1 : static_cast<size_t>(std::min(wanted, most));
}

}  // namespace rnnfast::core
