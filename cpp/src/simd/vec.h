// One vector of floats at this ISA's native width, and the few operations kernels need.
// The only folder with intrinsics; every operation is IEEE-exact, so equal inputs give equal bits on every width.
#pragma once

#include <cstddef>
#include <cstdint>

// Tables without intrinsics: WIDE and GENERIC by name, and any CPU without its own branch below.
#if defined(RNNFAST_WIDE) || defined(RNNFAST_GENERIC) || !(defined(__SSE2__) || defined(__aarch64__))
#define RNNFAST_NO_INTRINSICS
#endif

// SVE by name, too: compiled for one length of its vectors, in tables that hold products alone.
#if defined(RNNFAST_SVE) && !(defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0)
#error "a table of SVE is compiled with -msve-vector-bits"
#endif

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(RNNFAST_SVE)
#include <arm_sve.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace rnnfast::core::RNNFAST_ISA {
namespace {

#if defined(__AVX512F__) || defined(RNNFAST_WIDE)
constexpr size_t lanes = 16;
#elif defined(__AVX2__)
constexpr size_t lanes = 8;
#elif defined(RNNFAST_SVE)
constexpr size_t lanes = __ARM_FEATURE_SVE_BITS / 32;
#else
constexpr size_t lanes = 4;
#endif

typedef float Vec __attribute__((vector_size(lanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(lanes * 4)));
typedef uint32_t UnsignedIntVec __attribute__((vector_size(lanes * 4)));
typedef float UnalignedVec __attribute__((vector_size(lanes * 4), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }

// The first n < lanes floats; the others read as zero, and their memory is never accessed.
inline Vec load_partial(const float* p, size_t n) {
    float tmp[lanes] = {};
    for (size_t i = 0; i < n; ++i) tmp[i] = p[i];
    return load(tmp);
}
inline void store_partial(float* p, Vec v, size_t n) {
    for (size_t i = 0; i < n; ++i) p[i] = v[i];
}

inline IntVec as_int(Vec v) { return (IntVec)v; }  // same bits
inline Vec as_float(IntVec v) { return (Vec)v; }

// fma(a, b, c) = a * b + c, rounded once. Without the instruction (baseline, and generic on some CPUs) it is rounded
// twice, and the table guarantees only its own bits. min and max return the SECOND operand when either is NaN, so
// min(hi, max(lo, x)) lets a NaN in x through.
#if defined(RNNFAST_NO_INTRINSICS)
template <class Operation>
inline Vec each_lane(Operation operation) {
    Vec result;
    for (size_t i = 0; i < lanes; ++i) result[i] = operation(i);
    return result;
}
inline Vec broadcast(float x) {
    return each_lane([x](size_t) { return x; });
}
#if defined(__FMA__) || defined(__FP_FAST_FMAF) || defined(__ARM_FEATURE_FMA) || defined(__riscv_flen)
inline Vec fma(Vec a, Vec b, Vec c) {
    return each_lane([&](size_t i) { return __builtin_fmaf(a[i], b[i], c[i]); });
}
#else
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
#endif
inline Vec min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec sqrt(Vec a) {
    return each_lane([&](size_t i) { return __builtin_sqrtf(a[i]); });
}
#elif defined(__AVX512F__)
inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec sqrt(Vec a) { return _mm512_sqrt_ps(a); }
#elif defined(__AVX2__)
inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
#elif defined(__SSE2__)
inline Vec broadcast(float x) { return _mm_set1_ps(x); }
inline Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec min(Vec a, Vec b) { return _mm_min_ps(a, b); }
inline Vec max(Vec a, Vec b) { return _mm_max_ps(a, b); }
inline Vec sqrt(Vec a) { return _mm_sqrt_ps(a); }
#elif defined(RNNFAST_SVE)
inline Vec broadcast(float x) { return svdup_n_f32(x); }
inline Vec fma(Vec a, Vec b, Vec c) { return svmla_f32_x(svptrue_b32(), c, a, b); }
#else  // NEON of aarch64; that of 32-bit ARM flushes denormals
inline Vec broadcast(float x) { return Vec(vdupq_n_f32(x)); }
inline Vec fma(Vec a, Vec b, Vec c) { return Vec(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b))); }
inline Vec min(Vec a, Vec b) { return Vec(vminq_f32(float32x4_t(a), float32x4_t(b))); }
inline Vec max(Vec a, Vec b) { return Vec(vmaxq_f32(float32x4_t(a), float32x4_t(b))); }
inline Vec sqrt(Vec a) { return Vec(vsqrtq_f32(float32x4_t(a))); }
#endif

// Vectors as quads of four lanes. load_quads: four floats at offset k of the lines 0, 4, 8, ... one quad each.
// unpack_low and unpack_high: a0 b0 a1 b1 and a2 b2 a3 b3 of each quad.
#if defined(RNNFAST_NO_INTRINSICS)
inline Vec load_quads(const float* const* lines, size_t k) {
    return each_lane([&](size_t i) { return lines[i / 4 * 4][k + i % 4]; });
}
inline Vec unpack_low(Vec a, Vec b) {
    return each_lane([&](size_t i) { return i % 2 ? b[i / 4 * 4 + i % 4 / 2] : a[i / 4 * 4 + i % 4 / 2]; });
}
inline Vec unpack_high(Vec a, Vec b) {
    return each_lane([&](size_t i) { return i % 2 ? b[i / 4 * 4 + 2 + i % 4 / 2] : a[i / 4 * 4 + 2 + i % 4 / 2]; });
}
#elif defined(__AVX512F__)
inline Vec load_quads(const float* const* lines, size_t k) {
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(lines[0] + k));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(lines[4] + k), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(lines[8] + k), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(lines[12] + k), 3);
}
inline Vec unpack_low(Vec a, Vec b) { return _mm512_unpacklo_ps(a, b); }
inline Vec unpack_high(Vec a, Vec b) { return _mm512_unpackhi_ps(a, b); }
#elif defined(__AVX2__)
inline Vec load_quads(const float* const* lines, size_t k) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lines[0] + k)), _mm_loadu_ps(lines[4] + k), 1);
}
inline Vec unpack_low(Vec a, Vec b) { return _mm256_unpacklo_ps(a, b); }
inline Vec unpack_high(Vec a, Vec b) { return _mm256_unpackhi_ps(a, b); }
#elif defined(__SSE2__)
inline Vec load_quads(const float* const* lines, size_t k) { return load(lines[0] + k); }
inline Vec unpack_low(Vec a, Vec b) { return _mm_unpacklo_ps(a, b); }
inline Vec unpack_high(Vec a, Vec b) { return _mm_unpackhi_ps(a, b); }
#elif !defined(RNNFAST_SVE)
inline Vec load_quads(const float* const* lines, size_t k) { return load(lines[0] + k); }
inline Vec unpack_low(Vec a, Vec b) { return Vec(vzip1q_f32(float32x4_t(a), float32x4_t(b))); }
inline Vec unpack_high(Vec a, Vec b) { return Vec(vzip2q_f32(float32x4_t(a), float32x4_t(b))); }
#endif

