// Products without blocks of zeros have the bits of the product with all blocks, on every instruction set.
#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "allocations.h"
#include "files/safetensors.h"
#include "helpers.h"
#include "layers/stream.h"
#include "model_files.h"
#include "ops/packing.h"
#include "rnnfast/error.hpp"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

constexpr Weights precisions[] = {Weights::f32, Weights::bf16, Weights::int8};

// [columns, depth]: whole blocks of 16 columns by `wide` of the depth are zeros, all but a share `density`.
std::vector<float> block_sparse(size_t columns, size_t depth, size_t wide, double density, uint64_t seed) {
    std::vector<float> w = random_vector(columns * depth, seed);
    for (size_t j = 0; j < columns; ++j)
        for (size_t k = 0; k < depth; ++k) {
            const size_t block = j / unit_block * depth + k / wide;
            if (random_uniform(random_key(seed, 9), block) >= density) w[j * depth + k] *= 0.0f;  // some are -0
        }
    return w;
}

PackedMatrix packed(const GemmKernel& kernel, const std::vector<float>& w, size_t columns, size_t depth) {
    PackedMatrix b(kernel, depth, columns);
    b.fill_from_columns([&](size_t j) { return w.data() + j * depth; });
    return b;
}

// `rows` copies of one row: those of many rows are multiplied with all blocks. With a `part`, the columns from there on
// are a second product.
std::vector<float> product(const PackedMatrix& b, const std::vector<float>& row, size_t rows, const float* start,
                           size_t part = 0) {
    std::vector<float> a, c(rows * b.padded_columns());
    for (size_t r = 0; r < rows; ++r) a.insert(a.end(), row.begin(), row.end());
    Buffer left(left_scratch(b, rows) + 1);
    const LeftRows left_rows_ = left_rows(b, {a.data(), row.size(), 0, 0}, rows, left.data());
    const size_t columns = b.padded_columns();
    if (part) multiply(b, left_rows_, 0, part, start, {c.data(), columns, 0, 0});
    multiply(b, left_rows_, part, columns - part, start + part, {c.data() + part, columns, 0, 0});
    c.resize(b.padded_columns());
    return c;
}

void check_same(const PackedMatrix& b, const std::vector<float>& row, const std::vector<float>& start) {
    const auto one = product(b, row, 1, start.data()), all = product(b, row, 9, start.data());
    REQUIRE(std::memcmp(one.data(), all.data(), one.size() * sizeof(float)) == 0);
    for (size_t part = b.width(); part < b.padded_columns(); part *= 3) {  // as two threads share the columns
        const auto two = product(b, row, 1, start.data(), part);
        REQUIRE(std::memcmp(one.data(), two.data(), one.size() * sizeof(float)) == 0);
    }
}

template <class Body>
void for_each_kernel(Body body) {
    for (const Isa& isa : isas()) {
        if (!isa.supported) continue;
        CAPTURE(std::string(isa.kernels->name));
        for (const Weights weights : precisions)
            for (const size_t gates : {1, 3}) body(gemm_for(*isa.kernels, weights, gates));
    }
}

}  // namespace

TEST_CASE("a product without zero blocks has the bits of the whole product") {
    for_each_kernel([](const GemmKernel& kernel) {
        for (const size_t depth : {1, 7, 64, 203})
            for (const size_t wide : {1, 2, 4})
                for (const double density : {0.0, 0.1, 0.3}) {
                    CAPTURE(kernel.terms);
                    CAPTURE(depth);
                    CAPTURE(density);
                    const size_t columns = 13 * kernel.width + 16;
                    const auto w = block_sparse(columns, depth, wide, density, depth + wide);
                    const PackedMatrix b = packed(kernel, w, columns, depth);
                    if (density < 0.2 && depth > 7) CHECK(b.sparse().most_rows() > 1);
                    auto start = random_vector(b.padded_columns(), 3);
                    check_same(b, random_vector(depth, 4), start);
                    check_same(b, std::vector<float>(depth), start);
                    std::fill(start.begin(), start.end(), -0.0f);  // a sum of -0 tells whether zeros were added
                    check_same(b, std::vector<float>(depth, -1.0f), start);
                    check_same(b, std::vector<float>(depth, 0.0f), start);
                    check_same(b, random_vector(depth, 5, 1e-38), start);
                    std::fill(start.begin(), start.end(), -1e-40f);
                    check_same(b, std::vector<float>(depth, 0.0f), start);
                }
    });
}

