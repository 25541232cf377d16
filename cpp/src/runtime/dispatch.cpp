#include "runtime/dispatch.h"

#include <cstdlib>
#include <stdexcept>

#include "rnnfast/error.hpp"
#include "runtime/cpu_features.h"
#include "runtime/log.h"
#include "runtime/sentence.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rnnfast needs a little-endian CPU: its model files and packed weights are"
#endif

namespace rnnfast::core {

#define RNNFAST_DECLARE(isa)      \
    namespace isa {               \
    extern const Kernels kernels; \
    }
#ifdef RNNFAST_HAVE_AMX_INT8
RNNFAST_DECLARE(amx_int8)
#endif
#ifdef RNNFAST_HAVE_AMX_BF16
RNNFAST_DECLARE(amx_bf16)
#endif
#ifdef RNNFAST_HAVE_AVX512_BF16
RNNFAST_DECLARE(avx512_bf16)
#endif
#ifdef RNNFAST_HAVE_AVX512
RNNFAST_DECLARE(avx512)
#endif
#ifdef RNNFAST_HAVE_AVX2
RNNFAST_DECLARE(avx2)
#endif
#ifdef RNNFAST_HAVE_SVE512
RNNFAST_DECLARE(sve512)
#endif
#ifdef RNNFAST_HAVE_SVE256
RNNFAST_DECLARE(sve256)
#endif
#ifdef RNNFAST_HAVE_NEON_BF16
RNNFAST_DECLARE(neon_bf16)
#endif
#ifdef RNNFAST_HAVE_NEON_DOTPROD
RNNFAST_DECLARE(neon_dotprod)
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
#ifdef RNNFAST_HAVE_AMX_PLAIN
RNNFAST_DECLARE(amx_plain)
#endif
#ifdef RNNFAST_HAVE_AMX_PLAIN_BF16
RNNFAST_DECLARE(amx_plain_bf16)
#endif
#ifdef RNNFAST_HAVE_WIDE
RNNFAST_DECLARE(wide)
#endif
#undef RNNFAST_DECLARE

namespace {

// The table `whole` with the products of `part`, which has nothing else: complete products, or loops and widths alone.
[[maybe_unused]] Kernels with_products(Kernels whole, const Kernels& part) {
    whole.name = part.name;
    for (size_t precision = 0; precision < gemm_precisions; ++precision)
        for (size_t shape = 0; shape < gemm_shapes; ++shape) {
            const GemmKernel& product = part.gemm[precision][shape];
            GemmKernel& replaced = whole.gemm[precision][shape];
            if (product.along) replaced = product;
            if (!product.run) continue;
            replaced.run = product.run;
            replaced.width = product.width;
            replaced.depth_unit = product.depth_unit;
        }
    if (part.bf16_rate) whole.bf16_rate = part.bf16_rate;
    return whole;
}

#ifdef RNNFAST_HAVE_AMX_INT8
// With fewer rows, tiles of one row cost as much as those of many.
constexpr size_t rows_of_tiles = 3;

template <GemmShape shape>
void int8_product(const Gemm& g) {
    const Kernels& kernels = g.rows < rows_of_tiles ? avx512_bf16::kernels : amx_int8::kernels;
    kernels.gemm[gemm_int8][shape].run(g);
}

// On CPUs with AMX, VDPBF16PS takes the time of nearly four FMAs: products in bf16 are those of avx512, and only
// rounding has the instruction of AVX512_BF16.
Kernels with_int8_tiles() {
    Kernels int8_only = avx512_bf16::kernels;
    for (GemmKernel& product : int8_only.gemm[gemm_bf16]) product = {};
    int8_only.bf16_rate = nullptr;
    Kernels k = with_products(with_products(avx512::kernels, int8_only), amx_int8::kernels);
    for (size_t shape = gemm_wide; shape <= gemm_of_3; ++shape) {
        k.gemm[gemm_bf16][shape].along = avx512_bf16::kernels.gemm[gemm_bf16][shape].along;
        k.gemm[gemm_bf16][shape].across = avx512_bf16::kernels.gemm[gemm_bf16][shape].across;
    }
    k.gemm[gemm_int8][gemm_wide].run = int8_product<gemm_wide>;
    k.gemm[gemm_int8][gemm_of_3].run = int8_product<gemm_of_3>;
    return k;
}

const Kernels& amx_int8_and_others() {
    static const Kernels kernels = with_int8_tiles();
    return kernels;
}

bool has_tiles() {
    static const bool found = cpu_features().avx512_bf16 && cpu_features().amx_int8,
                      permitted = found && permit_tiles();
    if (found && !permitted)
        report(LogLevel::warning, {"AMX is not used: the system refuses its tiles to this process"});
    return permitted;
}
#endif

std::vector<Isa> find_isas() {
    std::vector<Isa> found;
    [[maybe_unused]] const CpuFeatures cpu = cpu_features();
#ifdef RNNFAST_HAVE_AMX_INT8
    found.push_back({&amx_int8_and_others(), has_tiles()});
#endif
#ifdef RNNFAST_HAVE_AVX512_BF16
    static const Kernels avx512_bf16_and_others = with_products(avx512::kernels, avx512_bf16::kernels);
    found.push_back({&avx512_bf16_and_others, cpu.avx512_bf16});
#endif
#ifdef RNNFAST_HAVE_AVX512
    found.push_back({&avx512::kernels, cpu.avx512});
#endif
#ifdef RNNFAST_HAVE_AVX2
    found.push_back({&avx2::kernels, cpu.avx2});
#endif
#ifdef RNNFAST_HAVE_SVE512
    static const Kernels sve512_and_others = with_products(neon::kernels, sve512::kernels);
    found.push_back({&sve512_and_others, cpu.sve_bits == 512});
#endif
#ifdef RNNFAST_HAVE_NEON_BF16
    static const Kernels neon_bf16_and_others = with_products(neon::kernels, neon_bf16::kernels);
    found.push_back({&neon_bf16_and_others, cpu.bf16 && cpu.i8mm});
#endif
#ifdef RNNFAST_HAVE_SVE256  // CPUs with bf16 instructions have as many NEON units as these vectors fill
    static const Kernels sve256_and_others = with_products(neon::kernels, sve256::kernels);
    found.push_back({&sve256_and_others, cpu.sve_bits == 256});
#endif
#ifdef RNNFAST_HAVE_NEON_DOTPROD
    static const Kernels neon_dotprod_and_others = with_products(neon::kernels, neon_dotprod::kernels);
    found.push_back({&neon_dotprod_and_others, cpu.dotprod});
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
#ifdef RNNFAST_HAVE_AMX_PLAIN
    static const Kernels amx_plain_and_others = with_products(wide::kernels, amx_plain::kernels);
    found.push_back({&amx_plain_and_others, cpu.avx2});
#endif
#endif
    return found;
}

// A product in tiles takes no part in sparse ones, whose sums have the order of the other tables.
[[maybe_unused]] Kernels with_bf16_tiles(const Kernels& whole, const Kernels& tiles) {
    Kernels k = with_products(whole, tiles);
    for (GemmKernel& product : k.gemm[gemm_bf16]) product.sparse_words = product.sparse_terms = nullptr;
    return k;
}

const Kernels& choose() {
    if (const char* forced = std::getenv("RNNFAST_ISA"); forced && *forced) return kernels_named(forced);
    for (const Isa& isa : isas())
        if (isa.supported) return *isa.kernels;
    throw UnsupportedCpu(
        "rnnfast: none of the instruction sets in this build runs on this CPU; build from source on it");
}

const Kernels& choose_and_report() {
    const Kernels& kernels = choose();
    report(LogLevel::info, {"instruction set ", kernels.name});
    return kernels;
}

}  // namespace

const std::vector<Isa>& isas() {
    static const std::vector<Isa> all = find_isas();
    return all;
}

std::vector<Isa> isas_of_other_bits() {
    std::vector<Isa> found;
#ifdef RNNFAST_HAVE_AMX_BF16
    static const Kernels amx_bf16_and_others = with_bf16_tiles(amx_int8_and_others(), amx_bf16::kernels);
    found.push_back({&amx_bf16_and_others, has_tiles() && cpu_features().amx_bf16});
#endif
#ifdef RNNFAST_HAVE_AMX_PLAIN_BF16
    static const Kernels amx_plain_bf16_and_others = with_bf16_tiles(wide::kernels, amx_plain_bf16::kernels);
    found.push_back({&amx_plain_bf16_and_others, cpu_features().avx2});
#endif
    return found;
}

const Kernels& active() {
    static const Kernels& chosen = choose_and_report();
    return chosen;
}

const Kernels& kernels_named(const std::string& name) {
    std::string supported;
    bool built = false;
    const auto find = [&](const std::vector<Isa>& all) -> const Kernels* {
        for (const Isa& isa : all) {
            if (isa.kernels->name == name && isa.supported) return isa.kernels;
            built = built || isa.kernels->name == name;
            if (!isa.supported) continue;
            if (!supported.empty()) supported += ", ";
            supported += isa.kernels->name;
        }
        return nullptr;
    };
    if (const Kernels* found = find(isas())) return *found;
    if (const Kernels* found = find(isas_of_other_bits())) return *found;
    const char* reason = built ? ": this CPU does not have it" : ": no such instruction set in this build";
    throw UnsupportedCpu(joined({"RNNFAST_ISA=", name, reason, "; choose one of ", supported, ", or unset it"}));
}

}  // namespace rnnfast::core
