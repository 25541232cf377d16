// Every kernel of the active ISA against double precision, at lengths around its vector width and misaligned pointers.
#include "helpers.h"
#include "ops/packing.h"
#include "runtime/bits.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

struct Product {
    size_t rows, depth, columns;
};

// B packed as panels of the kernel's width.
std::vector<float> pack(const std::vector<float>& b, size_t depth, size_t columns, size_t width) {
    std::vector<float> panels((columns + width - 1) / width * width * depth);
    for (size_t j = 0; j < columns; ++j)
        for (size_t k = 0; k < depth; ++k)
            panels[j / width * width * depth + k * width + j % width] = b[k * columns + j];
    return panels;
}

void check_product(const GemmKernel& kernel, Product p, bool from_start) {
    CAPTURE(p.rows);
    CAPTURE(p.depth);
    CAPTURE(p.columns);
    const auto a = random_vector(p.rows * p.depth + 1, 1), b = random_vector(p.depth * p.columns, 2);
    auto c = random_vector(p.rows * p.columns + 2, 3);
    const auto before = c;
    auto start = random_vector(p.columns + kernel.width, 4);
    const auto panels = pack(b, p.depth, p.columns, kernel.width);
    Gemm g;
    g.rows = p.rows;
    g.depth = p.depth;
    g.columns = p.columns;
    g.a = {a.data() + 1, p.depth, 0, 0};  // misaligned on purpose
    g.panels = panels.data();
    g.start = from_start ? start.data() : nullptr;
    g.c = {c.data() + 1, p.columns, 0, 0};
    kernel.run(g);
    std::vector<double> expected(p.rows * p.columns);
    for (size_t r = 0; r < p.rows; ++r)
        for (size_t j = 0; j < p.columns; ++j) {
            double sum = from_start ? start[j] : before[1 + r * p.columns + j];
            for (size_t k = 0; k < p.depth; ++k)
                sum += static_cast<double>(a[1 + r * p.depth + k]) * static_cast<double>(b[k * p.columns + j]);
            expected[r * p.columns + j] = sum;
        }
    check_close(c.data() + 1, expected.data(), expected.size(), 1e-5);
    CHECK(c[0] == before[0]);  // nothing is written outside
    CHECK(c.back() == before.back());
}

}  // namespace

TEST_CASE("products equal double precision for every tile height and edge width") {
    const Kernels& k = active();
    for (const GemmKernel& kernel : k.gemm[gemm_f32])
        for (const size_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 13, 25})
            for (const size_t columns :
                 {size_t{1}, kernel.width - 1, kernel.width, kernel.width + 1, 4 * kernel.width + 3})
                for (const size_t depth : {0, 1, 5, 33})
                    for (const bool from_start : {false, true})
                        check_product(kernel, {rows, depth, columns}, from_start);
    check_product(k.product(), {13, 1300, 20}, true);  // several depth blocks
    check_product(k.product(), {1, 1300, 20}, false);
}

TEST_CASE("a product of depth 0 ends, in every precision, and is its start [M2]") {
    const Kernels& k = active();
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8})
        for (const size_t gates : {1, 3})
            for (const size_t rows : {0, 1, 3, 6, 7}) {
                const size_t columns = 5;
                PackedMatrix packed(gemm_for(k, weights, gates), 0, columns);
                packed.fill_from_columns([](size_t) { return nullptr; });
                std::vector<float> start(packed.padded_columns(), 2.5f), c(rows * columns + 1, 7.0f);
                Buffer scratch(left_scratch(packed, rows) + 1);
                const LeftRows left = left_rows(packed, {start.data(), 0, 0, 0}, rows, scratch.data());
                multiply(packed, left, 0, columns, start.data(), {c.data(), columns, 0, 0});
                for (size_t i = 0; i < rows * columns; ++i) CHECK(c[i] == 2.5f);
                CHECK(c.back() == 7.0f);
            }
}

namespace {

// The bf16 nearest to x, ties to even, by arithmetic on doubles.
float nearest_bf16(float x) {
    int exponent;
    std::frexp(x, &exponent);
    const double unit = std::ldexp(1.0, exponent - 8);  // eight significant bits
    return static_cast<float>(std::nearbyint(static_cast<double>(x) / unit) * unit);
}

}  // namespace

