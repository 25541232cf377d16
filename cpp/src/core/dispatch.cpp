#include "core/dispatch.h"

#include <cstdlib>

#include "rnnfast/error.hpp"

#if defined(RNNFAST_HAVE_AVX512) || defined(RNNFAST_HAVE_AVX2)
#include <cpuid.h>
#endif

namespace rnnfast {

#define RNNFAST_DECLARE(isa)      \
    namespace isa {               \
    extern const Kernels kernels; \
    }
#ifdef RNNFAST_HAVE_AVX512_BF16
RNNFAST_DECLARE(avx512_bf16)
#endif
#ifdef RNNFAST_HAVE_AVX512
RNNFAST_DECLARE(avx512)
#endif
#ifdef RNNFAST_HAVE_AVX2
RNNFAST_DECLARE(avx2)
#endif
#ifdef RNNFAST_HAVE_NEON
RNNFAST_DECLARE(neon)
#endif
#ifdef RNNFAST_HAVE_BASELINE
RNNFAST_DECLARE(baseline)
#endif
#ifdef RNNFAST_HAVE_WIDE
RNNFAST_DECLARE(wide)
#endif
#undef RNNFAST_DECLARE

namespace {

#if defined(RNNFAST_HAVE_AVX512) || defined(RNNFAST_HAVE_AVX2)
// A CPU may have registers its operating system does not save: XCR0 tells which state survives a task switch.
bool system_saves(unsigned state) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & state) == state;
}
constexpr unsigned ymm_state = 0x06, zmm_state = 0xe6;
#endif

#ifdef RNNFAST_HAVE_AVX512
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && system_saves(zmm_state);
}
#endif

std::vector<Isa> find_isas() {
    std::vector<Isa> found;
#ifdef RNNFAST_HAVE_AVX512_BF16
    found.push_back({&avx512_bf16::kernels,
                     has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")});
#endif
#ifdef RNNFAST_HAVE_AVX512
    found.push_back({&avx512::kernels, has_avx512()});
#endif
#ifdef RNNFAST_HAVE_AVX2
    found.push_back(
        {&avx2::kernels, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && system_saves(ymm_state)});
#endif
#ifdef RNNFAST_HAVE_NEON
    found.push_back({&neon::kernels, true});
#endif
#ifdef RNNFAST_HAVE_BASELINE
    found.push_back({&baseline::kernels, true});
#endif
#ifdef RNNFAST_HAVE_WIDE
    found.push_back({&wide::kernels,  // last, so only RNNFAST_ISA and tests choose it
                     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && system_saves(ymm_state)});
#endif
    return found;
}

const Kernels& choose() {
    if (const char* forced = std::getenv("RNNFAST_ISA"); forced && *forced) return kernels_named(forced);
    for (const Isa& isa : isas())
        if (isa.supported) return *isa.kernels;
    throw Error("rnnfast: none of the instruction sets in this build runs on this CPU; build from source on it");
}

}  // namespace

const std::vector<Isa>& isas() {
    static const std::vector<Isa> all = find_isas();
    return all;
}

const Kernels& active() {
    static const Kernels& chosen = choose();
    return chosen;
}

const Kernels& kernels_named(const std::string& name) {
    std::string supported;
    bool built = false;
    for (const Isa& isa : isas()) {
        if (isa.kernels->name == name && isa.supported) return *isa.kernels;
        built = built || isa.kernels->name == name;
        if (isa.supported) supported += (supported.empty() ? "" : ", ") + std::string(isa.kernels->name);
    }
    throw Error("RNNFAST_ISA=" + name +
                (built ? ": this CPU does not have it" : ": no such instruction set in this build") +
                "; choose one of " + supported + ", or unset it");
}

}  // namespace rnnfast
