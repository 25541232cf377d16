// The loops of AMX, whose instructions a handler of SIGILL executes on CPUs without them, against sums of integers.
#if defined(__x86_64__) && defined(__linux__)
#include <ucontext.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <vector>

#include "helpers.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

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
    void dot(size_t sums, size_t a, size_t b) {
        require(bytes[a] == 4 * rows[b] && rows[a] == rows[sums] && bytes[b] == bytes[sums]);
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
    } else {
        _exit(3);
    }
    ++executed;
    registers[REG_RIP] = reinterpret_cast<greg_t>(next);
}

struct Case {
    size_t rows, depth, columns;
    bool in_runs, from_start;
};

bool same_as_integers(const GemmKernel& kernel, Case p) {
    const size_t width = kernel.width, padded = (p.columns + width - 1) / width * width, run = p.in_runs ? 3 : 0;
    const size_t a_stride = p.depth + 3, c_stride = p.columns + 2, gap = 5;
    const auto place = [&](size_t r, size_t stride) {
        return run ? r / run * (run * stride + gap) + r % run * stride : r * stride;
    };
    const auto words = [](size_t count, uint64_t key) {
        std::vector<uint32_t> all(count);
        for (size_t i = 0; i < count; ++i) all[i] = static_cast<uint32_t>(random_bits(key, i));
        return all;
    };
    const auto a = words(place(p.rows, a_stride), 1), b = words(padded * p.depth + 1, 2), start = words(padded, 3);
    auto c = words(place(p.rows, c_stride), 4), expected = c;
    for (size_t r = 0; r < p.rows; ++r)
        for (size_t j = 0; j < p.columns; ++j) {
            uint32_t& sum = expected[place(r, c_stride) + j];
            if (p.from_start) sum = start[j];
            for (size_t k = 0; k < p.depth; ++k)
                for (int shift = 0; shift < 32; shift += 8) {
                    const uint32_t word = b[j / width * width * p.depth + k * width + j % width];
                    const int left = a[place(r, a_stride) + k] >> shift & 0xff;
                    sum += static_cast<uint32_t>(left * static_cast<int8_t>(word >> shift));
                }
        }
    const auto floats = [](const std::vector<uint32_t>& x) { return reinterpret_cast<const float*>(x.data()); };
    Gemm g;
    g.rows = p.rows;
    g.depth = p.depth;
    g.columns = p.columns;
    g.a = {floats(a), a_stride, run, run * a_stride + gap};
    g.panels = floats(b);
    g.start = p.from_start ? floats(start) : nullptr;
    g.c = {reinterpret_cast<float*>(c.data()), c_stride, run, run * c_stride + gap};
    kernel.run(g);
    return c == expected;
}

void check_tiles(const Kernels& k) {
    for (const GemmShape shape : {gemm_wide, gemm_of_3})
        for (const size_t rows : {1, 7, 16, 17, 33})
            for (const size_t depth : {0, 1, 15, 16, 17, 50})
                for (const size_t columns : {1, 16, 48, 64, 130})
                    for (const bool in_runs : {false, true})
                        for (const bool from_start : {false, true}) {
                            CAPTURE(rows);
                            CAPTURE(depth);
                            CAPTURE(columns);
                            CHECK(same_as_integers(k.gemm[gemm_int8][shape],
                                                   {rows, depth, columns, in_runs, from_start}));
                        }
}

}  // namespace

TEST_CASE("int8 products in tiles are exact sums, and their instructions do what the manual says") {
    for (const Isa& isa : isas()) {
        const std::string name = isa.kernels->name;
        if (name.rfind("amx_", 0) != 0) continue;
        CAPTURE(name);
        struct sigaction ours = {}, before;
        ours.sa_sigaction = execute;
        ours.sa_flags = SA_SIGINFO | SA_NODEFER;
        const bool emulated = name == "amx_int8" && !isa.supported;
        if (emulated) sigaction(SIGILL, &ours, &before);
        executed = 0;
        check_tiles(*isa.kernels);
        if (emulated) sigaction(SIGILL, &before, nullptr);
        CHECK((executed > 0) == emulated);
        CHECK_FALSE(machine.failed);
    }
}
#endif