TEST_CASE("bf16 words hold the nearest bf16, ties to even") {
    const GemmKernel& kernel = active().gemm[gemm_bf16][gemm_wide];
    auto x = random_vector(200, 3, 1e3);
    x[0] = 1.00390625f;  // a tie: to 1
    x[1] = 1.01171875f;  // a tie: to 1.015625
    x[2] = -0.0f;
    x[3] = 1e-39f;  // below the smallest normal number: zero
    x[4] = std::numeric_limits<float>::infinity();
    x[5] = std::numeric_limits<float>::quiet_NaN();
    x[6] = 3.4e38f;  // rounds to infinity
    const auto half = [](const std::vector<float>& words, size_t i) {
        uint32_t bits;
        std::memcpy(&bits, &words[i / 2], sizeof bits);
        bits = i % 2 ? bits & 0xffff0000u : bits << 16;
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    };
    for (const size_t size : {size_t{1}, size_t{7}, size_t{64}, x.size()}) {
        std::vector<float> words(x.size() / 2 + 1, 5.0f), rows(x.size() + 1, 5.0f);
        kernel.along(size, x.data(), words.data());
        kernel.across(size, x.data(), nullptr, rows.data());
        CHECK(words[(size + 1) / 2] == 5.0f);  // nothing is written outside
        CHECK(rows[size] == 5.0f);
        for (size_t i = 0; i < size; ++i) {
            CAPTURE(i);
            for (const float value : {half(words, i), half(rows, 2 * i)}) {
                if (i == 3)
                    CHECK(value == 0.0f);
                else if (i == 5)
                    CHECK(std::isnan(value));
                else if (i == 4 || i == 6)
                    CHECK(value == std::numeric_limits<float>::infinity());
                else
                    CHECK(value == nearest_bf16(x[i]));
            }
            CHECK(half(rows, 2 * i + 1) == 0.0f);
        }
    }
}

TEST_CASE("bf16 products equal double precision on quantized numbers") {
    const Kernels& k = active();
    for (const size_t gates : {size_t{1}, size_t{3}})
        for (const size_t rows : {1, 2, 6, 7, 13})
            for (const size_t depth : {1, 2, 5, 34})
                for (const size_t columns : {1, 48, 100}) {
                    CAPTURE(rows);
                    CAPTURE(depth);
                    CAPTURE(columns);
                    const auto a = random_vector(rows * depth, 1), b = random_vector(depth * columns, 2);
                    for (const bool from_rows : {false, true}) {
                        PackedMatrix packed(gemm_for(k, Weights::bf16, gates), depth, columns);
                        std::vector<float> transposed(b.size());
                        for (size_t j = 0; j < columns; ++j)
                            for (size_t i = 0; i < depth; ++i) transposed[j * depth + i] = b[i * columns + j];
                        if (from_rows)
                            packed.fill_from_rows([&](size_t i) { return b.data() + i * columns; });
                        else
                            packed.fill_from_columns([&](size_t j) { return transposed.data() + j * depth; });
                        std::vector<float> scratch(left_scratch(packed, rows)), c(rows * columns);
                        const std::vector<float> zeros(packed.padded_columns());
                        const LeftRows left = left_rows(packed, {a.data(), depth, 0, 0}, rows, scratch.data());
                        multiply(packed, left, 0, columns, zeros.data(), {c.data(), columns, 0, 0});
                        std::vector<double> expected(rows * columns);
                        for (size_t r = 0; r < rows; ++r)
                            for (size_t j = 0; j < columns; ++j)
                                for (size_t i = 0; i < depth; ++i)
                                    expected[r * columns + j] += static_cast<double>(nearest_bf16(a[r * depth + i])) *
                                                                 static_cast<double>(nearest_bf16(b[i * columns + j]));
                        check_close(c.data(), expected.data(), expected.size(), 1e-5);
                    }
                }
}