// c + a1 b1 + a0 b0 where a lane of a and b is a pair of bf16, the first in its low half. Each term is one fused
// multiply-add, the second of the pair first: as AVX512_BF16 does, so the emulation gives the same bits (except for
// numbers below 1.2e-38, which the instruction reads and writes as zero).
#if !defined(RNNFAST_NO_INTRINSICS) && (defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC))
constexpr bool has_dot_bf16 = true;
#else
constexpr bool has_dot_bf16 = false;
#endif
#if defined(__AVX512BF16__) && defined(__clang__)
inline Vec dot_bf16(Vec a, Vec b, Vec c) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));  // clang 16 crashes on the intrinsic
    return c;
}
#elif defined(__AVX512BF16__)
inline Vec dot_bf16(Vec a, Vec b, Vec c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC) && !defined(RNNFAST_NO_INTRINSICS)
// BFMLALT and BFMLALB are fused multiply-adds of the second and of the first of each pair. BFDOT and BFMMLA add the
// products of a pair before c, round to odd and flush denormals: other bits.
inline Vec dot_bf16(Vec a, Vec b, Vec c) {
    const bfloat16x8_t pairs_a = vreinterpretq_bf16_f32(float32x4_t(a)),
                       pairs_b = vreinterpretq_bf16_f32(float32x4_t(b));
    return Vec(vbfmlalbq_f32(vbfmlaltq_f32(float32x4_t(c), pairs_a, pairs_b), pairs_a, pairs_b));
}
#else
inline Vec dot_bf16(Vec a, Vec b, Vec c) {
    const IntVec high = (IntVec{} - 1) << 16;
    c = fma(as_float(as_int(a) & high), as_float(as_int(b) & high), c);
    return fma(as_float(as_int(a) << 16), as_float(as_int(b) << 16), c);
}
#endif

// Converts integers to floats, and stores their low bytes.
inline Vec to_float(IntVec v) { return __builtin_convertvector(v, Vec); }
inline void store_bytes(uint8_t* p, IntVec v) {
    typedef uint8_t Bytes __attribute__((vector_size(lanes)));
    const Bytes bytes = __builtin_convertvector(v, Bytes);
    __builtin_memcpy(p, &bytes, sizeof bytes);
}

