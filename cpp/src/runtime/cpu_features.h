// What this CPU has beyond the least of its family, and its operating system lets programs use.
#pragma once

namespace rnnfast::core {

struct CpuFeatures {
    bool avx2 = false, avx512 = false, avx512_bf16 = false;  // x86-64; avx2 with FMA, avx512_bf16 with VNNI
    bool amx_int8 = false, amx_bf16 = false;                 // need permission, too
    bool dotprod = false, bf16 = false, i8mm = false;        // AArch64: FEAT_DotProd, FEAT_BF16, FEAT_I8MM
    int sve_bits = 0;                                        // of a vector in this process; 0 without SVE
};

CpuFeatures cpu_features();

// Asks the operating system for the tiles of AMX; false if it refuses. The permission is of the process, for all its
// threads and children.
bool permit_tiles();

}  // namespace rnnfast::core