TEST_CASE("a row that is not finite gives the whole product's bits") {
    for_each_kernel([](const GemmKernel& kernel) {
        const size_t depth = 37, columns = 2 * kernel.width;
        const PackedMatrix b = packed(kernel, block_sparse(columns, depth, 1, 0.1, 6), columns, depth);
        const std::vector<float> start(b.padded_columns());
        for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
            for (size_t k = 0; k < depth; ++k) {
                auto row = random_vector(depth, 7);
                row[k] = value;
                check_same(b, row, start);
            }
    });
}

TEST_CASE("a matrix with few zeros, or of unusual size, has no sparse form") {
    for_each_kernel([](const GemmKernel& kernel) {
        const size_t columns = 4 * kernel.width;
        CHECK(packed(kernel, random_vector(columns * 64, 1), columns, 64).sparse().most_rows() == 0);
        CHECK(packed(kernel, block_sparse(columns, 64, 1, 0.95, 1), columns, 64).sparse().most_rows() == 0);
        CHECK(packed(kernel, {}, columns, 0).sparse().most_rows() == 0);
        const size_t deep = 65537;
        CHECK(packed(kernel, std::vector<float>(deep * 16), 16, deep).sparse().most_rows() == 0);
    });
}

TEST_CASE("streams of pruned layers have the bits of the whole sequence, and allocate nothing") {
    for (const CellInfo& cell : cells())
        for (const Weights weights : precisions)
            for (const size_t rows : {1, 2, 5}) {
                CAPTURE(std::string(cell.name));
                CAPTURE(rows);
                RecurrentOptions options;
                options.cell = cell.name;
                options.input_size = 64;
                options.hidden_size = 83;
                options.num_layers = 2;
                options.weights = weights;
                Recurrent layer(options, 3, active());
                for (Parameter& p : layer.parameters)
                    if (p.shape.size() == 2) {
                        const auto w = block_sparse(p.shape[0], p.shape[1], 4, 0.2, p.size());
                        for (size_t i = 0; i < p.size(); ++i) p.value.data()[i] *= w[i] == 0.0f ? 0.0f : 1.0f;
                    }
                layer.weights_changed();
                constexpr size_t steps = 4, many = 16;
                const std::vector<float> x = random_vector(steps * many * 64, 1);
                std::vector<float> expected(steps * many * 83), y(rows * 83);
                RecurrentTape tape;
                layer.forward({steps, many, x.data(), nullptr, nullptr}, {}, expected.data(), {}, tape, false);
                Stream stream(layer, rows);
                for (size_t t = 0; t < steps; ++t) {
                    const long before = allocations;
                    stream.step(x.data() + t * many * 64, y.data());
                    REQUIRE(allocations == before);
                    REQUIRE(std::memcmp(y.data(), expected.data() + t * many * 83, y.size() * sizeof(float)) == 0);
                }
            }
}