TEST_CASE("a row of a product has the same bits alone, with other rows, and for split depth") {
    const Kernels& k = active();
    const size_t rows = 17, depth = 1100, columns = k.product().width + 5;
    const auto a = random_vector(rows * depth, 1), b = random_vector(depth * columns, 2);
    const auto panels = pack(b, depth, columns, k.product().width);
    const std::vector<float> zeros(2 * k.product().width);
    std::vector<float> together(rows * columns), alone(columns), split(columns);
    Gemm g;
    g.rows = rows;
    g.depth = depth;
    g.columns = columns;
    g.a = {a.data(), depth, 0, 0};
    g.panels = panels.data();
    g.start = zeros.data();
    g.c = {together.data(), columns, 0, 0};
    k.product().run(g);
    for (const size_t r : {size_t{0}, size_t{9}, rows - 1}) {
        g.rows = 1;
        g.a.base = a.data() + r * depth;
        g.c = {alone.data(), columns, 0, 0};
        k.product().run(g);
        CHECK(std::equal(alone.begin(), alone.end(), together.begin() + static_cast<ptrdiff_t>(r * columns)));
    }
    // A in runs of 100 terms that lie apart
    std::vector<float> apart(11 * 128);
    for (size_t i = 0; i < depth; ++i) apart[i / 100 * 128 + i % 100] = a[i];
    g.a.base = apart.data();
    g.inner = 100;
    g.outer_step = 128;
    g.c = {split.data(), columns, 0, 0};
    k.product().run(g);
    CHECK(std::equal(split.begin(), split.end(), together.begin()));
}

TEST_CASE("a matrix that stays where it is gives the bits of a packed one") {
    const Kernels& k = active();
    for (const size_t gates : {1, 3})
        for (const size_t rows : {1, 2, 3, 7})
            for (const size_t depth : {1, 3, 4, 63, 130})
                for (const size_t columns : {1, 16, 39, 80}) {
                    CAPTURE(gates);
                    CAPTURE(rows);
                    CAPTURE(depth);
                    CAPTURE(columns);
                    const auto a = random_vector(rows * depth + 1, 1), b = random_vector(depth * columns + 1, 2);
                    const auto before = random_vector(rows * 256 + 1, 3), start = random_vector(256, 4);
                    std::vector<const float*> by_columns(columns), by_rows(depth);
                    for (size_t j = 0; j < columns; ++j)
                        by_columns[j] = j % 5 == 4 ? nullptr : b.data() + 1 + j * depth;
                    for (size_t i = 0; i < depth; ++i) by_rows[i] = i % 5 == 4 ? nullptr : b.data() + 1 + i * columns;
                    const GemmKernel& kernel = gemm_for(k, Weights::f32, gates);
                    PackedMatrix packed(kernel, depth, columns, 40), lent(kernel, depth, columns, 40);
                    for (const bool in_columns : {true, false}) {
                        in_columns ? packed.fill_from_columns(by_columns) : packed.fill_from_rows(by_rows);
                        in_columns ? lent.borrow_columns(by_columns) : lent.borrow_rows(by_rows);
                        for (const bool from_start : {true, false}) {
                            const size_t first = packed.padded_columns() > packed.width() ? packed.width() : 0;
                            const size_t count = packed.padded_columns() - first;
                            const LeftRows left{{a.data() + 1, depth, 0, 0}, rows};
                            std::vector<float> want = before, got = before;
                            const float* from = from_start ? start.data() + 1 : nullptr;
                            multiply(packed, left, first, count, from, {want.data() + 1, 256, 0, 0});
                            multiply(lent, left, first, count, from, {got.data() + 1, 256, 0, 0});
                            CHECK(want == got);
                        }
                    }
                }
}

TEST_CASE("rows may lie in runs with gaps") {
    const Kernels& k = active();
    const size_t depth = 9, columns = 5;
    const auto a = random_vector(200, 1), b = random_vector(depth * columns, 2);
    const auto panels = pack(b, depth, columns, k.product().width);
    const std::vector<float> zeros(k.product().width);
    std::vector<float> c(200, -7.0f);
    Gemm g;
    g.rows = 8;  // four runs of two
    g.depth = depth;
    g.columns = columns;
    g.a = {a.data(), 10, 2, 40};
    g.panels = panels.data();
    g.start = zeros.data();
    g.c = {c.data(), columns, 2, 30};
    k.product().run(g);
    std::vector<double> expected(200, -7.0);
    for (size_t r = 0; r < 8; ++r)
        for (size_t j = 0; j < columns; ++j) {
            double sum = 0;
            for (size_t i = 0; i < depth; ++i)
                sum += static_cast<double>(a[r / 2 * 40 + r % 2 * 10 + i]) * static_cast<double>(b[i * columns + j]);
            expected[r / 2 * 30 + r % 2 * columns + j] = sum;
        }
    check_close(c.data(), expected.data(), c.size(), 1e-6);
}

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One unit per block position: activations over the whole range a gate can see.
std::vector<float> sweep(size_t size) {
    std::vector<float> x(size);
    for (size_t i = 0; i < size; ++i)
        x[i] = static_cast<float>(-100.0 + 200.0 * static_cast<double>(i) / static_cast<double>(size - 1));
    return x;
}

}  // namespace