// The nearest bf16 in the low half of every lane, ties to even. A NaN stays NaN; a number below 1.2e-38 becomes zero.
#if defined(__AVX512BF16__) && !defined(__clang__)
inline UnsignedIntVec to_bf16(Vec x) { return (UnsignedIntVec)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); }
#else
inline UnsignedIntVec to_bf16(Vec x) {
    const UnsignedIntVec bits = (UnsignedIntVec)x, half = bits >> 16;
    const UnsignedIntVec rounded = (bits + 0x7fffu + (half & 1u)) >> 16;
    const UnsignedIntVec nan = (UnsignedIntVec)((bits & 0x7fffffffu) > 0x7f800000u);  // all ones or zero
    const UnsignedIntVec zero = (UnsignedIntVec)((bits & 0x7f800000u) == 0u);
    return (~(nan | zero) & rounded) | (nan & (half | 0x40u)) | (zero & half & 0x8000u);
}
#endif

// Stores the low half of every lane, the first lane first.
inline void store_halves(float* p, UnsignedIntVec v) {
    typedef uint16_t Halves __attribute__((vector_size(lanes * 2)));
    const Halves halves = __builtin_convertvector(v, Halves);
    __builtin_memcpy(p, &halves, sizeof halves);
}

// sum + a0 b0 + a1 b1 + a2 b2 + a3 b3 in every lane: a holds four unsigned bytes, b four signed bytes, sum a 32-bit
// integer. Exact, so every ISA gives the same result.
#if !defined(RNNFAST_NO_INTRINSICS) && \
    (defined(__AVX512VNNI__) || defined(__ARM_FEATURE_DOTPROD) || defined(RNNFAST_SVE))
constexpr bool has_dot_int8 = true;
#else
constexpr bool has_dot_int8 = false;
#endif
#if defined(__AVX512VNNI__)
inline Vec dot_int8(Vec a, Vec b, Vec sum) {
    return as_float((IntVec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b));
}
#elif defined(__SSE2__) && !defined(RNNFAST_NO_INTRINSICS)
typedef int16_t ShortVec __attribute__((vector_size(lanes * 4)));
typedef uint16_t UnsignedShortVec __attribute__((vector_size(lanes * 4)));

#if defined(__AVX512BW__)
inline IntVec add_pairs_of_products(ShortVec a, ShortVec b) {
    return (IntVec)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}
#elif defined(__AVX2__)
inline IntVec add_pairs_of_products(ShortVec a, ShortVec b) {
    return (IntVec)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
#else
inline IntVec add_pairs_of_products(ShortVec a, ShortVec b) { return (IntVec)_mm_madd_epi16((__m128i)a, (__m128i)b); }
#endif
inline Vec dot_int8(Vec a, Vec b, Vec sum) {  // bytes 0 and 2, then 1 and 3, as 16-bit numbers
    const UnsignedShortVec both = (UnsignedShortVec)a;
    const ShortVec signed_both = (ShortVec)b;
    const IntVec even = add_pairs_of_products((ShortVec)(both & 0xff), (ShortVec)((UnsignedShortVec)b << 8) >> 8);
    const IntVec odd = add_pairs_of_products((ShortVec)(both >> 8), signed_both >> 8);
    return as_float(as_int(sum) + even + odd);
}
#elif defined(__ARM_FEATURE_MATMUL_INT8) && !defined(RNNFAST_NO_INTRINSICS)
inline Vec dot_int8(Vec a, Vec b, Vec sum) { return Vec(vusdotq_s32(int32x4_t(sum), uint8x16_t(a), int8x16_t(b))); }
#elif defined(__ARM_FEATURE_DOTPROD) && !defined(RNNFAST_NO_INTRINSICS)
// UDOT takes unsigned bytes: b + 128, which adds 128 times the bytes of a. A tile computes that once for each row.
inline Vec dot_int8(Vec a, Vec b, Vec sum) {
    const uint8x16_t all_128 = vdupq_n_u8(128);
    const uint32x4_t excess = vdotq_u32(vdupq_n_u32(0), uint8x16_t(a), all_128);
    return Vec(vsubq_u32(vdotq_u32(uint32x4_t(sum), uint8x16_t(a), veorq_u8(uint8x16_t(b), all_128)), excess));
}
#elif defined(RNNFAST_SVE)
inline Vec dot_int8(Vec a, Vec b, Vec sum) {  // the same
    typedef uint8_t Bytes __attribute__((vector_size(lanes * 4)));
    const UnsignedIntVec excess = svdot_u32(UnsignedIntVec{}, Bytes(a), svdup_n_u8(128));
    return Vec(UnsignedIntVec(svdot_u32(UnsignedIntVec(sum), Bytes(a), Bytes(b) ^ 128)) - excess);
}
#else
inline Vec dot_int8(Vec a, Vec b, Vec sum) {
    IntVec total = as_int(sum);
    for (int shift = 0; shift < 32; shift += 8)
        total += ((as_int(a) >> shift) & 0xff) * ((IntVec)((UnsignedIntVec)b << (24 - shift)) >> 24);
    return as_float(total);
}
#endif

}  // namespace
}  // namespace rnnfast::core::RNNFAST_ISA