TEST_CASE("a file puts back the zeros of its sparse matrices") {
    const std::vector<float> blocks = random_vector(3 * 16 * 2, 8);
    const int8_t index[] = {0x05, 0x02};  // strip 0: blocks 0 and 2, strip 1: block 1
    const std::map<std::string, TensorView> tensors = {{"w.blocks", {{3, 16, 2}, blocks.data(), blocks.size()}},
                                                       {"w.index", {{2, 1}, index, 2, Dtype::i8}}};
    const auto file_of = [&](const std::string& version, const std::string& shape) {
        return safetensors_bytes(
            tensors, {{"format", "rnnfast"}, {"format_version", version}, {"sparse", "{\"w\":" + shape + "}"}}, "test");
    };
    const std::string bytes = file_of("3", "[32, 6]");
    const SafetensorsFile file = SafetensorsFile::view(bytes, "test");
    const SafetensorsFile copy = file;
    REQUIRE(copy.tensors().size() == 1);
    const TensorView& w = copy.tensors().at("w");
    CHECK(w.shape == std::vector<size_t>{32, 6});
    Buffer buffer;
    const float* values = copy.floats("w", w, buffer);
    size_t at = 0;
    for (const auto& [strip, block] : {std::pair<size_t, size_t>{0, 0}, {0, 2}, {1, 1}})
        for (size_t i = 0; i < 16; ++i)
            for (size_t k = 0; k < 2; ++k) CHECK(values[(strip * 16 + i) * 6 + block * 2 + k] == blocks[at++]);
    CHECK(std::count(values, values + 32 * 6, 0.0f) == 32 * 6 - 96);
    CHECK(SafetensorsFile::view(file_of("2", "[32, 6]"), "test").tensors().size() == 2);  // left as they are
}

TEST_CASE("a sparse matrix that cannot be used is refused in one sentence") {
    using Tensors = std::map<std::string, TensorView>;
    const std::vector<float> values = random_vector(3 * 16 * 2, 8), zeros(3 * 16 * 2);
    const int8_t index[] = {0x05, 0x02}, no_blocks[] = {0, 0}, beyond[] = {0x05, 0x08};
    const TensorView blocks{{3, 16, 2}, values.data(), values.size()}, bits{{2, 1}, index, 2, Dtype::i8};
    const Tensors good = {{"w.blocks", blocks}, {"w.index", bits}};
    const auto told = [](const Tensors& tensors, const std::string& sparse) {
        const std::string bytes =
            safetensors_bytes(tensors, {{"format", "rnnfast"}, {"format_version", "3"}, {"sparse", sparse}}, "test");
        return sentence_of<Error>([&] { SafetensorsFile::view(bytes, "test"); });
    };
    const std::string shape = R"({"w": [32, 6]})", matrix = "test: the sparse matrix \"w\" cannot be used: ";
    CHECK(told(good, shape).empty());
    CHECK(contains(told(good, "{"), "test: the shapes of its sparse matrices cannot be read: "));

    const auto with = [&](const std::string& name, const TensorView& view) {
        Tensors tensors = good;
        tensors[name] = view;
        return told(tensors, shape);
    };
    CHECK(told({{"w.blocks", blocks}}, shape) == matrix + "its blocks or their index are missing");
    CHECK(told({{"w.index", bits}}, shape) == matrix + "its blocks or their index are missing");
    CHECK(with("w", {{32}, values.data(), 32}) == matrix + "the file has the whole matrix too");
    CHECK(with("w.blocks", {{6, 16}, values.data(), 96}) == matrix + "its shape is not one of whole blocks");
    CHECK(with("w.blocks", {{3, 16, 2}, zeros.data(), 96, Dtype::f16}) ==
          matrix + "its blocks are not F32, BF16 or I8");
    CHECK(with("w.index", {{2, 1}, values.data(), 2}) == matrix + "its index is not I8, with a bit for every block");
    CHECK(with("w.index", {{2, 1}, beyond, 2, Dtype::i8}) == matrix + "its index has bits beyond its blocks");
    CHECK(with("w.index", {{2, 1}, no_blocks, 2, Dtype::i8}) ==
          matrix + "its index has another number of blocks than the file");

    const std::pair<const char*, const char*> shapes[] = {
        {"7", "expected two dimensions"},
        {"[32]", "expected two dimensions"},
        {"[0, 6]", "expected two dimensions"},
        {"[33, 6]", "its shape is not one of whole blocks"},
        {"[32, 5]", "its shape is not one of whole blocks"},
        {"[32, 4]", "its index has bits beyond its blocks"},
        {"[64, 6]", "its index is not I8, with a bit for every block"},
        {"[1099511627776, 6]", "it would be far larger than its file"},
        {"[4611686018427387904, 4611686018427387904]", "it would be far larger than its file"},
    };
    for (const auto& [dimensions, why] : shapes)
        CHECK(told(good, std::string("{\"w\": ") + dimensions + "}") == matrix + why);
}