TEST_CASE("tanh and sigmoid keep a relative error below 4e-7 over the whole range") {
    const size_t size = 100'000 / unit_block * unit_block;
    auto x = sweep(size);
    for (size_t i = 0; i < size; i += 3) x[i] *= 1e-3f;  // and near zero
    const std::vector<float> zeros(4 * size);
    std::vector<float> h(size);
    CellForward s;
    s.rows = 1;
    s.units = size;
    auto gates = x;
    s.gates = gates.data();
    s.recurrent = zeros.data();
    s.h = h.data();
    active().cells[cell_rnn_tanh].forward(s);
    double worst = 0;
    for (size_t i = 0; i < size; ++i) {
        const double exact = std::tanh(static_cast<double>(x[i]));
        if (exact != 0) worst = std::max(worst, std::abs(static_cast<double>(h[i]) / exact - 1));
        REQUIRE(std::abs(h[i]) <= 1.0f);
    }
    CHECK(worst < 4e-7);

    // The LSTM's saved input gate is the sigmoid itself.
    std::vector<float> rows(4 * size), c(size);
    for (size_t i = 0; i < size; ++i) rows[i / unit_block * 4 * unit_block + i % unit_block] = x[i];
    s.gates = rows.data();
    s.c_prev = zeros.data();
    s.c = c.data();
    s.save = true;
    active().cells[cell_lstm].forward(s);
    worst = 0;
    for (size_t i = 0; i < size; ++i) {
        if (x[i] < -87.0f) continue;  // e^87 is where float ends; below, the gate is closed anyhow
        const double exact = sigmoid(static_cast<double>(x[i]));
        worst = std::max(
            worst, std::abs(static_cast<double>(rows[i / unit_block * 4 * unit_block + i % unit_block]) / exact - 1));
    }
    CHECK(worst < 4e-7);
}

TEST_CASE("NaN in a gate comes out as NaN") {
    for (int cell = 0; cell < cell_count; ++cell) {
        std::vector<float> gates(4 * unit_block, NAN), recurrent(4 * unit_block), h(unit_block), c(unit_block);
        CellForward s;
        s.rows = 1;
        s.units = unit_block;
        s.gates = gates.data();
        s.recurrent = recurrent.data();
        s.h = s.extra = h.data();  // a cell with two kernels leaves r h first
        s.h_prev = recurrent.data();
        s.c = c.data();
        s.c_prev = s.x = s.state_weights = recurrent.data();
        active().cells[cell].forward(s);
        CHECK(std::all_of(h.begin(), h.end(), [](float x) { return std::isnan(x); }));
    }
}

TEST_CASE("elementwise kernels work at every length and alignment") {
    const Kernels& k = active();
    for (size_t size = 0; size <= 2 * k.lanes + 1; ++size)
        for (size_t shift = 0; shift < 3; ++shift) {
            const auto x = random_vector(size + shift, 1), y0 = random_vector(size + shift + 1, 2);
            auto y = y0;
            k.add(size, x.data() + shift, y.data() + shift);
            for (size_t i = shift; i < size + shift; ++i) REQUIRE(y[i] == y0[i] + x[i]);
            REQUIRE(y.back() == y0.back());
            k.scale(size, 0.5f, y.data() + shift);
            for (size_t i = shift; i < size + shift; ++i) REQUIRE(y[i] == 0.5f * (y0[i] + x[i]));
            k.clip(size, 0.125f, y.data() + shift);
            for (size_t i = shift; i < size + shift; ++i) REQUIRE(std::abs(y[i]) <= 0.125f);
            std::vector<float> sums(size + 1, 1.0f);
            k.column_sums(1, size, x.data() + shift, size, sums.data());
            for (size_t i = 0; i < size; ++i) REQUIRE(sums[i] == 1.0f + x[i + shift]);
            REQUIRE(sums[size] == 1.0f);
        }
}

