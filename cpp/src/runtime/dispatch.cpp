#include "runtime/dispatch.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <stdexcept>

#include "rnnfast/error.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rnnfast needs a little-endian CPU: its model files and packed weights are"
#endif

namespace rnnfast::core {

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
#ifdef RNNFAST_HAVE_GENERIC
RNNFAST_DECLARE(generic)
#endif
#ifdef RNNFAST_HAVE_WIDE
RNNFAST_DECLARE(wide)
#endif
#undef RNNFAST_DECLARE

namespace {

#if defined(__x86_64__) || defined(__i386__)
// Reads the CPU directly: with some C libraries (musl under zig), __builtin_cpu_supports always returns false.
struct CpuFeatures {
    bool avx2 = false, avx512 = false, avx512_bf16 = false;
};

// Bits of CPUID: Intel's Software Developer's Manual, volume 2A, "CPUID".
constexpr bool bit(unsigned word, int number) { return word >> number & 1u; }

CpuFeatures cpu_features() {
    CpuFeatures found;
    unsigned a, b, c, d, most, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return found;  // OSXSAVE
    const bool fma = bit(c, 12);
    // A CPU may have registers that its operating system does not save: XCR0 lists the state that survives a task
    // switch.
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr unsigned ymm_state = 0x06, zmm_state = 0xe6;
    if (!__get_cpuid_count(7, 0, &most, &b, &c, &d)) return found;
    found.avx2 = fma && bit(b, 5) && (low & ymm_state) == ymm_state;
    const bool f = bit(b, 16), dq = bit(b, 17), bw = bit(b, 30), vl = bit(b, 31), vnni = bit(c, 11);
    found.avx512 = found.avx2 && f && dq && bw && vl && (low & zmm_state) == zmm_state;
    if (found.avx512 && vnni && most >= 1 && __get_cpuid_count(7, 1, &a, &b, &unused, &d))
        found.avx512_bf16 = bit(a, 5);
    return found;
}
#endif

#ifdef RNNFAST_HAVE_AVX512_BF16
// AVX-512 with instructions for bf16 and int8: all other kernels are the same.
Kernels avx512_with_low_precision() {
    const Kernels& low = avx512_bf16::kernels;
    Kernels k = avx512::kernels;
    k.name = low.name;
    for (const GemmPrecision precision : {gemm_bf16, gemm_int8})
        std::copy(std::begin(low.gemm[precision]), std::end(low.gemm[precision]), std::begin(k.gemm[precision]));
    k.bf16_rate = low.bf16_rate;
    return k;
}
#endif

std::vector<Isa> find_isas() {
    std::vector<Isa> found;
#if defined(__x86_64__) || defined(__i386__)
    [[maybe_unused]] const CpuFeatures cpu = cpu_features();
#endif
#ifdef RNNFAST_HAVE_AVX512_BF16
    static const Kernels with_low_precision = avx512_with_low_precision();
    found.push_back({&with_low_precision, cpu.avx512_bf16});
#endif
#ifdef RNNFAST_HAVE_AVX512
    found.push_back({&avx512::kernels, cpu.avx512});
#endif
#ifdef RNNFAST_HAVE_AVX2
    found.push_back({&avx2::kernels, cpu.avx2});
#endif
#ifdef RNNFAST_HAVE_NEON
    found.push_back({&neon::kernels, true});
#endif
#ifdef RNNFAST_HAVE_BASELINE
    found.push_back({&baseline::kernels, true});
#endif
#ifdef RNNFAST_HAVE_GENERIC
#if defined(__x86_64__) || defined(__i386__)
    found.push_back({&generic::kernels, cpu.avx2});  // only in test builds, which compile it for CPUs with FMA
#else
    found.push_back({&generic::kernels, true});
#endif
#endif
#ifdef RNNFAST_HAVE_WIDE
    found.push_back({&wide::kernels, cpu.avx2});  // last, so that only RNNFAST_ISA and tests select it
#endif
    return found;
}

const Kernels& choose() {
    if (const char* forced = std::getenv("RNNFAST_ISA"); forced && *forced) return kernels_named(forced);
    for (const Isa& isa : isas())
        if (isa.supported) return *isa.kernels;
    throw UnsupportedCpu(
        "rnnfast: none of the instruction sets in this build runs on this CPU; build from source on it");
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
    throw UnsupportedCpu("RNNFAST_ISA=" + name +
                         (built ? ": this CPU does not have it" : ": no such instruction set in this build") +
                         "; choose one of " + supported + ", or unset it");
}

}  // namespace rnnfast::core
