#include "runtime/cpu_features.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#include <sys/prctl.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace rnnfast::core {

namespace {

[[maybe_unused]] constexpr bool bit(unsigned long word, int number) { return word >> number & 1u; }

}  // namespace

#if defined(__x86_64__) || defined(__i386__)
// Reads the CPU directly: with some C libraries (musl under zig), __builtin_cpu_supports always returns false.
// Bits of CPUID: Intel's Software Developer's Manual, volume 2A, "CPUID".
CpuFeatures cpu_features() {
    CpuFeatures found;
    unsigned a, b, c, d, most, unused;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return found;  // OSXSAVE
    const bool fma = bit(c, 12);
    // A CPU may have registers that its operating system does not save: XCR0 lists the state that survives a task
    // switch.
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr unsigned ymm_state = 0x06, zmm_state = 0xe6, tile_state = 0x60000;
    if (!__get_cpuid_count(7, 0, &most, &b, &c, &d)) return found;
    const bool tiles = bit(d, 24) && (low & tile_state) == tile_state;
    found.amx_int8 = tiles && bit(d, 25);
    found.amx_bf16 = tiles && bit(d, 22);
    found.avx2 = fma && bit(b, 5) && (low & ymm_state) == ymm_state;
    const bool f = bit(b, 16), dq = bit(b, 17), bw = bit(b, 30), vl = bit(b, 31), vnni = bit(c, 11);
    found.avx512 = found.avx2 && f && dq && bw && vl && (low & zmm_state) == zmm_state;
    if (found.avx512 && vnni && most >= 1 && __get_cpuid_count(7, 1, &a, &b, &unused, &d))
        found.avx512_bf16 = bit(a, 5);
    return found;
}
#elif defined(__aarch64__) && defined(__linux__)
// Bits of Linux's Documentation/arch/arm64/elf_hwcaps.rst, which headers older than the features do not name.
CpuFeatures cpu_features() {
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    CpuFeatures found;
    found.dotprod = bit(first, 20);
    found.i8mm = bit(second, 13);
    found.bf16 = bit(second, 14);
    constexpr int get_vector_length = 51;  // PR_SVE_GET_VL: bytes in the low half, flags above
    const int length = bit(first, 22) ? prctl(get_vector_length) : 0;
    if (length > 0) found.sve_bits = 8 * (length & 0xffff);
    return found;
}
#elif defined(__aarch64__) && defined(__APPLE__)
namespace {

bool has(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

}  // namespace

CpuFeatures cpu_features() {
    CpuFeatures found;
    found.dotprod = has("hw.optional.arm.FEAT_DotProd");
    found.i8mm = has("hw.optional.arm.FEAT_I8MM");
    found.bf16 = has("hw.optional.arm.FEAT_BF16");
    return found;
}
#else
CpuFeatures cpu_features() { return {}; }
#endif

bool permit_tiles() {
#if defined(__x86_64__) && defined(__linux__)
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

}  // namespace rnnfast::core