TEST_CASE("the sum of exponentials equals double precision at every length and alignment") {
    const Kernels& k = active();
    for (const size_t most : {2 * unit_block + 1, size_t{5000}})
        for (size_t size = most < 100 ? 1 : most - 17; size <= most; ++size)
            for (size_t shift = 0; shift < 3; ++shift) {
                const auto x = random_vector(size + shift, size, 20.0);
                float maximum, sum;
                k.exp_sum(size, x.data() + shift, &maximum, &sum);
                REQUIRE(maximum == *std::max_element(x.begin() + static_cast<ptrdiff_t>(shift), x.end()));
                double expected = 0;
                for (size_t i = shift; i < x.size(); ++i)
                    expected += std::exp(static_cast<double>(x[i]) - static_cast<double>(maximum));
                REQUIRE(std::abs(static_cast<double>(sum) - expected) <= 2e-6 * expected);
            }
    for (size_t at = 0; at < 40; ++at) {  // a NaN is never missed
        auto x = random_vector(40, 1);
        float maximum, sum;
        for (const float bad : {NAN, INFINITY}) {
            x[at] = bad;
            k.exp_sum(x.size(), x.data(), &maximum, &sum);
            REQUIRE_FALSE(std::isfinite(sum));
        }
        x[at] = -INFINITY;  // of probability 0
        k.exp_sum(x.size(), x.data(), &maximum, &sum);
        REQUIRE(std::isfinite(sum));
    }
}

TEST_CASE("sums over panels run over all panels and columns") {
    const Kernels& k = active();
    const size_t width = k.product().width, rows = 5, panels = 3;
    const auto x = random_vector(panels * rows * width, 1);
    std::vector<float> sums(rows, 2.0f);
    const size_t columns = panels * width - (width > unit_block ? unit_block : 0);  // the last panel is partial
    k.panel_row_sums(rows, columns, rows * width, width, x.data(), sums.data());
    std::vector<double> expected(rows, 2.0);
    for (size_t j = 0; j < columns; ++j)
        for (size_t v = 0; v < rows; ++v)
            expected[v] += static_cast<double>(x[(j / width * rows + v) * width + j % width]);
    check_close(sums.data(), expected.data(), rows, 1e-6);
}

TEST_CASE("int8 rows keep their largest number, and quantizing them again changes nothing") {
    const Kernels& k = active();
    for (const size_t size :
         {size_t{1}, size_t{3}, size_t{4}, k.lanes - 1, k.lanes, k.lanes + 1, 2 * k.lanes + 5, size_t{300}}) {
        CAPTURE(size);
        const auto x = random_vector(size + 1, size, 3.0);
        std::vector<int8_t> q(size), again(size);
        const float scale = int8_row(k, x.data() + 1, size, q.data());
        std::vector<float> rounded(size);
        float largest = 0;
        for (size_t i = 0; i < size; ++i) {
            rounded[i] = static_cast<float>(q[i]) * scale;
            largest = std::max(largest, std::abs(x[i + 1]));
            CHECK(std::abs(rounded[i] - x[i + 1]) <= 0.5f * scale * 1.00001f);
        }
        CHECK(scale >= largest / 127.0f);
        CHECK(scale <= largest / 127.0f * 1.0001f);
        CHECK(int8_row(k, rounded.data(), size, again.data()) == scale);
        CHECK(q == again);
    }
    int8_t q[2];
    const float zeros[] = {0.0f, -0.0f}, tiny[] = {1e-35f, 0.0f}, not_finite[] = {NAN, 1.0f},
                infinite[] = {1.0f, INFINITY};
    CHECK(int8_row(k, zeros, 2, q) == 0.0f);
    CHECK(int8_row(k, tiny, 2, q) == 0.0f);
    CHECK(std::isnan(int8_row(k, not_finite, 2, q)));  // so a NaN in is a NaN out
    CHECK(std::isnan(int8_row(k, infinite, 2, q)));
}

