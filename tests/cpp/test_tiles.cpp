// The loops of AMX, whose instructions a handler of SIGILL executes on CPUs without them, against sums of integers.
#if defined(__x86_64__) && defined(__linux__)
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <vector>

#include "helpers.h"
#include "runtime/bits.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

float bf16_number(uint32_t high_half) {
    float number;
    std::memcpy(&number, &high_half, sizeof number);
    return number;
}

// What one instruction adds to a sum: the first terms of the words, from zero, and the second ones.
float sum_in_tile(const uint32_t* a, size_t a_step, const uint32_t* b, size_t b_step, size_t words) {
    float first = 0, second = 0;
    for (size_t k = 0; k < words; ++k) {
        const uint32_t x = a[k * a_step], y = b[k * b_step];
        first = std::fma(bf16_number(x << 16), bf16_number(y << 16), first);
        second = std::fma(bf16_number(x & 0xffff0000u), bf16_number(y & 0xffff0000u), second);
    }
    return first + second;
}

// The state of the tiles, and each instruction after the pseudocode of Intel's manual, volume 2. What would fault,
// fails.
struct TileMachine {
    uint8_t data[8][16][64];
    uint16_t bytes[8];
    uint8_t rows[8];
    bool failed = false;

    void require(bool condition) { failed = failed || !condition; }
    void load_config(const uint8_t* config) {
        require(config[0] == 1);
        for (size_t i = 1; i < 16; ++i) require(config[i] == 0);
        std::memcpy(bytes, config + 16, sizeof bytes);
        std::memcpy(rows, config + 48, sizeof rows);
        for (size_t i = 0; i < 8; ++i) require(bytes[i] && bytes[i] <= 64 && rows[i] && rows[i] <= 16);
        for (size_t i = 8; i < 16; ++i) require(!config[16 + 2 * i] && !config[17 + 2 * i] && !config[48 + i]);
        std::memset(data, 0, sizeof data);
    }
    void load(size_t tile, const uint8_t* from, uint64_t stride) {
        std::memset(data[tile], 0, sizeof data[tile]);
        for (size_t r = 0; r < rows[tile]; ++r) std::memcpy(data[tile][r], from + r * stride, bytes[tile]);
    }
    void store(size_t tile, uint8_t* to, uint64_t stride) {
        for (size_t r = 0; r < rows[tile]; ++r) std::memcpy(to + r * stride, data[tile][r], bytes[tile]);
    }
    void require_sizes(size_t sums, size_t a, size_t b) {
        require(sums != a && sums != b && a != b);
        require(bytes[a] == 4 * rows[b] && rows[a] == rows[sums] && bytes[b] == bytes[sums]);
    }
    void dot_of_pairs(size_t sums, size_t a, size_t b) {
        require_sizes(sums, a, b);
        for (size_t m = 0; m < rows[sums]; ++m)
            for (size_t n = 0; n < bytes[b] / 4u; ++n) {
                float sum;
                std::memcpy(&sum, data[sums][m] + 4 * n, sizeof sum);
                uint32_t left[16], right[16];
                for (size_t k = 0; k < rows[b]; ++k) {
                    std::memcpy(left + k, data[a][m] + 4 * k, sizeof *left);
                    std::memcpy(right + k, data[b][k] + 4 * n, sizeof *right);
                }
                sum += sum_in_tile(left, 1, right, 1, rows[b]);
                std::memcpy(data[sums][m] + 4 * n, &sum, sizeof sum);
            }
    }
    void dot(size_t sums, size_t a, size_t b) {
        require_sizes(sums, a, b);
        for (size_t m = 0; m < rows[sums]; ++m)
            for (size_t k = 0; k < rows[b]; ++k)
                for (size_t n = 0; n < bytes[b]; ++n) {
                    uint32_t sum;
                    std::memcpy(&sum, data[sums][m] + n / 4 * 4, sizeof sum);
                    sum += static_cast<uint32_t>(data[a][m][4 * k + n % 4] * static_cast<int8_t>(data[b][k][n]));
                    std::memcpy(data[sums][m] + n / 4 * 4, &sum, sizeof sum);
                }
    }
};

TileMachine machine;
size_t executed = 0;

// The address in a VEX instruction of three prefix bytes: base + displacement, and the index. Returns what follows.
const uint8_t* read_address(const greg_t* registers, const uint8_t* at, uint64_t& base, uint64_t& index) {
    constexpr int names[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const bool high_index = !(at[1] & 0x40), high_base = !(at[1] & 0x20);
    const int mode = at[4] >> 6;
    size_t number = at[4] & 7, length = 5;
    if (number == 4) {  // a SIB byte follows
        const uint8_t sib = at[length++];
        const size_t index_number = (sib >> 3 & 7u) | (high_index ? 8u : 0u);
        machine.require(sib >> 6 == 0);
        number = sib & 7;
        if (index_number != 4) index = static_cast<uint64_t>(registers[names[index_number]]);
    }
    machine.require(mode != 0 || number != 5);
    base = static_cast<uint64_t>(registers[names[number | (high_base ? 8u : 0u)]]);
    int32_t displacement = 0;
    if (mode == 1) displacement = static_cast<int8_t>(at[length]);
    if (mode == 2) std::memcpy(&displacement, at + length, sizeof displacement);
    base += static_cast<uint64_t>(static_cast<int64_t>(displacement));
    return at + length + (mode == 1 ? 1 : mode == 2 ? 4 : 0);
}

void execute(int, siginfo_t*, void* context) {
    greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const auto* at = reinterpret_cast<const uint8_t*>(registers[REG_RIP]);
    if (at[0] != 0xc4 || (at[1] & 0x1f) != 2) _exit(3);  // another instruction that this CPU lacks
    const uint8_t operation = at[3], prefix = at[2] & 3, tile = at[4] >> 3 & 7;
    const bool in_registers = at[4] >> 6 == 3;
    uint64_t base = 0, index = 0;
    const uint8_t* next = in_registers ? at + 5 : read_address(registers, at, base, index);
    auto* memory = reinterpret_cast<uint8_t*>(base);
    if (operation == 0x49 && prefix == 0 && in_registers) {  // TILERELEASE
    } else if (operation == 0x49 && prefix == 0) {
        machine.load_config(memory);
    } else if (operation == 0x4b && prefix == 3) {
        machine.load(tile, memory, index);
    } else if (operation == 0x4b && prefix == 2) {
        machine.store(tile, memory, index);
    } else if (operation == 0x5e && prefix == 1 && in_registers) {  // TDPBUSD
        machine.dot(tile, at[4] & 7, ~at[2] >> 3 & 15);
    } else if (operation == 0x5c && prefix == 2 && in_registers) {  // TDPBF16PS
        machine.dot_of_pairs(tile, at[4] & 7, ~at[2] >> 3 & 15);
    } else {
        _exit(3);
    }
    ++executed;
    registers[REG_RIP] = reinterpret_cast<greg_t>(next);
}

struct Case {
    size_t rows, depth, columns;
    bool in_runs, from_start, transposed;
};

// Of random words: four bytes, or two bf16 numbers between 2^-4 and 2^4.
std::vector<uint32_t> random_words(size_t count, uint64_t key, bool pairs) {
    std::vector<uint32_t> all(count);
    for (size_t i = 0; i < count; ++i) {
        all[i] = static_cast<uint32_t>(random_bits(key, i));
        if (pairs) all[i] = (all[i] & 0x83ff83ffu) + 0x3d803d80u;
    }
    return all;
}
std::vector<uint32_t> random_floats(size_t count, uint64_t key) {
    std::vector<uint32_t> all(count);
    const auto from = random_vector(count, key);
    if (count) std::memcpy(all.data(), from.data(), count * sizeof(float));
    return all;
}

// One case, its product by a kernel and by the test.
class Product {
public:
    Product(const GemmKernel& kernel, Case p, bool pairs) : kernel_(kernel), p_(p), pairs_(pairs) {
        const auto sums = [&](size_t count, uint64_t key) {
            return pairs ? random_floats(count, key) : random_words(count, key, false);
        };
        a_ = random_words(p.transposed ? p.depth * (p.rows + gap) + 1 : a_at(p.rows, p.depth) + 1, 1, pairs);
        b_ = random_words(padded() * p.depth + 1, 2, pairs);
        start_ = sums(padded(), 3);
        c_ = sums(c_at(p.rows, 0), 4);
    }
    bool same() {
        auto expected = c_;
        for (size_t r = 0; r < p_.rows; ++r)
            for (size_t j = 0; j < p_.columns; ++j) {
                uint32_t& sum = expected[c_at(r, j)];
                if (p_.from_start) sum = start_[j];
                for (size_t k = 0; k < p_.depth; k += 16) add(sum, r, j, k, std::min<size_t>(16, p_.depth - k));
            }
        const auto floats = [](const std::vector<uint32_t>& x) { return reinterpret_cast<const float*>(x.data()); };
        Gemm g;
        g.rows = p_.rows;
        g.depth = p_.depth;
        g.columns = p_.columns;
        g.a = {floats(a_), p_.transposed ? 1 : p_.depth + 3, run(), run() * (p_.transposed ? 1 : p_.depth + 3) + gap};
        if (p_.transposed) g.a.jump = run();
        g.step = p_.transposed ? p_.rows + gap : 1;
        g.panels = floats(b_);
        g.start = p_.from_start ? floats(start_) : nullptr;
        g.c = {reinterpret_cast<float*>(c_.data()), p_.columns + 2, run(), run() * (p_.columns + 2) + gap};
        kernel_.run(g);
        return c_ == expected;
    }

private:
    static constexpr size_t gap = 5;
    const GemmKernel& kernel_;
    Case p_;
    bool pairs_;
    std::vector<uint32_t> a_, b_, start_, c_;

    size_t run() const { return p_.in_runs ? 3 : 0; }
    size_t padded() const { return (p_.columns + kernel_.width - 1) / kernel_.width * kernel_.width; }
    size_t place(size_t r, size_t stride) const {
        return run() ? r / run() * (run() * stride + gap) + r % run() * stride : r * stride;
    }
    size_t a_at(size_t r, size_t k) const {
        return p_.transposed ? k * (p_.rows + gap) + r : place(r, p_.depth + 3) + k;
    }
    size_t c_at(size_t r, size_t j) const { return place(r, p_.columns + 2) + j; }

    // sum += some words of the depth
    void add(uint32_t& sum, size_t r, size_t j, size_t k, size_t words) const {
        const size_t width = kernel_.width, step = p_.transposed ? p_.rows + gap : 1;
        const uint32_t *left = &a_[a_at(r, k)], *right = &b_[j / width * width * p_.depth + k * width + j % width];
        if (pairs_) {
            const float total = bf16_number(sum) + sum_in_tile(left, step, right, width, words);
            std::memcpy(&sum, &total, sizeof sum);
            return;
        }
        for (size_t i = 0; i < words; ++i)
            for (int shift = 0; shift < 32; shift += 8)
                sum += static_cast<uint32_t>(static_cast<int>(left[i * step] >> shift & 0xff) *
                                             static_cast<int8_t>(right[i * width] >> shift));
    }
};

void check_tiles(const Kernels& k, GemmPrecision precision) {
    for (const GemmShape shape : {gemm_wide, gemm_of_3})
        for (const size_t rows : {1, 7, 16, 17, 33})
            for (const size_t depth : {0, 1, 15, 16, 17, 50})
                for (const size_t columns : {1, 16, 48, 64, 130})
                    for (int kind = 0; kind < 8; ++kind) {
                        CAPTURE(rows);
                        CAPTURE(depth);
                        CAPTURE(columns);
                        CAPTURE(kind);
                        const Case one{rows, depth, columns, (kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0};
                        CHECK(Product(k.gemm[precision][shape], one, precision == gemm_bf16).same());
                    }
    // More rows than are copied or stay in L2 at a time, and a depth of several parts
    for (const Case& one : {Case{1100, 130, 20, false, true, false}, Case{70, 1050, 20, false, true, true}})
        CHECK(Product(k.gemm[precision][gemm_wide], one, precision == gemm_bf16).same());
}

// Runs the checks; a CPU without AMX executes its instructions in the handler.
void check_machine_code(const Isa& isa, GemmPrecision precision) {
    const std::string name = isa.kernels->name;
    CAPTURE(name);
    struct sigaction ours = {}, before;
    ours.sa_sigaction = execute;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    const bool emulated = name.rfind("amx_plain", 0) != 0 && !isa.supported;
    if (emulated) sigaction(SIGILL, &ours, &before);
    executed = 0;
    check_tiles(*isa.kernels, precision);
    if (emulated) sigaction(SIGILL, &before, nullptr);
    CHECK((executed > 0) == emulated);
    CHECK_FALSE(machine.failed);
}

}  // namespace

TEST_CASE("int8 products in tiles are exact sums, and their instructions do what the manual says") {
    for (const Isa& isa : isas())
        if (std::string(isa.kernels->name).rfind("amx_", 0) == 0) check_machine_code(isa, gemm_int8);
}

TEST_CASE("bf16 products in tiles have the order of the manual, and a class of results in their name") {
    for (const Isa& isa : isas_of_other_bits()) {
        check_machine_code(isa, gemm_bf16);
        if (isa.supported) CHECK(std::string(bits_of(*isa.kernels)) == "fused, bf16 in tiles");
    }
}
#endif