// What a product writes for rows and weights of every size that bf16 holds without a sum below 1.2e-38.
uint64_t product_bits(const Kernels& k, Weights weights, size_t gates, size_t rows, size_t depth) {
    const size_t columns = 77;
    auto a = random_vector(rows * depth, 1), b = random_vector(columns * depth, 2);
    for (size_t i = 0; i < a.size(); ++i) a[i] = std::ldexp(a[i], static_cast<int>(i * 7 % 40) - 20);
    for (size_t i = 0; i < b.size(); ++i) b[i] = std::ldexp(b[i], static_cast<int>(i * 11 % 40) - 20);
    PackedMatrix packed(gemm_for(k, weights, gates), depth, columns);
    packed.fill_from_columns([&](size_t j) { return b.data() + j * depth; });
    const auto start = random_vector(packed.padded_columns(), 3);
    std::vector<float> scratch(left_scratch(packed, rows)), c(rows * columns);
    const LeftRows left = left_rows(packed, {a.data(), depth, 0, 0}, rows, scratch.data());
    multiply(packed, left, 0, columns, start.data(), {c.data(), columns, 0, 0});
    return hash_bits(c.data(), c.size());
}

TEST_CASE("products in low precision have the same bits in every table with fused multiply-adds") {
    const Kernels* first = nullptr;
    for (const Isa& isa : isas()) {
        if (!isa.supported) continue;
        const Kernels& k = *isa.kernels;
        CAPTURE(std::string(k.name));
        CHECK((std::string(bits_of(k)) == "fused") == (std::string(k.name) != "baseline"));
        if (std::string(bits_of(k)) != "fused") continue;
        if (!first) first = &k;
        for (const Weights weights : {Weights::bf16, Weights::int8})
            for (const size_t gates : {1, 3})
                for (const size_t rows : {1, 2, 6, 7})
                    for (const size_t depth : {1, 2, 5, 64, 203}) {
                        CAPTURE(rows);
                        CAPTURE(depth);
                        CHECK(product_bits(k, weights, gates, rows, depth) ==
                              product_bits(*first, weights, gates, rows, depth));
                    }
    }
}

TEST_CASE("int8 products are exact sums times two scales") {
    const Kernels& k = active();
    for (const size_t gates : {1, 3})
        for (const size_t rows : {1, 2, 7, 13})
            for (const size_t depth : {1, 4, 5, 67, 1500})
                for (const size_t columns : {1, 63, 100}) {
                    CAPTURE(rows);
                    CAPTURE(depth);
                    CAPTURE(columns);
                    const auto a = random_vector(rows * depth, 1), b = random_vector(columns * depth, 2);
                    PackedMatrix packed(gemm_for(k, Weights::int8, gates), depth, columns);
                    packed.fill_from_columns([&](size_t j) { return b.data() + j * depth; });
                    const auto start = random_vector(packed.padded_columns(), 3);
                    std::vector<float> scratch(left_scratch(packed, rows) + 16), c(rows * columns + 1, 7.0f);
                    const LeftRows left = left_rows(packed, {a.data(), depth, 0, 0}, rows, scratch.data());
                    multiply(packed, left, 0, columns, start.data(), {c.data(), columns, 0, 0});
                    CHECK(c.back() == 7.0f);
                    std::vector<int8_t> qa(depth), qb(depth);
                    size_t wrong = 0;
                    for (size_t r = 0; r < rows; ++r)
                        for (size_t j = 0; j < columns; ++j) {
                            const float sa = int8_row(k, a.data() + r * depth, depth, qa.data());
                            const float sb = int8_row(k, b.data() + j * depth, depth, qb.data());
                            int32_t sum = 0;
                            for (size_t i = 0; i < depth; ++i) sum += qa[i] * qb[i];
                            const float exact = std::fma(static_cast<float>(sum), sa * sb, start[j]);
                            const bool fused = std::string(k.name) != "baseline";
                            const float got = c[r * columns + j];
                            wrong += fused ? got != exact : std::abs(got - exact) > 1e-6f * (1 + std::abs(exact));
                        }
                    CHECK(wrong == 0);
                }
    CHECK_THROWS_AS(PackedMatrix(gemm_for(k, Weights::int8), 200'000, 1), std::invalid_argument);
}
